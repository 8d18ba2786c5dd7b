//! `CONFIG GET`: the settings of a server that have families of their own, and on demand all of them.
//!
//! All data nodes have it, several patterns in one command since Redis 7.0 (all of Valkey); a Sentinel has
//! another command instead, see [`super::sentinel`]. ACL: `+config|get` (before 7.0 `+config`). Cost on Redis
//! 7.0: 20 µs for the few parameters that are asked, 115 µs for `CONFIG GET *`.
//! <https://redis.io/docs/latest/commands/config-get/>
//!
//! What a newcomer would get wrong: the number of databases is known from here alone, so the zeros of empty
//! databases are made here, by [`keyspace`]. Where nobody can learn it, that file makes them by itself.

use super::info::keyspace;
use super::{Answers, Asks, Collector, Context, Failure, How, When};
use crate::connect::{Kind, Mode, Version};
use exposition::{Builder, Desc, FamilyId};

/// See the head of this file.
pub static COLLECTOR: Collector = Collector { name: "config", descs, when, how: How::Read { ask, read } };

/// Parameters that are one number, and their families.
static NUMBERS: &[(&str, Desc)] = &[
    ("io-threads", Desc::gauge("redis_config_io_threads", "Setting: threads that read and write clients.")),
    ("maxclients", Desc::gauge("redis_config_maxclients", "Setting: clients that may be connected at once.")),
    (
        "maxmemory",
        Desc::gauge("redis_config_maxmemory", "Setting: most memory for data, in bytes; 0 is no limit."),
    ),
    (
        "repl-backlog-size",
        Desc::gauge("redis_config_repl_backlog_size", "Setting: size of the replication backlog, in bytes."),
    ),
];

const BUFFER_LIMITS: &str = "client-output-buffer-limit";

static BUFFER_LIMIT: Desc = Desc::gauge(
    "redis_config_client_output_buffer_limit_bytes",
    "Setting: output buffer of a client of that class at which it is disconnected, in bytes; 0 is no limit.",
)
.labels(&["class", "limit"]);

static BUFFER_SECONDS: Desc = Desc::gauge(
    "redis_config_client_output_buffer_limit_overcome_seconds",
    "Setting: how long a client of that class may stay above its soft limit, in seconds.",
)
.labels(&["class", "limit"]);

static KEY_VALUE: Desc =
    Desc::gauge("redis_config_key_value", "A setting and its value as labels; always 1.")
        .labels(&["key", "value"]);

static VALUE: Desc = Desc::gauge("redis_config_value", "A setting whose value is a number.").labels(&["key"]);

/// A single pattern was asked.
const GET: &str = "CONFIG GET";
/// Several were. A name of its own, so that a server which takes only one is then asked one by one.
const GET_MANY: &str = "CONFIG GET (several)";

fn descs() -> Vec<&'static Desc> {
    let numbers = NUMBERS.iter().map(|(_, desc)| desc);
    numbers.chain([&BUFFER_LIMIT, &BUFFER_SECONDS, &KEY_VALUE, &VALUE]).collect()
}

fn when(context: &Context<'_>) -> When {
    match context.server {
        None => When::AfterInfo,
        Some(_) if context.is_sentinel() || context.config.config_command.is_none() => When::Never,
        Some(_) => When::Now,
    }
}

fn ask(context: &Context<'_>, asks: &mut Asks<'_>) {
    let (Some(server), Some(command)) = (context.server, context.config.config_command.as_deref()) else {
        return;
    };
    if context.config.config_metrics {
        asks.push(GET, &[command, "GET", "*"]);
        return;
    }
    let mut parameters: Vec<_> = NUMBERS.iter().map(|(parameter, _)| *parameter).collect();
    parameters.push(BUFFER_LIMITS);
    // A node of a Cluster has one database, whatever it says here.
    if context.config.empty_databases && server.mode != Mode::Cluster {
        parameters.push("databases");
    }
    let takes_one = context.memory.refused.get(GET_MANY) == Some(&Kind::Unsupported);
    if server.version >= Version(7, 0, 0) && !takes_one {
        let words: Vec<_> = [command, "GET"].into_iter().chain(parameters).collect();
        asks.push(GET_MANY, &words);
    } else {
        parameters.iter().for_each(|parameter| asks.push(GET, &[command, "GET", parameter]));
    }
}

fn read(context: &Context<'_>, answers: &Answers<'_>, out: &mut Builder) -> Result<(), Failure> {
    let mut databases = None;
    let all = context.config.config_metrics.then(|| (out.family(&KEY_VALUE), out.family(&VALUE)));
    for index in 0..answers.len() {
        for (key, value) in answers.get(index)?.pairs().ok_or(Failure::shape(GET))? {
            let (Some(key), Some(value)) = (key.text(), value.text()) else { continue };
            if let Some(families) = all
                && !(context.config.redact_config && holds_secret(key))
            {
                any(families, key, value, out);
            }
            match key {
                "databases" => databases = value.parse().ok(),
                BUFFER_LIMITS => buffer_limits(value, out),
                _ => number(key, value, out),
            }
        }
    }
    // A node of a Cluster has one database, and is not asked.
    let databases = databases.or(context.server.filter(|s| s.mode == Mode::Cluster).map(|_| 1));
    if let (Some(info), Some(databases)) = (context.info, databases)
        && context.config.empty_databases
    {
        keyspace::empty_databases(info, databases, out);
    }
    Ok(())
}

/// A sample for a setting of any name.
fn any((key_value, number): (FamilyId, FamilyId), key: &str, value: &str, out: &mut Builder) {
    out.sample(key_value, &[key, value], 1.0);
    if let Ok(value) = value.parse() {
        out.sample(number, &[key], value);
    }
}

fn number(key: &str, value: &str, out: &mut Builder) {
    let Some((_, desc)) = NUMBERS.iter().find(|(parameter, _)| *parameter == key) else { return };
    if let Ok(value) = value.parse() {
        out.push(desc, value);
    }
}

/// `class hard soft seconds class hard soft seconds …`
fn buffer_limits(value: &str, out: &mut Builder) {
    let (bytes, seconds) = (out.family(&BUFFER_LIMIT), out.family(&BUFFER_SECONDS));
    let words: Vec<_> = value.split_ascii_whitespace().collect();
    for limits in words.chunks_exact(4) {
        let class = limits[0];
        for (family, limit, word) in
            [(bytes, "hard", limits[1]), (bytes, "soft", limits[2]), (seconds, "soft", limits[3])]
        {
            if let Ok(value) = word.parse() {
                out.sample(family, &[class, limit], value);
            }
        }
    }
}

/// Whether the value of a setting must not be shown: `requirepass`, `masterauth`, `primaryauth`,
/// `tls-key-file-pass`, `sentinel-pass`, and whatever modules and forks name like that.
pub(super) fn holds_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["auth", "pass", "token"].iter().any(|end| key.ends_with(end))
        || ["password", "passwd", "passphrase", "secret", "credential"].iter().any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{Recorded, array, printed};
    use super::*;

    const REDIS_6: &str =
        "redis_version:6.0.16\r\nredis_mode:standalone\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n";
    const REDIS_7: &str = "redis_version:7.0.15\r\nredis_mode:standalone\r\n";
    const VALKEY: &str = "redis_version:7.2.4\r\nserver_mode:standalone\r\nvalkey_version:9.1.2\r\n";
    const CLUSTER: &str = "redis_version:7.0.15\r\nredis_mode:cluster\r\n";
    const SEVERAL: &str =
        "CONFIG GET io-threads maxclients maxmemory repl-backlog-size client-output-buffer-limit databases";
    const ALL_OF_VALKEY: &str =
        include_str!("../../tests/fixtures/replies/valkey-9.1.2-standalone/config_get_all.txt");

    fn check(mut server: Recorded, expected: &[&str]) {
        assert_eq!(server.collect(&COLLECTOR).unwrap(), expected);
    }

    #[test]
    fn only_what_is_exported_is_asked_in_one_command_since_redis_7() {
        for info in [REDIS_7, VALKEY] {
            let mut server = Recorded::new(info).reply(SEVERAL, "%0\r\n");
            assert!(server.collect(&COLLECTOR).unwrap().is_empty());
            assert_eq!(server.asked(), [[SEVERAL]]);
        }
    }

    #[test]
    fn older_servers_are_asked_one_parameter_after_the_other() {
        let mut server = Recorded::new(REDIS_6);
        for (parameter, value) in [
            ("io-threads", "1"),
            ("maxclients", "10000"),
            ("maxmemory", "1024"),
            ("repl-backlog-size", "1048576"),
            (BUFFER_LIMITS, "normal 0 1 2 slave 268435456 67108864 60 pubsub 33554432"),
            ("databases", "3"),
        ] {
            server = server.reply(&format!("CONFIG GET {parameter}"), array(&[parameter, value]));
        }
        check(
            server,
            &[
                "redis_config_client_output_buffer_limit_bytes{class=normal,limit=hard} 0",
                "redis_config_client_output_buffer_limit_bytes{class=normal,limit=soft} 1",
                "redis_config_client_output_buffer_limit_bytes{class=slave,limit=hard} 268435456",
                "redis_config_client_output_buffer_limit_bytes{class=slave,limit=soft} 67108864",
                "redis_config_client_output_buffer_limit_overcome_seconds{class=normal,limit=soft} 2",
                "redis_config_client_output_buffer_limit_overcome_seconds{class=slave,limit=soft} 60",
                "redis_config_io_threads 1",
                "redis_config_maxclients 10000",
                "redis_config_maxmemory 1024",
                "redis_config_repl_backlog_size 1048576",
                "redis_db_keys{db=db1} 0",
                "redis_db_keys{db=db2} 0",
                "redis_db_keys_expiring{db=db1} 0",
                "redis_db_keys_expiring{db=db2} 0",
            ],
        );
    }

    #[test]
    fn a_server_that_takes_one_parameter_only_is_then_asked_one_by_one() {
        let mut server = Recorded::new(REDIS_7).refused_before(GET_MANY, Kind::Unsupported);
        for parameter in NUMBERS.iter().map(|(name, _)| *name).chain([BUFFER_LIMITS, "databases"]) {
            server = server.reply(&format!("CONFIG GET {parameter}"), "*0\r\n");
        }
        assert!(server.collect(&COLLECTOR).unwrap().is_empty());
        assert_eq!(server.asked()[0].len(), 6);
    }

    #[test]
    fn a_refused_config_is_not_asked_again_and_makes_no_zeros() {
        let mut server = Recorded::new(REDIS_7).refused_before(GET_MANY, Kind::NoPerm);
        assert!(matches!(server.collect(&COLLECTOR), Err(Failure::Remembered { kind: Kind::NoPerm, .. })));
        assert!(server.asked()[0].is_empty());
        let mut server = Recorded::new(REDIS_7);
        assert!(matches!(server.collect(&COLLECTOR), Err(Failure::Refused { kind: Kind::Unsupported, .. })));
    }

    #[test]
    fn a_number_of_databases_that_is_none_makes_no_zeros_and_a_huge_one_a_bounded_number_of_them() {
        let zeros = |databases: &str| {
            let mut server = Recorded::new(REDIS_7).reply(SEVERAL, array(&["databases", databases]));
            server.collect(&COLLECTOR).unwrap().len()
        };
        assert_eq!(zeros("many"), 0);
        assert_eq!(zeros("16"), 2 * 16);
        assert_eq!(zeros("4294967295"), 2 * keyspace::MOST_DATABASES as usize);
    }

    #[test]
    fn empty_databases_are_absent_without_their_flag() {
        let asked = SEVERAL.trim_end_matches(" databases");
        let server = Recorded::new(REDIS_7).reply(asked, array(&["maxmemory", "1"]));
        check(server.with(|c| c.empty_databases = false), &["redis_config_maxmemory 1"]);
    }

    #[test]
    fn a_node_of_a_cluster_has_one_database() {
        let asked = SEVERAL.trim_end_matches(" databases");
        let server = Recorded::new(CLUSTER).reply(asked, array(&["maxmemory", "1"]));
        let expected =
            ["redis_config_maxmemory 1", "redis_db_keys{db=db0} 0", "redis_db_keys_expiring{db=db0} 0"];
        check(server, &expected);
    }

    #[test]
    fn a_renamed_command_is_asked_under_its_name_and_a_disabled_one_never() {
        let renamed = Recorded::new(REDIS_7).with(|c| c.config_command = Some("SETTINGS".into()));
        let reply = array(&["maxmemory", "1"]);
        check(renamed.reply(&SEVERAL.replace("CONFIG", "SETTINGS"), reply), &["redis_config_maxmemory 1"]);
        let off = Recorded::new(REDIS_7).with(|c| {
            c.config_command = None;
            c.config_metrics = true;
        });
        assert_eq!(off.when(&COLLECTOR), [When::AfterInfo, When::Never]);
        check(off, &[]);
    }

    #[test]
    fn config_metrics_export_every_setting_and_the_numbers_as_numbers() {
        let reply = array(&["appendonly", "no", "maxclients", "500", "requirepass", "hunter2"]);
        let server =
            || Recorded::new(REDIS_7).with(|c| c.config_metrics = true).reply("CONFIG GET *", reply.clone());
        let mut expected = vec![
            "redis_config_key_value{key=appendonly,value=no} 1",
            "redis_config_key_value{key=maxclients,value=500} 1",
            "redis_config_maxclients 500",
            "redis_config_value{key=maxclients} 500",
        ];
        check(server(), &expected);
        expected.insert(2, "redis_config_key_value{key=requirepass,value=hunter2} 1");
        check(server().with(|c| c.redact_config = false), &expected);
    }

    #[test]
    fn of_the_settings_of_valkey_9_exactly_the_secrets_are_hidden() {
        let words = printed(ALL_OF_VALKEY);
        let keys: Vec<_> = words.iter().step_by(2).copied().collect();
        let hidden: Vec<_> = keys.iter().copied().filter(|key| holds_secret(key)).collect();
        let secrets =
            ["masterauth", "primaryauth", "requirepass", "tls-client-key-file-pass", "tls-key-file-pass"];
        assert_eq!(hidden, secrets);
        let mut server =
            Recorded::new(VALKEY).with(|c| c.config_metrics = true).reply("CONFIG GET *", array(&words));
        let lines = server.collect(&COLLECTOR).unwrap();
        let shown = lines.iter().filter(|line| line.starts_with("redis_config_key_value{")).count();
        assert_eq!(shown, keys.len() - secrets.len());
        assert!(holds_secret("sentinel-pass") && holds_secret("Module.API-Secret-Key"));
    }

    #[test]
    fn a_reply_of_another_form_fails() {
        let mut server = Recorded::new(REDIS_7).reply(SEVERAL, "+OK\r\n");
        assert!(matches!(server.collect(&COLLECTOR), Err(Failure::Shape { .. })));
        // A value that is no text costs itself alone.
        check(Recorded::new(REDIS_7).reply(SEVERAL, "*3\r\n+maxmemory\r\n*0\r\n+maxclients\r\n"), &[]);
    }
}
