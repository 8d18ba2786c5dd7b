//! Names that stand for all their addresses: `dns: true`.
//!
//! What a newcomer would get wrong: a name that cannot be resolved keeps the addresses that it had, also when the
//! resolver says that there is no such name. Behind TLS an address is verified as an address, unless the profile
//! names the server (`server_name`).

use super::list::Troubles;
use crate::config::Address;
use crate::config::address::Endpoint;
use crate::connect::dial;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a name may take.
const LONGEST_LOOK_UP: Duration = Duration::from_secs(10);

/// A server may be listed under so many addresses; a name has less, unless somebody means us harm.
const MOST_ADDRESSES: usize = 1000;

/// The addresses that each name had last.
#[derive(Debug, Default)]
pub struct Names(HashMap<String, Vec<IpAddr>>);

/// Asks the resolver of the system.
pub async fn system(host: String) -> io::Result<Vec<SocketAddr>> {
    dial::look_up(&host, 0).await
}

impl Names {
    /// Looks up the names of these addresses, all at once and each once, and forgets all others. Those that fail
    /// keep what they had.
    pub async fn look_up<L, F>(&mut self, addresses: &[Address], look_up: &L) -> Troubles
    where
        L: Fn(String) -> F,
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let names = names(addresses);
        self.0.retain(|name, _| names.contains(name));
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
                    let mut ips: Vec<_> =
                        addresses.iter().map(|address| address.ip().to_canonical()).collect();
                    ips.sort_unstable();
                    ips.dedup();
                    ips.truncate(MOST_ADDRESSES);
                    self.0.insert(name, ips);
                    continue;
                }
                Ok(Err(error)) => format!("cannot be resolved: {error}"),
                Err(_) => format!("was not resolved within {} s", LONGEST_LOOK_UP.as_secs()),
            };
            troubles.insert(name, why);
        }
        troubles
    }

    /// An address as all those that its name has; one without a name as it is. None, where the name was never
    /// resolved.
    pub fn expand(&self, address: &Address) -> Vec<Address> {
        let Some(name) = name(address) else { return vec![address.clone()] };
        let ips = self.0.get(name).into_iter().flatten();
        let at = |ip: &IpAddr| {
            let mut address = address.clone();
            if let Endpoint::Tcp { host, .. } = &mut address.endpoint {
                *host = ip.to_string();
            }
            address
        };
        ips.map(at).collect()
    }

    /// The same for whom we ask for others: where a name was never resolved it stays, so that whoever dials it says
    /// what is wrong. Each address once.
    pub fn reached(&self, addresses: &[Address]) -> Vec<Address> {
        let mut reached: Vec<Address> = vec![];
        for address in addresses {
            let mut all = self.expand(address);
            if all.is_empty() {
                all.push(address.clone());
            }
            for one in all {
                if reached.iter().all(|known| known.endpoint != one.endpoint) {
                    reached.push(one);
                }
            }
        }
        reached
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

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| Address::parse(text).expect(text)).collect()
    }

    fn written(addresses: &[Address]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    fn check(listed: &[&str], known: &[(&str, &[&str])], expanded: &[&str], reached: &[&str]) {
        let ip = |text: &&str| text.parse().expect("an address");
        let known = known.iter().map(|(name, ips)| ((*name).to_owned(), ips.iter().map(ip).collect()));
        let (names, listed) = (Names(known.collect()), addresses(listed));
        let found: Vec<_> = listed.iter().flat_map(|address| names.expand(address)).collect();
        assert_eq!(written(&found), expanded, "{listed:?}");
        assert_eq!(written(&names.reached(&listed)), reached, "{listed:?}");
    }

    #[test]
    fn a_name_stands_for_each_of_its_addresses() {
        let known: [(&str, &[&str]); 1] = [("cache", &["10.0.0.8", "fd00::1"])];
        let others = ["redis://10.0.0.1:1", "redis://[::1]:2", "unix:///run/r.sock"];
        let of_cache = ["rediss://10.0.0.8:7000", "rediss://[fd00::1]:7000"];
        check(
            &["rediss://cache:7000", "10.0.0.1:1", "[::1]:2", "unix:///run/r.sock", "gone:3"],
            &known,
            &[&of_cache[..], &others].concat(),
            &[&of_cache[..], &others, &["redis://gone:3"]].concat(),
        );
        check(&[], &known, &[], &[]);
        let twice = ["redis://10.0.0.8:1", "redis://[fd00::1]:1", "redis://10.0.0.8:1"];
        check(&["cache:1", "10.0.0.8:1"], &known, &twice, &twice[..2]);
    }

    #[test]
    fn only_names_are_looked_up_and_each_once() {
        let listed = addresses(&["b:1", "a:1", "b:2", "10.0.0.1", "[::1]", "unix:///r"]);
        assert_eq!(names(&listed), ["a", "b"]);
    }
}
