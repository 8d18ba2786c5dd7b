//! What the operator may say about failures: how many make an outage, and when a dead server is tried again.

use std::time::Duration;

/// How failures are taken.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Resilience {
    /// `health:`.
    pub health: Health,
    /// `breaker:`.
    pub breaker: Breaker,
}

/// When a target is down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Health {
    /// `health.failures_to_down`: failures in a row. 3; at least 1.
    pub failures_to_down: u32,
    /// `health.failover_max`: how long members of a service that fails over are `failover` and not `down`. 60 s.
    pub failover_max: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self { failures_to_down: 3, failover_max: Duration::from_secs(60) }
    }
}

/// When a target that is down is tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// `breaker.pause`: the first pause. 1 s.
    pub pause: Duration,
    /// `breaker.max_pause`: the longest pause; never longer than two intervals. 10 s.
    pub max_pause: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { pause: Duration::from_secs(1), max_pause: Duration::from_secs(10) }
    }
}
