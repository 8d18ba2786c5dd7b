//! Waiting for a condition by asking for it, never by guessing how long it takes.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long to leave the machine alone between two questions.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(5);

/// Asks until there is an answer and returns it; panics with `what` when `limit` has passed without one.
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "waited {} s in vain for {what}", limit.as_secs_f32());
        sleep(BETWEEN_QUESTIONS);
    }
}

/// Asks until the answer is yes; panics with `what` when `limit` has passed without it.
pub fn wait_until(what: &str, limit: Duration, mut ask: impl FnMut() -> bool) {
    wait_for(what, limit, || ask().then_some(()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_returned_as_soon_as_there_is_one() {
        let mut asked = 0;
        let answer = wait_for("the third question", Duration::from_secs(5), || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(answer, 3);
    }

    #[test]
    #[should_panic(expected = "in vain for the moon")]
    fn waiting_in_vain_names_what_was_waited_for() {
        wait_until("the moon", Duration::from_millis(1), || false);
    }
}
