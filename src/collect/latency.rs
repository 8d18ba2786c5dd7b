//! `LATENCY LATEST` and `LATENCY HISTOGRAM`: spikes that the latency monitor saw, and the run times of every
//! command.
//!
//! All data nodes have LATEST; it is empty while `latency-monitor-threshold` is 0. HISTOGRAM came with Redis
//! 7.0 (all of Valkey has it). A Sentinel has neither. ACL: `+latency|latest +latency|histogram` (before 7.0
//! `+latency`). Cost: LATEST O(1); HISTOGRAM on Redis 7.0 5 µs for each command that was ever called: with 140
//! commands 0.7 ms, more than all the rest of a collection.
//! <https://redis.io/docs/latest/commands/latency-histogram/>
//!
//! What a newcomer would get wrong: the histogram has no sum. It is taken from INFO's commandstats, where
//! the sum of a container such as `config` is spread over `config|get`, `config|set` and so on.

use super::{Answers, Collector, Context, Failure, How, Info, When};
use crate::connect::Version;
use exposition::{Builder, Desc};
use std::collections::HashMap;

/// `LATENCY LATEST`.
pub static LATEST: Collector = Collector {
    name: "latency",
    descs: || vec![&SPIKE_LAST, &SPIKE_DURATION],
    when: |context| when(context, Version::default()),
    how: How::Read { ask: |_, asks| asks.push("LATENCY LATEST", &["LATENCY", "LATEST"]), read: read_latest },
};

/// `LATENCY HISTOGRAM`.
pub static HISTOGRAM: Collector = Collector {
    name: "latency_histogram",
    descs: || vec![&LATENCIES],
    when: |context| when(context, Version(7, 0, 0)),
    how: How::Read {
        ask: |_, asks| asks.push("LATENCY HISTOGRAM", &["LATENCY", "HISTOGRAM"]),
        read: read_histogram,
    },
};

static SPIKE_LAST: Desc = Desc::gauge(
    "redis_latency_spike_last",
    "When the latency monitor saw the newest spike of that event, in Unix seconds.",
)
.labels(&["event_name"]);

static SPIKE_DURATION: Desc = Desc::gauge(
    "redis_latency_spike_duration_seconds",
    "How long the newest spike of that event took, in seconds.",
)
.labels(&["event_name"]);

static LATENCIES: Desc = Desc::histogram(
    "redis_commands_latencies_usec",
    "Run times of the command since the start of the server or CONFIG RESETSTAT, in microseconds.",
)
.labels(&["cmd"]);

fn when(context: &Context<'_>, since: Version) -> When {
    if !context.config.latency {
        return When::Never;
    }
    match context.server {
        None => When::AfterInfo,
        Some(server) if context.is_sentinel() || server.version < since => When::Never,
        Some(_) => When::Now,
    }
}

/// An event is (name, Unix time, newest in ms, largest in ms, …).
fn read_latest(_: &Context<'_>, answers: &Answers<'_>, out: &mut Builder) -> Result<(), Failure> {
    const SHAPE: Failure = Failure::shape("LATENCY LATEST");
    let (last, duration) = (out.family(&SPIKE_LAST), out.family(&SPIKE_DURATION));
    for event in answers.get(0)?.items().ok_or(SHAPE)? {
        let mut fields = event.items().ok_or(SHAPE)?;
        let (name, time, newest) = (fields.next(), fields.next(), fields.next());
        let number = |field: Option<crate::connect::Reply<'_>>| field.and_then(|f| f.number()).ok_or(SHAPE);
        let Some(name) = name.ok_or(SHAPE)?.text() else { continue };
        out.sample(last, &[name], number(time)?);
        out.sample(duration, &[name], number(newest)? / 1e3);
    }
    Ok(())
}

/// A map of command to (`calls`, `histogram_usec`), the latter a map of bound to cumulative count.
fn read_histogram(context: &Context<'_>, answers: &Answers<'_>, out: &mut Builder) -> Result<(), Failure> {
    const SHAPE: Failure = Failure::shape("LATENCY HISTOGRAM");
    let sums = context.info.map(sums).unwrap_or_default();
    let family = out.family(&LATENCIES);
    let mut buckets = vec![];
    for (command, histogram) in answers.get(0)?.pairs().ok_or(SHAPE)? {
        let Some(command) = command.text() else { continue };
        let calls = histogram.field("calls").and_then(|calls| calls.integer()).ok_or(SHAPE)?;
        let counts = histogram.field("histogram_usec").and_then(|counts| counts.pairs()).ok_or(SHAPE)?;
        buckets.clear();
        for (bound, count) in counts {
            let bucket = bound.integer().zip(count.integer()).ok_or(SHAPE)?;
            buckets.push((bucket.0 as f64, bucket.1 as f64));
        }
        let sum = sums.get(command).copied().unwrap_or(0.0);
        out.distribution(family, &[command], buckets.iter().copied(), sum, calls.max(0) as u64);
    }
    Ok(())
}

/// Microseconds by command; those of `cmd|sub` count for `cmd` too.
///
/// One pass over INFO and one look-up for each histogram: searching INFO anew for each would take a
/// noticeable part of a collection.
fn sums<'a>(info: &Info<'a>) -> HashMap<&'a str, f64> {
    let mut sums = HashMap::new();
    for line in info.lines() {
        let Some(command) = line.field.strip_prefix("cmdstat_") else { continue };
        let usec = microseconds(line.value);
        *sums.entry(command).or_default() += usec;
        if let Some((container, _)) = command.split_once('|') {
            *sums.entry(container).or_default() += usec;
        }
    }
    sums
}

/// `usec` of `calls=1,usec=7,…`; what is no such number counts 0.
fn microseconds(value: &str) -> f64 {
    let usec = value.split(',').find_map(|part| part.strip_prefix("usec="));
    usec.and_then(|usec| usec.parse::<u64>().ok()).unwrap_or(0) as f64
}

#[cfg(test)]
mod tests {
    use super::super::recorded::Recorded;
    use super::*;

    macro_rules! fixture {
        ($path:literal) => {
            include_bytes!(concat!("../../tests/fixtures/replies/", $path))
        };
    }

    const INFO: &str = include_str!("../../tests/fixtures/info/redis-7.0.15-standalone.txt");

    fn check(info: &str, collector: &Collector, reply: &[u8], expected: &[&str]) {
        let command = if std::ptr::eq(collector, &LATEST) { "LATENCY LATEST" } else { "LATENCY HISTOGRAM" };
        let lines = Recorded::new(info).reply(command, reply).collect(collector).unwrap();
        assert_eq!(lines, expected);
    }

    fn histogram(info: &str, command: &str, expected: &str) {
        let reply =
            format!("*2\r\n+{command}\r\n*4\r\n+calls\r\n:2\r\n+histogram_usec\r\n*2\r\n:8\r\n:2\r\n");
        let info = format!("redis_version:7.0.15\r\n# Commandstats\r\n{info}");
        let expected = format!("redis_commands_latencies_usec{{cmd={command}}} 8:2 {expected}/2");
        check(&info, &HISTOGRAM, reply.as_bytes(), &[&expected]);
    }

    #[test]
    fn spikes_are_read_from_both_versions_of_the_protocol() {
        let redis = [
            "redis_latency_spike_duration_seconds{event_name=command} 0.022",
            "redis_latency_spike_duration_seconds{event_name=fork} 0.001",
            "redis_latency_spike_last{event_name=command} 1795393828",
            "redis_latency_spike_last{event_name=fork} 1795393828",
        ];
        check(INFO, &LATEST, fixture!("redis-7.0.15-standalone/latency_latest.resp2"), &redis);
        check(INFO, &LATEST, fixture!("redis-7.0.15-standalone/latency_latest.resp3"), &redis);
        // Valkey 9 lists two numbers more.
        let valkey = [
            "redis_latency_spike_duration_seconds{event_name=command} 0.02",
            "redis_latency_spike_last{event_name=command} 1795393910",
        ];
        check(INFO, &LATEST, fixture!("valkey-9.1.2-standalone/latency_latest.resp2"), &valkey);
    }

    #[test]
    fn a_reset_latency_monitor_gives_no_spike() {
        check(INFO, &LATEST, b"*0\r\n", &[]);
    }

    #[test]
    fn recorded_histograms_have_their_buckets_and_the_sum_of_commandstats() {
        let both = [
            (INFO, fixture!("redis-7.0.15-standalone/latency_histogram.resp2").as_slice()),
            (INFO, fixture!("redis-7.0.15-standalone/latency_histogram.resp3")),
        ];
        for (info, reply) in both {
            let lines = Recorded::new(info).reply("LATENCY HISTOGRAM", reply).collect(&HISTOGRAM).unwrap();
            assert_eq!(lines.len(), 52);
            let line = |cmd: &str| {
                let start = format!("redis_commands_latencies_usec{{cmd={cmd}}} ");
                lines.iter().find_map(|line| line.strip_prefix(&start)).unwrap_or_default()
            };
            assert_eq!(line("hget"), "1:1 1/1");
            assert_eq!(line("config|set"), "1:2 2:4 4:5 8:6 15/6");
        }
    }

    #[test]
    fn the_sum_is_that_of_the_command_and_its_subcommands() {
        let config = "cmdstat_config|get:calls=1,usec=58\r\ncmdstat_config|set:calls=1,usec=15005068\r\n";
        histogram(config, "config", "15005126");
        histogram(config, "config|set", "15005068");
        histogram("cmdstat_get:calls=1,usec=7,usec_per_call=3.5\r\n", "get", "7");
    }

    #[test]
    fn names_may_hold_any_character() {
        for name in ["georadius_ro", "ft.search", "restore-asking"] {
            histogram(&format!("cmdstat_{name}:calls=2,usec=9\r\n"), name, "9");
        }
    }

    #[test]
    fn a_negative_overlong_or_missing_usec_counts_0() {
        for stat in ["usec=-5", "usec=99999999999999999999999", "usec=x", "calls=1", "usec_per_call=7"] {
            histogram(&format!("cmdstat_get:{stat}\r\n"), "get", "0");
        }
        histogram("", "get", "0");
    }

    #[test]
    fn replies_of_another_form_fail() {
        for reply in [
            "+OK\r\n",
            "*2\r\n+get\r\n:1\r\n",
            "*2\r\n+get\r\n*2\r\n+calls\r\n:1\r\n",
            "*2\r\n+get\r\n*4\r\n+calls\r\n+x\r\n+histogram_usec\r\n*0\r\n",
            "*2\r\n+get\r\n*4\r\n+calls\r\n:1\r\n+histogram_usec\r\n*2\r\n+a\r\n:1\r\n",
        ] {
            let found = Recorded::new(INFO).reply("LATENCY HISTOGRAM", reply).collect(&HISTOGRAM);
            assert!(matches!(found, Err(Failure::Shape { .. })), "{reply}");
        }
        for reply in ["+OK\r\n", "*1\r\n:1\r\n", "*1\r\n*1\r\n+command\r\n", "*1\r\n*3\r\n+a\r\n+b\r\n+c\r\n"]
        {
            let found = Recorded::new(INFO).reply("LATENCY LATEST", reply).collect(&LATEST);
            assert!(matches!(found, Err(Failure::Shape { .. })), "{reply}");
        }
    }

    #[test]
    fn only_servers_that_have_it_are_asked() {
        for (info, latest, histogram) in [
            ("redis_version:6.2.14\r\n", When::Now, When::Never),
            ("redis_version:7.0.0\r\n", When::Now, When::Now),
            ("redis_version:7.2.4\r\nvalkey_version:7.2.5\r\n", When::Now, When::Now),
            ("redis_version:7.0.15\r\nredis_mode:sentinel\r\n", When::Never, When::Never),
        ] {
            let server = Recorded::new(info);
            assert_eq!(server.when(&LATEST), [When::AfterInfo, latest], "{info}");
            assert_eq!(server.when(&HISTOGRAM), [When::AfterInfo, histogram], "{info}");
            let off = Recorded::new(info).with(|c| c.latency = false);
            assert_eq!(off.when(&HISTOGRAM), [When::Never; 2]);
        }
    }
}
