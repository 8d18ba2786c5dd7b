//! `outputs:`: where samples are pushed to, and the queue of each.
//!
//! [`receiver`] has the two kinds of receivers.
//!
//! What a newcomer would get wrong: `queue` is read into the very struct that the queue gets. Its defaults stand there,
//! and in the rows.

mod receiver;

pub use receiver::ReceiverDraft;
pub(super) use receiver::{TLS as TLS_TO_SERVER, url, word_file};

use super::{Draft, HOUR, MILLISECOND, field, idle, label, no_more, switch};
use crate::config::deliver::{Durability, Fsync, OnFull, Output, Queue};
use crate::config::document::reader::{Part, Scope, Set, Table};
use crate::config::{units, validate};
use receiver::{OTLP, REMOTE_WRITE};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// An output in the making.
#[derive(Default)]
pub struct OutputDraft {
    pub(super) name: String,
    pub(super) remote_write: ReceiverDraft,
    pub(super) otlp: ReceiverDraft,
    pub(super) queue: Queue,
    pub(super) rate: Option<u64>,
    pub(super) paused: bool,
    pub(super) external_labels: BTreeMap<String, String>,
}

pub(super) const MORE_OUTPUTS: &str = "  - name: otel
    otlp: { endpoint: \"http://collector:4317\", protocol: grpc }
";

pub(super) static OUTPUT: Table<OutputDraft> = Table {
    fields: &[
        field(
            "name",
            "",
            "mimir",
            Set::Parsed("a name", |d: &mut OutputDraft, v, _| {
                d.name = v.into();
                validate::output_name(v)
            }),
            "A name of its own: the label output, and the name of the folder of its queue. The URL may change, and what \
             waits goes to the new one; under another name it is another output, and what waits for the old one stays \
             where it is.",
        )
        .required(),
        field(
            "remote_write",
            "",
            "",
            Set::Section(&Part { table: &REMOTE_WRITE, at: |d: &mut OutputDraft| &mut d.remote_write }),
            "The receiver speaks remote write: Prometheus, Mimir, Thanos, Cortex, VictoriaMetrics and others.",
        ),
        field(
            "otlp",
            "",
            "{ endpoint: \"http://collector:4317\", protocol: grpc }",
            Set::Section(&Part { table: &OTLP, at: |d: &mut OutputDraft| &mut d.otlp }),
            "The receiver speaks the protocol of OpenTelemetry: a collector, or what takes the place of one. basic_auth and tls \
             have the keys that they have in remote_write.",
        )
        .aside(),
        field(
            "queue",
            "",
            "",
            Set::Section(&Part { table: &QUEUE, at: |d: &mut OutputDraft| &mut d.queue }),
            "What waits for it.",
        ),
        field(
            "replay",
            "",
            "",
            Set::Section(&Part { table: &REPLAY, at: |d: &mut OutputDraft| d }),
            "How what waited is sent, once the receiver is back.",
        ),
        switch(
            "paused",
            "false",
            |d: &mut OutputDraft, v| d.paused = v,
            "Send nothing there for the time being, and keep what comes: the queue fills until max_bytes or max_age.",
        )
        .tunable(),
        field(
            "external_labels",
            "",
            "{ cluster: eu1 }",
            Set::Map("labels to texts", |d: &mut OutputDraft, name, text, around| {
                let text = match name {
                    // The one name with __ that receivers want: <https://grafana.com/docs/mimir/latest/configure/configure-high-availability-deduplication/>
                    "__replica__" => text.into(),
                    "job" => return Err("is a label that we set ourselves; expected another name, or global.job".into()),
                    _ => label(name, text, around)?,
                };
                d.external_labels.insert(name.into(), text);
                Ok(())
            }),
            "Labels of every series that is pushed there. A series that has a label of that name keeps its own. They are \
             fixed when a sample is taken: what waits keeps those that it has. The names that global.labels may have, and \
             __replica__.",
        ),
    ],
    finish: |draft, scope| {
        scope.exactly_one(&["remote_write", "otlp"]);
        idle::of_output(draft, scope);
    },
};

pub(super) fn push_output(draft: &mut Draft, output: OutputDraft, scope: &mut Scope<'_, '_>) {
    let outputs = &mut draft.config.deliver.outputs;
    if !output.name.is_empty() && outputs.iter().any(|other| *other.name == output.name) {
        scope.problem("name", "is the name of another output, too; expected a name of its own");
    }
    let to = match scope.said("otlp") {
        true => output.otlp.otlp(),
        false => output.remote_write.remote_write(),
    };
    // Without a receiver there is a problem already.
    let Some(to) = to else { return };
    outputs.push(Arc::new(Output {
        name: output.name.into(),
        to,
        queue: output.queue,
        max_samples_per_second: output.rate,
        paused: output.paused,
        external_labels: output.external_labels,
    }));
}

/// A size that nobody has.
const PEBIBYTE: u64 = 1 << 50;

static QUEUE: Table<Queue> = Table {
    fields: &[
        field(
            "max_bytes",
            "2GiB",
            "2GiB",
            Set::Bytes(1 << 20, PEBIBYTE, |q: &mut Queue, v| q.max_bytes = v),
            "The most that waits on disk. Above it the oldest file goes, and is counted as dropped for the reason size. A \
             sample takes 7 to 17 bytes: docs/delivery.md has a table.",
        ),
        field(
            "max_age",
            "24h",
            "24h",
            Set::Duration(
                Duration::from_secs(1),
                Duration::from_secs(3650 * 24 * 3600),
                |q: &mut Queue, v| q.max_age = v,
            ),
            "The most that a sample waits; what is older is dropped for the reason age. A Prometheus without \
             out_of_order_time_window takes nothing that is older than an hour: 55m for such a one, and for others what \
             their window is.",
        ),
        field(
            "min_free",
            "512MiB",
            "512MiB",
            Set::Bytes(0, PEBIBYTE, |q: &mut Queue, v| q.min_free = v),
            "What is left free of the file system for others: below it the oldest file goes, for the reason disk_full.",
        ),
        field(
            "memory",
            "32MiB",
            "32MiB",
            Set::Bytes(1 << 20, 64 << 30, |q: &mut Queue, v| q.memory = v),
            "The most that waits in memory, whatever the outage: the newest records, so that a receiver that keeps up \
             costs no reading. All that waits, where durability is memory or the disk is of no use.",
        ),
        field(
            "fsync",
            "1s",
            "1s",
            Set::Parsed("a duration from 1ms to 1h, always or never", |q: &mut Queue, v, _| {
                q.fsync = fsync(v)?;
                Ok(())
            }),
            "How often what was written is made safe against the death of the machine, which is what it may lose. \
             always: after each record, which costs some milliseconds of the disk. never: left to the system. The death \
             of the process loses nothing, whatever stands here.",
        ),
        field(
            "durability",
            "wal",
            "wal",
            Set::Parsed("wal, spill or memory", |q: &mut Queue, v, _| {
                q.durability = match v {
                    "wal" => Durability::Wal,
                    "spill" => Durability::Spill,
                    "memory" => Durability::Memory,
                    _ => return Err("is no durability; expected wal, spill or memory".into()),
                };
                Ok(())
            }),
            "What the death of the process leaves. wal: all, since everything is written before it is sent. spill: what \
             had no room in memory, or waits while the receiver fails; the rest is lost. memory: nothing; there is no disk, \
             and what waits is bounded by memory.",
        ),
        field(
            "lanes",
            "1",
            "1",
            Set::Integer(1, 16, |q: &mut Queue, v| q.lanes = u16::try_from(v).unwrap_or(1)),
            "How many requests are under way at once, each lane for targets of its own, so that the order of a series \
             stays. More for a receiver that is far away and many targets: one lane sends a request of 5000 samples after \
             the other.",
        ),
        field(
            "on_full",
            "drop_oldest",
            "drop_oldest",
            Set::Parsed("drop_oldest or drop_newest", |q: &mut Queue, v, _| {
                q.on_full = match v {
                    "drop_oldest" => OnFull::DropOldest,
                    "drop_newest" => OnFull::DropNewest,
                    _ => return Err("is no such thing; expected drop_oldest or drop_newest".into()),
                };
                Ok(())
            }),
            "What goes when max_bytes or min_free is reached: the oldest file, or what is new.",
        ),
        field(
            "linger",
            "250ms",
            "250ms",
            Set::Duration(Duration::ZERO, Duration::from_secs(60), |q: &mut Queue, v| q.linger = v),
            "How long collections are gathered into one request, unless it is full before: 5000 samples or 1 MiB. So much \
             the death of the process may lose. 0s: each collection is a request of its own.",
        ),
    ],
    finish: idle::of_queue,
};

static REPLAY: Table<OutputDraft> = Table {
    fields: &[field(
        "max_samples_per_second",
        "",
        "100000",
        Set::Integer(1, u64::MAX, |d: &mut OutputDraft, v| d.rate = Some(v)),
        "The most samples a second while there is more waiting than what is new. Without it the pace is found by itself: \
         twice that of what is new, faster while all goes well, slower where the receiver is. It must be more than what is \
         new, or what waits never ends.",
    )],
    finish: no_more,
};

fn fsync(text: &str) -> Result<Fsync, String> {
    match text {
        "always" => Ok(Fsync::Always),
        "never" => Ok(Fsync::Never),
        text => match units::prometheus_duration(text) {
            Ok(every) if (MILLISECOND..=HOUR).contains(&every) => Ok(Fsync::Every(every)),
            Ok(_) => Err("is out of range; expected a duration from 1ms to 1h, always or never".into()),
            Err(_) => Err("is no duration; expected one such as 1s, always or never".into()),
        },
    }
}

#[cfg(test)]
mod tests;
