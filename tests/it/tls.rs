//! Sentinels and data nodes of which one side alone has TLS.

use crate::PATIENCE;
use crate::follow::Fleet;
use testbed::{Certificates, Part, Server, ServerBuilder, wait_until};

/// A Sentinel alone decides for itself.
fn monitoring(master: &Server) -> Vec<String> {
    vec!["bind 127.0.0.1".to_owned(), format!("sentinel monitor m 127.0.0.1 {} 1", master.port())]
}

fn check(sentinel: &Server, master: &Server, profile: &str) {
    let fleet = Fleet::start(&format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\ndiscover: {{ interval: 1s }}\n\
         credentials: [{{ name: p, match: {{ services: [orders] }}, {profile} }}]\n\
         services: [{{ name: orders, sentinel: {{ master: m, addresses: [\"{}\"] }} }}]\n",
        sentinel.address()
    ));
    wait_until("the master to be confirmed", PATIENCE, || {
        fleet.service("orders")["master"] == master.address()
    });
    assert_eq!(fleet.instances("orders"), [master.address()]);
}

#[test]
fn sentinels_with_tls_and_data_nodes_without_are_followed() {
    let certificates = Certificates::generate();
    let master = Server::start(Part::Redis7);
    let sentinel =
        ServerBuilder::sentinel(Part::Redis7, monitoring(&master)).tls(&certificates, false).start();
    let settings = format!("{{ ca_file: \"{}\", server_name: localhost }}", certificates.ca.display());
    check(&sentinel, &master, &format!("sentinel_tls: {settings}"));
}

#[test]
fn data_nodes_with_tls_and_sentinels_without_are_followed() {
    let certificates = Certificates::generate();
    let master = Server::builder(Part::Redis7).tls(&certificates, false).start();
    let mut lines = monitoring(&master);
    // By which it reaches the master.
    lines.push("tls-replication yes".to_owned());
    lines.push(format!("tls-ca-cert-file {}", certificates.ca.display()));
    lines.push(format!("tls-cert-file {}", certificates.server.certificate.display()));
    lines.push(format!("tls-key-file {}", certificates.server.key.display()));
    let sentinel = ServerBuilder::sentinel(Part::Redis7, lines).start();
    let settings = format!("{{ ca_file: \"{}\", server_name: localhost }}", certificates.ca.display());
    check(&sentinel, &master, &format!("tls: {settings}, sentinel_tls: {{ enabled: false }}"));
}
