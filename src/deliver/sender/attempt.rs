//! One request, and what its verdict does to the record at hand.
//!
//! What a newcomer would get wrong: most verdicts end in another request at once. Only a failure leaves the record for later,
//! and only an empty list of parts settles it.

use super::Sender;
use super::backlog::{Backlog, Transport};
use super::parts::{Error, Part, Work};
use crate::deliver::board::{Code, Reason};
use crate::deliver::queue;
use crate::deliver::verdict::{Asked, Format, Outcome, Verdict, verdict};
use crate::deliver::{otlp, remote_write};
use crate::net::http::{self, Answer};
use crate::telemetry::log::chain;
use bytes::Bytes;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tracing::{info, warn};

/// How much of a body is told.
const TOLD: usize = 1024;
/// How often it is told that samples are refused, or that delivery fails.
pub(super) const QUIET: Duration = Duration::from_secs(30);

/// Why a record is still there.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// In a word.
    pub reason: Reason,
    /// In words.
    pub text: String,
    /// It is not to be tried before.
    pub after: Option<Duration>,
    /// Whether the receiver is well, and we are too fast.
    pub is_throttled: bool,
}

impl Failure {
    /// Whether the receiver does not take anything of ours.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.reason, Reason::Held(_))
    }
}

/// A record left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    /// How many samples it had.
    pub samples: u32,
    /// How long the last request for it took.
    pub took: Duration,
}

/// What came of a request.
enum Step {
    /// Go on with what is left of the record.
    More,
    /// Leave it for later.
    Failed(Failure),
}

impl<B: Backlog, T: Transport> Sender<B, T> {
    /// Sends the record at hand until it is settled, or until a failure.
    pub(super) async fn deliver(&mut self) -> Result<Left, Failure> {
        let mut took = Duration::ZERO;
        while self.work.as_ref().is_some_and(|work| !work.parts.is_empty()) {
            if let Step::Failed(failure) = self.attempt(&mut took).await {
                self.failed(failure.clone());
                return Err(failure);
            }
        }
        let samples = self.settle();
        if let Some(part) = self.metadata.take() {
            self.send_metadata(part).await;
        }
        Ok(Left { samples, took })
    }

    /// All of the record at hand is delivered or counted.
    fn settle(&mut self) -> u32 {
        let Some(work) = self.work.take() else { return 0 };
        if work.is_split_by_refusal && work.delivered > 0 {
            self.course.receiver.split_was_of_use();
        }
        let (sequence, samples) = (work.sequence, work.samples);
        self.backlog.settle(sequence, work.settled());
        self.succeeded(samples);
        samples
    }

    /// One request for the first part that is left.
    async fn attempt(&mut self, took: &mut Duration) -> Step {
        let receiver = self.course.receiver.clone();
        let Some(work) = &mut self.work else { return Step::More };
        let Some(part) = work.parts.front_mut() else { return Step::More };
        let format = work.format.unwrap_or_else(|| receiver.format(Instant::now()));
        let body = match body(part, format).await {
            Ok(body) => body,
            Err(error) => {
                let samples = part.samples;
                work.next();
                return self.lose(queue::Reason::Corrupt, samples, &chain(&error));
            }
        };
        if !work.is_split && receiver.is_too_large(body.len()) && self.split(false).await {
            return Step::More;
        }
        let Some(work) = &mut self.work else { return Step::More };
        let samples = work.parts.front().map_or(0, |part| part.samples);
        let asked =
            Asked { format, samples, may_fall_back: receiver.may_fall_back(), is_first: receiver.is_first() };
        let size = body.len();
        let request = self.course.request(format, body, work.attempts);
        // Still so where a stop broke it off.
        work.may_be_known |= std::mem::replace(&mut work.is_under_way, true);
        let begun = Instant::now();
        let answer = self.transport.send(&request, begun + self.course.output.endpoint().timeout).await;
        *took = begun.elapsed();
        work.is_under_way = false;
        let mut told = Told::of(&answer, format, (self.clock)());
        told.text = self.transport.redacted(&told.text);
        self.course.board.answered(format, told.code, *took, work.attempts > 0);
        work.attempts = work.attempts.saturating_add(1);
        work.may_be_known |= told.is_second;
        match verdict(asked, told.outcome) {
            Verdict::Accepted { rejected } => {
                receiver.took(format, size);
                self.accepted(format, samples, rejected, &told.text)
            }
            Verdict::FallBack => self.fall_back(told.code),
            Verdict::Refused { written } => self.refused(format, samples, written, &told.text).await,
            Verdict::TooLarge => {
                receiver.limit(size);
                if self.split(false).await { Step::More } else { self.too_large(samples, &told.text) }
            }
            Verdict::Retry { after, is_throttled } => {
                work.may_be_known |= told.may_have_arrived;
                let reason = match told.outcome {
                    Outcome::Failed(kind) => Reason::Failed(kind),
                    _ if is_throttled => Reason::Throttled,
                    _ => Reason::ServerError,
                };
                Step::Failed(Failure { reason, text: told.text, after, is_throttled })
            }
            Verdict::Held(hold) => {
                let reason = Reason::Held(hold);
                Step::Failed(Failure { reason, text: told.text, after: None, is_throttled: false })
            }
        }
    }

    fn accepted(&mut self, format: Format, samples: u32, rejected: u32, text: &str) -> Step {
        let receiver = &self.course.receiver;
        let Some(work) = &mut self.work else { return Step::More };
        work.delivered = work.delivered.saturating_add(samples - rejected);
        if format == Format::V1 && receiver.metadata_is_due(Instant::now()) {
            self.metadata = work.parts.front().cloned();
        }
        let was_tried = work.format == Some(Format::V1);
        work.next();
        if was_tried {
            self.speak_v1("400 to 2.0, success of 1.0");
        }
        if rejected > 0 {
            let reason = self.work.as_ref().map_or(queue::Reason::Rejected, Work::refused);
            return self.lose(reason, rejected, text);
        }
        Step::More
    }

    fn fall_back(&mut self, code: Code) -> Step {
        match (code, &mut self.work) {
            // It may be the samples. Only where 1.0 is taken, it was the version.
            (Code::Http(400), Some(work)) => work.format = Some(Format::V1),
            _ => self.speak_v1("no word of 2.0 in the answer"),
        }
        Step::More
    }

    fn speak_v1(&self, reason: &str) {
        if !self.course.receiver.fall_back(Instant::now()) {
            return; // another lane found out
        }
        self.course.board.fell_back(Format::V2, Format::V1);
        let output = &self.course.output.name;
        info!(%output, reason, "the receiver does not know remote write 2.0; 1.0 is spoken for a day");
    }

    async fn refused(&mut self, format: Format, samples: u32, written: u32, text: &str) -> Step {
        // 1.0 stores all or nothing: what was good goes once more, without the bad.
        if format == Format::V1 && self.split(true).await {
            return Step::More;
        }
        let Some(work) = &mut self.work else { return Step::More };
        let reason = work.refused();
        work.delivered = work.delivered.saturating_add(written);
        work.next();
        self.lose(reason, samples - written, text)
    }

    fn too_large(&mut self, samples: u32, text: &str) -> Step {
        if let Some(work) = &mut self.work {
            work.next();
        }
        self.lose(queue::Reason::TooLarge, samples, text)
    }

    /// Puts a part for each target in the place of the record at hand; `false`: it is in parts already, is of one target, or
    /// splitting was of no use too often.
    async fn split(&mut self, is_refusal: bool) -> bool {
        let Some(work) = self.work.as_mut().filter(|work| !work.is_split) else { return false };
        let Some(part) = work.parts.front().cloned() else { return false };
        let Ok(Ok(parts)) = tokio::task::spawn_blocking(move || part.by_target()).await else { return false };
        if parts.len() < 2 || (is_refusal && !self.course.receiver.may_split(Instant::now())) {
            return false;
        }
        work.split(parts);
        work.is_split_by_refusal = is_refusal;
        self.course.board.split();
        true
    }

    /// Counts samples that are gone, and tells of it from time to time.
    fn lose(&mut self, reason: queue::Reason, samples: u32, text: &str) -> Step {
        if let Some(work) = &mut self.work {
            work.drop(reason, samples);
        }
        let at = (self.clock)();
        self.course.board.failed(crate::deliver::board::Failure { at, text: text.to_owned() });
        let (since, untold) = self.told.unwrap_or((Instant::now(), 0));
        if self.told.is_some() && since.elapsed() < QUIET {
            self.told = Some((since, untold + u64::from(samples)));
            return Step::More;
        }
        let output = &self.course.output.name;
        let reason = reason.word();
        warn!(%output, lane = self.lane, reason, samples, untold, error = text, "samples are dropped");
        self.told = Some((Instant::now(), 0));
        Step::More
    }

    /// Tells a receiver of 1.0 what the families of a part are. Whether it arrives does not matter.
    async fn send_metadata(&mut self, part: Part) {
        let Ok(Some(body)) = tokio::task::spawn_blocking(move || part.metadata()).await else { return };
        let request = self.course.request(Format::V1, body, 0);
        let begun = Instant::now();
        let answer = self.transport.send(&request, begun + self.course.output.endpoint().timeout).await;
        let told = Told::of(&answer, Format::V1, (self.clock)());
        self.course.board.answered(Format::V1, told.code, begun.elapsed(), false);
    }
}

/// The body of a part in that format, made on a thread that may compute where it is not there yet.
async fn body(part: &mut Part, format: Format) -> Result<Bytes, Error> {
    if let Some((known, body)) = &part.body
        && *known == format
    {
        return Ok(body.clone());
    }
    let raw = part.clone();
    let made = tokio::task::spawn_blocking(move || raw.prepared(format)).await;
    let made = made.map_err(|_| Error::Broken)??;
    *part = made;
    Ok(part.body.as_ref().map(|(_, body)| body.clone()).unwrap_or_default())
}

/// What came of a request.
struct Told {
    outcome: Outcome,
    code: Code,
    text: String,
    /// Whether the receiver may have taken the samples although it says that it failed, or nothing.
    may_have_arrived: bool,
    /// Whether it may have taken them before, when a connection broke.
    is_second: bool,
}

impl Told {
    fn of(answer: &Result<Answer, http::Error>, format: Format, now: SystemTime) -> Self {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let kind = error.kind();
                let outcome = Outcome::Failed(kind);
                let (code, may_have_arrived) = (Code::Failed(kind), kind.may_have_arrived());
                return Self { outcome, code, text: chain(error), may_have_arrived, is_second: false };
            }
        };
        let outcome = match format {
            Format::V2 | Format::V1 => remote_write::outcome(answer, now),
            Format::OtlpHttp | Format::OtlpGrpc => otlp::outcome(answer, format, now),
        };
        let (code, may_have_arrived) = match outcome {
            Outcome::Failed(kind) => (Code::Failed(kind), kind.may_have_arrived()),
            Outcome::Status { code, .. } => (Code::http(answer.status), code == 408 || code >= 500),
            Outcome::Grpc { code, .. } => (Code::grpc(code), true),
        };
        let text = words(answer, format, code);
        Self { outcome, code, text, may_have_arrived, is_second: answer.is_second }
    }
}

/// What a receiver says, in one line.
fn words(answer: &Answer, format: Format, code: Code) -> String {
    let mut text = format!("the receiver answered {}", code.label());
    let said = match format {
        Format::OtlpGrpc => otlp::message(answer).or_else(|| otlp::partial(answer, format)),
        Format::OtlpHttp => otlp::partial(answer, format),
        _ => None,
    };
    let said = said.unwrap_or_else(|| String::from_utf8_lossy(&answer.body).into_owned());
    let said = said.trim();
    if !said.is_empty() {
        text.push_str(": ");
        for character in said.chars() {
            if text.len() >= TOLD {
                text.push_str(" ...");
                break;
            }
            if character.is_control() {
                let _ = write!(text, "{}", character.escape_default());
            } else {
                text.push(character);
            }
        }
    }
    text
}
