//! Our entry in Consul.

use redvigil::config::Config;
use redvigil::config::Secret;
use redvigil::config::connect::Tls;
use redvigil::config::deliver::{Auth, Endpoint, Url, Word};
use redvigil::config::peers::{ConsulRegistry, Registry, Sharding};
use redvigil::peers::consul;
use redvigil::telemetry::events::Events;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testbed::{Consul, wait_until};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const TTL: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);

fn config(consul: &Consul, token: Option<&str>, tags: &[&str]) -> Arc<Config> {
    let auth = token.map_or(Auth::None, |token| Auth::Bearer(Word::Given(Secret::new(token))));
    let url = Url::parse(&format!("http://127.0.0.1:{}", consul.port())).expect("a URL");
    let agent = Endpoint { url, headers: vec![], auth, tls: Tls::default(), timeout: TTL / 3 };
    let tags = tags.iter().map(|&tag| tag.into()).collect();
    let consul = ConsulRegistry { agent, service: "redvigil".into(), tags, ttl: TTL };
    let mut config = Config::default();
    config.peers.registry = Some(Registry {
        advertise: Url::parse("http://10.0.0.5:9121").expect("a URL"),
        zone: Some("z".into()),
        weight: 100,
        file_sd: None,
        etcd: None,
        consul: Some(consul),
        sharding: Sharding::default(),
    });
    Arc::new(config)
}

#[test]
fn we_are_on_the_list_as_long_as_we_live() {
    for (token, make) in [
        (None, Consul::start as fn() -> Consul),
        (None, || Consul::double(None)),
        (Some("hunter2"), || Consul::with_token("hunter2")),
    ] {
        let mut server = make();
        let (publish, wanted) = watch::channel(config(&server, token, &["a"]));
        let (events, stop) = (Arc::<Events>::default(), CancellationToken::new());
        let (own, token_of_stop) = (events.clone(), stop.clone());
        let running = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(consul::run(wanted, Arc::default(), own, token_of_stop));
        });
        let is_there = |server: &Consul, tag: &str| {
            server.passing("redvigil").iter().any(|service| {
                (&service["Address"], &service["Port"], &service["Tags"][0], &service["Meta"]["zone"])
                    == (&"10.0.0.5".into(), &9121.into(), &tag.into(), &"z".into())
            })
        };
        wait_until("us to be there", PATIENCE, || is_there(&server, "a"));
        // Twice as long as we would live without a word.
        let until = Instant::now() + TTL * 2;
        while Instant::now() < until {
            assert!(is_there(&server, "a"), "{}", server.kind());
            std::thread::sleep(Duration::from_millis(50));
        }
        server.forget("redvigil-10.0.0.5:9121");
        assert!(!is_there(&server, "a"));
        wait_until("us to be there again", PATIENCE, || is_there(&server, "a"));
        publish.send_replace(config(&server, token, &["b"]));
        wait_until("the other tag", PATIENCE, || is_there(&server, "b"));
        server.go_down();
        wait_until("the failure to be told", PATIENCE, || !events.all().is_empty());
        server.come_back();
        wait_until("us to be there in a new one", PATIENCE, || is_there(&server, "b"));
        let is_told = || events.all().iter().any(|event| event.message == "registered in Consul again");
        wait_until("that to be told", PATIENCE, is_told);
        stop.cancel();
        running.join().expect("it ends");
        assert!(!is_there(&server, "b"), "who stops takes itself off the list");
        let told: Vec<_> = events.all().into_iter().map(|event| event.message).collect();
        assert_eq!(told.last().map(String::as_str), Some("taken off the list of Consul"));
        assert!(!told.concat().contains("hunter"), "{told:?}");
    }
}
