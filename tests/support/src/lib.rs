//! What the integration tests stand on: real servers, real exporters, and a server that misbehaves on demand.
//!
//! * [`Part`] finds the binaries that `scripts/parts.sh` installed.
//! * [`Server`], [`Cluster`] and [`SentinelSet`] are real Redis and Valkey processes.
//! * [`ScriptedServer`] answers from a closure: slow, half, wrong, endless or not at all.
//! * [`Farm`] is thousands of servers that give recorded answers, in one thread.
//! * [`Receiver`] is a double of a server that samples are pushed to. It stands for no real one: those are parts, too.
//! * [`Proxy`] stands between a client and a server and makes trouble on the way.
//! * [`Numbered`] servers hand out a number more each time they are asked, and remember when.
//! * [`Store`] is a real Prometheus or VictoriaMetrics that takes samples, [`Rotel`] a real receiver of OTLP.
//! * [`Arrivals`] is a receiver of remote write that tells what came in which order.
//! * [`Etcd`] is a real etcd of one or more members, with users and TLS where asked for, and tells its whole history.
//! * [`sharing`] judges what exporters that share work did.
//! * [`Consul`] is a real Consul where there is one, else a double; [`Nacos`] is a double.
//! * [`Exporter`] is our binary, or the peer's, beside them.
//!
//! Everything is synchronous and panics with one line where a test has to fail. Everything is ended by its
//! `Drop`, also when a test panics, and by the kernel when the test process itself is killed. Nothing here
//! uses the parsers of the daemon: what checks them must not share their mistakes.

mod arrivals;
mod certificates;
mod cluster;
pub mod consul;
mod double;
mod dice;
pub mod etcd;
mod exporter;
mod farm;
pub mod http;
pub mod nacos;
mod numbered;
mod parts;
mod port;
mod process;
mod proxy;
pub mod receiver;
mod resp;
mod rnacos;
mod rotel;
pub mod scripted;
mod sentinel;
mod server;
pub mod sharing;
mod store;
mod wait;

pub use arrivals::{Arrival, Arrivals, Mood};
pub use certificates::{Certificates, Identity};
pub use cluster::{Cluster, Role};
pub use consul::Consul;
pub use dice::Dice;
pub use etcd::{Etcd, EtcdBuilder};
pub use exporter::{Exporter, ExporterBuilder, Finished};
pub use farm::{Asked, Behaviour, Farm};
pub use http::Response;
pub use nacos::Nacos;
pub use numbered::{Handed, Numbered};
pub use parts::{Part, skipped};
pub use port::Port;
pub use process::Process;
pub use proxy::{Fault, Proxy};
pub use receiver::{Receiver, Reply};
pub use resp::{Connection, Value};
pub use rnacos::Rnacos;
pub use rotel::Rotel;
pub use scripted::{Action, ScriptedServer};
pub use sentinel::{MajorityWatch, SentinelSet, SentinelSetBuilder};
pub use server::{Server, ServerBuilder};
pub use store::{Labels, Sample, Store, StoreBuilder};
pub use wait::{wait_for, wait_until};
