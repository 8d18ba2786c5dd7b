//! The `redvigil` program.

use redvigil::config::{Address, Config};

fn main() -> anyhow::Result<()> {
    let mut config = Config::default();
    for word in std::env::args().skip(1) {
        if let Some(address) = word.strip_prefix("--redis.addr=") {
            config.scrape.target = Some(Address::parse(address)?);
        }
        if let Some(address) = word.strip_prefix("--web.listen-address=") {
            let address: std::net::SocketAddr = address.parse()?;
            let (host, port) = (address.ip().to_string(), address.port());
            config.serve.listen = vec![redvigil::config::serve::Listen::Tcp { host, port }];
        }
    }
    redvigil::daemon::run(config)
}
