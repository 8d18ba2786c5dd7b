//! `COMMANDLOG LEN`: how many slow commands, large requests and large replies Valkey has logged, and the
//! settings of these logs.
//!
//! Valkey 8.1 and later; other servers are never asked, so that their error counters stay as they are. ACL:
//! `+commandlog|len +config|get`. Cost: O(1).
//! <https://valkey.io/commands/commandlog-len/>

use super::{Answers, Asks, Collector, Context, Failure, How, When};
use crate::connect::Version;
use exposition::{Builder, Desc};

/// See the head of this file.
pub static COLLECTOR: Collector = Collector { name: "commandlog", descs, when, how: How::Read { ask, read } };

/// The logs, in the order in which they are asked.
static LOGS: &[(&str, Desc)] = &[
    ("slow", Desc::gauge("redis_commandlog_slow_length", "Entries in the log of slow commands.")),
    (
        "large-request",
        Desc::gauge("redis_commandlog_large_request_length", "Entries in the log of large requests."),
    ),
    (
        "large-reply",
        Desc::gauge("redis_commandlog_large_reply_length", "Entries in the log of large replies."),
    ),
];

#[rustfmt::skip]
static SETTINGS: &[(&str, Desc)] = &[
    ("commandlog-execution-slower-than", Desc::gauge("redis_commandlog_execution_slower_than", "Setting: run time from which a command is logged as slow, in microseconds; -1 is never.")),
    ("commandlog-slow-execution-max-len", Desc::gauge("redis_commandlog_slow_execution_max_len", "Setting: most entries in the log of slow commands.")),
    ("commandlog-request-larger-than", Desc::gauge("redis_commandlog_request_larger_than", "Setting: size from which a request is logged as large, in bytes; -1 is never.")),
    ("commandlog-large-request-max-len", Desc::gauge("redis_commandlog_large_request_max_len", "Setting: most entries in the log of large requests.")),
    ("commandlog-reply-larger-than", Desc::gauge("redis_commandlog_reply_larger_than", "Setting: size from which a reply is logged as large, in bytes; -1 is never.")),
    ("commandlog-large-reply-max-len", Desc::gauge("redis_commandlog_large_reply_max_len", "Setting: most entries in the log of large replies.")),
];

const LEN: &str = "COMMANDLOG LEN";
const GET: &str = "CONFIG GET";

fn descs() -> Vec<&'static Desc> {
    LOGS.iter().chain(SETTINGS).map(|(_, desc)| desc).collect()
}

fn when(context: &Context<'_>) -> When {
    if context.config.tile38 {
        return When::Never;
    }
    match context.server {
        None => When::AfterInfo,
        Some(_) if context.is_sentinel() => When::Never,
        Some(server) if server.valkey >= Some(Version(8, 1, 0)) => When::Now,
        Some(_) => When::Never,
    }
}

fn ask(context: &Context<'_>, asks: &mut Asks<'_>) {
    LOGS.iter().for_each(|(log, _)| asks.push(LEN, &["COMMANDLOG", "LEN", log]));
    if let Some(command) = &context.config.config_command {
        asks.push(GET, &[command, "GET", "commandlog-*"]);
    }
}

fn read(_: &Context<'_>, answers: &Answers<'_>, out: &mut Builder) -> Result<(), Failure> {
    for (index, (_, desc)) in LOGS.iter().enumerate() {
        out.push(desc, answers.get(index)?.number().ok_or(Failure::shape(LEN))?);
    }
    // Where CONFIG is refused the lengths are still worth having.
    let Ok(settings) = answers.get(LOGS.len()) else { return Ok(()) };
    for (parameter, value) in settings.pairs().ok_or(Failure::shape(GET))? {
        let known = SETTINGS.iter().find(|(name, _)| parameter.bytes() == Some(name.as_bytes()));
        if let (Some((_, desc)), Some(value)) = (known, value.integer()) {
            out.push(desc, value as f64);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{Recorded, array, printed};
    use super::*;
    use crate::connect::Kind;

    const VALKEY: &str = "redis_version:7.2.4\r\nvalkey_version:9.1.2\r\nserver_mode:standalone\r\n";
    const CONFIG: &str =
        include_str!("../../tests/fixtures/replies/valkey-9.1.2-standalone/config_get_all.txt");

    fn server() -> Recorded {
        Recorded::new(VALKEY)
            .reply("COMMANDLOG LEN slow", ":12\r\n")
            .reply("COMMANDLOG LEN large-request", ":2\r\n")
            .reply("COMMANDLOG LEN large-reply", ":1\r\n")
            .reply("CONFIG GET commandlog-*", array(&printed(CONFIG)))
    }

    const LENGTHS: [&str; 3] = [
        "redis_commandlog_large_reply_length 1",
        "redis_commandlog_large_request_length 2",
        "redis_commandlog_slow_length 12",
    ];

    fn check(mut server: Recorded, expected: &[&str]) {
        assert_eq!(server.collect(&COLLECTOR).unwrap(), expected);
    }

    #[test]
    fn valkey_shows_lengths_and_settings() {
        check(
            server(),
            &[
                "redis_commandlog_execution_slower_than 1000",
                "redis_commandlog_large_reply_length 1",
                "redis_commandlog_large_reply_max_len 128",
                "redis_commandlog_large_request_length 2",
                "redis_commandlog_large_request_max_len 128",
                "redis_commandlog_reply_larger_than 2048",
                "redis_commandlog_request_larger_than 1024",
                "redis_commandlog_slow_execution_max_len 128",
                "redis_commandlog_slow_length 12",
            ],
        );
    }

    #[test]
    fn without_config_the_lengths_stay() {
        check(server().with(|c| c.config_command = None), &LENGTHS);
        check(server().refused_before(GET, Kind::NoPerm), &LENGTHS);
        check(server().reply("CONFIG GET commandlog-*", "-NOPERM no\r\n"), &LENGTHS);
    }

    #[test]
    fn servers_without_the_command_log_are_never_asked() {
        for (info, expected) in [
            (VALKEY, When::Now),
            ("redis_version:7.2.4\r\nvalkey_version:8.1.0\r\n", When::Now),
            ("redis_version:7.2.4\r\nvalkey_version:8.0.1\r\n", When::Never),
            ("redis_version:8.2.3\r\n", When::Never),
            ("redis_version:7.2.4\r\nvalkey_version:9.1.2\r\nserver_mode:sentinel\r\n", When::Never),
        ] {
            assert_eq!(Recorded::new(info).when(&COLLECTOR), [When::AfterInfo, expected], "{info}");
        }
        assert_eq!(server().with(|c| c.tile38 = true).when(&COLLECTOR), [When::Never; 2]);
    }

    #[test]
    fn a_length_that_is_no_number_fails() {
        let found = server().reply("COMMANDLOG LEN slow", "*0\r\n").collect(&COLLECTOR);
        assert!(matches!(found, Err(Failure::Shape { what: LEN })));
    }
}
