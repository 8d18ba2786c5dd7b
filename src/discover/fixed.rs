//! Members that the configuration lists: `instances:`.
//!
//! With `dns: true` a name stands for each of its A and AAAA records: it is looked up each interval, and each
//! address is a member. Without it a name is one member, whoever answers for it.
//!
//! What a newcomer would get wrong: a name that cannot be resolved keeps the addresses that it had, also when
//! the resolver says that there is no such name. Behind TLS an expanded address is verified as an address,
//! unless the profile names the server (`server_name`).

use super::board::World;
use super::list::{List, Troubles, pause};
use super::service::Member;
use crate::config::address::Endpoint;
use crate::config::discover::Service;
use crate::config::{Address, discover};
use crate::connect::{Kind, dial};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a name may take.
const LONGEST_LOOK_UP: Duration = Duration::from_secs(10);

/// A server may be listed under so many addresses; a name has less, unless somebody means us harm.
const MOST_ADDRESSES: usize = 1000;

/// The addresses that each name had last.
type Known = HashMap<String, Vec<IpAddr>>;

/// Follows a list; never returns.
pub async fn run(world: World, wanted: watch::Receiver<Arc<Service>>) {
    follow(world, wanted, |host: String| async move { dial::look_up(&host, 0).await }).await;
}

async fn follow<L, F>(world: World, mut wanted: watch::Receiver<Arc<Service>>, look_up: L)
where
    L: Fn(String) -> F,
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    let mut list = List::new(world, &wanted.borrow());
    let mut known = Known::new();
    loop {
        let service = wanted.borrow_and_update().clone();
        let addresses = match &service.source {
            discover::Source::Instances(addresses) => &addresses[..],
            _ => &[],
        };
        let names = if service.dns { names(addresses) } else { vec![] };
        known.retain(|name, _| names.contains(name));
        let troubles = resolve(&mut known, names, &look_up).await;
        list.found(members(addresses, service.dns.then_some(&known)), troubles, Kind::Dns);
        pause(&mut wanted, list.interval()).await;
    }
}

/// The names that must be looked up, each once.
fn names(addresses: &[Address]) -> Vec<String> {
    let mut names: Vec<_> = addresses.iter().filter_map(|address| name(address)).map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn name(address: &Address) -> Option<&str> {
    match &address.endpoint {
        Endpoint::Tcp { host, .. } if host.parse::<IpAddr>().is_err() => Some(host),
        _ => None,
    }
}

/// Looks up all names at once. Those that fail keep what they had.
async fn resolve<L, F>(known: &mut Known, names: Vec<String>, look_up: &L) -> Troubles
where
    L: Fn(String) -> F,
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    let mut looks = JoinSet::new();
    for name in names {
        let look = timeout(LONGEST_LOOK_UP, look_up(name.clone()));
        looks.spawn(async move { (name, look.await) });
    }
    let mut troubles = Troubles::new();
    while let Some(look) = looks.join_next().await {
        let (name, found) = match look {
            Ok(look) => look,
            // Told as what it is by whoever owns us.
            Err(fault) if fault.is_panic() => std::panic::resume_unwind(fault.into_panic()),
            Err(_) => continue,
        };
        let why = match found {
            Ok(Ok(addresses)) if addresses.is_empty() => "has no address".to_owned(),
            Ok(Ok(addresses)) => {
                let mut ips: Vec<_> = addresses.iter().map(|address| address.ip().to_canonical()).collect();
                ips.sort_unstable();
                ips.dedup();
                ips.truncate(MOST_ADDRESSES);
                known.insert(name, ips);
                continue;
            }
            Ok(Err(error)) => format!("cannot be resolved: {error}"),
            Err(_) => format!("was not resolved within {} s", LONGEST_LOOK_UP.as_secs()),
        };
        troubles.insert(name, why);
    }
    troubles
}

/// The members of a list: with `known`, names give way to their addresses.
fn members(addresses: &[Address], known: Option<&Known>) -> Vec<Arc<Member>> {
    let mut members = vec![];
    for address in addresses {
        let Some((known, name)) = known.and_then(|known| Some((known, name(address)?))) else {
            members.push(Arc::new(member(address.clone(), BTreeMap::new())));
            continue;
        };
        for ip in known.get(name).into_iter().flatten() {
            let mut address = address.clone();
            if let Endpoint::Tcp { host, .. } = &mut address.endpoint {
                *host = ip.to_string();
            }
            members.push(Arc::new(member(address, BTreeMap::new())));
        }
    }
    members
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

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| Address::parse(text).expect(text)).collect()
    }

    fn check(listed: &[&str], known: Option<&[(&str, &[&str])]>, expected: &[&str]) {
        let known: Option<Known> = known.map(|known| {
            let ip = |text: &&str| text.parse().expect("an address");
            known.iter().map(|(name, ips)| ((*name).to_owned(), ips.iter().map(ip).collect())).collect()
        });
        let found: Vec<_> =
            members(&addresses(listed), known.as_ref()).iter().map(|m| m.address.to_string()).collect();
        assert_eq!(found, expected, "{listed:?}");
    }

    #[test]
    fn each_address_of_a_name_is_a_member_where_that_is_wanted() {
        let listed = ["rediss://cache:7000", "10.0.0.1:1", "[::1]:2", "unix:///run/r.sock", "gone:3"];
        check(
            &listed,
            None,
            &[
                "rediss://cache:7000",
                "redis://10.0.0.1:1",
                "redis://[::1]:2",
                "unix:///run/r.sock",
                "redis://gone:3",
            ],
        );
        check(
            &listed,
            Some(&[("cache", &["10.0.0.8", "fd00::1"])]),
            &[
                "rediss://10.0.0.8:7000",
                "rediss://[fd00::1]:7000",
                "redis://10.0.0.1:1",
                "redis://[::1]:2",
                "unix:///run/r.sock",
            ],
        );
        check(&[], Some(&[]), &[]);
    }

    #[test]
    fn only_names_are_looked_up_and_each_once() {
        let listed = addresses(&["b:1", "a:1", "b:2", "10.0.0.1", "[::1]", "unix:///r"]);
        assert_eq!(names(&listed), ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_addresses_stay_while_the_name_cannot_be_resolved() {
        let (_config, config) = watch::channel(Arc::<Config>::default());
        let board = Arc::<Board>::default();
        let world = World {
            config,
            clients: Arc::default(),
            metrics: Arc::default(),
            events: Arc::default(),
            board: board.clone(),
        };
        let events = world.events.clone();
        let service = |list: &[&str]| {
            Arc::new(Service {
                name: "cache".into(),
                source: discover::Source::Instances(addresses(list)),
                dns: true,
                rewrite: vec![],
                labels: BTreeMap::new(),
                collect: Arc::default(),
                lag_bytes: 0,
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
