//! `latency_percentiles_usec_get:p50=0.001,p99=1.003,p99.9=3.007`: how long calls of each command take
//! (Redis 7.0 and later, unless `latency-tracking` is off).
//!
//! Count and sum of the summary come from the command's `cmdstat_` line; without one there is no sample.
//! The `quantile` label is the percentage as the server says it: 50, not 0.5.

use super::commandstats::Command;
use super::number::number;
use super::parts;
use exposition::{Builder, Desc};

static PERCENTILES: Desc = Desc::summary(
    "redis_latency_percentiles_usec",
    "Run time of calls of each command, in microseconds; the quantiles are percentages.",
)
.labels(&["cmd"]);

/// Every family of this file.
pub fn descs() -> [&'static Desc; 1] {
    [&PERCENTILES]
}

/// Records a summary for each command that has percentiles.
pub fn write(commands: &[Command<'_>], out: &mut Builder) {
    let family = out.family(&PERCENTILES);
    let mut points = vec![];
    for command in commands.iter().filter(|command| !command.percentiles.is_empty()) {
        points.clear();
        if percentiles(command.percentiles, &mut points).is_some() {
            let points = points.iter().copied();
            out.distribution(family, &[command.name], points, command.usec, command.calls as u64);
        }
    }
}

/// The percentiles in rising order.
fn percentiles(value: &str, points: &mut Vec<(f64, f64)>) -> Option<()> {
    for part in parts(value) {
        let (percentile, value) = part?;
        points.push((number(percentile.strip_prefix('p')?)?, number(value)?));
    }
    points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::commandstats;
    use super::*;
    use crate::collect::info::testing::lines;

    fn check(percentiles: &str, expected: &[&str]) {
        let info = format!("cmdstat_get:calls=7,usec=21\ncmdstat_x:calls=1,usec=1\n{percentiles}\n");
        assert_eq!(lines(&info, |info, _, out| write(&commandstats::parse(info), out)), expected, "{info}");
    }

    #[test]
    fn percentiles_are_quantiles_in_rising_order() {
        let expected = [
            "redis_latency_percentiles_usec{cmd=get} [(50.0, 0.001), (99.0, 1.003), (99.9, 3.007)] sum 21 of 7",
        ];
        check("latency_percentiles_usec_get:p50=0.001,p99=1.003,p99.9=3.007", &expected);
        check("latency_percentiles_usec_get:p99.9=3.007,p99=1.003,p50=0.001", &expected);
        check(
            "latency_percentiles_usec_get:p100=5",
            &["redis_latency_percentiles_usec{cmd=get} [(100.0, 5.0)] sum 21 of 7"],
        );
    }

    #[test]
    fn the_order_of_the_lines_does_not_matter() {
        let (get, x) = ("latency_percentiles_usec_get:p50=1", "latency_percentiles_usec_x:p50=2");
        let expected = [
            "redis_latency_percentiles_usec{cmd=get} [(50.0, 1.0)] sum 21 of 7",
            "redis_latency_percentiles_usec{cmd=x} [(50.0, 2.0)] sum 1 of 1",
        ];
        check(&format!("{get}\n{x}"), &expected);
        check(&format!("{x}\n{get}"), &expected);
        check(&format!("latency_percentiles_usec_unknown:p50=1\n{x}\n{get}"), &expected);
    }

    #[test]
    fn a_command_without_calls_has_no_summary() {
        check("latency_percentiles_usec_set:p50=0.001", &[]);
    }

    #[test]
    fn a_line_that_cannot_be_read_costs_itself() {
        check("latency_percentiles_usec_get:", &[]);
        check("latency_percentiles_usec_get:=1", &[]);
        check("latency_percentiles_usec_get:p=1", &[]);
        check("latency_percentiles_usec_get:p50=a", &[]);
        check("latency_percentiles_usec_get:px=1", &[]);
        check("latency_percentiles_usec_get:p50=1,p99", &[]);
        check("latency_usec_get:p50=1", &[]);
    }
}
