//! The Sentinels that are listed, by all addresses of their names: `dns: true`.
//!
//! What a newcomer would get wrong: a name loses the address of a Sentinel just when that one dies, as that of a
//! headless service of Kubernetes does, so in the middle of a failover. Nothing begins anew then: who is listed no
//! more is asked as long as others name it.

use super::watch::{Heard, Watch};
use crate::config::discover::Source;
use crate::discover::list::{Troubles, tell_troubles};
use crate::discover::names::{self, Names};
use std::io;
use std::net::SocketAddr;
use tokio::time::{Instant, timeout_at};

impl Watch {
    /// Looks up the names of those that are listed, at `discover.interval`, and tells who they are when that changed.
    pub async fn listed(self) {
        self.listed_by(names::system).await;
    }

    async fn listed_by<L, F>(self, look_up: L)
    where
        L: Fn(String) -> F,
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let Source::Sentinel { addresses, .. } = &self.service.source else { return };
        let mut pace = self.pace.clone();
        let (mut names, mut troubles, mut told) = (Names::default(), Troubles::new(), addresses.clone());
        loop {
            let now = names.look_up(addresses, &look_up).await;
            tell_troubles(&self.world.events, &self.service.name, &troubles, &now);
            troubles = now;
            let reached = names.reached(addresses);
            if reached != told {
                told.clone_from(&reached);
                if self.heard.send(Heard::Listed(reached)).await.is_err() {
                    return;
                }
            }
            // Whose interval changes gets another pace, too.
            let began = Instant::now();
            let due = || began + self.world.config.borrow().discover.interval;
            while Instant::now() < due() {
                if let Ok(Err(_)) = timeout_at(due(), pace.changed()).await {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Address, Config, discover};
    use crate::connect::Kind;
    use crate::discover::World;
    use crate::discover::sentinel::fellows::Fellows;
    use crate::discover::sentinel::reply::Useless;
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};
    use tokio::sync::{mpsc, watch};
    use tokio::task::JoinSet;

    fn addresses(texts: &[&str]) -> Vec<Address> {
        texts.iter().map(|text| Address::parse_with_port(text, 26379).expect(text)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_a_name_stands_for_are_told_when_they_change() {
        let (_config, config) = watch::channel(Arc::<Config>::default());
        let world = World::new(config);
        let service = discover::Service {
            dns: true,
            ..discover::Service::new(
                "s",
                Source::Sentinel { master: "m".into(), addresses: addresses(&["rediss://name", "10.0.0.9"]) },
            )
        };
        let (_pace, pace) = watch::channel(Duration::from_secs(1));
        let (heard, mut hearing) = mpsc::channel(1);
        let events = world.events.clone();
        let watch = Watch { world, service: Arc::new(service), master: "m".into(), pace, heard };
        let answers = Arc::new(Mutex::new(vec![
            Ok(vec!["10.0.0.1:0"]),
            Ok(vec!["10.0.0.1:0", "10.0.0.2:0"]),
            Err("no such name"),
            Ok(vec!["10.0.0.2:0", "10.0.0.1:0"]),
            Ok(vec!["10.0.0.2:0"]),
        ]));
        answers.lock().expect("whole").reverse();
        let look_up = move |_| {
            let answer = answers.lock().expect("whole").pop().unwrap_or(Err("over"));
            async move {
                let found = answer.map_err(io::Error::other)?;
                Ok(found.iter().map(|text| text.parse().expect("an address")).collect())
            }
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(watch.listed_by(look_up));
        for expected in [
            &["rediss://10.0.0.1", "10.0.0.9"][..],
            &["rediss://10.0.0.1", "rediss://10.0.0.2", "10.0.0.9"],
            &["rediss://10.0.0.2", "10.0.0.9"],
        ] {
            let Some(Heard::Listed(found)) = hearing.recv().await else { panic!("{expected:?}") };
            assert_eq!(found, addresses(expected));
        }
        let told: Vec<_> = events.all().into_iter().map(|event| event.message).collect();
        assert_eq!(told, ["name cannot be resolved: no such name", "name is well again"]);
    }

    #[test]
    fn who_is_listed_no_more_is_forgotten_unless_others_name_it() {
        let now = Instant::now();
        let mut fellows = Fellows::new(&addresses(&["rediss://name"]), now);
        let mut check = |listed: &[&str], expected: &[(&str, bool)]| {
            fellows.list(&addresses(listed), now);
            let found: Vec<_> = fellows.all().iter().map(|one| (&*one.instance, one.is_listed)).collect();
            assert_eq!(found, expected, "{listed:?}");
        };
        let (one, two) = ("10.0.0.1:26379", "10.0.0.2:26379");
        check(&["rediss://10.0.0.1"], &[("name:26379", false), (one, true)]);
        check(&["10.0.0.1", "10.0.0.2", "10.0.0.1"], &[("name:26379", false), (one, true), (two, true)]);
        assert!(!fellows.by_tls(), "what is listed now counts");
        assert_eq!(fellows.distinct().len(), 0, "an address of a name counts once it has answered");
        let failed = || Err(Useless { kind: Kind::Refused, message: String::new() });
        fellows.record(one, failed());
        assert_eq!(fellows.distinct().len(), 0);
    }
}
