//! What is known of services and their members as metric families. No sample carries the labels `service` and
//! `instance`: the page that shows many adds them.

use super::{ServiceTruth, Verdict};
use crate::collect::facts::Role;
use crate::discover::Service;
use exposition::{Builder, Desc};
use std::time::{Instant, UNIX_EPOCH};

static ROLE: Desc = Desc::gauge(
    "redis_member_role",
    "Which role the member says that it has: 1 for that one, 0 for the others; absent while it does not answer.",
)
.labels(&["role"]);
static LAG_BYTES: Desc = Desc::gauge(
    "redis_replica_lag_bytes",
    "What the member that this replica replicates from has written and this replica has not applied, in bytes. \
     Absent unless both were read within one second in the same round and have the same history.",
);
static LAG_SECONDS: Desc = Desc::gauge(
    "redis_replica_lag_seconds",
    "How old the data of this replica is, in seconds, estimated from how fast its master has been writing. Absent \
     where redis_replica_lag_bytes is, and while something is missing and the rate of writing is not known.",
);
static HEADROOM: Desc = Desc::gauge(
    "redis_replication_headroom_seconds",
    "How long this replica could be cut off from now on without having to copy everything anew, in seconds: what \
     the backlog of its master leaves, over the rate of writing. Absent where redis_replica_lag_bytes is, and while \
     that rate is not known or below one byte a second.",
);
static LAGGING: Desc = Desc::gauge(
    "redis_replication_lag_exceeded",
    "Whether redis_replica_lag_bytes has reached the configured replication_lag_bytes; absent where that is.",
);
static FLAPS: Desc = Desc::counter(
    "redis_replica_link_flaps_total",
    "How often the link of this replica to its master was seen to break, since the exporter started; from Redis \
     8.2 on also those breaks that were over before the next look. Absent before it was a replica.",
);
static MISMATCH: Desc = Desc::gauge(
    "redis_replication_id_mismatch",
    "Whether the data of this replica is of another history than its master's: it is to copy everything anew. \
     Absent where its master is not a member that was read within the same second, and before Redis 4.",
);

/// Every family of a member.
pub fn member_descs() -> [&'static Desc; 7] {
    [&ROLE, &LAG_BYTES, &LAG_SECONDS, &HEADROOM, &LAGGING, &FLAPS, &MISMATCH]
}

static UP: Desc = Desc::gauge(
    "redis_service_up",
    "Whether the service can be used. With Sentinel: the master that the newest majority names says so itself and \
     is not loading. A Cluster: healthy masters cover all slots. A list: some member that is not loading says that \
     it is a master, or any answers where none ever was one. Absent before that is known.",
);
static MASTERS: Desc = Desc::gauge(
    "redis_service_masters",
    "Members that say that they are the master; with Sentinel more than 1 is two masters at once, unless there is \
     a failover. Of a Cluster: nodes that claim a slot which another one claims too, so 0 is normal. Absent before \
     a member was read.",
);
static AT_RISK: Desc = Desc::gauge(
    "redis_failover_data_at_risk_bytes",
    "What a failover now would lose, in bytes: how far the best replica that may be promoted is behind; in a \
     Cluster, of the shard where that is most. Absent while the lag of no replica is known.",
);
static RESYNCS: Desc = Desc::counter(
    "redis_replication_resyncs_total",
    "Synchronisations of replicas by all members, since the exporter started: full, partial, and those that were \
     refused to be partial. Neither failovers nor restarts set it back. Absent before a member told.",
)
.labels(&["kind"]);
static FAILOVERS: Desc = Desc::counter(
    "redis_failovers_total",
    "Masters that were replaced, of all shards, since the exporter started. Absent for lists, of which nobody tells.",
);
static ABORTED: Desc = Desc::counter(
    "redis_failovers_aborted_total",
    "Failovers that began and ended with the same master, since the exporter started. Absent for lists.",
);
static IN_PROGRESS: Desc =
    Desc::gauge("redis_failover_in_progress", "Whether a failover is under way. Absent for lists.");
static LAST: Desc = Desc::gauge(
    "redis_failover_last_timestamp_seconds",
    "When the last new master said itself that it is one, in seconds since 1970. Absent before the first.",
);
static DURATION: Desc = Desc::gauge(
    "redis_failover_duration_seconds",
    "How long the last failover took, in seconds: from the last collection that the old master answered as a master \
     to the first confirmed answer of the new one, so up to one interval too long. Absent before the first, and \
     where the old master was never read.",
);
static PHASE: Desc = Desc::gauge(
    "redis_failover_phase_seconds",
    "How long each phase of the last failover took by what Sentinel said, in seconds. Absent for phases that were \
     not heard of.",
)
.labels(&["phase"]);

/// Every family of a service.
pub fn service_descs() -> [&'static Desc; 10] {
    [&UP, &MASTERS, &AT_RISK, &RESYNCS, &FAILOVERS, &ABORTED, &IN_PROGRESS, &LAST, &DURATION, &PHASE]
}

impl ServiceTruth {
    /// Records what is known of the service.
    pub fn record_service(&self, service: &Service, now: Instant, out: &mut Builder) {
        let Verdict { up, masters, at_risk, .. } = self.judge(service, now);
        push(out, &UP, up.map(number));
        push(out, &MASTERS, masters.map(f64::from));
        push(out, &AT_RISK, at_risk.map(|bytes| bytes as f64));
        if let Some(resyncs) = self.resyncs {
            let family = out.family(&RESYNCS);
            for (kind, count) in ["full", "partial", "refused"].iter().zip(resyncs) {
                out.sample(family, &[kind], count as f64);
            }
        }
        if !matches!(service.kind, "sentinel" | "cluster") {
            return;
        }
        out.push(&FAILOVERS, self.completed.total as f64);
        out.push(&ABORTED, self.aborted.total as f64);
        out.push(&IN_PROGRESS, number(service.failover.is_some()));
        let Some(last) = &service.history.last else { return };
        let since = last.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        out.push(&LAST, since.as_secs_f64());
        let outage =
            self.last.filter(|(confirmed, _)| *confirmed == last.confirmed).and_then(|(_, outage)| outage);
        push(out, &DURATION, outage.map(|outage| outage.as_secs_f64()));
        let family = out.family(&PHASE);
        for (phase, took) in &last.phases {
            out.sample(family, &[phase], took.as_secs_f64());
        }
    }

    /// Records what is known of a member beyond what it says itself.
    pub fn record_member(&self, instance: &str, out: &mut Builder) {
        let Some(truth) = self.members.get(instance) else { return };
        if let Some(role) = truth.role {
            let family = out.family(&ROLE);
            for one in Role::ALL {
                out.sample(family, &[one.as_str()], number(one == role));
            }
        }
        push(out, &FLAPS, truth.link.flaps.map(|flaps| flaps as f64));
        push(out, &MISMATCH, truth.mismatch.map(number));
        if let Some(lag) = truth.lag {
            out.push(&LAG_BYTES, lag.bytes as f64);
            push(out, &LAG_SECONDS, lag.seconds);
            push(out, &HEADROOM, lag.headroom);
            out.push(&LAGGING, number(truth.is_lagging));
        }
    }
}

fn number(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn push(out: &mut Builder, desc: &'static Desc, value: Option<f64>) {
    if let Some(value) = value {
        out.push(desc, value);
    }
}
