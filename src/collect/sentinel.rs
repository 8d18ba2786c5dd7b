//! `SENTINEL …`: what a Sentinel knows of the masters that it watches, their replicas and its fellows.
//!
//! Sentinels alone have it, all versions; REPLICAS came with 5.0 (before it was SLAVES), CONFIG GET with 6.2.
//! ACL: `+sentinel|masters +sentinel|ckquorum +sentinel|sentinels +sentinel|replicas +sentinel|config` (before
//! 7.0 `+sentinel`). Cost: O(masters, their replicas and Sentinels).
//! <https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/>
//!
//! What a newcomer would get wrong: the names of the masters, which the commands of one master need, are
//! taken from INFO. So all of them go into the second round together, rather than one round for each.

use super::config::holds_secret;
use super::{Answers, Asks, Collector, Context, Failure, How, Info, When};
use crate::connect::{Kind, Reply, Version};
use exposition::{Builder, Desc};
use std::collections::HashMap;

/// See the head of this file.
pub static COLLECTOR: Collector = Collector { name: "sentinel", descs, when, how: How::Read { ask, read } };

const LABELS: &[&str] = &["master_name", "master_address"];

/// A number of SENTINEL MASTERS: its field, its family, and how many of its units make one of the family's.
struct Field(&'static str, Desc, f64);

#[rustfmt::skip]
static FIELDS: &[Field] = &[
    Field("quorum", Desc::gauge("redis_sentinel_master_setting_ckquorum", "Setting: Sentinels that must agree that the master is down.").labels(LABELS), 1.0),
    Field("failover-timeout", Desc::gauge("redis_sentinel_master_setting_failover_timeout", "Setting: how long a failover may take, in milliseconds.").labels(LABELS), 1.0),
    Field("parallel-syncs", Desc::gauge("redis_sentinel_master_setting_parallel_syncs", "Setting: replicas that may load the new master's data at once after a failover.").labels(LABELS), 1.0),
    Field("down-after-milliseconds", Desc::gauge("redis_sentinel_master_setting_down_after_milliseconds", "Setting: silence after which the master counts as down, in milliseconds.").labels(LABELS), 1.0),
    Field("config-epoch", Desc::gauge("redis_sentinel_master_config_epoch", "Number of the failover that made the master what it is.").labels(LABELS), 1.0),
    Field("last-ok-ping-reply", Desc::gauge("redis_sentinel_master_last_ok_ping_reply_seconds", "Time since the master last answered PING well, in seconds.").labels(LABELS), 1e3),
];

static CKQUORUM: Desc = Desc::gauge(
    "redis_sentinel_master_ckquorum_status",
    "Whether enough Sentinels can be reached for a failover: 1 or 0, and what the Sentinel says of it.",
)
.labels(&["master_name", "message"]);

static OK_SENTINELS: Desc = Desc::gauge(
    "redis_sentinel_master_ok_sentinels",
    "Sentinels of the master that are not down, this one included.",
)
.labels(LABELS);

static OK_REPLICAS: Desc =
    Desc::gauge("redis_sentinel_master_ok_slaves", "Replicas of the master that are not down.")
        .labels(LABELS);

static PEER: Desc = Desc::gauge("redis_sentinel_peer_info", "Another Sentinel of the master; always 1.")
    .labels(&["master_name", "master_address", "name", "ip", "port", "runid", "flags"]);

static KEY_VALUE: Desc = Desc::gauge(
    "redis_sentinel_config_key_value",
    "A setting of the Sentinel and its value as labels; always 1.",
)
.labels(&["key", "value"]);

static VALUE: Desc =
    Desc::gauge("redis_sentinel_config_value", "A setting of the Sentinel whose value is a number.")
        .labels(&["key"]);

/// More masters than that are left out: none of ours, but INFO may say anything.
const MOST_MASTERS: usize = 1000;

fn descs() -> Vec<&'static Desc> {
    let fields = FIELDS.iter().map(|field| &field.1);
    fields.chain([&CKQUORUM, &OK_SENTINELS, &OK_REPLICAS, &PEER, &KEY_VALUE, &VALUE]).collect()
}

fn when(context: &Context<'_>) -> When {
    match (context.server, context.info) {
        (Some(_), _) if !context.is_sentinel() => When::Never,
        (Some(_), Some(_)) => When::Now,
        _ => When::AfterInfo,
    }
}

/// Whether the settings of the Sentinel itself are wanted and can be had.
fn asks_config(context: &Context<'_>) -> bool {
    context.config.config_metrics && context.server.is_some_and(|server| server.version >= Version(6, 2, 0))
}

fn ask(context: &Context<'_>, asks: &mut Asks<'_>) {
    let (Some(info), Some(server)) = (context.info, context.server) else { return };
    asks.push("SENTINEL MASTERS", &["SENTINEL", "MASTERS"]);
    if asks_config(context) {
        asks.push("SENTINEL CONFIG", &["SENTINEL", "CONFIG", "GET", "*"]);
    }
    let has_replicas = server.version >= Version(5, 0, 0);
    for name in masters(info) {
        asks.push("SENTINEL CKQUORUM", &["SENTINEL", "CKQUORUM", name]);
        asks.push("SENTINEL SENTINELS", &["SENTINEL", "SENTINELS", name]);
        asks.push("SENTINEL REPLICAS", &["SENTINEL", if has_replicas { "REPLICAS" } else { "SLAVES" }, name]);
    }
}

/// The names in `master0:name=mymaster,status=ok,…`.
fn masters<'a>(info: &Info<'a>) -> impl Iterator<Item = &'a str> {
    let name = |line: &super::info::Line<'a>| {
        let number = line.field.strip_prefix("master")?;
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let name = line.value.split(',').next()?.strip_prefix("name=")?;
        (is_number && !name.is_empty()).then_some(name)
    };
    info.lines().iter().filter_map(name).take(MOST_MASTERS)
}

fn read(context: &Context<'_>, answers: &Answers<'_>, out: &mut Builder) -> Result<(), Failure> {
    const SHAPE: Failure = Failure::shape("SENTINEL MASTERS");
    let info = context.info.ok_or(SHAPE)?;
    let mut addresses = HashMap::new();
    for master in answers.get(0)?.items().ok_or(SHAPE)? {
        let text = |key| master.field(key).and_then(Reply::text);
        let (Some(name), Some(ip), Some(port)) = (text("name"), text("ip"), text("port")) else { continue };
        let address = format!("{ip}:{port}");
        numbers(master, &[name, &address], out);
        addresses.insert(name, address);
    }
    let mut next = 1;
    if asks_config(context) {
        // Without it all the rest is still worth having.
        if let Ok(reply) = answers.get(1) {
            settings(reply, context.config.redact_config, out)?;
        }
        next = 2;
    }
    for (name, first) in masters(info).zip((next..).step_by(3)) {
        // A master that is forgotten meanwhile is in INFO alone.
        let Some(address) = addresses.get(name) else { continue };
        quorum(name, answers.get(first), out);
        if let Ok(reply) = answers.get(first + 1) {
            let peers = reply.items().ok_or(Failure::shape("SENTINEL SENTINELS"))?;
            sentinels(&[name, address], peers, context.config.sentinel_peers, out);
        }
        if let Ok(reply) = answers.get(first + 2) {
            let replicas = reply.items().ok_or(Failure::shape("SENTINEL REPLICAS"))?;
            let family = out.family(&OK_REPLICAS);
            out.sample(family, &[name, address], replicas.filter(|replica| is_up(*replica)).count() as f64);
        }
    }
    Ok(())
}

/// Those that are missing count 0.
fn numbers(master: Reply<'_>, labels: &[&str; 2], out: &mut Builder) {
    for Field(key, desc, divisor) in FIELDS {
        let value = master.field(key).and_then(Reply::number).unwrap_or(0.0);
        let family = out.family(desc);
        out.sample(family, labels, value / divisor);
    }
}

/// `-NOQUORUM` is an answer; a Sentinel that may not be asked gives none.
fn quorum(name: &str, answer: Result<Reply<'_>, Failure>, out: &mut Builder) {
    let (status, message) = match answer {
        Ok(reply) => match reply.bytes() {
            Some(text) => (1.0, message(text)),
            None => return,
        },
        Err(Failure::Refused { kind: Kind::Command, reply, .. }) => (0.0, reply),
        Err(_) => return,
    };
    let family = out.family(&CKQUORUM);
    out.sample(family, &[name, &message], status);
}

/// Cut and cleaned as the text of a refusal is.
fn message(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

fn sentinels<'a>(
    labels: &[&str; 2],
    peers: impl Iterator<Item = Reply<'a>>,
    with_info: bool,
    out: &mut Builder,
) {
    let (count, info) = (out.family(&OK_SENTINELS), out.family(&PEER));
    let mut up = 1; // the one that we ask
    for peer in peers {
        up += usize::from(is_up(peer));
        // One without a name could not be told from another.
        let text = |key| peer.field(key).and_then(Reply::text);
        if let (true, Some(name)) = (with_info, text("name")) {
            let [ip, port, runid, flags] =
                ["ip", "port", "runid", "flags"].map(|key| text(key).unwrap_or_default());
            out.sample(info, &[labels[0], labels[1], name, ip, port, runid, flags], 1.0);
        }
    }
    out.sample(count, labels, up as f64);
}

/// Whether there are flags, and neither we alone nor the majority of Sentinels say that it is down.
fn is_up(instance: Reply<'_>) -> bool {
    let flags = instance.field("flags").and_then(Reply::text);
    flags.is_some_and(|flags| !flags.split(',').any(|flag| matches!(flag, "s_down" | "o_down")))
}

fn settings(reply: Reply<'_>, redact: bool, out: &mut Builder) -> Result<(), Failure> {
    let (key_value, number) = (out.family(&KEY_VALUE), out.family(&VALUE));
    for (key, value) in reply.pairs().ok_or(Failure::shape("SENTINEL CONFIG"))? {
        let (Some(key), Some(value)) = (key.text(), value.text()) else { continue };
        if redact && holds_secret(key) {
            continue;
        }
        out.sample(key_value, &[key, value], 1.0);
        if let Ok(value) = value.parse() {
            out.sample(number, &[key], value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{Recorded, array};
    use super::*;

    macro_rules! fixture {
        ($server:literal, $name:literal, $protocol:literal) => {
            include_bytes!(concat!(
                "../../tests/fixtures/replies/",
                $server,
                "-sentinel/sentinel_",
                $name,
                $protocol
            ))
            .to_vec()
        };
    }

    /// A recorded Sentinel, in one version of the protocol.
    macro_rules! recorded {
        ($server:literal, $protocol:literal) => {
            Recorded::new(include_str!(concat!("../../tests/fixtures/info/", $server, "-sentinel.txt")))
                .reply("SENTINEL MASTERS", fixture!($server, "masters", $protocol))
                .reply("SENTINEL CKQUORUM mymaster", fixture!($server, "ckquorum_ok", $protocol))
                .reply("SENTINEL CKQUORUM other", fixture!($server, "ckquorum_bad", $protocol))
                .reply("SENTINEL SENTINELS mymaster", fixture!($server, "sentinels", $protocol))
                .reply("SENTINEL SENTINELS other", "*0\r\n")
                .reply("SENTINEL REPLICAS mymaster", fixture!($server, "replicas", $protocol))
                .reply("SENTINEL REPLICAS other", "*0\r\n")
                .reply("SENTINEL CONFIG GET *", fixture!($server, "config_get", $protocol))
        };
    }

    /// A Sentinel of three that watches one master, and its peers and replicas as lists of fields.
    fn small(peers: &[&[&str]], replicas: &[&[&str]]) -> Recorded {
        let list = |items: &[&[&str]]| {
            let count = items.len();
            let items = items.iter().flat_map(|fields| array(fields));
            [format!("*{count}\r\n").into_bytes(), items.collect()].concat()
        };
        let master = array(&["name", "m", "ip", "10.0.0.1", "port", "6379", "quorum", "2"]);
        Recorded::new("redis_version:7.0.15\r\nredis_mode:sentinel\r\nmaster0:name=m,status=ok\r\n")
            .reply("SENTINEL MASTERS", [b"*1\r\n".to_vec(), master].concat())
            .reply("SENTINEL CKQUORUM m", "+OK\r\n")
            .reply("SENTINEL SENTINELS m", list(peers))
            .reply("SENTINEL REPLICAS m", list(replicas))
    }

    const M: &str = "master_address=10.0.0.1:6379,master_name=m";

    fn check(mut server: Recorded, family: &str, expected: &[&str]) {
        let lines = server.collect(&COLLECTOR).unwrap();
        let start = format!("redis_sentinel_{family}{{");
        let found: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(&start)).collect();
        assert_eq!(found, expected, "{lines:#?}");
    }

    #[test]
    fn a_recorded_sentinel_reads_alike_in_both_versions_of_the_protocol() {
        let expected = [
            "redis_sentinel_master_ckquorum_status{master_name=mymaster,message=OK 3 usable Sentinels. Quorum and \
             failover authorization can be reached} 1",
            "redis_sentinel_master_ckquorum_status{master_name=other,message=NOQUORUM 1 usable Sentinels. Not \
             enough available Sentinels to reach the specified quorum for this master} 0",
            "redis_sentinel_master_config_epoch{master_address=127.0.0.1:18010,master_name=mymaster} 0",
            "redis_sentinel_master_config_epoch{master_address=127.0.0.1:18099,master_name=other} 0",
            "redis_sentinel_master_last_ok_ping_reply_seconds{master_address=127.0.0.1:18010,master_name=mymaster} X",
            "redis_sentinel_master_last_ok_ping_reply_seconds{master_address=127.0.0.1:18099,master_name=other} X",
            "redis_sentinel_master_ok_sentinels{master_address=127.0.0.1:18010,master_name=mymaster} 3",
            "redis_sentinel_master_ok_sentinels{master_address=127.0.0.1:18099,master_name=other} 1",
            "redis_sentinel_master_ok_slaves{master_address=127.0.0.1:18010,master_name=mymaster} 2",
            "redis_sentinel_master_ok_slaves{master_address=127.0.0.1:18099,master_name=other} 0",
            "redis_sentinel_master_setting_ckquorum{master_address=127.0.0.1:18010,master_name=mymaster} 2",
            "redis_sentinel_master_setting_ckquorum{master_address=127.0.0.1:18099,master_name=other} 2",
            "redis_sentinel_master_setting_down_after_milliseconds{master_address=127.0.0.1:18010,master_name=mymaster} 1000",
            "redis_sentinel_master_setting_down_after_milliseconds{master_address=127.0.0.1:18099,master_name=other} 1000",
            "redis_sentinel_master_setting_failover_timeout{master_address=127.0.0.1:18010,master_name=mymaster} 10000",
            "redis_sentinel_master_setting_failover_timeout{master_address=127.0.0.1:18099,master_name=other} 180000",
            "redis_sentinel_master_setting_parallel_syncs{master_address=127.0.0.1:18010,master_name=mymaster} 1",
            "redis_sentinel_master_setting_parallel_syncs{master_address=127.0.0.1:18099,master_name=other} 1",
        ];
        for mut server in [
            recorded!("redis-7.0.15", ".resp2"),
            recorded!("redis-7.0.15", ".resp3"),
            recorded!("valkey-9.1.2", ".resp2"),
            recorded!("valkey-9.1.2", ".resp3"),
        ] {
            // When the last PING was answered differs between recordings.
            let mask = |line: String| match line.split_once("} ") {
                Some((name, _)) if line.contains("_seconds{") => format!("{name}}} X"),
                _ => line,
            };
            let lines: Vec<_> = server.collect(&COLLECTOR).unwrap().into_iter().map(mask).collect();
            assert_eq!(lines, expected);
            assert_eq!(server.asked().len(), 1, "all in one round");
        }
    }

    #[test]
    fn ok_sentinels_counts_itself_and_the_peers_that_are_not_down() {
        let up: &[&str] = &["name", "a", "flags", "sentinel"];
        let down: &[&str] = &["name", "b", "flags", "s_down,sentinel,disconnected"];
        let gone: &[&str] = &["name", "c", "flags", "o_down,sentinel"];
        let no_flags: &[&str] = &["name", "d"];
        let malformed: &[&str] = &["name"];
        for (peers, count) in [([up, down], 2), ([down, gone], 1), ([up, up], 3), ([no_flags, malformed], 1)]
        {
            check(small(&peers, &[]), "master_ok_sentinels", &[&format!("{M}}} {count}")]);
        }
    }

    #[test]
    fn ok_slaves_counts_the_replicas_that_are_not_down() {
        let up: &[&str] = &["flags", "slave"];
        let down: &[&str] = &["flags", "s_down,slave"];
        for (replicas, count) in [([up, up], 2), ([up, down], 1), ([down, down], 0)] {
            check(small(&[], &replicas), "master_ok_slaves", &[&format!("{M}}} {count}")]);
        }
    }

    #[test]
    fn missing_settings_are_0() {
        let server = || small(&[], &[]);
        check(server(), "master_setting_ckquorum", &[&format!("{M}}} 2")]);
        check(server(), "master_setting_failover_timeout", &[&format!("{M}}} 0")]);
    }

    #[test]
    fn peers_are_shown_only_with_their_flag_and_missing_flags_are_empty() {
        let peers: [&[&str]; 3] = [
            &["name", "a", "ip", "10.0.0.2", "port", "26379", "runid", "r1", "flags", "sentinel"],
            &["name", "b", "ip", "10.0.0.3", "port", "26379", "runid", "r2"],
            &["ip", "10.0.0.4"],
        ];
        check(small(&peers, &[]), "peer_info", &[]);
        let server = small(&peers, &[]).with(|c| c.sentinel_peers = true);
        let expected = [
            format!("flags=,ip=10.0.0.3,{M},name=b,port=26379,runid=r2}} 1"),
            format!("flags=sentinel,ip=10.0.0.2,{M},name=a,port=26379,runid=r1}} 1"),
        ];
        check(server, "peer_info", &[&expected[0], &expected[1]]);
    }

    #[test]
    fn settings_of_the_sentinel_come_with_config_metrics_and_without_its_password() {
        check(recorded!("redis-7.0.15", ".resp2"), "config_key_value", &[]);
        let server = || recorded!("redis-7.0.15", ".resp3").with(|c| c.config_metrics = true);
        let expected = [
            "key=announce-hostnames,value=no} 1",
            "key=announce-ip,value=} 1",
            "key=announce-port,value=0} 1",
            "key=resolve-hostnames,value=no} 1",
            "key=sentinel-user,value=} 1",
        ];
        check(server(), "config_key_value", &expected);
        check(server(), "config_value", &["key=announce-port} 0"]);
        let secret = array(&["sentinel-pass", "hunter2"]);
        check(server().reply("SENTINEL CONFIG GET *", secret.clone()), "config_key_value", &[]);
        let shown = server().with(|c| c.redact_config = false).reply("SENTINEL CONFIG GET *", secret);
        check(shown, "config_key_value", &["key=sentinel-pass,value=hunter2} 1"]);
        // Where it is refused the rest is still there.
        let refused = small(&[], &[]).with(|c| c.config_metrics = true);
        check(
            refused.reply("SENTINEL CONFIG GET *", "-NOPERM no\r\n"),
            "master_ok_slaves",
            &[&format!("{M}}} 0")],
        );
    }

    #[test]
    fn the_message_of_the_quorum_is_bounded_and_a_command_that_is_not_allowed_makes_none() {
        let long = format!("+{}\r\n", "x".repeat(300));
        let message = "x".repeat(200);
        let server = small(&[], &[]).reply("SENTINEL CKQUORUM m", long);
        check(server, "master_ckquorum_status", &[&format!("master_name=m,message={message}}} 1")]);
        let server = small(&[], &[]).reply("SENTINEL CKQUORUM m", "$5\r\na\r\nb\t\r\n");
        check(server, "master_ckquorum_status", &["master_name=m,message=a  b } 1"]);
        let server = small(&[], &[]).reply("SENTINEL CKQUORUM m", "-NOPERM no\r\n");
        check(server, "master_ckquorum_status", &[]);
        // What is unknown is absent: no peer was counted.
        let server = small(&[], &[]).reply("SENTINEL SENTINELS m", "-NOPERM no\r\n");
        check(server, "master_ok_sentinels", &[]);
    }

    #[test]
    fn a_server_before_5_is_asked_for_slaves() {
        let info = "redis_version:4.0.9\r\nredis_mode:sentinel\r\nmaster0:name=m,status=ok\r\nmaster:name=x\r\nmasterA:name=y\r\n";
        let mut server =
            Recorded::new(info).reply("SENTINEL MASTERS", "*0\r\n").with(|c| c.config_metrics = true);
        assert!(server.collect(&COLLECTOR).unwrap().is_empty());
        assert_eq!(
            server.asked(),
            [["SENTINEL MASTERS", "SENTINEL CKQUORUM m", "SENTINEL SENTINELS m", "SENTINEL SLAVES m"]]
        );
    }

    #[test]
    fn a_data_node_is_never_asked() {
        let node = Recorded::new("redis_version:7.0.15\r\nredis_mode:standalone\r\n");
        assert_eq!(node.when(&COLLECTOR), [When::AfterInfo, When::Never]);
        assert_eq!(small(&[], &[]).when(&COLLECTOR), [When::AfterInfo; 2]);
    }

    #[test]
    fn replies_of_another_form_fail() {
        for command in ["SENTINEL MASTERS", "SENTINEL SENTINELS m", "SENTINEL REPLICAS m"] {
            let found = small(&[], &[]).reply(command, "+OK\r\n").collect(&COLLECTOR);
            assert!(matches!(found, Err(Failure::Shape { .. })), "{command}");
        }
        check(
            small(&[], &[]).reply("SENTINEL MASTERS", "*2\r\n:1\r\n*1\r\n+name\r\n"),
            "master_ok_slaves",
            &[],
        );
    }
}
