//! What nodes say of a Cluster, laid side by side: scenarios.

use super::*;

/// What the node at this port says: lines of `id:port flags master epoch slots…`.
pub(in super::super) fn said(port: u16, lines: &str) -> Said {
    let row = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let mut next = || words.next().expect(line);
        let (node, flags, master, epoch) = (next(), next(), next(), next());
        let (id, at) = node.split_once(':').expect(line);
        let slots = words.collect::<Vec<_>>().join(" ");
        let ip = if at == "0" { "" } else { "10.0.0.1" };
        Row::parse(&format!("{id} {ip}:{at}@9 {flags} {master} 0 0 {epoch} connected {slots}")).expect(line)
    };
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    let table = Table { rows: lines.map(row).collect(), shards: vec![] };
    let id = table.myself().map(|row| row.id.clone());
    let info = Some(Info { is_ok: Some(true), epoch: 9, ..Info::default() });
    Said { asked: Address::tcp("seed", port), id, table: Some(table), info, shard: None }
}

/// The same lines told by each of these nodes, by their ports.
pub(in super::super) fn all_say(ports: &[u16], lines: &str) -> Vec<Said> {
    let told = |port: &u16| {
        let node = format!(":{port} ");
        let own = |line: &str| match line.trim().split_once(&node) {
            Some((id, rest)) => format!("{id}{node}myself,{rest}\n"),
            None => format!("{line}\n"),
        };
        said(*port, &lines.lines().map(own).collect::<String>())
    };
    ports.iter().map(told).collect()
}

pub(in super::super) fn picture(said: &[Said], remembered: &Remembered) -> Picture {
    merge(said, remembered, false, &|address| address).expect("a picture")
}

/// `shard=master(nodes)` of each shard; a master that did not say so itself has a question mark.
fn written(picture: &Picture) -> String {
    let shard = |(id, shard): (&Arc<str>, &Shard)| {
        let nodes: Vec<_> = shard.nodes.iter().map(|id| &**id).collect();
        let sure = if shard.is_confirmed { "" } else { "?" };
        format!("{id}={}{sure}({})", shard.master.as_deref().unwrap_or("-"), nodes.join(","))
    };
    picture.shards.iter().map(shard).collect::<Vec<_>>().join(" ")
}

fn remembered(shards: &[(&str, &str)]) -> Remembered {
    let shards = shards.iter().map(|(id, shard)| (Arc::from(*id), Arc::from(*shard)));
    Remembered { shards: shards.collect(), ..Remembered::default() }
}

const SOUND: &str = "a:1 master - 1 0-99
        b:2 slave a 1
        c:3 master - 2 100-16383
        d:4 slave c 2";

#[test]
fn a_sound_cluster_has_its_shards_and_nothing_to_tell() {
    let picture = picture(&all_say(&[1, 2, 3, 4], SOUND), &Remembered::default());
    assert_eq!(written(&picture), "a=a(a,b) c=c(c,d)");
    let expected = ClusterView {
        is_ok: Some(true),
        epoch: 9,
        covered: 16384,
        nodes: 4,
        reachable: 4,
        shards: 2,
        ..ClusterView::default()
    };
    assert_eq!(picture.view, expected);
    assert!(picture.restless.is_empty());
    assert_eq!(picture.nodes["b"].address, Address::tcp("10.0.0.1", 2));
}

#[test]
fn a_replica_that_takes_over_keeps_the_shard_and_the_dead_master_stays_in_it() {
    let after = "a:1 master,fail - 1
            b:2 master - 5 0-99
            c:3 master - 2 100-16383
            d:4 slave c 2";
    let known = remembered(&[("a", "a"), ("b", "a"), ("c", "c"), ("d", "c")]);
    let after = picture(&all_say(&[2, 3, 4], after), &known);
    assert_eq!(written(&after), "a=b(b,a) c=c(c,d)");
    assert_eq!((after.view.without_replica, after.view.shards, after.view.covered), (1, 2, 16384));
    assert_eq!(after.nodes["a"].state, State::Failed);
}

#[test]
fn the_shard_ids_of_the_servers_come_first() {
    let named = |said: Vec<Said>, ids: &[&str]| -> Vec<Said> {
        said.into_iter().zip(ids).map(|(said, id)| Said { shard: Some((*id).into()), ..said }).collect()
    };
    let said = named(all_say(&[1, 2, 3, 4], SOUND), &["x", "x", "y", "y"]);
    assert_eq!(written(&picture(&said, &remembered(&[("a", "a"), ("c", "c")]))), "x=a(a,b) y=c(c,d)");
    // The master does not answer: its replica names the shard. Nobody names that of the other one.
    let said = named(all_say(&[2], SOUND), &["x"]);
    assert_eq!(written(&picture(&said, &Remembered::default())), "c=c?(c,d) x=a?(a,b)");
}

#[test]
fn cluster_shards_says_to_whom_a_dead_master_belongs() {
    let mut all = all_say(
        &[2, 3],
        "a:1 master,fail - 1
            b:2 master - 5 0-99
            c:3 master - 2 100-16383",
    );
    all[0].shard = Some("x".into());
    all[0].table.as_mut().expect("a table").shards = vec![vec!["b".into(), "a".into()], vec!["c".into()]];
    assert_eq!(written(&picture(&all, &Remembered::default())), "c=c(c) x=b(b,a)");
}

#[test]
fn the_newest_claim_wins_and_those_who_claim_the_same_are_counted() {
    let mut said = all_say(
        &[2, 3, 4],
        "a:1 master,fail - 1
            b:2 master - 5 0-99
            c:3 master - 2 100-16383
            d:4 slave c 2",
    );
    // Back from its isolation, with its old table.
    said.extend(all_say(&[1], SOUND));
    let picture = picture(&said, &remembered(&[("a", "a"), ("b", "a")]));
    assert_eq!(written(&picture), "a=b(b,a) c=c(c,d)");
    let view = &picture.view;
    assert_eq!((view.contested, view.rivals, view.disagreeing, view.covered), (100, 2, 1, 16384));
    let restless: Vec<_> = picture.restless.iter().map(|id| &**id).collect();
    assert_eq!(restless, ["a", "b"]);
}

#[test]
fn a_new_master_is_believed_before_most_have_heard_of_it() {
    let new = "a:1 slave b 5
            b:2 master - 5 0-99
            c:3 master - 2 100-16383
            d:4 slave c 2";
    let said = [all_say(&[3, 4], SOUND), all_say(&[2], new)].concat();
    let picture = picture(&said, &remembered(&[("a", "a"), ("b", "a")]));
    assert_eq!(written(&picture), "a=b(a,b) c=c(c,d)");
    assert_eq!((picture.view.disagreeing, picture.view.contested, picture.view.covered), (1, 0, 16384));
}

#[test]
fn two_masters_that_serve_are_never_one_shard() {
    let lines = "a:1 master - 1 0-99
            b:2 master - 5 100-199";
    let known = remembered(&[("a", "a"), ("b", "a")]);
    assert_eq!(written(&picture(&all_say(&[1, 2], lines), &known)), "a=b(b) a+=a(a)");
    let masters = HashMap::from([(Arc::from("a"), Arc::from("a"))]);
    let known = Remembered { masters, ..known };
    assert_eq!(written(&picture(&all_say(&[1, 2], lines), &known)), "a=a(a) b=b(b)");
}

#[test]
fn every_shard_gets_a_name_though_those_of_its_master_are_taken() {
    let lines = "a:1 master - 1 0-99
            b:2 master - 5 100-199
            c:3 master - 4 200-299";
    let known = remembered(&[("a", "a"), ("b", "a"), ("c", "a+")]);
    assert_eq!(written(&picture(&all_say(&[1, 2, 3], lines), &known)), "a=b(b) a+=c(c) a++=a(a)");
}

#[test]
fn a_shard_id_that_is_none_names_no_shard() {
    let check = |id: &str, expected: &str| {
        let mut said = all_say(&[1], "a:1 master - 1 0-99");
        said[0].shard = Some(id.into());
        assert_eq!(written(&picture(&said, &Remembered::default())), expected, "{id}");
    };
    check("x", "x=a(a)");
    for strange in ["", "x+", "x y", "ü", &"x".repeat(65)] {
        check(strange, "a=a(a)");
    }
}

#[test]
fn the_epoch_of_a_silent_master_is_what_most_say_and_nobody_says_it_twice() {
    let check = |epochs: [&str; 3], expected: u64| {
        let said = [2, 3, 4].into_iter().zip(epochs).flat_map(|(port, epoch)| {
            let line = |epoch| format!("a:1 master - {epoch} 0-16383\n");
            let lines: String = epoch.split(',').map(line).collect();
            all_say(&[port], &(lines + "b:2 slave a 1\nc:3 slave a 1\nd:4 slave a 1"))
        });
        let picture = picture(&said.collect::<Vec<_>>(), &Remembered::default());
        assert_eq!(picture.shards["a"].epoch, expected, "{epochs:?}");
    };
    check(["1", "1", "1"], 1);
    check(["1", "7", "7"], 7);
    check(["1", "1", "18446744073709551615"], 1);
    check(["1", "1", "9,9,9,9"], 1);
}

#[test]
fn who_was_removed_or_is_only_being_met_is_no_member() {
    let mut all = all_say(
        &[1, 2],
        "a:1 master - 1 0-16383
            b:2 slave a 1
            x:7 handshake - 0
            y:0 slave,noaddr a 1",
    );
    all.push(said(8, "z:8 myself,master - 0"));
    assert_eq!(written(&picture(&all, &Remembered::default())), "a=a(a,b)");
    let forgotten_by_one = [
        all_say(&[1], "a:1 master - 1 0-16383\nb:2 slave a 1"),
        all_say(&[2, 3], "a:1 master - 1 0-16383\nb:2 slave a 1\nc:3 slave a 1"),
    ]
    .concat();
    assert_eq!(written(&picture(&forgotten_by_one, &Remembered::default())), "a=a(a,b,c)");
}

#[test]
fn a_node_that_was_never_met_is_reached_where_it_was_asked() {
    let said = [said(7, "a:0 myself,master - 0 0-16383")];
    // A line without a port has no address at all.
    assert!(merge(&said, &Remembered::default(), false, &|address| address).is_none());
    let row = Row::parse("a :7@8 myself,master - 0 0 0 connected 0-16383").expect("a line");
    let table = Some(Table { rows: vec![row], shards: vec![] });
    let said =
        [Said { asked: Address::parse("rediss://seed:9007").expect("an address"), table, ..said[0].clone() }];
    let moved = |_| Address::tcp("elsewhere", 1);
    let picture = merge(&said, &Remembered::default(), false, &moved).expect("a picture");
    assert_eq!(picture.nodes["a"].address.to_string(), "rediss://seed:9007");
}

#[test]
fn announced_addresses_are_rewritten_and_host_names_taken_if_wished() {
    let check = |hostnames, expected: &str| {
        let line = "a 10.0.0.1:7@8,Cache-1 myself,master - 0 0 0 connected 0-16383";
        let table = Some(Table { rows: vec![Row::parse(line).expect("a line")], shards: vec![] });
        let said = [Said { table, ..said(1, "a:1 myself,master - 0") }];
        let rewrite = |address: Address| match address.to_string().as_str() {
            "redis://10.0.0.1:7" => Address::tcp("edge", 7),
            _ => address,
        };
        let picture = merge(&said, &Remembered::default(), hostnames, &rewrite).expect("a picture");
        assert_eq!(picture.nodes["a"].address.to_string(), expected);
    };
    check(false, "redis://edge:7");
    check(true, "redis://cache-1:7");
}

#[test]
fn a_node_that_took_over_an_address_hides_the_dead_one() {
    let lines = "a:1 master,fail - 1
            n:1 master - 0
            c:3 master - 2 0-16383";
    let said = [
        said(1, &lines.replace("n:1 master", "n:1 myself,master")),
        said(3, &lines.replace("c:3 master", "c:3 myself,master")),
    ];
    assert_eq!(written(&picture(&said, &Remembered::default())), "c=c(c) n=n(n)");
}

#[test]
fn a_node_is_as_most_say_or_as_one_says_whom_we_bear_out() {
    let check = |flags: [&str; 3], is_silent: bool, expected: State| {
        let line = |flag: &str| format!("a:1 master{flag} - 1 0-16383\n");
        let others = "b:2 slave a 1\nc:3 slave a 1\nd:4 slave a 1";
        let said: Vec<_> = [2, 3, 4]
            .into_iter()
            .zip(flags)
            .flat_map(|(port, flag)| all_say(&[port], &(line(flag) + others)))
            .collect();
        let silent = is_silent.then(|| Arc::from("a")).into_iter().collect();
        let picture = picture(&said, &Remembered { silent, ..Remembered::default() });
        assert_eq!(picture.nodes["a"].state, expected, "{flags:?} {is_silent}");
        let view = &picture.view;
        assert_eq!(view.covered + view.suspected + view.failed, 16384);
        assert_eq!(
            (view.failed > 0, view.suspected > 0),
            (expected == State::Failed, expected == State::Suspected)
        );
    };
    check(["", "", ""], false, State::Fine);
    check(["", "", ""], true, State::Fine);
    check([",fail?", "", ""], false, State::Fine);
    check([",fail?", "", ""], true, State::Suspected);
    check([",fail?", ",fail?", ""], false, State::Suspected);
    check([",fail?", ",fail", ""], false, State::Suspected);
    check([",fail", ",fail", ""], false, State::Failed);
    check(["", ",fail", ""], true, State::Failed);
}

#[test]
fn slots_on_the_move_and_slots_without_a_master_are_counted() {
    let said = [
        said(1, "a:1 myself,master - 1 0-99 [7->-c] [8->-c]\nc:3 master - 2 200-16383"),
        said(3, "a:1 master - 1 0-99\nc:3 myself,master - 2 200-16383 [7-<-a]"),
    ];
    let picture = picture(&said, &Remembered::default());
    let view = &picture.view;
    assert_eq!((view.migrating, view.importing, view.uncovered, view.covered), (2, 1, 100, 16284));
    assert_eq!(picture.restless.len(), 2);
}

#[test]
fn a_node_that_names_another_owner_than_most_is_counted() {
    let mut all = all_say(&[1, 2, 3], SOUND);
    all.extend(all_say(&[4], &SOUND.replace("0-99", "0-98")));
    let picture = picture(&all, &Remembered::default());
    assert_eq!((picture.view.disagreeing, picture.view.uncovered), (1, 0));
}
