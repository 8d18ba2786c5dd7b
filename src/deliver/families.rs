//! What is known of each output as metric families: `redvigil_output_*`.
//!
//! What a newcomer would get wrong: at any moment `samples_recovered + samples_accepted_total =
//! samples_delivered_total + samples_dropped_total + samples_pending`, to the sample. So all of these are taken from
//! one status.

use super::board::{BUCKETS, View};
use super::outputs::{Outputs, Shown};
use super::queue::{Reason, Status};
use exposition::{Builder, Desc, FamilyId};

const LABEL: &[&str] = &["output"];

static STATE: Desc = Desc::gauge(
    "redvigil_output_state",
    "What the output is doing: 0 live, 1 retrying, 2 degraded, 3 probing, 4 recovering; of several lanes the worst.",
)
.labels(LABEL);
static PAUSED: Desc =
    Desc::gauge("redvigil_output_paused", "Whether nothing is to be sent there for the time being.")
        .labels(LABEL);
static TRANSITIONS: Desc =
    Desc::counter("redvigil_output_state_transitions_total", "Changes of state of a lane of the output.")
        .labels(&["output", "from", "to"]);
static RECOVERED: Desc = Desc::gauge(
    "redvigil_output_samples_recovered",
    "Samples that were found in the queue at the start: with those accepted since they are those delivered, dropped \
     and pending.",
)
.labels(LABEL);
static ACCEPTED: Desc =
    Desc::counter("redvigil_output_samples_accepted_total", "Samples that the queue took.").labels(LABEL);
static DELIVERED: Desc =
    Desc::counter("redvigil_output_samples_delivered_total", "Samples that the receiver took.").labels(LABEL);
static DROPPED: Desc = Desc::counter(
    "redvigil_output_samples_dropped_total",
    "Samples that left the queue without having been delivered, by reason.",
)
.labels(&["output", "reason"]);
static PENDING: Desc =
    Desc::gauge("redvigil_output_samples_pending", "Samples that wait or are under way.").labels(LABEL);
static RECORDS: Desc =
    Desc::gauge("redvigil_output_records_pending", "Requests that wait or are under way.").labels(LABEL);
static RECOVERED_RECORDS: Desc =
    Desc::gauge("redvigil_output_recovered_records", "Requests that were found in the queue at the start.")
        .labels(LABEL);
static QUEUE_BYTES: Desc = Desc::gauge("redvigil_output_queue_bytes", "What the queue takes, in bytes.")
    .labels(&["output", "where"]);
static CAPACITY: Desc = Desc::gauge(
    "redvigil_output_queue_capacity_bytes",
    "What the queue may take before the oldest goes, in bytes; on disk, or in memory where it has no disk.",
)
.labels(LABEL);
static FREE: Desc = Desc::gauge(
    "redvigil_output_queue_free_bytes",
    "What is left of that, or of the file system above queue.min_free where that is less, in bytes.",
)
.labels(LABEL);
static FULL: Desc = Desc::gauge(
    "redvigil_output_queue_full_eta_seconds",
    "When the queue will be full as it goes now, in seconds; infinite where it does not grow.",
)
.labels(LABEL);
static OLDEST: Desc = Desc::gauge(
    "redvigil_output_oldest_pending_timestamp_seconds",
    "The time of the oldest sample that waits, as Unix time; absent where none does.",
)
.labels(LABEL);
static HIGHEST_ACCEPTED: Desc = Desc::gauge(
    "redvigil_output_highest_accepted_timestamp_seconds",
    "The time of the newest sample that the queue took, as Unix time.",
)
.labels(LABEL);
static HIGHEST_DELIVERED: Desc = Desc::gauge(
    "redvigil_output_highest_delivered_timestamp_seconds",
    "The time of the newest sample that the receiver took, as Unix time.",
)
.labels(LABEL);
static DRAIN: Desc = Desc::gauge(
    "redvigil_output_drain_eta_seconds",
    "When all that waits will have been sent as it goes now, in seconds; infinite where more comes than is sent.",
)
.labels(LABEL);
static REQUESTS: Desc = Desc::counter(
    "redvigil_output_requests_total",
    "Requests by what came of them: a status, or why there was none.",
)
.labels(&["output", "code"]);
static DURATION: Desc =
    Desc::histogram("redvigil_output_request_duration_seconds", "How long requests took, in seconds.")
        .labels(LABEL);
static RETRIES: Desc =
    Desc::counter("redvigil_output_retries_total", "Requests that were not the first with what they held.")
        .labels(LABEL);
static FAILURES: Desc = Desc::gauge(
    "redvigil_output_consecutive_failures",
    "Requests that failed since the last one that did not; of several lanes the most.",
)
.labels(LABEL);
static FALLBACKS: Desc = Desc::counter(
    "redvigil_output_protocol_fallbacks_total",
    "How often another version of the protocol was taken, because the receiver does not know the first.",
)
.labels(&["output", "from", "to"]);
static SPLITS: Desc = Desc::counter(
    "redvigil_output_split_requests_total",
    "Requests that were sent in parts, because the receiver did not take them whole.",
)
.labels(LABEL);
static PROBES: Desc = Desc::counter(
    "redvigil_output_probes_total",
    "Requests that asked whether a receiver that was down is back.",
)
.labels(&["output", "result"]);
static FSYNC: Desc = Desc::summary(
    "redvigil_output_fsync_duration_seconds",
    "How long it took until what was written was safe, in seconds.",
)
.labels(LABEL);
static FSYNC_ERRORS: Desc =
    Desc::counter("redvigil_output_fsync_errors_total", "How often that failed.").labels(LABEL);
static WRITE_ERRORS: Desc = Desc::counter(
    "redvigil_output_write_errors_total",
    "Calls for files of the queue that failed, by what the system said.",
)
.labels(&["output", "errno"]);
static TORN: Desc = Desc::counter(
    "redvigil_output_torn_tail_total",
    "Ends of files that the death of an earlier process cut short; what they held was not accepted.",
)
.labels(LABEL);
static CORRUPT: Desc = Desc::counter(
    "redvigil_output_corrupt_records_total",
    "What was found damaged in files of the queue, by part.",
)
.labels(&["output", "part"]);
static GAPS: Desc = Desc::counter(
    "redvigil_output_queue_gaps_total",
    "Places in files of the queue at which requests were missing.",
)
.labels(LABEL);
static DISK: Desc = Desc::gauge(
    "redvigil_output_disk_ok",
    "Whether the queue can be written to; while it cannot, what comes waits in memory.",
)
.labels(LABEL);
static LOST: Desc = Desc::counter(
    "redvigil_output_collections_lost_total",
    "Collections that no output got, because more came than could be taken in.",
);

/// Every family of this file.
pub fn descs() -> [&'static Desc; 33] {
    [
        &STATE,
        &PAUSED,
        &TRANSITIONS,
        &RECOVERED,
        &ACCEPTED,
        &DELIVERED,
        &DROPPED,
        &PENDING,
        &RECORDS,
        &RECOVERED_RECORDS,
        &QUEUE_BYTES,
        &CAPACITY,
        &FREE,
        &FULL,
        &OLDEST,
        &HIGHEST_ACCEPTED,
        &HIGHEST_DELIVERED,
        &DRAIN,
        &REQUESTS,
        &DURATION,
        &RETRIES,
        &FAILURES,
        &FALLBACKS,
        &SPLITS,
        &PROBES,
        &FSYNC,
        &FSYNC_ERRORS,
        &WRITE_ERRORS,
        &TORN,
        &CORRUPT,
        &GAPS,
        &DISK,
        &LOST,
    ]
}

/// Records what is known of these outputs, and how many collections none of them got.
pub fn record(outputs: &Outputs, out: &mut Builder) {
    let shown = outputs.shown();
    if shown.is_empty() {
        return;
    }
    out.push(&LOST, outputs.lost() as f64);
    for shown in shown.iter() {
        record_output(shown, out);
    }
}

fn record_output(shown: &Shown, out: &mut Builder) {
    let (status, view) = (shown.queue.status(), shown.board.view());
    let mut page = Page { name: &shown.output.name, out };
    page.put(&PAUSED, f64::from(u8::from(shown.output.paused)));
    page.queue(&status, &view, shown.output.queue.min_free);
    page.disk(&status);
    page.sending(&status, &view);
}

/// What is written of one output.
struct Page<'a> {
    name: &'a str,
    out: &'a mut Builder,
}

impl Page<'_> {
    fn put(&mut self, desc: &'static Desc, value: f64) {
        let family = self.out.family(desc);
        self.out.sample(family, &[self.name], value);
    }

    fn each<'a>(&mut self, desc: &'static Desc, values: impl Iterator<Item = (&'a str, u64)>) {
        let family: FamilyId = self.out.family(desc);
        for (word, value) in values {
            self.out.sample(family, &[self.name, word], value as f64);
        }
    }

    fn queue(&mut self, status: &Status, view: &View, min_free: u64) {
        let counts = &status.total;
        for (desc, value) in [
            (&RECOVERED, counts.recovered),
            (&ACCEPTED, counts.accepted),
            (&DELIVERED, counts.delivered),
            (&PENDING, counts.pending),
            (&RECORDS, counts.pending_records),
            (&RECOVERED_RECORDS, counts.recovered_records),
        ] {
            self.put(desc, value as f64);
        }
        self.each(
            &DROPPED,
            Reason::ALL.into_iter().map(|reason| (reason.word(), counts.dropped.get(reason))),
        );
        self.each(&QUEUE_BYTES, [("memory", status.memory_bytes), ("disk", status.disk_bytes)].into_iter());
        let room = Room::of(status, min_free);
        self.put(&CAPACITY, room.capacity as f64);
        self.put(&FREE, room.free as f64);
        self.put(&FULL, room.full_in(counts.pending, view.rates()));
        for (desc, time) in [
            (&OLDEST, status.oldest_pending),
            (&HIGHEST_ACCEPTED, status.highest_accepted),
            (&HIGHEST_DELIVERED, status.highest_delivered),
        ] {
            if let Some(time) = time {
                self.put(desc, time as f64 / 1000.0);
            }
        }
    }

    fn disk(&mut self, status: &Status) {
        let disk = &status.disk;
        let family = self.out.family(&FSYNC);
        self.out.distribution(family, &[self.name], [], disk.fsync_seconds, disk.fsyncs);
        self.put(&FSYNC_ERRORS, disk.fsync_errors as f64);
        self.each(&WRITE_ERRORS, disk.write_errors.iter().map(|(name, count)| (*name, *count)));
        self.put(&TORN, disk.torn_tails as f64);
        self.each(&CORRUPT, disk.corrupt.iter().map(|(part, count)| (*part, *count)));
        self.put(&GAPS, disk.gaps as f64);
        self.put(&DISK, f64::from(u8::from(status.disk_ok)));
    }

    fn sending(&mut self, status: &Status, view: &View) {
        self.put(&STATE, f64::from(view.state().number()));
        let family = self.out.family(&TRANSITIONS);
        for ((from, to), count) in &view.transitions {
            self.out.sample(family, &[self.name, from.word(), to.word()], *count as f64);
        }
        self.put(&DRAIN, view.drain_eta(status.total.pending));
        let family = self.out.family(&REQUESTS);
        for (code, count) in &view.requests {
            self.out.sample(family, &[self.name, &code.label()], *count as f64);
        }
        let family = self.out.family(&DURATION);
        let cumulative = view.latency.counts.iter().scan(0, |total, count| {
            *total += count;
            Some(*total as f64)
        });
        let buckets = BUCKETS.into_iter().zip(cumulative);
        self.out.distribution(family, &[self.name], buckets, view.latency.sum, view.latency.count());
        self.put(&RETRIES, view.retries as f64);
        self.put(&FAILURES, f64::from(view.consecutive_failures()));
        let family = self.out.family(&FALLBACKS);
        for ((from, to), count) in &view.fallbacks {
            self.out.sample(family, &[self.name, from.word(), to.word()], *count as f64);
        }
        self.put(&SPLITS, view.splits as f64);
        let probes = [("succeeded", view.probes_succeeded), ("failed", view.probes_failed)];
        self.each(&PROBES, probes.into_iter());
    }
}

/// How much fits into a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The most that it may take, in bytes.
    pub capacity: u64,
    /// What it takes.
    pub taken: u64,
    /// What it may take beside that.
    pub free: u64,
}

impl Room {
    /// That of a queue, which leaves that much of the file system free.
    pub fn of(status: &Status, min_free: u64) -> Self {
        let Some(disk_free) = status.disk_free else {
            let (capacity, taken) = (status.memory_capacity, status.memory_bytes);
            return Self { capacity, taken, free: capacity.saturating_sub(taken) };
        };
        let (capacity, taken) = (status.disk_capacity, status.disk_bytes);
        let free = capacity.saturating_sub(taken).min(disk_free.saturating_sub(min_free));
        Self { capacity, taken, free }
    }

    /// Seconds until it is full, with so many samples in it, and so many that come and go each second.
    pub fn full_in(&self, pending: u64, (live, sent): (f64, f64)) -> f64 {
        let grows = live - sent;
        if pending == 0 || grows <= 0.0 {
            return f64::INFINITY;
        }
        self.free as f64 / (grows * self.taken as f64 / pending as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_full_where_its_limit_or_that_of_the_file_system_is_reached() {
        let check = |(bytes, capacity, free): (u64, u64, Option<u64>), expected: u64| {
            let status = Status {
                disk_bytes: bytes,
                disk_capacity: capacity,
                disk_free: free,
                memory_bytes: 10,
                memory_capacity: 30,
                ..Status::default()
            };
            assert_eq!(Room::of(&status, 100).free, expected);
        };
        check((50, 1000, Some(10_000)), 950);
        check((50, 1000, Some(600)), 500);
        check((50, 1000, Some(60)), 0);
        check((2000, 1000, Some(10_000)), 0);
        check((0, 0, None), 20);
    }

    #[test]
    fn when_it_will_be_full_follows_from_what_samples_take() {
        let check = |pending: u64, rates: (f64, f64), expected: f64| {
            let room = Room { capacity: 3000, taken: 1000, free: 2000 };
            assert_eq!(room.full_in(pending, rates), expected, "{pending} {rates:?}");
        };
        check(100, (20.0, 0.0), 10.0);
        check(100, (20.0, 10.0), 20.0);
        check(100, (20.0, 20.0), f64::INFINITY);
        check(100, (10.0, 20.0), f64::INFINITY);
        check(0, (10.0, 0.0), f64::INFINITY);
    }
}
