//! Names that stand for their addresses: `localhost` has one or two, and a server at one of them.

use crate::PATIENCE;
use crate::follow::Fleet;
use testbed::{Part, Server, ServerBuilder, wait_until};

fn following(source: &str, dns: bool) -> Fleet {
    Fleet::start(&format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\ndiscover: {{ interval: 1s }}\n\
         services:\n  - name: orders\n    dns: {dns}\n    {source}\n"
    ))
}

#[test]
fn a_name_among_sentinels_is_each_of_its_addresses() {
    let master = Server::start(Part::Redis7);
    let monitor = format!("sentinel monitor m 127.0.0.1 {} 1", master.port());
    let sentinel = ServerBuilder::sentinel(Part::Redis7, vec!["bind 127.0.0.1".into(), monitor]).start();
    let source = format!("sentinel: {{ master: m, addresses: [\"localhost:{}\"] }}", sentinel.port());
    for (dns, host) in [(false, "localhost"), (true, "127.0.0.1")] {
        let fleet = following(&source, dns);
        // An address where nobody listens must not keep the others from being most of all.
        wait_until("the master to be confirmed by that one alone", PATIENCE, || {
            let service = fleet.service("orders");
            let sentinels = service["sentinels"].as_array().expect("Sentinels");
            let names: Vec<_> =
                sentinels.iter().map(|one| one["instance"].as_str().expect("a text")).collect();
            names == [format!("{host}:{}", sentinel.port())] && service["master"] == master.address()
        });
    }
}

#[test]
fn a_name_among_seeds_is_each_of_its_addresses() {
    let node = Server::builder(Part::Redis7).cluster_node().start();
    node.ok(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let source = format!("cluster: {{ seeds: [\"localhost:{}\"] }}", node.port());
    for (dns, host) in [(false, "localhost"), (true, "127.0.0.1")] {
        // A node that met no other does not know its own address: it is the one by which it was asked.
        let fleet = following(&source, dns);
        assert_eq!(fleet.instances("orders"), [format!("{host}:{}", node.port())]);
    }
}
