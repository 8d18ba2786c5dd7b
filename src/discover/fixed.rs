//! Members that the configuration lists: `instances:`.
//!
//! With `dns: true` a name stands for each of its A and AAAA records: it is looked up each interval, and each
//! address is a member. Without it a name is one member, whoever answers for it.
//!
//! What a newcomer would get wrong: a member that a name stood for goes when the name no longer has its address,
//! and stays while the name cannot be resolved ([`super::names`]).

use super::board::World;
use super::list::{List, Troubles, pause};
use super::names::{self, Names};
use super::service::Member;
use crate::config::discover::Service;
use crate::config::{Address, discover};
use crate::connect::Kind;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// Follows a list; never returns.
pub async fn run(world: World, wanted: watch::Receiver<Arc<Service>>) {
    follow(world, wanted, names::system).await;
}

async fn follow<L, F>(world: World, mut wanted: watch::Receiver<Arc<Service>>, look_up: L)
where
    L: Fn(String) -> F,
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    let mut list = List::new(world, &wanted.borrow());
    let mut known = Names::default();
    loop {
        let service = wanted.borrow_and_update().clone();
        let addresses = match &service.source {
            discover::Source::Instances(addresses) => &addresses[..],
            _ => &[],
        };
        let troubles = match service.dns {
            true => known.look_up(addresses, &look_up).await,
            false => Troubles::new(),
        };
        list.found(members(addresses, service.dns.then_some(&known)), troubles, Kind::Dns);
        pause(&mut wanted, list.interval()).await;
    }
}

/// The members of a list: with `names`, names give way to their addresses.
fn members(addresses: &[Address], names: Option<&Names>) -> Vec<Arc<Member>> {
    let all = addresses.iter().flat_map(|address| match names {
        Some(names) => names.expand(address),
        None => vec![address.clone()],
    });
    all.map(|address| Arc::new(member(address, BTreeMap::new()))).collect()
}

/// A member of a list. What the address says of user and password stays with it: nobody else knows it.
pub fn member(address: Address, labels: BTreeMap<String, String>) -> Member {
    Member { instance: Member::instance_of(&address), address, shard: None, id: None, labels }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::discover::board::Board;
    use std::sync::Mutex;
    use tokio::task::JoinSet;

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| Address::parse(text).expect(text)).collect()
    }

    #[tokio::test]
    async fn a_name_is_one_member_unless_it_stands_for_its_addresses() {
        let listed = addresses(&["cache:1", "10.0.0.9:1", "gone:1"]);
        let mut names = Names::default();
        let look_up = |host: String| async move {
            let found = if host == "cache" { vec!["10.0.0.1:0", "[::1]:0"] } else { vec![] };
            Ok(found.iter().map(|text| text.parse().expect("an address")).collect())
        };
        let troubles = names.look_up(&listed, &look_up).await;
        assert_eq!(troubles, Troubles::from([("gone".into(), "has no address".into())]));
        let check = |names, expected: &[&str]| {
            let found: Vec<_> = members(&listed, names).iter().map(|m| m.instance.to_string()).collect();
            assert_eq!(found, expected);
        };
        check(None, &["cache:1", "10.0.0.9:1", "gone:1"]);
        check(Some(&names), &["10.0.0.1:1", "[::1]:1", "10.0.0.9:1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_addresses_stay_while_the_name_cannot_be_resolved() {
        let (_config, config) = watch::channel(Arc::<Config>::default());
        let board = Arc::<Board>::default();
        let world = World { board: board.clone(), ..World::new(config) };
        let events = world.events.clone();
        let service = |list: &[&str]| {
            Arc::new(Service {
                dns: true,
                ..Service::new("cache", discover::Source::Instances(addresses(list)))
            })
        };
        let (ask, wanted) = watch::channel(service(&["cache:7000"]));
        let answers = Arc::new(Mutex::new(Ok(vec!["10.0.0.2", "10.0.0.1", "10.0.0.2"])));
        let answer = answers.clone();
        let look_up = move |_| {
            let answer: Result<Vec<&str>, &str> = answer.lock().expect("whole").clone();
            async move {
                let answer = answer.map_err(io::Error::other)?;
                Ok(answer.iter().map(|ip| SocketAddr::new(ip.parse().expect("an address"), 0)).collect())
            }
        };
        let mut provider = JoinSet::new();
        provider.spawn(follow(world, wanted, look_up));
        let seen = async || {
            board.changed().await;
            let service = board.get("cache").expect("put up");
            let members: Vec<_> = service.members.iter().map(|m| m.instance.to_string()).collect();
            (members.join(" "), service.failure.clone().map(|(kind, why)| (kind.as_str(), why)))
        };
        assert_eq!(seen().await, ("10.0.0.1:7000 10.0.0.2:7000".into(), None));
        let first = board.get("cache").expect("put up");

        *answers.lock().expect("whole") = Err("no such name");
        let failure = Some(("dns", "cache cannot be resolved: no such name".to_owned()));
        assert_eq!(seen().await, ("10.0.0.1:7000 10.0.0.2:7000".into(), failure.clone()));
        let failing = board.get("cache").expect("put up");
        assert_eq!(failing.answered, first.answered, "the age is that of the last good answer");
        assert!(Arc::ptr_eq(&failing.members[0], &first.members[0]), "what did not change is the same value");
        assert_eq!(seen().await.1, failure);

        // A member that is added meanwhile is there at once, and the old ones stay.
        ask.send_replace(service(&["10.0.0.9:1", "cache:7000"]));
        assert_eq!(seen().await, ("10.0.0.9:1 10.0.0.1:7000 10.0.0.2:7000".into(), failure));

        *answers.lock().expect("whole") = Ok(vec!["10.0.0.1"]);
        assert_eq!(seen().await, ("10.0.0.9:1 10.0.0.1:7000".into(), None));
        let told: Vec<_> = events.all().into_iter().map(|event| event.message).collect();
        assert_eq!(
            told,
            [
                "2 members listed",
                "cache cannot be resolved: no such name",
                "10.0.0.9:1 joined the list",
                "10.0.0.2:7000 left the list",
                "cache is well again",
            ]
        );
    }
}
