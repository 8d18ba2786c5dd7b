//! `CLIENT LIST`: one set of samples for every connection.
//!
//! Only with its flag: every client that comes and goes makes 13 new series. All servers have it, Sentinels
//! too. ACL: `+client|list` (before 7.0 `+client`). Cost on the server: O(clients), on Redis 7.0 1 µs each,
//! during which it does nothing else.
//! <https://redis.io/docs/latest/commands/client-list/>
//!
//! A line is `name=value name=value …`. No value holds a space but the path of a unix socket, any may hold
//! `=`; fields that are not known are passed over.

use super::{Answers, Asks, Collector, Context, Failure, How, When};
use exposition::{Builder, Desc};

/// See the head of this file.
pub static COLLECTOR: Collector = Collector {
    name: "clients",
    descs,
    when: |context| if context.config.client_list { When::Now } else { When::Never },
    how: How::Read { ask, read },
};

/// Every sample but that of [`INFO`] has these.
const LABELS: &[&str] = &["id", "name"];

static INFO: Desc = Desc::gauge(
    "redis_connected_client_info",
    "A connected client: flags, database, address and, where the server says so, user and protocol; always 1.",
)
.labels(&["id", "name", "flags", "db", "host", "port", "user", "resp"]);

static CREATED: Desc =
    Desc::gauge("redis_connected_client_created_at_timestamp", "When the client connected, in Unix seconds.")
        .labels(LABELS);

static IDLE_SINCE: Desc = Desc::gauge(
    "redis_connected_client_idle_since_timestamp",
    "When the client last sent a command, in Unix seconds.",
)
.labels(LABELS);

/// A field that is one number.
struct Field {
    key: &'static str,
    desc: Desc,
    /// Whether a server that does not list it counts as saying 0: those that came later do not.
    always: bool,
}

const fn field(key: &'static str, always: bool, name: &'static str, help: &'static str) -> Field {
    Field { key, desc: Desc::gauge(name, help).labels(LABELS), always }
}

#[rustfmt::skip]
static FIELDS: [Field; 10] = [
    field("sub", true, "redis_connected_client_channel_subscriptions_count", "Channels that the client is subscribed to."),
    field("psub", true, "redis_connected_client_pattern_matching_subscriptions_count", "Channel patterns that the client is subscribed to."),
    field("ssub", false, "redis_connected_client_shard_channel_subscriptions_count", "Shard channels that the client is subscribed to."),
    field("watch", false, "redis_connected_client_shard_channel_watched_keys", "Keys that the client watches."),
    field("qbuf", true, "redis_connected_client_query_buffer_length_bytes", "Used part of the client's query buffer, in bytes."),
    field("qbuf-free", true, "redis_connected_client_query_buffer_free_space_bytes", "Free part of the client's query buffer, in bytes."),
    field("obl", true, "redis_connected_client_output_buffer_length_bytes", "Used part of the client's fixed output buffer, in bytes."),
    field("oll", true, "redis_connected_client_output_list_length", "Replies that wait for the client because its fixed output buffer was full."),
    field("omem", true, "redis_connected_client_output_buffer_memory_usage_bytes", "Memory of the replies that wait for the client, in bytes."),
    field("tot-mem", true, "redis_connected_client_total_memory_consumed_bytes", "Memory of all buffers of the client, in bytes."),
];

fn descs() -> Vec<&'static Desc> {
    [&INFO, &CREATED, &IDLE_SINCE].into_iter().chain(FIELDS.iter().map(|field| &field.desc)).collect()
}

/// More clients than that are left out: no server may make us write without end.
const MOST_CLIENTS: usize = 100_000;

fn ask(_: &Context<'_>, asks: &mut Asks<'_>) {
    asks.push("CLIENT LIST", &["CLIENT", "LIST"]);
}

fn read(context: &Context<'_>, answers: &Answers<'_>, out: &mut Builder) -> Result<(), Failure> {
    let reply = answers.get(0)?.bytes().ok_or(Failure::shape("CLIENT LIST"))?;
    let text = String::from_utf8_lossy(reply);
    let mut lines: Vec<&str> = text.lines().collect();
    // Lines begin with the id, which is the first label: sorted once here, the samples of each of a dozen
    // families need no sorting.
    lines.sort_unstable();

    let (info, created, idle_since) = (out.family(&INFO), out.family(&CREATED), out.family(&IDLE_SINCE));
    let families = FIELDS.each_ref().map(|field| out.family(&field.desc));
    let now = context.now.floor();
    for client in lines.into_iter().filter_map(Client::parse).take(MOST_CLIENTS) {
        let mut labels = vec![
            ("id", client.id),
            ("name", client.name),
            ("flags", client.flags),
            ("db", client.db),
            ("host", client.host),
        ];
        if context.config.client_port {
            labels.push(("port", client.port));
        }
        labels.extend(
            [("user", client.user), ("resp", client.resp)].iter().filter(|(_, value)| !value.is_empty()),
        );
        out.sample_with(info, &labels, 1.0);

        let labels = out.label_set(&labels[..2]);
        for (family, seconds) in [(created, client.age), (idle_since, client.idle)] {
            if let Some(seconds) = seconds {
                out.sample_labelled(family, &labels, now - seconds as f64);
            }
        }
        for (family, number) in families.iter().zip(client.numbers) {
            if let Some(number) = number {
                out.sample_labelled(*family, &labels, number as f64);
            }
        }
    }
    Ok(())
}

/// One line.
#[derive(Debug, Default)]
struct Client<'a> {
    id: &'a str,
    name: &'a str,
    flags: &'a str,
    db: &'a str,
    host: &'a str,
    port: &'a str,
    user: &'a str,
    resp: &'a str,
    /// Seconds.
    age: Option<i64>,
    /// Seconds.
    idle: Option<i64>,
    /// In the order of [`FIELDS`].
    numbers: [Option<i64>; FIELDS.len()],
}

impl<'a> Client<'a> {
    /// Reads a line; `None` without an id or an address, or where age or idle is no number.
    fn parse(line: &'a str) -> Option<Self> {
        let mut client =
            Self { numbers: FIELDS.each_ref().map(|field| field.always.then_some(0)), ..Self::default() };
        for (key, value) in line.split(' ').filter_map(|token| token.split_once('=')) {
            match key {
                "id" => client.id = value,
                "name" => client.name = value,
                "flags" => client.flags = value,
                "db" => client.db = value,
                "user" => client.user = value,
                "resp" => client.resp = value,
                "age" => client.age = Some(value.parse().ok()?),
                "idle" => client.idle = Some(value.parse().ok()?),
                // Of an IPv6 address only the last colon is not its own.
                "addr" => (client.host, client.port) = value.rsplit_once(':')?,
                key => {
                    if let Some(at) = FIELDS.iter().position(|field| field.key == key) {
                        client.numbers[at] = Some(value.parse().unwrap_or(0));
                    }
                }
            }
        }
        (!client.id.is_empty() && !client.port.is_empty()).then_some(client)
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorded::{Recorded, bulk};
    use super::*;

    const REDIS_6: &str =
        include_str!("../../tests/fixtures/replies/redis-6.0.16-standalone/client_list.txt");
    const REDIS_7: &[u8] =
        include_bytes!("../../tests/fixtures/replies/redis-7.0.15-standalone/client_list.resp2");
    const VALKEY_2: &[u8] =
        include_bytes!("../../tests/fixtures/replies/valkey-9.1.2-standalone/client_list.resp2");
    const VALKEY_3: &[u8] =
        include_bytes!("../../tests/fixtures/replies/valkey-9.1.2-standalone/client_list.resp3");

    fn server(reply: impl Into<Vec<u8>>) -> Recorded {
        Recorded::new("redis_version:7.0.15\r\n").reply("CLIENT LIST", reply).with(|c| c.client_list = true)
    }

    fn lines(reply: impl Into<Vec<u8>>) -> Vec<String> {
        server(reply).collect(&COLLECTOR).unwrap()
    }

    fn check(list: &str, expected: &[&str]) {
        assert_eq!(lines(bulk(list)), expected, "{list}");
    }

    /// The labels of the info samples.
    fn clients(list: &str) -> Vec<String> {
        let start = "redis_connected_client_info{";
        let lines = lines(bulk(list));
        lines
            .iter()
            .filter_map(|line| Some(line.strip_prefix(start)?.strip_suffix("} 1")?.to_owned()))
            .collect()
    }

    const LINE: &str = "id=11 addr=127.0.0.1:63508 fd=8 name=worker age=6321 idle=6320 flags=N db=3 sub=1 psub=2 \
         ssub=4 multi=-1 watch=5 qbuf=6 qbuf-free=7 obl=8 oll=9 omem=10 tot-mem=11 events=r cmd=setex user=default resp=3";

    #[test]
    fn every_field_of_a_line_becomes_a_sample() {
        let list = format!("{LINE}\n\n");
        check(
            &list,
            &[
                "redis_connected_client_channel_subscriptions_count{id=11,name=worker} 1",
                "redis_connected_client_created_at_timestamp{id=11,name=worker} 1799993679",
                "redis_connected_client_idle_since_timestamp{id=11,name=worker} 1799993680",
                "redis_connected_client_info{db=3,flags=N,host=127.0.0.1,id=11,name=worker,resp=3,user=default} 1",
                "redis_connected_client_output_buffer_length_bytes{id=11,name=worker} 8",
                "redis_connected_client_output_buffer_memory_usage_bytes{id=11,name=worker} 10",
                "redis_connected_client_output_list_length{id=11,name=worker} 9",
                "redis_connected_client_pattern_matching_subscriptions_count{id=11,name=worker} 2",
                "redis_connected_client_query_buffer_free_space_bytes{id=11,name=worker} 7",
                "redis_connected_client_query_buffer_length_bytes{id=11,name=worker} 6",
                "redis_connected_client_shard_channel_subscriptions_count{id=11,name=worker} 4",
                "redis_connected_client_shard_channel_watched_keys{id=11,name=worker} 5",
                "redis_connected_client_total_memory_consumed_bytes{id=11,name=worker} 11",
            ],
        );
    }

    #[test]
    fn fields_that_came_later_are_absent_where_the_server_lists_none() {
        let found = lines(bulk(REDIS_6));
        assert_eq!(found.len(), 11 * 10);
        assert!(!found.iter().any(|line| line.contains("shard_channel") || line.contains("resp=")));
        // Redis 7.0 has ssub, user and resp, and no watch.
        let found = lines(REDIS_7);
        let count = |word: &str| found.iter().filter(|line| line.contains(word)).count();
        assert_eq!(
            (count("shard_channel_subscriptions"), count("watched_keys"), count("resp=")),
            (11, 0, 11)
        );
    }

    #[test]
    fn both_versions_of_the_protocol_read_alike() {
        let (two, three) = (lines(VALKEY_2), lines(VALKEY_3));
        assert_eq!(two.len(), 13 * 11);
        let watched = "redis_connected_client_shard_channel_watched_keys{id=25,name=} 1".to_owned();
        assert!(two.contains(&watched) && three.contains(&watched));
    }

    #[test]
    fn the_port_is_a_label_only_with_its_flag() {
        let mut server = server(bulk(LINE)).with(|c| c.client_port = true);
        let found = server.collect(&COLLECTOR).unwrap();
        assert!(found[3].contains("name=worker,port=63508,resp=3"), "{}", found[3]);
    }

    #[test]
    fn the_address_is_cut_at_its_last_colon() {
        for (address, host) in
            [("[::1]:6379", "[::1]"), ("fe80::1:6379", "fe80::1"), ("/run/redis.sock:0", "/run/redis.sock")]
        {
            let line = format!("id=1 addr={address} name= age=1 idle=1 flags=U db=0");
            assert_eq!(clients(&line), [format!("db=0,flags=U,host={host},id=1,name=")]);
        }
    }

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        let line = "id=1 addr=1.2.3.4:5 name=a=b=c age=1 idle=1 flags=N db=0 user=x=";
        assert_eq!(clients(line), ["db=0,flags=N,host=1.2.3.4,id=1,name=a=b=c,user=x="]);
    }

    #[test]
    fn an_age_that_is_no_number_drops_the_client_and_another_number_counts_0() {
        for broken in ["age=x", "idle=", "age=1.5"] {
            let list = format!("id=1 addr=1.2.3.4:5 age=1 idle=1 {broken}\n{LINE}");
            assert_eq!(clients(&list).len(), 1, "{broken}");
        }
        let found = lines(bulk("id=1 addr=1.2.3.4:5 age=1 idle=1 omem=x ssub=x"));
        let zeros = found.iter().filter(|line| line.ends_with("} 0")).count();
        assert_eq!(zeros, 9, "{found:#?}");
    }

    #[test]
    fn a_line_without_id_or_address_is_no_client() {
        for line in
            ["", "\r", "nonsense", "id=1 age=1 idle=1", "addr=1.2.3.4:5", "id=1 addr=nocolon", "id= addr=a:1"]
        {
            check(line, &[]);
        }
    }

    #[test]
    fn the_list_is_asked_only_with_its_flag_and_must_be_a_text() {
        assert_eq!(Recorded::new("").when(&COLLECTOR), [When::Never; 2]);
        assert_eq!(server("*0\r\n").when(&COLLECTOR), [When::Now; 2]);
        assert!(matches!(server("*0\r\n").collect(&COLLECTOR), Err(Failure::Shape { .. })));
    }
}
