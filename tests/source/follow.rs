//! A document that is followed in a thread of its own, as the daemon follows one.

use redvigil::config::source::Remote;
use redvigil::source::{Kind, State, follow};
use std::ffi::OsString;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// How long a change may take. The issue gives it a second.
pub const SECOND: Duration = Duration::from_secs(1);

/// How long the end of an outage may take to be seen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A document that is followed until this is dropped.
pub struct Following {
    state: watch::Receiver<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The secrets of the tests.
fn env(name: &str) -> Option<OsString> {
    match name {
        "RIGHT" => Some("hunter2".into()),
        "WRONG" => Some("hunter3".into()),
        _ => None,
    }
}

/// What is said at the command line.
pub fn remote(url: &str) -> Arc<Remote> {
    Arc::new(Remote::parse(url, &env).unwrap_or_else(|error| panic!("{url} {error}")))
}

impl Following {
    /// Follows what is said at the command line.
    pub fn start(url: &str) -> Self {
        let remote = remote(url);
        let (publish, state) = watch::channel(State::default());
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                tokio::select! {
                    () = follow(remote, Arc::default(), publish) => {}
                    _ = stopped => {}
                }
            });
        };
        Self { state, stop: Some(stop), thread: Some(std::thread::spawn(run)) }
    }

    /// What is known now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits until this is the text, and nothing fails; says how long that took.
    pub fn until(&self, text: &str) -> Duration {
        let begun = Instant::now();
        let is_so = |state: &State| {
            state.failure.is_none() && state.latest.as_ref().is_some_and(|document| &*document.text == text)
        };
        while !is_so(&self.state.borrow()) {
            assert!(begun.elapsed() < PATIENCE, "not {:?}…: {:?}", &text[..text.len().min(40)], self.state());
            std::thread::sleep(Duration::from_millis(2));
        }
        begun.elapsed()
    }

    /// Waits until it fails so, with that text still standing; `None`: no text yet.
    pub fn fails(&self, kind: Kind, text: Option<&str>) {
        self.fails_as(&[kind], text);
    }

    /// The same where it may be told in several ways.
    pub fn fails_as(&self, kinds: &[Kind], text: Option<&str>) {
        let begun = Instant::now();
        let is_so =
            |state: &State| state.failure.as_ref().is_some_and(|failure| kinds.contains(&failure.kind));
        while !is_so(&self.state.borrow()) {
            assert!(begun.elapsed() < PATIENCE, "not {kinds:?}: {:?}", self.state());
            std::thread::sleep(Duration::from_millis(2));
        }
        let state = self.state();
        assert_eq!(state.latest.as_ref().map(|document| &*document.text), text);
        assert!(!format!("{state:?}").contains("hunter"), "{state:?}");
    }

    /// Waits for a change by `change`, and says how long it took from there on.
    #[expect(clippy::print_stderr, reason = "what was measured is for people")]
    pub fn changes(&self, what: &str, text: &str, change: impl FnOnce()) {
        change();
        let took = self.until(text);
        eprintln!("{what}: a change of {} bytes known after {} ms", text.len(), took.as_millis());
        assert!(took < SECOND, "{what}: {took:?}");
    }

    /// That nothing new is told in that time.
    pub fn is_quiet(&mut self, during: Duration) {
        self.state.mark_unchanged();
        std::thread::sleep(during);
        assert!(!self.state.has_changed().expect("it runs"), "{:?}", self.state());
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}
