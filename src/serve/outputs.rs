//! `/api/v1/outputs`: where samples are pushed to, and how that goes; and the same as families of our own page.
//!
//! The form is described in `docs/api.md`, like that of [`super::api`]. No answer holds a URL's query, a header or
//! a password.

use super::State;
use super::api::json;
use super::response::Body;
use crate::config::Config;
use crate::config::deliver::{Destination, Protocol};
use crate::deliver::board::{LaneView, State as Sending};
use crate::deliver::families::{self, Room};
use crate::deliver::outputs::{Outputs, Shown};
use crate::deliver::queue::Reason;
use exposition::{Builder, Families};
use hyper::Response;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Serialize)]
struct OutputsJson {
    outputs: Vec<OutputJson>,
    collections_lost: u64,
}

/// An output.
#[derive(Serialize)]
struct OutputJson {
    name: String,
    /// `remote_write`, `otlp_grpc` or `otlp_http`.
    kind: &'static str,
    /// Without its query.
    url: String,
    /// What is spoken now; null before the first request.
    format: Option<&'static str>,
    /// That of the lane which is worst off; `paused` where nothing is to be sent.
    state: &'static str,
    reason: Option<&'static str>,
    since: f64,
    lag_seconds: f64,
    consecutive_failures: u32,
    error: Option<ErrorJson>,
    drain_seconds: Option<f64>,
    samples: SamplesJson,
    queue: QueueJson,
    lanes: Vec<LaneJson>,
}

/// What went wrong last.
#[derive(Serialize)]
struct ErrorJson {
    time: f64,
    message: String,
}

/// `recovered + accepted = delivered + dropped + pending`, always.
#[derive(Serialize)]
struct SamplesJson {
    recovered: u64,
    accepted: u64,
    delivered: u64,
    dropped: u64,
    pending: u64,
    dropped_by_reason: BTreeMap<String, u64>,
}

/// What waits, and where.
#[derive(Serialize)]
struct QueueJson {
    records: u64,
    memory_bytes: u64,
    disk_bytes: u64,
    capacity_bytes: u64,
    free_bytes: u64,
    full_seconds: Option<f64>,
    disk_ok: bool,
    oldest: Option<f64>,
    newest_accepted: Option<f64>,
    newest_delivered: Option<f64>,
}

/// A lane.
#[derive(Serialize)]
struct LaneJson {
    state: &'static str,
    reason: Option<&'static str>,
    since: f64,
    lag_seconds: f64,
    consecutive_failures: u32,
}

/// Answers `/api/v1/outputs`.
pub async fn page(state: State) -> Response<Body> {
    let outputs = state.outputs.shown().iter().map(output_json).collect();
    json(&OutputsJson { outputs, collections_lost: state.outputs.lost() })
}

/// What is known of outputs, for a page of ours.
pub fn families(outputs: &Outputs, config: &Config) -> Families {
    let mut out = Builder::with_namespace(&config.collect.namespace);
    if !config.serve.redis_only {
        families::record(outputs, &mut out);
    }
    out.finish()
}

fn output_json(shown: &Shown) -> OutputJson {
    let (status, view) = (shown.queue.status(), shown.board.view());
    let (output, worst) = (&shown.output, view.worst());
    let counts = &status.total;
    let room = Room::of(&status, output.queue.min_free);
    let dropped =
        Reason::ALL.into_iter().map(|reason| (reason.word().to_owned(), counts.dropped.get(reason)));
    OutputJson {
        name: output.name.to_string(),
        kind: match output.to {
            Destination::RemoteWrite { .. } => "remote_write",
            Destination::Otlp { protocol: Protocol::Grpc, .. } => "otlp_grpc",
            Destination::Otlp { protocol: Protocol::Http, .. } => "otlp_http",
        },
        url: output.endpoint().url.to_string(),
        format: view.format.map(|format| format.word()),
        state: match output.paused {
            true => "paused",
            false => worst.map_or(Sending::Live, |lane| lane.state).word(),
        },
        reason: worst.and_then(|lane| lane.reason).map(|reason| reason.word()),
        since: worst.map_or(0.0, |lane| seconds(lane.since)),
        lag_seconds: view.lag().as_secs_f64(),
        consecutive_failures: view.consecutive_failures(),
        error: view
            .last_failure
            .as_ref()
            .map(|failure| ErrorJson { time: seconds(failure.at), message: failure.text.clone() }),
        drain_seconds: finite(view.drain_eta(counts.pending)),
        samples: SamplesJson {
            recovered: counts.recovered,
            accepted: counts.accepted,
            delivered: counts.delivered,
            dropped: counts.dropped.total(),
            pending: counts.pending,
            dropped_by_reason: dropped.filter(|(_, count)| *count > 0).collect(),
        },
        queue: QueueJson {
            records: counts.pending_records,
            memory_bytes: status.memory_bytes,
            disk_bytes: status.disk_bytes,
            capacity_bytes: room.capacity,
            free_bytes: room.free,
            full_seconds: finite(room.full_in(counts.pending, view.rates())),
            disk_ok: status.disk_ok,
            oldest: status.oldest_pending.map(milliseconds),
            newest_accepted: status.highest_accepted.map(milliseconds),
            newest_delivered: status.highest_delivered.map(milliseconds),
        },
        lanes: view.lanes.iter().map(lane_json).collect(),
    }
}

fn lane_json(lane: &LaneView) -> LaneJson {
    LaneJson {
        state: lane.state.word(),
        reason: lane.reason.map(|reason| reason.word()),
        since: seconds(lane.since),
        lag_seconds: lane.lag.as_secs_f64(),
        consecutive_failures: lane.consecutive_failures,
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn milliseconds(time: i64) -> f64 {
    time as f64 / 1000.0
}

/// JSON has no infinity.
fn finite(seconds: f64) -> Option<f64> {
    Some(seconds).filter(|seconds| seconds.is_finite())
}
