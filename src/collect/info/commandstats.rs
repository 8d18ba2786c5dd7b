//! `cmdstat_get:calls=21,usec=175,usec_per_call=8.33,rejected_calls=0,failed_calls=0`: calls and run time of
//! each command. Before 6.2 the last two are missing; Redis 8.8 adds others.

use super::number::number;
use super::{Info, parts};
use exposition::{Builder, Desc};

static CALLS: Desc = Desc::counter("redis_commands_total", "Calls of each command.").labels(&["cmd"]);
static DURATION: Desc =
    Desc::counter("redis_commands_duration_seconds_total", "Run time of each command, in seconds.")
        .labels(&["cmd"]);
static FAILED: Desc =
    Desc::counter("redis_commands_failed_calls_total", "Calls of each command that ended in an error.")
        .labels(&["cmd"]);
static REJECTED: Desc = Desc::counter(
    "redis_commands_rejected_calls_total",
    "Calls of each command that were refused before they ran.",
)
.labels(&["cmd"]);

/// What was counted for one command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Command<'a> {
    /// Its name, `config|get` for a subcommand.
    pub name: &'a str,
    /// How often it ran.
    pub calls: f64,
    /// How long in all, in microseconds.
    pub usec: f64,
    /// How often it was refused before it ran.
    pub rejected: Option<f64>,
    /// How often it ended in an error.
    pub failed: Option<f64>,
    /// Its line of `latencystats`; empty where it has none.
    pub percentiles: &'a str,
}

/// Every family of this file.
pub fn descs() -> [&'static Desc; 4] {
    [&DURATION, &FAILED, &REJECTED, &CALLS]
}

/// Every command, in the order of the names: the server's own order is that of a hash table.
pub fn parse<'a>(info: &Info<'a>) -> Vec<Command<'a>> {
    let mut commands: Vec<_> =
        info.after("cmdstat_").filter_map(|(name, value)| command(name, value)).collect();
    let others = attach(info, &mut commands);
    commands.sort_unstable_by_key(|command| command.name);
    for (name, percentiles) in others {
        if let Ok(at) = commands.binary_search_by_key(&name, |command| command.name) {
            commands[at].percentiles = percentiles;
        }
    }
    commands
}

/// Gives each command its line of `latencystats`. Both sections have the same order, so one walk finds nearly all; those
/// that it does not find are returned.
fn attach<'a>(info: &Info<'a>, commands: &mut [Command<'a>]) -> Vec<(&'a str, &'a str)> {
    let mut lines = info.after("latency_percentiles_usec_");
    let mut commands = commands.iter_mut();
    for (name, value) in &mut lines {
        match commands.find(|command| command.name == name) {
            Some(command) => command.percentiles = value,
            None => return [(name, value)].into_iter().chain(lines).collect(),
        }
    }
    vec![]
}

fn command<'a>(name: &'a str, value: &str) -> Option<Command<'a>> {
    let (mut calls, mut usec, mut rejected, mut failed) = (None, None, None, None);
    for part in parts(value) {
        let (field, value) = part?;
        match field {
            "calls" => calls = Some(number(value)?),
            "usec" => usec = Some(number(value)?),
            "rejected_calls" => rejected = Some(number(value)?),
            "failed_calls" => failed = Some(number(value)?),
            _ => {}
        }
    }
    Some(Command { name, calls: calls?, usec: usec?, rejected, failed, percentiles: "" })
}

/// Records the samples of all commands.
pub fn write(commands: &[Command<'_>], out: &mut Builder) {
    let (calls, duration) = (out.family(&CALLS), out.family(&DURATION));
    let (failed, rejected) = (out.family(&FAILED), out.family(&REJECTED));
    for command in commands {
        out.sample(calls, &[command.name], command.calls);
        out.sample(duration, &[command.name], command.usec / 1e6);
        if let Some(number) = command.failed {
            out.sample(failed, &[command.name], number);
        }
        if let Some(number) = command.rejected {
            out.sample(rejected, &[command.name], number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::info::testing::lines;

    fn check(info: &str, expected: &[&str]) {
        assert_eq!(lines(info, |info, _, out| write(&parse(info), out)), expected, "{info}");
    }

    #[test]
    fn three_values_give_calls_and_time() {
        check(
            "cmdstat_georadius_ro:calls=75,usec=1260,usec_per_call=16.80",
            &[
                "redis_commands_duration_seconds_total{cmd=georadius_ro} 0.00126",
                "redis_commands_total{cmd=georadius_ro} 75",
            ],
        );
    }

    #[test]
    fn five_values_also_give_refused_and_failed_calls_and_more_are_no_harm() {
        let line = "cmdstat_config|get:calls=4,usec=2,usec_per_call=0.5,rejected_calls=3,failed_calls=1";
        let expected = [
            "redis_commands_duration_seconds_total{cmd=config|get} 0.000002",
            "redis_commands_failed_calls_total{cmd=config|get} 1",
            "redis_commands_rejected_calls_total{cmd=config|get} 3",
            "redis_commands_total{cmd=config|get} 4",
        ];
        check(line, &expected);
        check(&format!("{line},slowlog_count=1"), &expected);
    }

    #[test]
    fn a_line_that_cannot_be_read_costs_itself() {
        check("cmd_get:calls=1,usec=1,usec_per_call=1", &[]);
        check("cmdstat_get:calls=1", &[]);
        check("cmdstat_get:calls=a,usec=1,usec_per_call=1", &[]);
        check("cmdstat_get:calls=1,usec=b,usec_per_call=1", &[]);
        check("cmdstat_get:calls=1,usec=1,usec_per_call=1,rejected_calls=x,failed_calls=1", &[]);
        check("cmdstat_get:calls=1,usec=1,usec_per_call=1,rejected_calls=1,failed_calls=", &[]);
        check("cmdstat_get:", &[]);
    }

    #[test]
    fn commands_are_sorted_by_name() {
        let info = Info::parse("cmdstat_set:calls=1,usec=1\ncmdstat_get:calls=2,usec=1");
        let commands: Vec<_> = parse(&info).iter().map(|command| command.name).collect();
        assert_eq!(commands, ["get", "set"]);
    }
}
