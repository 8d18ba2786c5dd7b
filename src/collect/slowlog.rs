//! `SLOWLOG LEN` and the newest entry of the slow log.
//!
//! All data nodes have it; a Sentinel does not. ACL: `+slowlog|len +slowlog|get` (before 7.0 `+slowlog`).
//! Cost: O(1). <https://redis.io/docs/latest/commands/slowlog-get/>

use super::{Answers, Asks, Collector, Context, Failure, How, When};
use exposition::{Builder, Desc};

/// See the head of this file.
pub static COLLECTOR: Collector = Collector {
    name: "slowlog",
    descs: || vec![&LENGTH, &LAST_ID, &LAST_DURATION],
    when,
    how: How::Read { ask, read },
};

static LENGTH: Desc = Desc::gauge("redis_slowlog_length", "Entries in the slow log.");
static LAST_ID: Desc =
    Desc::gauge("redis_slowlog_last_id", "Id of the newest entry of the slow log; 0 when it is empty.");
static LAST_DURATION: Desc = Desc::gauge(
    "redis_last_slow_execution_duration_seconds",
    "Run time of the newest command in the slow log, in seconds; 0 when the log is empty.",
);

fn when(context: &Context<'_>) -> When {
    match context.server {
        None => When::AfterInfo,
        Some(_) if context.is_sentinel() => When::Never,
        Some(_) => When::Now,
    }
}

fn ask(_: &Context<'_>, asks: &mut Asks<'_>) {
    asks.push("SLOWLOG LEN", &["SLOWLOG", "LEN"]);
    asks.push("SLOWLOG GET", &["SLOWLOG", "GET", "1"]);
}

fn read(_: &Context<'_>, answers: &Answers<'_>, out: &mut Builder) -> Result<(), Failure> {
    let length = answers.get(0)?.number().ok_or(Failure::shape("SLOWLOG LEN"))?;
    out.push(&LENGTH, length);

    // An entry is (id, time, microseconds, arguments, …).
    let entries = answers.get(1)?.items().ok_or(Failure::shape("SLOWLOG GET"))?;
    let (mut id, mut microseconds) = (0.0, 0.0);
    for entry in entries.take(1) {
        let fields: Vec<_> = entry.items().ok_or(Failure::shape("SLOWLOG GET"))?.take(3).collect();
        let number = |i: usize| fields.get(i).and_then(|f| f.number()).ok_or(Failure::shape("SLOWLOG GET"));
        (id, microseconds) = (number(0)?, number(2)?);
    }
    out.push(&LAST_ID, id);
    out.push(&LAST_DURATION, microseconds / 1e6);
    Ok(())
}
