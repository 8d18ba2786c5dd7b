//! `health:` and `breaker:`.

use super::{DAY, HOUR, MILLISECOND, field, no_more};
use crate::config::document::reader::{Set, Table};
use crate::config::resilience::{Breaker, Health};
use std::time::Duration;

pub(super) static HEALTH: Table<Health> = Table {
    fields: &[
        field(
            "failures_to_down",
            "3",
            "3",
            Set::Integer(1, 1000, |h: &mut Health, v| {
                h.failures_to_down = u32::try_from(v).unwrap_or(u32::MAX)
            }),
            "How many collections in a row must fail before a member is down. Fewer hear of outages sooner, and \
             of hiccups too.",
        ).tunable(),
        field(
            "failover_max",
            "1m",
            "1m",
            Set::Duration(Duration::ZERO, DAY, |h: &mut Health, v| h.failover_max = v),
            "How long members of a service that fails over are in the state failover and not down. 0s: never.",
        ).tunable(),
    ],
    finish: no_more,
};

pub(super) static BREAKER: Table<Breaker> = Table {
    fields: &[
        field(
            "pause",
            "1s",
            "1s",
            Set::Duration(MILLISECOND, HOUR, |b: &mut Breaker, v| b.pause = v),
            "The first pause before a member that is down is tried again; it grows from try to try.",
        ).tunable(),
        field(
            "max_pause",
            "10s",
            "10s",
            Set::Duration(MILLISECOND, HOUR, |b: &mut Breaker, v| b.max_pause = v),
            "The longest pause, and never longer than two intervals: so long it may take until a server that is \
             back is noticed. At least pause.",
        ).tunable(),
    ],
    finish: |breaker, scope| {
        if breaker.max_pause < breaker.pause {
            let key = if scope.said("max_pause") { "max_pause" } else { "pause" };
            scope.problem(key, "does not fit: max_pause is shorter than pause; expected at least that");
        }
    },
};
