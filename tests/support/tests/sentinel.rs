//! The set of Sentinels does what the tests of failovers count on.

use std::time::{Duration, Instant};

use testbed::{Connection, Fault, Part, SentinelSet, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// A master that comes back is made a replica only after it was seen as a master for some time.
const COMES_BACK: Duration = Duration::from_secs(45);

fn check_both_kinds_of_failover(part: Part) {
    let mut set = SentinelSet::builder(part).failover_timeout(Duration::from_secs(3)).start();
    let first = set.nodes[0].port();
    assert_eq!(set.majority_master(), Some(first));

    let watch = set.watch();
    let began = Instant::now();
    set.failover();
    let (second, known) = watch.wait_for_other_than(first, SOON);
    assert!(second != first && known >= began);
    wait_until("both views of the majority to agree", SOON, || set.majority_master() == Some(second));
    let named: Vec<u16> = watch.opinions().iter().map(|(port, _)| *port).collect();
    assert_eq!(named, [first, second]);
    set.wait_until_settled(SOON);

    set.node(second).kill();
    let (third, _) = set.wait_for_failover_majority(second, SOON);
    assert_eq!(set.node(third).info("replication")["role"], "master");
    set.node(second).restart();
    set.wait_until_settled(COMES_BACK);
    assert_eq!(set.node(second).info("replication")["role"], "slave");
}

#[test]
fn the_majority_of_redis_sentinels_is_seen_to_change_its_mind() {
    check_both_kinds_of_failover(Part::Redis7);
}

#[test]
fn the_majority_of_valkey_sentinels_is_seen_to_change_its_mind() {
    check_both_kinds_of_failover(Part::Valkey9);
}

#[test]
fn a_stopped_sentinel_has_no_say_and_one_that_is_restarted_remembers() {
    let mut set = SentinelSet::start(Part::Redis7);
    let master = set.nodes[0].port();
    set.sentinels[0].pause();
    assert_eq!(set.majority_master(), Some(master));
    set.sentinels[1].kill();
    assert_eq!(set.majority_master(), None, "one of three is no majority");
    set.sentinels[1].restart();
    assert_eq!(set.majority_master(), Some(master));
    set.sentinels[0].resume();
    set.wait_until_settled(SOON);
}

#[test]
fn passwords_and_users_of_both_kinds_of_server_hold() {
    let set = SentinelSet::builder(Part::Redis7)
        .password("of-the-nodes")
        .user("watcher", "on >seen +info +role")
        .sentinel_password("of-the-sentinels")
        .sentinel_user("guest", "on >door +sentinel +ping")
        .start();
    let ask = |port: u16, login: &[&str], command: &[&str]| {
        let mut connection = Connection::tcp(port).unwrap();
        if !login.is_empty() {
            assert!(!connection.command(&[&["AUTH"], login].concat()).unwrap().is_error());
        }
        !connection.command(command).unwrap().is_error()
    };
    let (node, sentinel) = (set.nodes[1].port(), set.sentinels[0].port());
    assert!(!ask(node, &[], &["ROLE"]));
    assert!(ask(node, &["of-the-nodes"], &["ROLE"]));
    assert!(ask(node, &["watcher", "seen"], &["ROLE"]));
    assert!(!ask(node, &["watcher", "seen"], &["CONFIG", "GET", "port"]));
    assert!(!ask(sentinel, &[], &["SENTINEL", "MASTERS"]));
    assert!(ask(sentinel, &["guest", "door"], &["SENTINEL", "MASTERS"]));
    let old = set.nodes[0].port();
    assert_eq!(set.majority_master(), Some(old));
    let watch = set.watch();
    set.failover();
    assert_ne!(watch.wait_for_other_than(old, SOON).0, old);
}

#[test]
fn proxies_stand_aside_unless_they_are_announced() {
    let set = SentinelSet::builder(Part::Redis7).proxies().start();
    let master = set.nodes[0].port();
    let said = set.sentinels[0].ok(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SentinelSet::NAME]);
    assert_eq!(said.array()[0].text(), "127.0.0.1");
    assert_eq!(set.proxy(master).accepted(), 0, "the servers go their own way");
    assert_eq!(set.proxy(master).address(), format!("127.0.0.2:{master}"));
}

#[test]
fn a_black_hole_before_an_announced_master_makes_the_sentinels_replace_it() {
    let set = SentinelSet::builder(Part::Redis7).announced_proxies().start();
    let master = set.nodes[0].port();
    let said = set.sentinels[0].ok(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SentinelSet::NAME]);
    assert_eq!(said.array()[0].text(), "127.0.0.2");
    set.proxy(master).set(Fault::BlackHole);
    let (new, _) = set.wait_for_failover_majority(master, SOON);
    assert_ne!(new, master);
    assert_eq!(set.nodes[0].info("replication")["role"], "master", "it does not know yet");
    set.proxy(master).set(Fault::Pass);
    set.wait_until_settled(COMES_BACK);
    assert_eq!(set.nodes[0].info("replication")["role"], "slave");
}
