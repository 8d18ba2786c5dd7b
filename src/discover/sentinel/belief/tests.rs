//! Scenarios in a small language: what comes in, and what is believed then.
//!
//! | line | meaning |
//! |---|---|
//! | `s1 3 A` | Sentinel s1 answers: at epoch 3 the master is A |
//! | `s1 3 A>B promoted` | the same, it watches A and names B already; flags of A, a phase, or `quorum=3` may follow |
//! | `s1 -` | it does not answer |
//! | `A master`, `A replica` | what A says of its role |
//! | `+500` | so many milliseconds pass |
//! | `event PHASE`, `event -why` | an event |
//! | `= A@3`, `= -` | the master that is believed must be A at epoch 3, or nobody |
//! | `? A`, `? -` | who must be asked for its role |
//! | `failover PHASE A B`, `failover -` | the failover that must be under way, and whom it concerns |
//! | `history 1 0` | failovers completed and aborted |
//! | `urgent`, `calm` | whether a closer look must be worth it |
//! | `told A>B` | notices of the kind failover since the last such line: from and to |
//! | `states unreachable …` | notices of the kind discovery since the last such line |

use super::super::reply::{Master as Watched, PHASES};
use super::*;
use crate::config::discover::{Rewrite, Source};
use crate::config::scrape::HostPattern;

const SERVERS: [&str; 3] = ["A", "B", "C"];

/// Sentinels whose addresses were not listed are learned.
fn wanted(listed: &[&str]) -> Arc<discover::Service> {
    let addresses = listed.iter().map(|host| Address::tcp(host, 26379)).collect();
    Arc::new(discover::Service::new("orders", Source::Sentinel { master: "m".into(), addresses }))
}

fn instance(host: &str, id: &str, flags: Flags) -> Instance {
    let port = if host.starts_with('s') { 26379 } else { 6379 };
    let id = (!id.is_empty()).then(|| id.into());
    Instance { address: Address::tcp(host, port), id, flags }
}

/// What Sentinel `own` of so many says.
fn answer(own: &str, of: usize, epoch: u64, watches: &str, names: &str, more: &[&str]) -> Answer {
    let mut flags = Flags::default();
    let mut phase = None;
    let mut moved = Flags::default();
    let mut quorum = Some(2);
    for word in more {
        match *word {
            "s_down" => flags.s_down = true,
            "o_down" => (flags.s_down, flags.o_down) = (true, true),
            "promoted" => moved.promoted = true,
            word if word.starts_with("quorum=") => quorum = word["quorum=".len()..].parse().ok(),
            word => {
                let known = PHASES.iter().find(|(name, _)| *name == word).expect("a flag or a phase");
                (phase, flags.failover_in_progress) = (Some(known.0), true);
            }
        }
    }
    let replica = |host: &&&str| **host != watches;
    let fellow = |number: usize| format!("s{number}");
    Answer {
        id: Some(own.into()),
        names: instance(names, "", Flags::default()).address,
        master: Watched { instance: instance(watches, "", flags), epoch, quorum, phase },
        replicas: SERVERS
            .iter()
            .filter(replica)
            .map(|host| instance(host, "", if *host == names { moved } else { Flags::default() }))
            .collect(),
        sentinels: (1..=of)
            .map(fellow)
            .filter(|name| name != own)
            .map(|name| instance(&name, &name, Flags::default()))
            .collect(),
        can_authorise: Some(true),
        in_tilt: false,
    }
}

/// Runs a scenario among so many Sentinels, of which all are listed.
fn check(of: usize, lines: &str) {
    let listed: Vec<_> = (1..=of).map(|number| format!("s{number}")).collect();
    let listed: Vec<_> = listed.iter().map(String::as_str).collect();
    let mut now = Moment::now();
    let mut belief = Belief::new(wanted(&listed), now.at);
    let mut told: Vec<Notice> = vec![];
    let short = |instance: &str| instance.strip_suffix(":6379").unwrap_or(instance).to_uppercase();
    let long = |host: &str| Arc::from(format!("{}:6379", host.to_lowercase()));
    for (number, line) in lines.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        let words: Vec<_> = line.split(' ').collect();
        let place = format!("line {}: {line}", number + 1);
        let take = |told: &mut Vec<Notice>, kind| {
            let (of_kind, others) = told.drain(..).partition(|notice| notice.kind == kind);
            *told = others;
            let of_kind: Vec<Notice> = of_kind;
            of_kind
        };
        match &words[..] {
            [sentinel, "-"] if sentinel.starts_with('s') => {
                let silent = Useless { kind: crate::connect::Kind::Timeout, message: "silence".into() };
                belief.answered(&format!("{sentinel}:26379"), Err(silent), now);
            }
            ["states", expected @ ..] => {
                let found = take(&mut told, Kind::Discovery);
                let found: Vec<_> = found.into_iter().filter_map(|notice| notice.to).collect();
                assert_eq!(found, expected, "{place}");
            }
            [sentinel, epoch, master, more @ ..] if sentinel.starts_with('s') => {
                let (watches, names) = master.split_once('>').unwrap_or((master, master));
                let epoch = epoch.parse().expect("an epoch");
                let answer = answer(sentinel, of, epoch, watches, names, more);
                belief.answered(&format!("{sentinel}:26379"), Ok(answer), now);
            }
            [server, word @ ("master" | "replica")] => belief.role(&long(server), *word == "master", now.at),
            ["event", word] => {
                let phase = PHASES.iter().find(|(name, _)| name == word);
                let event = phase.map_or(Event::Aborted("it is a test"), |(name, _)| Event::Phase(name));
                belief.heard(&event, now.at);
            }
            ["=", expected] => {
                let master = belief.service().master;
                let found = master.map(|master| format!("{}@{}", short(&master.instance), master.epoch));
                assert_eq!(found.as_deref().unwrap_or("-"), *expected, "{place}");
            }
            ["?", expected @ ..] => {
                let asked: Vec<_> = belief.questions().iter().map(|member| short(&member.instance)).collect();
                assert_eq!(asked.is_empty(), *expected == ["-"], "{place}: {asked:?}");
                assert!(asked.is_empty() || asked == expected, "{place}: {asked:?}");
            }
            ["failover", "-"] => assert_eq!(belief.service().failover, None, "{place}"),
            ["failover", phase, members @ ..] => {
                let failover = belief.service().failover.expect(&place);
                let found: Vec<_> = failover.members.iter().map(|instance| short(instance)).collect();
                assert_eq!(failover.phase, *phase, "{place}");
                assert_eq!(found, members, "{place}");
            }
            ["history", completed, aborted] => {
                let found = belief.service().history;
                let found = (found.completed.to_string(), found.aborted.to_string());
                assert_eq!(found, ((*completed).to_owned(), (*aborted).to_owned()), "{place}");
            }
            [word @ ("urgent" | "calm")] => {
                let found = belief.is_urgent(now.at);
                assert_eq!(found, *word == "urgent", "{place}");
            }
            ["told", expected @ ..] => {
                let name = |instance: &Option<String>| instance.as_deref().map_or("-".into(), short);
                let found = take(&mut told, Kind::Failover);
                let found: Vec<_> = found
                    .iter()
                    .map(|notice| format!("{}>{}", name(&notice.from), name(&notice.to)))
                    .collect();
                assert_eq!(found, expected, "{place}");
            }
            [time] if time.starts_with('+') => {
                now.at += Duration::from_millis(time[1..].parse().expect("milliseconds"));
            }
            _ => panic!("{place}: no such line"),
        }
        told.extend(belief.decide(now));
    }
}

/// Three Sentinels that agree on A, at epoch 1, which says so itself.
const AGREED: &str = "
    s1 1 A
    s2 1 A
    s3 1 A
    A master
    = A@1
    calm
";

fn from_agreed(lines: &str) {
    check(3, &format!("{AGREED}{lines}"));
}

#[test]
fn a_master_is_believed_when_a_majority_names_it_and_it_says_so() {
    check(
        3,
        "= -
         ? -
         s1 0 A
         A master
         = -
         ? -
         s2 0 A
         = A@0
         history 0 0
         told",
    );
    check(
        3,
        "s1 0 A
         s2 0 A
         = -
         ? A
         urgent
         A replica
         = -
         A master
         = A@0
         ? -
         calm",
    );
    check(1, "s1 0 A\n A master\n = A@0");
    check(2, "s1 0 A\n A master\n = -\n ? -\n s2 0 A\n = A@0");
}

#[test]
fn an_old_word_of_a_server_about_itself_does_not_count() {
    from_agreed(
        "B master
         +2500
         s1 2 B
         s2 2 B
         = A@1
         ? B
         B master
         = B@2",
    );
}

#[test]
fn the_majority_counts_all_known_sentinels_not_those_that_answer() {
    // Two of three cannot be reached; what the third one says is its own affair.
    from_agreed(
        "s1 -
         s2 -
         s3 9 B
         B master
         = A@1
         ? -
         told
         s1 9 B
         = B@9
         history 1 0
         told A>B",
    );
    check(5, "s1 0 A\n s2 0 A\n A master\n = -\n s3 0 A\n = A@0");
}

#[test]
fn a_sentinel_that_lags_behind_or_was_restarted_changes_nothing() {
    from_agreed(
        "s1 2 B
         s2 2 B
         B master
         = B@2
         history 1 0
         told A>B
         urgent
         s3 1 A
         A master
         = B@2
         ? -
         +70000
         calm
         +100
         s3 0 C
         event wait_start
         = B@2
         failover -
         told
         s3 2 B
         history 1 0
         told
         states disagree agree",
    );
}

#[test]
fn a_newer_epoch_is_believed_once_a_majority_holds_it() {
    from_agreed(
        "s1 2 A>B wait_promotion
         B master
         = A@1
         s2 2 B
         = B@2
         s3 2 B
         s1 2 B
         = B@2
         history 1 0",
    );
    // Two epochs and no majority for either: the last one that was confirmed stays.
    from_agreed(
        "s1 3 C
         s2 2 B
         B master
         C master
         = A@1
         ? -
         s2 3 C
         = C@3
         history 1 0",
    );
}

#[test]
fn a_failover_is_followed_from_its_first_sign_to_its_end() {
    from_agreed(
        "s1 1 A s_down
         urgent
         failover -
         told
         s1 1 A o_down
         failover -
         s2 1 A s_down
         failover o_down A
         told A>-
         +10
         event wait_start
         s2 1 A o_down wait_start
         failover wait_start A
         +100
         s2 1 A o_down select_slave
         s2 1 A o_down wait_promotion
         failover wait_promotion A
         = A@1
         +900
         s2 2 A>B o_down reconf_slaves promoted
         failover reconf_slaves A B
         = A@1
         ? -
         s1 2 B
         ? B
         B master
         = B@2
         told A>B
         history 1 0
         failover reconf_slaves A B
         s3 2 B
         +1000
         s2 2 B
         failover reconf_slaves A B
         +600
         s2 2 B
         failover -
         calm
         told
         history 1 0",
    );
}

#[test]
fn sentinels_own_phases_are_timed() {
    let mut belief = Belief::new(wanted(&["s1"]), Instant::now());
    let start = Moment::now();
    let at = |ms| Moment { at: start.at + Duration::from_millis(ms), ..start };
    belief.answered("s1:26379", Ok(answer("s1", 1, 1, "A", "A", &[])), at(0));
    belief.decide(at(0));
    belief.role(&"a:6379".into(), true, at(1).at);
    belief.decide(at(1));
    // The event comes before the answer that shows it.
    belief.heard(&Event::Phase("wait_start"), at(100).at);
    for (ms, phase) in [(110, "wait_start"), (200, "select_slave"), (300, "wait_promotion")] {
        belief.answered("s1:26379", Ok(answer("s1", 1, 1, "A", "A", &[phase])), at(ms));
        belief.decide(at(ms));
    }
    belief.heard(&Event::Phase("reconf_slaves"), at(1200).at);
    belief.answered("s1:26379", Ok(answer("s1", 1, 2, "A", "B", &["reconf_slaves"])), at(1210));
    belief.role(&"b:6379".into(), true, at(1220).at);
    belief.decide(at(1220));
    let phases = |belief: &Belief| {
        let last = belief.service().history.last.expect("a failover");
        assert_eq!(last.began, Some(at(100).at));
        assert_eq!(last.confirmed, at(1220).at);
        last.phases.iter().map(|(phase, time)| (*phase, time.as_millis())).collect::<Vec<_>>()
    };
    let so_far = [("wait_start", 100), ("select_slave", 100), ("wait_promotion", 900)];
    assert_eq!(phases(&belief), so_far);
    belief.answered("s1:26379", Ok(answer("s1", 1, 2, "B", "B", &[])), at(2200));
    belief.decide(at(2200));
    belief.decide(at(2800));
    assert_eq!(belief.service().failover, None);
    assert_eq!(phases(&belief), [&so_far[..], &[("reconf_slaves", 1000)]].concat());
}

#[test]
fn a_failover_that_ends_with_the_same_master_was_aborted() {
    from_agreed(
        "s1 1 A o_down
         s2 1 A s_down
         told A>-
         s1 1 A
         s2 1 A
         +400
         history 0 0
         +400
         history 0 1
         told A>A
         failover -
         = A@1",
    );
    // A second attempt while the master stays dead is one more.
    from_agreed(
        "s1 1 A o_down wait_start
         s2 1 A s_down
         s1 1 A o_down select_slave
         event -no-good-slave
         s1 1 A o_down
         +600
         history 0 1
         told A>- A>A
         failover o_down A
         +5000
         s1 1 A o_down select_slave
         s1 1 A o_down
         +600
         +600
         history 0 2
         told A>A
         s1 1 A
         +600
         +600
         history 0 2
         told A>A
         failover -",
    );
}

#[test]
fn one_that_gives_up_while_another_goes_on_is_no_abortion() {
    from_agreed(
        "s1 1 A o_down wait_start
         s2 1 A o_down wait_start
         +700
         s2 1 A o_down
         event -not-elected
         +700
         history 0 0
         told A>-
         s1 2 A>B reconf_slaves
         s2 2 B
         s3 2 B
         B master
         = B@2
         s1 2 B
         +700
         +700
         failover -
         history 1 0
         told A>B",
    );
    // The leader is done, and the others still tell of the time before.
    from_agreed(
        "s1 1 A o_down wait_promotion
         s2 1 A o_down
         s1 2 B
         +700
         +700
         history 0 0
         s2 2 B
         B master
         = B@2
         history 1 0",
    );
}

#[test]
fn epochs_go_back_only_where_nobody_stands_by_the_old_master() {
    let anew = "s1 0 B
         s2 0 B
         B master
         = A@1
         s3 -
         A master
         = A@1
         ? B A";
    from_agreed(&format!("{anew}\n A replica\n = B@0\n history 1 0"));
    from_agreed(&format!("{anew}\n s3 1 A\n A replica\n = A@1\n history 0 0"));
}

#[test]
fn a_failover_seen_from_the_middle_is_told_as_one() {
    check(
        3,
        "s1 0 A o_down
         s2 0 A o_down
         A replica
         = -
         failover o_down A
         s1 1 B
         s2 1 B
         B master
         = B@1
         history 1 0
         told A>- A>B",
    );
}

#[test]
fn what_lasts_is_told_once_when_it_begins_and_when_it_ends() {
    from_agreed(
        "s3 -
         s3 -
         +1000
         states
         +1500
         states unreachable
         s2 -
         +500
         s2 1 A
         +5000
         states
         s2 -
         s2 -
         +3000
         +3000
         states unreachable majority_lost
         s2 1 A
         states reachable majority_back
         s3 1 A
         states reachable
         = A@1
         told",
    );
    from_agreed(
        "s3 2 B
         +1000
         s3 1 A
         +5000
         states
         s3 1 B
         +2500
         states disagree
         +2500
         urgent
         +99000
         calm
         s3 1 A
         states agree
         calm",
    );
}

#[test]
fn a_closer_look_ends_and_begins_again_with_the_next_failover() {
    from_agreed(
        "s3 1 B
         urgent
         +61000
         calm
         s1 1 A o_down
         s2 1 A s_down
         urgent
         +61000
         calm
         s1 2 B
         urgent",
    );
}

#[test]
fn one_that_lags_behind_keeps_no_failover_open() {
    from_agreed(
        "s1 1 A o_down
         s3 1 A o_down wait_start
         s1 2 B
         s2 2 B
         B master
         = B@2
         s3 1 A o_down wait_start
         +600
         +600
         failover -
         history 1 0
         s1 2 B o_down
         s2 2 B s_down
         told A>- A>B B>-
         failover o_down B",
    );
}

#[test]
fn one_sentinel_begins_no_failover_alone() {
    // Whatever it claims.
    for claim in
        ["o_down", "s_down", "o_down wait_start", "wait_promotion", "o_down quorum=1", "o_down quorum=0"]
    {
        from_agreed(&format!(
            "event wait_start
             s1 1 A {claim}
             failover -
             +3000
             s1 1 A>B {claim} promoted
             s1 1 A
             event -why
             +3000
             failover -
             told
             history 0 0"
        ));
    }
    // As many as the quorum miss the master, and one of them says that they do.
    from_agreed("s1 1 A s_down\n s2 1 A s_down\n failover -\n s1 1 A o_down\n failover o_down A\n told A>-");
    from_agreed("s1 1 A o_down quorum=1\n s2 1 A s_down\n failover o_down A");
    // No claim puts it out of reach.
    from_agreed("s1 1 A o_down\n s2 1 A s_down quorum=99\n failover o_down A");
    let of_five = "s1 1 A\n s2 1 A\n s3 1 A\n s4 1 A\n s5 1 A\n A master\n = A@1\n";
    check(5, &format!("{of_five} s1 1 A o_down\n failover -\n s2 1 A s_down\n failover o_down A"));
    let of_three = "s1 1 A o_down quorum=9\n s2 1 A s_down\n failover -\n s3 1 A s_down\n failover o_down A";
    check(5, &format!("{of_five} {of_three}"));
    // One that answers no more says nothing; a single Sentinel is all that there is.
    from_agreed("s2 1 A s_down\n s2 -\n s1 1 A o_down\n failover -");
    check(1, "s1 1 A\n A master\n s1 1 A o_down\n failover o_down A");
    check(1, "s1 1 A\n A master\n s1 1 A wait_start\n failover wait_start A");
}

#[test]
fn a_planned_failover_begins_once_another_sentinel_agrees() {
    let alone = "event wait_start
         s1 1 A wait_start
         +900
         s1 1 A wait_promotion
         +900
         s1 2 A>B reconf_slaves promoted
         failover -
         told\n";
    from_agreed(&format!(
        "{alone}
         s2 2 B
         failover reconf_slaves A B
         told A>-
         B master
         = B@2
         told A>B
         history 1 0"
    ));
    // The same answer makes the majority, too.
    from_agreed(&format!(
        "{alone}
         B master
         s2 2 B
         = B@2
         failover reconf_slaves A B
         told A>- A>B
         history 1 0"
    ));
    // One that misses the master, or replaces it as well, agrees.
    from_agreed("s1 1 A wait_start\n s2 1 A s_down\n failover wait_start A");
    from_agreed("s1 1 A wait_start\n s2 1 A select_slave\n failover select_slave A");
}

#[test]
fn one_sentinel_keeps_no_failover_open_alone() {
    from_agreed(
        "s1 1 A o_down wait_start
         s2 1 A s_down
         s2 1 A
         +50000
         s1 1 A o_down wait_start
         failover wait_start A
         +11000
         +600
         history 0 1
         failover -
         told A>- A>A
         s1 1 A wait_promotion
         +9000
         failover -",
    );
}

#[test]
fn failovers_that_are_given_up_are_seconds_apart() {
    let down = "s1 1 A o_down\n s2 1 A s_down\n";
    let well = "s1 1 A\n s2 1 A\n +300\n +300\n";
    from_agreed(&format!(
        "{down} failover o_down A
         {well} failover -
         history 0 1
         told A>- A>A
         +2000
         {down} failover -
         {well}
         +1000
         {down} failover -
         told
         history 0 1
         +1500
         failover o_down A
         told A>-"
    ));
    // Another master is confirmed all the same, and after a success the next one begins at once.
    from_agreed(&format!(
        "{down} {well} failover -
         told A>- A>A
         {down} failover -
         s1 2 B
         s2 2 B
         B master
         = B@2
         history 1 1
         told A>B"
    ));
    from_agreed(&format!(
        "{down}
         s1 2 B
         s2 2 B
         B master
         +300
         +600
         failover -
         told A>- A>B
         s1 2 B o_down
         s2 2 B s_down
         failover o_down B"
    ));
    // So are the attempts of one failover.
    let flip = "s1 1 A o_down wait_start\n +100\n s1 1 A o_down\n +300\n +300\n";
    from_agreed(&format!("{down} {flip} history 0 1\n {flip} {flip} history 0 1\n +4000\n history 0 2"));
}

#[test]
fn ten_servers_are_told_by_name_in_one_round() {
    let start = Moment::now();
    let mut belief = Belief::new(wanted(&["s1", "s2"]), start.at);
    let mut at = |ms: u64, replicas: std::ops::Range<usize>, sentinels: usize| {
        let now = Moment { at: start.at + Duration::from_millis(ms), ..start };
        belief.answered("s2:26379", Ok(answer("s2", 2, 0, "A", "A", &[])), now);
        let mut answer = answer("s1", 2, 0, "A", "A", &[]);
        let number = |host: char| move |n| format!("{host}x{n}");
        answer.replicas = replicas.map(number('r')).map(|n| instance(&n, "", Flags::default())).collect();
        answer.sentinels.extend((0..sentinels).map(number('s')).map(|n| instance(&n, &n, Flags::default())));
        belief.answered("s1:26379", Ok(answer), now);
        for n in 0..sentinels {
            let silent = Useless { kind: crate::connect::Kind::Timeout, message: "silence".into() };
            belief.answered(&format!("sx{n}:26379"), Err(silent), now);
        }
        belief.decide(now).into_iter().map(|notice| notice.message).collect::<Vec<_>>()
    };
    let first = at(0, 0..300, 0);
    let named = (100..106).map(|n| format!(", rx{n}:6379")).collect::<String>();
    assert_eq!(
        first,
        [format!("The Sentinels name these members: a:6379, b:6379, c:6379, rx0:6379{named} and 293 more.")]
    );
    // More within the same round are only counted.
    assert_eq!(at(1000, 0..310, 0), <[String; 0]>::default());
    let next = at(60_000, 0..312, 0);
    assert_eq!(next[0], "And 10 more servers that came, went, fell silent or answer again.");
    assert_eq!(
        next[1..],
        ["rx310", "rx311"].map(|r| format!("{r}:6379 is a member now: the Sentinels name it."))
    );
    // Sentinels that it invents are told of as few.
    for ms in [130_000, 131_000, 132_000, 134_500] {
        let told = at(ms, 0..312, 50);
        let expected = if ms == 134_500 { 10 } else { 0 };
        assert_eq!(told.iter().filter(|line| line.starts_with("Sentinel sx")).count(), expected, "{told:?}");
    }
    assert_eq!(at(190_500, 0..312, 0).len(), 1, "and 40 more");
    // Ever new ones: eleven lines in each round.
    let mut lines = 0;
    for round in 0..100 {
        lines += at(300_000 + round * 1300, round as usize * 300..round as usize * 300 + 300, 0).len();
    }
    assert_eq!(lines, 10 + 11 + 11, "three rounds");
}

#[test]
fn random_bytes_do_no_harm() {
    let mut random = fastrand::Rng::with_seed(7);
    let words = [
        "mymaster",
        "m",
        "127.0.0.1",
        "::1",
        "6379",
        "@",
        "master",
        "slave",
        ",",
        "a:6379",
        "?",
        "-1",
        "\u{0}",
        "18446744073709551616",
        "é",
        "",
    ];
    for _ in 0..20_000 {
        let count = random.usize(0..12);
        let some: Vec<_> = (0..count).map(|_| words[random.usize(0..words.len())]).collect();
        let channel = ["+switch-master", "+sdown", "-failover-abort-x", "x", ""][random.usize(0..5)];
        let _ = Event::parse(channel, &some.join(" "), "m");
        let _ = Hello::parse(&some.join(","), "m");
    }
}

/// The instances of the Sentinels that count, and how many of them answer.
fn fellows(belief: &Belief) -> (Vec<String>, usize) {
    let View::Sentinel(view) = belief.service().view else { panic!("no Sentinels") };
    let all = view.sentinels.iter().map(|sentinel| {
        let name = sentinel.instance.strip_suffix(":26379").unwrap_or(&sentinel.instance);
        format!("{name}{}", if sentinel.usable { "" } else { "!" })
    });
    (all.collect(), view.reachable())
}

#[test]
fn a_sentinel_is_its_id_and_not_its_address() {
    let now = Moment::now();
    let tell = |belief: &mut Belief, instance: &str, own: &str, tells_id: bool| {
        let mut answer = answer(own, 3, 0, "A", "A", &[]);
        answer.id = answer.id.filter(|_| tells_id);
        belief.answered(&format!("{instance}:26379"), Ok(answer), now);
        belief.decide(now);
    };
    // Listed by names that nobody announces: `x` is s1, `y` is s2, `z` is s1 again.
    let mut belief = Belief::new(wanted(&["x", "y", "z"]), now.at);
    assert_eq!(fellows(&belief), (vec!["x!".into(), "y!".into(), "z!".into()], 0));
    tell(&mut belief, "x", "s1", true);
    assert_eq!(fellows(&belief), (vec!["x".into(), "y!".into(), "z!".into()], 1), "y and z may be s2 and s3");
    tell(&mut belief, "y", "s2", true);
    tell(&mut belief, "z", "s1", true);
    assert_eq!(fellows(&belief), (vec!["s3".into(), "x".into(), "y".into()], 2));
    let asked: Vec<_> = belief.sentinels().map(|(instance, _)| instance.to_string()).collect();
    assert_eq!(asked, ["x:26379", "y:26379", "z:26379", "s3:26379"]);

    // Old ones do not tell their ids: who is named by all others, and by none of them, is clear.
    let mut belief = Belief::new(wanted(&["x", "y"]), now.at);
    tell(&mut belief, "x", "s1", false);
    tell(&mut belief, "y", "s2", false);
    assert_eq!(fellows(&belief), (vec!["s3".into(), "x".into(), "y".into()], 2));
}

#[test]
fn sentinels_and_members_are_reached_by_rewritten_addresses() {
    let now = Moment::now();
    let mut service = Arc::unwrap_or_clone(wanted(&["s1"]));
    let from = HostPattern::parse("s2").expect("a pattern");
    let nat = |from: &str, port| Rewrite {
        from: HostPattern::parse(from).expect(from),
        host: "nat".into(),
        port: Some(port),
    };
    service.rewrite = vec![Rewrite { from, host: "edge".into(), port: Some(1) }, nat("a", 1), nat("b", 2)];
    let mut belief = Belief::new(Arc::new(service), now.at);
    belief.answered("s1:26379", Ok(answer("s1", 3, 0, "A", "A", &[])), now);
    belief.decide(now);
    let asked: Vec<_> = belief.sentinels().map(|(instance, _)| instance.to_string()).collect();
    assert_eq!(asked, ["s1:26379", "edge:1", "s3:26379"]);
    let members: Vec<_> = belief.members().iter().map(|member| member.instance.to_string()).collect();
    assert_eq!(members, ["c:6379", "nat:1", "nat:2"]);
    belief.answered("edge:1", Ok(answer("s2", 3, 0, "A", "A", &[])), now);
    belief.decide(now);
    belief.role(&"nat:1".into(), true, now.at);
    belief.decide(now);
    assert_eq!(belief.service().master.map(|master| master.instance), Some("nat:1".into()));
}

#[test]
fn members_are_reached_by_tls_where_all_listed_sentinels_are() {
    fn check(listed: &[&str], expected: bool) {
        let now = Moment::now();
        let mut service = Arc::unwrap_or_clone(wanted(&["s1"]));
        let addresses = listed.iter().map(|text| Address::parse(text).expect(text)).collect();
        service.source = Source::Sentinel { master: "m".into(), addresses };
        let known = {
            // What was known before the Sentinels were listed otherwise.
            let mut belief = Belief::new(wanted(&["s1"]), now.at);
            belief.answered("s1:26379", Ok(answer("s1", 1, 0, "A", "A", &[])), now);
            belief.decide(now);
            belief.service()
        };
        let mut belief = Belief::new(Arc::new(service), now.at);
        belief.resume(&known, now.at);
        belief.answered("s1:26379", Ok(answer("s1", 2, 0, "A", "A", &[])), now);
        belief.decide(now);
        let members = belief.members();
        assert_eq!(members.len(), 3, "{listed:?}");
        assert!(members.iter().all(|member| member.address.tls == expected), "{listed:?}: {members:?}");
    }
    check(&["rediss://s1:26379"], true);
    check(&["rediss://s1:26379", "rediss://s2:26379"], true);
    check(&["rediss://s1:26379", "redis://s2:26379"], false);
    check(&["s1:26379"], false);
}

#[test]
fn a_hostile_sentinel_cannot_fill_the_memory() {
    let now = Moment::now();
    let mut belief = Belief::new(wanted(&["s1"]), now.at);
    for round in 0..50 {
        let mut answer = answer("s1", 1, round, "A", "A", &[]);
        let number = |host: char| move |n| format!("{host}{round}x{n}");
        answer.sentinels = (0..64).map(number('s')).map(|n| instance(&n, &n, Flags::default())).collect();
        answer.replicas = (0..512).map(number('r')).map(|n| instance(&n, &n, Flags::default())).collect();
        belief.answered("s1:26379", Ok(answer), now);
        belief.decide(now);
    }
    assert_eq!(belief.sentinels().count(), 64);
    assert_eq!(belief.members().len(), 512);
}

#[test]
fn one_that_invents_sentinels_and_servers_blinds_nobody() {
    let mut now = Moment::now();
    let lies = || {
        let mut lies = answer("s1", 3, 1, "A", "A", &[]);
        let number = |host: char| move |n| format!("{host}x{n}");
        lies.sentinels = (0..64).map(number('s')).map(|n| instance(&n, &n, Flags::default())).collect();
        lies.replicas = (0..512).map(number('r')).map(|n| instance(&n, "", Flags::default())).collect();
        lies
    };
    let mut belief = Belief::new(wanted(&["s1", "s2"]), now.at);
    // It is the first that is heard, and alone at that.
    belief.answered("s1:26379", Ok(lies()), now);
    belief.decide(now);
    for own in ["s2", "s3"] {
        belief.answered(&format!("{own}:26379"), Ok(answer(own, 4, 1, "A", "A", &[])), now);
        belief.decide(now);
    }
    // s2 alone names s3 and s4; s3 gets no place until another one does.
    assert_eq!(fellows(&belief), (vec!["s1".into(), "s2".into()], 2));
    assert_eq!(belief.members().len(), 512);
    for host in ["a:6379", "b:6379", "c:6379"] {
        assert!(belief.members().iter().any(|member| &*member.instance == host), "{host}");
    }
    belief.role(&"a:6379".into(), true, now.at);
    belief.decide(now);
    assert_eq!(belief.service().master.map(|master| master.epoch), Some(1), "two of two say so");

    // Where two tell the truth, all whom both know count, and get a place.
    let mut belief = Belief::new(wanted(&["s1", "s2", "s3"]), now.at);
    belief.answered("s1:26379", Ok(lies()), now);
    belief.decide(now);
    for own in ["s2", "s3"] {
        belief.answered(&format!("{own}:26379"), Ok(answer(own, 4, 1, "A", "A", &[])), now);
        belief.decide(now);
    }
    let known = ["s1", "s2", "s3", "s4"].map(String::from).to_vec();
    assert_eq!(fellows(&belief), (known, 3));
    assert!(belief.sentinels().any(|(instance, _)| &**instance == "s4:26379"));
    belief.role(&"a:6379".into(), true, now.at);
    belief.decide(now);
    assert_eq!(belief.service().master.map(|master| master.epoch), Some(1));

    // An epoch that nobody will ever reach holds no failover open for ever.
    let vast = || Answer { master: Watched { epoch: u64::MAX, ..lies().master }, ..lies() };
    for ms in [0, 100, 50_000, 61_000, 62_000] {
        let words: &[&str] = if ms == 0 { &["o_down", "wait_start"] } else { &[] };
        now.at += Duration::from_millis(ms);
        belief.answered("s1:26379", Ok(vast()), now);
        belief.answered("s2:26379", Ok(answer("s2", 4, 1, "A", "A", words)), now);
        belief.decide(now);
        now.at += Duration::from_millis(600);
        belief.decide(now);
        assert_eq!(belief.service().failover.is_some(), ms < 60_000, "after {ms} ms");
    }
}

#[test]
fn one_that_is_no_more_named_is_forgotten_when_the_others_say_so() {
    let start = Moment::now();
    let at = |secs| Moment { at: start.at + Duration::from_secs(secs), ..start };
    let mut belief = Belief::new(wanted(&["s1", "s2"]), start.at);
    for (secs, of, known) in [(0, 4, 4), (1, 2, 4), (4, 2, 4), (6, 2, 2)] {
        for own in ["s1", "s2"] {
            belief.answered(&format!("{own}:26379"), Ok(answer(own, of, 0, "A", "A", &[])), at(secs));
        }
        belief.decide(at(secs));
        assert_eq!(belief.sentinels().count(), known, "after {secs} s");
    }
}

#[test]
fn who_follows_on_keeps_what_was_known() {
    let now = Moment::now();
    let mut belief = Belief::new(wanted(&["s1"]), now.at);
    let tell = |belief: &mut Belief| {
        belief.answered("s1:26379", Ok(answer("s1", 1, 3, "A", "A", &[])), now);
        belief.decide(now)
    };
    tell(&mut belief);
    belief.role(&"a:6379".into(), true, now.at);
    assert_eq!(belief.decide(now).len(), 1);
    belief.history.completed = 7;
    let known = belief.service();
    let mut next = Belief::new(wanted(&["s1"]), now.at);
    next.resume(&known, now.at);
    let resumed = next.service();
    assert_eq!((resumed.members, resumed.master), (known.members, known.master));
    assert_eq!(tell(&mut next), [], "nobody came");
    next.role(&"a:6379".into(), true, now.at);
    assert_eq!(next.decide(now), [], "it was the master before");
    assert_eq!(next.service().history.completed, 0, "counters are added up elsewhere");
}
