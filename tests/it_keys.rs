//! Key work against real servers: what the flags ask for is what stands in the answer.

use std::sync::atomic::{AtomicU64, Ordering};
use testbed::{Action, Cluster, Exporter, Part, Port, ScriptedServer, Server};

/// Our exporter beside a server.
fn exporter(server: &Server, flags: &[&str]) -> Exporter {
    let address = format!("--redis.addr=redis://{}", server.address());
    Exporter::builder(env!("CARGO_BIN_EXE_redvigil")).args(&[address.as_str()]).args(flags).start()
}

/// The sample lines of one answer whose names begin with one of these, without `redis_`.
fn lines(text: &str, starts: &[&str]) -> Vec<String> {
    let samples = text.lines().filter_map(|line| line.strip_prefix("redis_"));
    samples.filter(|line| starts.iter().any(|start| line.starts_with(start))).map(str::to_owned).collect()
}

fn check(server: &Server, flags: &[&str], starts: &[&str], expected: &[&str]) {
    let exporter = exporter(server, flags);
    // Twice: the second collection goes over the kept connection, with what the first has learned.
    for _ in 0..2 {
        let text = exporter.metrics();
        assert_eq!(lines(&text, starts), expected, "{flags:?}");
        assert_eq!(lines(&text, &["up "]), ["up 1"]);
    }
}

/// How a collector went in one answer: 1, 0, or absent.
fn success(text: &str, collector: &str) -> Option<String> {
    let start = format!("redvigil_collector_success{{collector=\"{collector}\"");
    text.lines().find(|line| line.starts_with(&start))?.rsplit(' ').next().map(str::to_owned)
}

/// Runs commands, each a line of words.
fn fill(server: &Server, commands: &str) {
    for line in commands.lines().filter(|line| !line.trim().is_empty()) {
        server.ok(&line.split_whitespace().collect::<Vec<_>>());
    }
}

/// One key of every type, in three databases.
const EVERY_TYPE: &str = "
    SET text hello
    SET number 1234.56
    SET hex 0x1p4
    SET large 1e999
    SET empty placeholder
    SETRANGE zeros 20000 x
    RPUSH list a b c
    SADD set a b
    ZADD zset 1 a 2 b
    PFADD visitors a b c
    SELECT 3
    HSET hash a 1 b 2 c 3 d 4
    XADD stream * a 1
    SELECT 11
    SET number 7
    SELECT 0
";

#[test]
fn keys_of_every_type_and_database_are_measured() {
    let server = Server::start(Part::Redis7);
    fill(&server, EVERY_TYPE);
    server.ok(&["SET", "empty", ""]);
    server.ok(&["SET", "bytes", "x"]);
    server.ok(&[b"SETRANGE".as_slice(), b"bytes", b"0", b"\xff"]);
    let single = "--check-single-keys=text,number,hex,large,empty,zeros,list,set,zset,visitors,bytes,missing,\
                  db3=hash,3=stream,db11=number";
    let size = [
        "key_size{db=\"db0\",key=\"bytes\"} 1",
        "key_size{db=\"db0\",key=\"empty\"} 0",
        "key_size{db=\"db0\",key=\"hex\"} 5",
        "key_size{db=\"db0\",key=\"large\"} 5",
        "key_size{db=\"db0\",key=\"list\"} 3",
        "key_size{db=\"db0\",key=\"missing\"} 0",
        "key_size{db=\"db0\",key=\"number\"} 7",
        "key_size{db=\"db0\",key=\"set\"} 2",
        "key_size{db=\"db0\",key=\"text\"} 5",
        "key_size{db=\"db0\",key=\"visitors\"} 3",
        "key_size{db=\"db0\",key=\"zeros\"} 20001",
        "key_size{db=\"db0\",key=\"zset\"} 2",
        "key_size{db=\"db11\",key=\"number\"} 1",
        "key_size{db=\"db3\",key=\"hash\"} 4",
        "key_size{db=\"db3\",key=\"stream\"} 1",
    ];
    let values = [
        "key_value{db=\"db0\",key=\"hex\"} 16",
        "key_value{db=\"db0\",key=\"number\"} 1234.56",
        "key_value{db=\"db11\",key=\"number\"} 7",
        "key_value_as_string{db=\"db0\",key=\"large\",val=\"1e999\"} 1",
        "key_value_as_string{db=\"db0\",key=\"text\",val=\"hello\"} 1",
    ];
    check(&server, &[single], &["key_size"], &size);
    let text = exporter(&server, &[single]).metrics();
    assert_eq!(lines(&text, &["key_value"]), values);
    assert_eq!(lines(&text, &["key_memory_usage_bytes"]).len(), 14, "all but the missing key");
    assert_eq!(success(&text, "keys").as_deref(), Some("1"));
    // Without values, the HyperLogLog is still one.
    check(&server, &[single, "--disable-exporting-key-values"], &["key_size"], &size);
    check(&server, &[single, "--disable-exporting-key-values"], &["key_value"], &[]);
}

#[test]
fn strings_that_are_read_make_no_error_in_the_statistics_of_the_server() {
    let server = Server::start(Part::Redis7);
    fill(&server, EVERY_TYPE);
    let exporter = exporter(&server, &["--check-keys=*"]);
    exporter.metrics();
    let before = server.info("stats")["total_error_replies"].clone();
    exporter.metrics();
    let after = server.info("stats")["total_error_replies"].clone();
    assert_eq!(before, after, "the large string is too long for a HyperLogLog, the others are read");
}

#[test]
fn values_are_read_up_to_4_kib_and_hyperloglogs_in_either_form() {
    let server = Server::start(Part::Redis7);
    let (fits, long) = ("f".repeat(4096), "l".repeat(4097));
    server.ok(&["SET", "fits", &fits]);
    server.ok(&["SET", "long", &long]);
    // Appending leaves room for as much again: more memory than the value would need.
    server.ok(&["SET", "appended", &fits[1..]]);
    server.ok(&["APPEND", "appended", "f"]);
    server.ok(&["SET", "fake", "HYLL but no more"]);
    server.ok(&["PFADD", "sparse", "a", "b"]);
    server.ok(&["CONFIG", "SET", "hll-sparse-max-bytes", "0"]);
    server.ok(&["PFADD", "dense", "a", "b", "c"]);
    assert_eq!(server.ok(&["STRLEN", "dense"]).int(), 12304);
    let sizes = [
        "key_size{db=\"db0\",key=\"appended\"} 4096",
        "key_size{db=\"db0\",key=\"dense\"} 3",
        "key_size{db=\"db0\",key=\"fake\"} 16",
        "key_size{db=\"db0\",key=\"fits\"} 4096",
        "key_size{db=\"db0\",key=\"long\"} 4097",
        "key_size{db=\"db0\",key=\"sparse\"} 2",
    ];
    check(&server, &["--check-keys=*"], &["key_size"], &sizes);
    check(&server, &["--check-keys=*", "--disable-exporting-key-values"], &["key_size"], &sizes);
    let text = |key| format!("key_value_as_string{{db=\"db0\",key=\"{key}\",val=\"{fits}\"}} 1");
    check(&server, &["--check-keys=*"], &["key_value"], &[&text("appended"), &text("fits")]);
}

#[test]
fn patterns_find_what_they_match_and_nothing_else() {
    let server = Server::start(Part::Redis7);
    let mut connection = server.connect().expect("a connection");
    let set = |i: usize| {
        vec![
            "SET".to_owned(),
            format!("{}:{i}", if i.is_multiple_of(2) { "even" } else { "odd" }),
            "1".into(),
        ]
    };
    connection.pipeline(&(0..2000).map(set).collect::<Vec<_>>()).expect("2000 keys");
    server.ok(&["SELECT", "12"]);
    server.ok(&["SET", "even:x", "1"]);
    server.ok(&["SELECT", "0"]);
    let flags = ["--check-keys=even:*,db12=ev[e]n:?,nothing*,plain,999=e*", "--check-keys-batch-size=10"];
    let text = exporter(&server, &flags).metrics();
    let found = lines(&text, &["key_size"]);
    assert_eq!(found.len(), 1002, "1000, one in database 12, and the missing name without a glob");
    assert!(found.contains(&"key_size{db=\"db12\",key=\"even:x\"} 1".to_owned()));
    assert!(found.contains(&"key_size{db=\"db0\",key=\"plain\"} 0".to_owned()));
    assert!(found.iter().all(|line| !line.contains("odd:") && !line.contains("999")));
    assert_eq!(success(&text, "keys").as_deref(), Some("0"), "there is no database 999");
    let counts = [
        "keys_count{db=\"db0\",key=\"*\"} 2000",
        "keys_count{db=\"db0\",key=\"even:*\"} 1000",
        "keys_count{db=\"db0\",key=\"nothing*\"} 0",
        "keys_count{db=\"db12\",key=\"*\"} 1",
    ];
    check(&server, &["--count-keys=*,even:*,nothing*,12=*,999=*"], &["keys_count"], &counts);
}

#[test]
fn a_database_in_the_address_is_the_one_of_scripts_only() {
    let server = Server::start(Part::Redis7);
    fill(&server, "SET here 0\nSELECT 5\nSET here five\nSET x 1\nSELECT 0");
    let script = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(script.path(), "return {'keys', tostring(redis.call('DBSIZE'))}").expect("a script");
    let script = format!("--script={}", script.path().display());
    let address = format!("--redis.addr=redis://{}/5", server.address());
    let exporter = Exporter::builder(env!("CARGO_BIN_EXE_redvigil"))
        .args(&[address.as_str(), &script, "--check-single-keys=here,5=here", "--count-keys=*,5=*"])
        .start();
    for _ in 0..2 {
        let text = exporter.metrics();
        let sizes = ["key_size{db=\"db0\",key=\"here\"} 1", "key_size{db=\"db5\",key=\"here\"} 4"];
        assert_eq!(lines(&text, &["key_size"]), sizes);
        let counts = ["keys_count{db=\"db0\",key=\"*\"} 1", "keys_count{db=\"db5\",key=\"*\"} 2"];
        assert_eq!(lines(&text, &["keys_count"]), counts);
        let values = lines(&text, &["script_values"]);
        assert!(values.len() == 1 && values[0].ends_with(" 2"), "{values:?}");
    }
}

#[test]
fn a_user_without_some_commands_loses_only_what_they_say() {
    let user = "on >secret ~* &* -@all +hello +auth +ping +info +config|get +select +scan +memory|usage +get +strlen";
    let server = Server::builder(Part::Redis7).user("metrics", user).start();
    fill(&server, EVERY_TYPE);
    let exporter = exporter(
        &server,
        &[
            "--redis.user=metrics",
            "--redis.password=secret",
            "--check-single-keys=text,list",
            "--count-keys=*",
        ],
    );
    let denied = || server.ok(&["ACL", "LOG"]).array().len();
    for _ in 0..2 {
        let text = exporter.metrics();
        assert_eq!(lines(&text, &["key_size", "key_value"]), [] as [&str; 0], "no type, no size");
        assert_eq!(lines(&text, &["key_memory_usage_bytes"]).len(), 2);
        assert_eq!(lines(&text, &["keys_count"]), ["keys_count{db=\"db0\",key=\"*\"} 10"]);
        assert_eq!(success(&text, "keys").as_deref(), Some("0"));
        assert_eq!(success(&text, "count_keys").as_deref(), Some("1"));
    }
    server.ok(&["ACL", "LOG", "RESET"]);
    exporter.metrics();
    assert_eq!(denied(), 0, "what is denied is not asked again");
}

#[test]
fn keys_that_a_user_may_not_see_do_not_hide_the_others() {
    let server = Server::builder(Part::Redis7).user("metrics", "on >secret ~app:* &* +@all").start();
    fill(&server, "SET app:1 1\nSET other:1 1");
    let login = ["--redis.user=metrics", "--redis.password=secret", "--check-keys=*"];
    check(&server, &login, &["key_size"], &["key_size{db=\"db0\",key=\"app:1\"} 1"]);
}

/// The data of behaviours 78 and 79: sixteen keys, of which seven are in groups.
const GROUPED: &str = "
    SET key_ringo_123 1
    SET key_paul_123 1
    SET key_exp_1 1
    SET key_exp_2 1
    SET key_exp_3 1
    SET key_exp_4 1
    SET key_exp_5 1
    SADD large 1 2 3 4 5 6 7 8 9 a b c d e f g
    SET x1 1
    SET x2 1
    SET x3 1
    SET x4 1
    SET x5 1
    SET x6 1
    SET x7 1
    SET x8 1
";

#[test]
fn keys_are_counted_by_group() {
    let server = Server::start(Part::Redis7);
    fill(&server, GROUPED);
    let groups = "--check-key-groups=^(key_ringo)_[0-9]+$,^(key_paul)_[0-9]+$,^(key_)(exp)_.+$";
    let expected = [
        "key_group_count{db=\"db0\",key_group=\"key_exp\"} 5",
        "key_group_count{db=\"db0\",key_group=\"key_paul\"} 1",
        "key_group_count{db=\"db0\",key_group=\"key_ringo\"} 1",
        "key_group_count{db=\"db0\",key_group=\"unclassified\"} 9",
    ];
    check(&server, &[groups], &["key_group_count"], &expected);
    check(&server, &[groups, "--check-keys-batch-size=1"], &["key_group_count"], &expected);
    let text = exporter(&server, &[groups]).metrics();
    assert_eq!(lines(&text, &["key_group_memory_usage_bytes"]).len(), 4);
    let distinct = lines(&text, &["number_of_distinct_key_groups"]);
    assert_eq!(distinct.len(), 16, "empty databases too");
    assert_eq!(distinct[0], "number_of_distinct_key_groups{db=\"db0\"} 4");
    assert_eq!(lines(&text, &["last_key_groups_scrape_duration_milliseconds"]).len(), 1);
    check(&server, &[], &["last_key_groups"], &["last_key_groups_scrape_duration_milliseconds 0"]);
}

#[test]
fn groups_beyond_the_largest_are_overflow() {
    let server = Server::start(Part::Redis7);
    fill(&server, GROUPED);
    let flags = ["--check-key-groups=^(.*)$", "--max-distinct-key-groups=1"];
    let expected = [
        "key_group_count{db=\"db0\",key_group=\"large\"} 1",
        "key_group_count{db=\"db0\",key_group=\"overflow\"} 15",
        "number_of_distinct_key_groups{db=\"db0\"} 16",
    ];
    check(&server, &flags, &["key_group_count", "number_of_distinct_key_groups{db=\"db0\"}"], &expected);
}

#[test]
fn groups_are_counted_on_replicas_and_by_whoever_may_eval_in_either_way() {
    let master = Server::builder(Part::Redis7)
        .user("full", "on >secret ~* &* -@all +hello +info +config|get +select +scan +memory|usage +eval")
        .user(
            "readonly",
            "on >secret ~* &* -@all +hello +info +config|get +select +scan +memory|usage +eval_ro",
        )
        .user("none", "on >secret ~* &* -@all +hello +info +config|get +select +scan +memory|usage")
        .user("outside", "on >secret ~* &* -@all +hello +info +config|get +select +eval")
        .start();
    fill(&master, GROUPED);
    let replica = Server::builder(Part::Redis7).replica_of(&master).start();
    replica.wait_replicated();
    let groups = "--check-key-groups=^(key)_";
    let expected = [
        "key_group_count{db=\"db0\",key_group=\"key\"} 7",
        "key_group_count{db=\"db0\",key_group=\"unclassified\"} 9",
    ];
    check(&replica, &[groups], &["key_group_count"], &expected);
    for (user, expected) in
        [("full", &expected[..]), ("readonly", &expected), ("none", &[]), ("outside", &[])]
    {
        let user = format!("--redis.user={user}");
        let flags = [groups, &user, "--redis.password=secret"];
        check(&master, &flags, &["key_group_count"], expected);
        let exporter = exporter(&master, &flags);
        exporter.metrics();
        master.ok(&["ACL", "LOG", "RESET"]);
        let text = exporter.metrics();
        let wanted = if expected.is_empty() { "0" } else { "1" };
        assert_eq!(success(&text, "key_groups").as_deref(), Some(wanted), "{user}");
        let denied = master.ok(&["ACL", "LOG"]);
        let about_scripts =
            denied.array().iter().filter(|entry| format!("{entry:?}").contains(&needle("eval"))).count();
        assert_eq!(about_scripts, 0, "{user}: {denied:?}");
    }
}

/// A word as the debug form of a reply shows its bytes.
fn needle(word: &str) -> String {
    format!("{:?}", word.as_bytes()).trim_matches(['[', ']']).to_owned()
}

#[test]
fn streams_their_groups_and_consumers_are_measured() {
    let server = Server::start(Part::Redis7);
    fill(
        &server,
        "
        XADD orders 1638006862416-0 a 1
        XADD orders 1638006862417-2 a 2
        XGROUP CREATE orders first 0 ENTRIESREAD 0
        XGROUP CREATE orders second $
        XREADGROUP GROUP first alice COUNT 1 STREAMS orders >
        XGROUP CREATECONSUMER orders first bob
        SET string 1
        SELECT 1
        XADD other 5-1 a 1
        SELECT 0
        ",
    );
    let expected = [
        "stream_entries_added_total{db=\"db0\",stream=\"orders\"} 2",
        "stream_first_entry_id{db=\"db0\",stream=\"orders\"} 1.638006862416e+12",
        "stream_group_consumer_messages_pending{consumer=\"alice\",db=\"db0\",group=\"first\",stream=\"orders\"} 1",
        "stream_group_consumer_messages_pending{consumer=\"bob\",db=\"db0\",group=\"first\",stream=\"orders\"} 0",
        "stream_group_consumers{db=\"db0\",group=\"first\",stream=\"orders\"} 2",
        "stream_group_consumers{db=\"db0\",group=\"second\",stream=\"orders\"} 0",
        "stream_group_entries_read{db=\"db0\",group=\"first\",stream=\"orders\"} 1",
        "stream_group_entries_read{db=\"db0\",group=\"second\",stream=\"orders\"} 0",
        "stream_group_lag{db=\"db0\",group=\"first\",stream=\"orders\"} 1",
        "stream_group_lag{db=\"db0\",group=\"second\",stream=\"orders\"} 0",
        "stream_group_last_delivered_id{db=\"db0\",group=\"first\",stream=\"orders\"} 1.638006862416e+12",
        "stream_group_last_delivered_id{db=\"db0\",group=\"second\",stream=\"orders\"} 1.638006862417e+12",
        "stream_group_messages_pending{db=\"db0\",group=\"first\",stream=\"orders\"} 1",
        "stream_group_messages_pending{db=\"db0\",group=\"second\",stream=\"orders\"} 0",
        "stream_groups{db=\"db0\",stream=\"orders\"} 2",
        "stream_last_entry_id{db=\"db0\",stream=\"orders\"} 1.638006862417e+12",
        "stream_last_generated_id{db=\"db0\",stream=\"orders\"} 1.638006862417e+12",
        "stream_length{db=\"db0\",stream=\"orders\"} 2",
        "stream_max_deleted_entry_id{db=\"db0\",stream=\"orders\"} 0",
        "stream_radix_tree_keys{db=\"db0\",stream=\"orders\"} 1",
        "stream_radix_tree_nodes{db=\"db0\",stream=\"orders\"} 2",
    ];
    let without_idle = |text: &str| {
        let all = lines(text, &["stream_"]).into_iter();
        all.filter(|line| !line.starts_with("stream_group_consumer_idle_seconds")).collect::<Vec<_>>()
    };
    let text = exporter(&server, &["--check-single-streams=orders,string,missing"]).metrics();
    assert_eq!(without_idle(&text), expected);
    assert_eq!(lines(&text, &["stream_group_consumer_idle_seconds"]).len(), 2);
    assert_eq!(success(&text, "streams").as_deref(), Some("1"));
    let text = exporter(&server, &["--check-streams=o*,s*,db1=*"]).metrics();
    assert_eq!(lines(&text, &["stream_length"]).len(), 2, "both streams, not the string");
    let text =
        exporter(&server, &["--check-single-streams=orders", "--streams-exclude-consumer-metrics"]).metrics();
    assert_eq!(lines(&text, &["stream_group_consumer_"]), [] as [&str; 0]);
    assert_eq!(lines(&text, &["stream_"]).len(), expected.len() - 2);
}

#[test]
fn scripts_say_how_they_went_and_leave_the_server_up() {
    let server = Server::start(Part::Redis7);
    let folder = tempfile::TempDir::new().expect("a folder");
    let script = |name: &str, source: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, source).expect("a script");
        path.display().to_string()
    };
    let good = script("good.lua", "return {'a', '11', 'b', ARGV[1], 'c', '1e3'}");
    let empty = script("empty.lua", "return {}");
    let broken = script("broken.lua", "return {");
    let word = script("word.lua", "return {'first', '1', 'second', 'abc'}");
    let syntax = script("syntax.lua", "return redis.call('SET', 'a', 'b', 'c')");
    let write = script("write.lua", "redis.call('SET', 'a', 'b') return {'a', '1'}");
    let all = format!("--script={good},{empty},{broken},{word},{syntax}");
    let result = |path: &str, value: u8| format!("script_result{{filename=\"{path}\"}} {value}");
    let value = |key: &str, path: &str, value: &str| {
        format!("script_values{{filename=\"{path}\",key=\"{key}\"}} {value}")
    };
    let expected = [
        result(&broken, 0),
        result(&empty, 2),
        result(&good, 1),
        result(&syntax, 0),
        result(&word, 0),
        value("a", &good, "11"),
        value("b", &good, "0"),
        value("c", &good, "1000"),
        value("first", &word, "1"),
    ];
    check(&server, &[&all], &["script_"], &expected.each_ref().map(String::as_str));
    assert_eq!(success(&exporter(&server, &[&all]).metrics(), "scripts").as_deref(), Some("0"));
    let only = format!("--script={write}");
    check(&server, &[&only, "--lua-script-read-only"], &["script_"], &[&result(&write, 0)]);
    check(&server, &[&only], &["script_result"], &[&result(&write, 1)]);
}

#[test]
fn keys_of_every_master_of_a_cluster_are_seen_once_whichever_node_is_asked() {
    let cluster = Cluster::start(Part::Redis7, 3, 1);
    for i in 0..300 {
        cluster.set(&format!("key:{i}"), &i.to_string());
    }
    let on_any = |words: &[&str]| {
        assert!(cluster.masters().iter().any(|node| !node.command(words).is_error()), "{words:?}");
    };
    for i in 0..3 {
        on_any(&["XADD", &format!("stream:{i}"), "1-1", "a", "1"]);
        on_any(&["PFADD", &format!("visitors:{i}"), "a", "b", "c"]);
    }
    let flags = [
        "--is-cluster",
        "--check-keys=key:1??",
        "--check-single-keys=db3=key:7,visitors:0,visitors:1,visitors:2,missing,{tag}missing",
        "--count-keys=key:*,5=*",
        "--check-streams=stream:*",
        "--check-single-streams=stream:0",
        "--check-key-groups=^(key):",
    ];
    for node in &cluster.nodes {
        let exporter = exporter(node, &flags);
        for _ in 0..2 {
            let text = exporter.metrics();
            let found = lines(&text, &["key_size"]);
            assert_eq!(found.len(), 104, "a hundred by pattern, four by name, no missing one: {found:?}");
            assert!(found.iter().all(|line| line.contains("db=\"db0\"")));
            assert!(found.contains(&"key_size{db=\"db0\",key=\"visitors:1\"} 3".to_owned()));
            assert!(
                lines(&text, &["key_value{"]).contains(&"key_value{db=\"db0\",key=\"key:7\"} 7".to_owned())
            );
            let counts = ["keys_count{db=\"db0\",key=\"*\"} 306", "keys_count{db=\"db0\",key=\"key:*\"} 300"];
            assert_eq!(lines(&text, &["keys_count"]), counts);
            assert_eq!(lines(&text, &["stream_length"]).len(), 3);
            let groups = [
                "key_group_count{db=\"db0\",key_group=\"key\"} 300",
                "key_group_count{db=\"db0\",key_group=\"unclassified\"} 6",
                "number_of_distinct_key_groups{db=\"db0\"} 2",
            ];
            assert_eq!(lines(&text, &["key_group_count", "number_of_distinct"]), groups);
            for collector in ["keys", "count_keys", "streams", "key_groups"] {
                assert_eq!(success(&text, collector).as_deref(), Some("1"), "{collector}");
            }
        }
    }
    let spared = [&flags[..], &["--skip-checkkeys-for-role-master"]].concat();
    for (node, sizes) in [(cluster.masters()[0], 0), (cluster.replicas()[0], 104)] {
        let text = exporter(node, &spared).metrics();
        assert_eq!(lines(&text, &["key_size"]).len(), sizes);
        assert_eq!(lines(&text, &["key_group_count"]).len(), 2, "groups are counted in any case");
    }
}

#[test]
fn a_cluster_with_a_dead_master_gives_no_count_and_the_keys_of_the_others() {
    let mut cluster = Cluster::start(Part::Redis7, 3, 0);
    for i in 0..30 {
        cluster.set(&format!("key:{i}"), "1");
    }
    // Without a majority nothing would be served at all.
    cluster.nodes.iter().for_each(|node| {
        node.ok(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    });
    let held = cluster.nodes[2].ok(&["DBSIZE"]).int() as usize;
    cluster.nodes[2].kill();
    let text = exporter(
        &cluster.nodes[0],
        &["--is-cluster", "--check-keys=*", "--count-keys=*", "--check-key-groups=^(key)"],
    )
    .metrics();
    assert_eq!(lines(&text, &["key_size"]).len(), 30 - held);
    assert_eq!(lines(&text, &["keys_count", "key_group_count"]), [] as [&str; 0]);
    for collector in ["keys", "count_keys", "key_groups"] {
        assert_eq!(success(&text, collector).as_deref(), Some("0"), "{collector}");
    }
    assert_eq!(lines(&text, &["up "]), ["up 1"]);
}

#[test]
fn cluster_mode_on_a_server_that_is_none_gives_no_keys() {
    let server = Server::start(Part::Redis7);
    fill(&server, "SET a 1");
    let flags = ["--is-cluster", "--check-single-keys=a", "--count-keys=*", "--check-key-groups=x"];
    check(&server, &flags, &["key_", "keys_", "last_key_groups"], &[]);
}

/// A server with this reply to SCAN.
fn scanned(reply: impl Fn(u64) -> String + Send + Sync + 'static) -> ScriptedServer {
    let steps = AtomicU64::new(0);
    ScriptedServer::start(move |command| match command[0].as_slice() {
        b"SCAN" => Action::reply(reply(steps.fetch_add(1, Ordering::Relaxed))),
        _ => Action::Default,
    })
}

#[test]
fn a_scan_that_never_ends_costs_its_collector_alone() {
    let page = |cursor: String| format!("*2\r\n${}\r\n{cursor}\r\n*1\r\n$1\r\na\r\n", cursor.len());
    let stands = scanned(move |_| page("7".into()));
    let walks = scanned(move |step| page((step + 1).to_string()));
    let strange = scanned(|_| "*1\r\n:0\r\n".into());
    for (server, limit) in [(stands, "10"), (strange, "10"), (walks, "1")] {
        let address = format!("--redis.addr=redis://127.0.0.1:{}", server.port());
        let exporter = Exporter::builder(env!("CARGO_BIN_EXE_redvigil"))
            .args(&[address.as_str(), "--count-keys=*", "--check-keys=*"])
            .start();
        let answer = exporter.get("/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", limit)]);
        let text = answer.text();
        assert_eq!(lines(text, &["up ", "keys_count"]), ["up 1"]);
        assert_eq!(success(text, "count_keys").as_deref(), Some("0"));
    }
}

#[test]
fn a_key_whose_slot_has_moved_is_found_on_its_new_master() {
    let new = Server::start(Part::Redis7);
    fill(&new, "SET a 5\nXADD s 1-1 a 1");
    let (old_port, new_port) = (Port::take(), new.port());
    let (first, asked) = (old_port.number(), AtomicU64::new(0));
    let slots = |port: u16| format!("*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$0\r\n\r\n:{port}\r\n$1\r\nx\r\n");
    let old = ScriptedServer::builder().port(old_port).start(move |command| match command[0].as_slice() {
        // The old map at the beginning of each collection, the new one after it was asked for again.
        b"CLUSTER" if command[1] == b"SLOTS" => {
            let again = !asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
            Action::reply(slots(if again { new_port } else { first }))
        }
        b"CLUSTER" => {
            Action::reply("-NOPERM this user has no permissions to run the 'cluster|myid' command\r\n")
        }
        b"TYPE" | b"MEMORY" | b"XINFO" => Action::reply(format!("-MOVED 15495 127.0.0.1:{new_port}\r\n")),
        _ => Action::Default,
    });
    let address = format!("--redis.addr=redis://127.0.0.1:{}", old.port());
    let exporter = Exporter::builder(env!("CARGO_BIN_EXE_redvigil"))
        .args(&[address.as_str(), "--is-cluster", "--check-single-keys=a"])
        .start();
    for _ in 0..2 {
        let text = exporter.metrics();
        assert_eq!(lines(&text, &["key_value"]), ["key_value{db=\"db0\",key=\"a\"} 5"]);
        assert_eq!(success(&text, "keys").as_deref(), Some("1"));
    }
    let asked_id = old.commands().iter().filter(|words| words[..] == ["CLUSTER", "MYID"]).count();
    assert_eq!(asked_id, 1, "refused once, not asked again");
}

#[test]
fn a_batch_of_keys_takes_two_round_trips() {
    let round_trips = |flags: &[&str]| {
        let server = ScriptedServer::start(|command| match command[0].as_slice() {
            b"TYPE" => Action::reply("+string\r\n"),
            b"MEMORY" => Action::reply(":60\r\n"),
            b"STRLEN" => Action::reply(":2\r\n"),
            b"GET" => Action::bulk("17"),
            _ => Action::Default,
        });
        let address = format!("--redis.addr=redis://127.0.0.1:{}", server.port());
        let ours = Exporter::builder(env!("CARGO_BIN_EXE_redvigil")).args(&[address.as_str()]).args(flags);
        let exporter = ours.start();
        exporter.metrics();
        let before = server.round_trips();
        let text = exporter.metrics();
        (server.round_trips() - before, lines(&text, &["key_value"]).len())
    };
    let (bare, _) = round_trips(&[]);
    assert_eq!(round_trips(&["--check-single-keys=a,b,c,d,e,f"]), (bare + 2, 6));
}

#[test]
fn a_million_keys_are_counted_in_little_memory() {
    let server = Server::start(Part::Redis7);
    server.ok(&["DEBUG", "POPULATE", "1000000", "key", "10"]);
    let mut exporter = exporter(&server, &["--count-keys=*,key:1*"]);
    let status = format!("/proc/{}/status", exporter.process().pid());
    let peak = || -> u64 {
        let status = std::fs::read_to_string(&status).expect("the exporter runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).expect("Linux says the peak")
    };
    // What a debug build takes for itself is not the matter here.
    let before = peak();
    let counts = ["keys_count{db=\"db0\",key=\"*\"} 1e+06", "keys_count{db=\"db0\",key=\"key:1*\"} 111111"];
    assert_eq!(lines(&exporter.metrics(), &["keys_count"]), counts);
    let grown = peak() - before;
    assert!(grown <= 8 * 1024, "{grown} kB");
}
