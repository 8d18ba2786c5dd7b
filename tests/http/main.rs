//! The HTTP side of the exporter, as a process of its own.
//!
//! - [`routes`]: every path, every method, every parameter
//! - [`users`]: basic authentication
//! - [`tls`]: certificates, versions, HTTP/2, and the web config file
//! - [`limits`]: clients that are slow, silent, huge or many
//! - [`sharing`]: one collection for all who ask at the same time
//! - [`life`]: start, reload, stop, systemd

mod life;
mod limits;
mod routes;
mod sharing;
mod tls;
mod users;

use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;
use testbed::{Exporter, ExporterBuilder, Response, http};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Our exporter with these arguments.
fn exporter(args: &[&str]) -> ExporterBuilder {
    Exporter::builder(env!("CARGO_BIN_EXE_redvigil")).args(args)
}

/// Our exporter, watching nobody.
fn alone(args: &[&str]) -> Exporter {
    exporter(&["--redis.addr="]).args(args).start()
}

/// An open connection.
fn connect(exporter: &Exporter) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", exporter.port())).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

/// Sends these bytes and reads one answer. The connection stays open.
fn say(stream: &mut TcpStream, bytes: &[u8]) -> Response {
    stream.write_all(bytes).expect("sent");
    http::read_response(&mut BufReader::new(stream), false).expect("an answer")
}

/// The value of a sample without labels, or with those that are part of the name.
fn value(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// How many connections of clients the exporter has, as the kernel tells it.
fn established(exporter: &Exporter) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let local = format!(":{:04X}", exporter.port());
    // Number, local address, remote address, state; 01 is ESTABLISHED.
    let is_ours = |line: &&str| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        fields.len() > 3 && fields[1].ends_with(&local) && fields[3] == "01"
    };
    table.lines().filter(is_ours).count()
}
