//! The tables of the configuration file: every key that it may have.
//!
//! One row is one key. What reads the file, `docs/config.md` and `docs/example.yaml` are all made from these rows;
//! a new option is a field in the room's own file and one row here. Each section at the top of the document has a
//! file of its own below; `idle` says what has no effect.
//!
//! What a newcomer would get wrong: the defaults stand here *and* in the `impl Default` of the structs. A test
//! reads all of them as a document and compares.

mod collect;
mod credentials;
mod discover;
mod global;
mod idle;
mod log;
mod outputs;
mod registry;
mod resilience;
mod scrape;
mod services;
mod web;

pub use collect::CollectDraft;

use super::reader::{Field, Part, Parts, Scope, Set, Surroundings, Table};
use crate::config::discover::Service;
use crate::config::scrape::HostPattern;
use crate::config::{Config, validate};
use collect::COLLECT;
use credentials::{PROFILE, ProfileDraft, push_profile};
use discover::DISCOVER;
use global::GLOBAL;
use log::LOG;
use outputs::{MORE_OUTPUTS, OUTPUT, OutputDraft, push_output};
use registry::{REGISTRY, RegistryDraft, put_registry};
use resilience::{BREAKER, HEALTH};
use scrape::SCRAPE;
use services::{MORE_SERVICES, SERVICE, ServiceDraft, push_service};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use web::WEB;

const fn field<T>(
    key: &'static str,
    default: &'static str,
    example: &'static str,
    set: Set<T>,
    meaning: &'static str,
) -> Field<T> {
    Field {
        key,
        default,
        example,
        set,
        meaning,
        required: false,
        late: false,
        aside: false,
        private: false,
        tunable: false,
        restart: false,
    }
}

const fn switch<T>(
    key: &'static str,
    default: &'static str,
    set: fn(&mut T, bool),
    meaning: &'static str,
) -> Field<T> {
    field(key, default, default, Set::Switch(set), meaning)
}

/// Nothing to look at beyond the single fields.
fn no_more<T>(_: &mut T, _: &mut Scope<'_, '_>) {}

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a whole document comes to.
pub struct Draft {
    /// What needs nothing else.
    pub config: Config,
    /// `collect:`.
    pub collect: CollectDraft,
    /// `services:`.
    pub services: Vec<Arc<Service>>,
    /// The names of these.
    pub names: HashSet<Arc<str>>,
    /// `global.labels`.
    pub labels: BTreeMap<String, String>,
    /// `registry:`.
    pub registry: RegistryDraft,
    /// What services make use of of `collect:`.
    pub used: idle::Used,
}

/// The whole document.
pub static DOCUMENT: Table<Draft> = Table {
    fields: &[
        field(
            "global",
            "",
            "",
            Set::Section(&Part { table: &GLOBAL, at: |d: &mut Draft| d }),
            "What holds for all services.",
        ),
        field(
            "credentials",
            "",
            "",
            Set::Each(&Parts { table: &PROFILE, fresh: |_| ProfileDraft::default(), push: push_profile, more: "" }),
            "Who we are to servers: profiles, of which the first that matches counts. A server that matches none \
             gets no password, unless its own address has one.",
        ),
        field(
            "services",
            "",
            "",
            Set::Each(&Parts { table: &SERVICE, fresh: ServiceDraft::of, push: push_service, more: MORE_SERVICES }),
            "The services to keep watch over. Without them the server of --redis.addr is the only target; with \
             them --redis.addr must not be given, and --redis.user, --redis.password and --redis.password-file \
             have no effect.",
        )
        .late(),
        field(
            "scrape",
            "",
            "",
            Set::Section(&Part { table: &SCRAPE, at: |d: &mut Draft| &mut d.config.scrape }),
            "How members are collected, and what /scrape accepts.",
        ),
        field(
            "health",
            "",
            "",
            Set::Section(&Part { table: &HEALTH, at: |d: &mut Draft| &mut d.config.resilience.health }),
            "How many failures make an outage.",
        ),
        field(
            "breaker",
            "",
            "",
            Set::Section(&Part { table: &BREAKER, at: |d: &mut Draft| &mut d.config.resilience.breaker }),
            "When a member that is down is tried again.",
        ),
        field(
            "discover",
            "",
            "",
            Set::Section(&Part { table: &DISCOVER, at: |d: &mut Draft| &mut d.config.discover }),
            "How members are found.",
        ),
        field(
            "collect",
            "",
            "",
            Set::Section(&Part { table: &COLLECT, at: |d: &mut Draft| &mut d.collect }),
            "What is collected. What is not said here is as the flags say, and services may say otherwise for \
             themselves.",
        ),
        field(
            "outputs",
            "",
            "",
            Set::Each(&Parts {
                table: &OUTPUT,
                fresh: |_| OutputDraft::default(),
                push: push_output,
                more: MORE_OUTPUTS,
            }),
            "Where samples are pushed to, each with a queue of its own on disk: docs/delivery.md says what it promises. With \
             an output the server of --redis.addr is collected every scrape_interval, too.",
        ),
        field(
            "registry",
            "",
            "",
            Set::Section(&Part { table: &REGISTRY, at: |d: &mut Draft| &mut d.registry }),
            "Where this exporter registers, and how the services are shared among all that do: docs/coordination.md says \
             what it promises. Without it, all services are ours.",
        ),
        field(
            "web",
            "",
            "",
            Set::Section(&Part { table: &WEB, at: |d: &mut Draft| &mut d.config.serve }),
            "How members are shown.",
        ),
        field(
            "log",
            "",
            "",
            Set::Section(&Part { table: &LOG, at: |d: &mut Draft| &mut d.config.telemetry }),
            "Our own log.",
        ),
    ],
    finish: |draft, scope| {
        draft.config.discover.services = std::mem::take(&mut draft.services).into();
        put_registry(draft, scope);
        idle::of_document(draft, scope);
    },
};

const HOST: &str = "a host name with *, host:port, a network such as 10.0.0.0/8 or unix:///path";
const HOSTS: &str = "host names with *, host:port, networks such as 10.0.0.0/8 or unix:///path";
const FILES: &str = "paths of files";

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A name: not empty, on one line, not too long.
fn name(text: &str, into: &mut String) -> Result<(), String> {
    const LONGEST: usize = 200;
    if text.trim().is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
        return Err(format!("is no name; expected 1 to {LONGEST} characters on one line"));
    }
    *into = text.into();
    Ok(())
}

fn filled(text: &str, into: &mut Option<String>) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty; expected a text".into());
    }
    *into = Some(text.into());
    Ok(())
}

/// The text of a label, where the label may have that name.
fn label(name: &str, text: &str, around: &Surroundings<'_>) -> Result<String, String> {
    validate::member_label(name)?;
    if around.taken.iter().any(|taken| taken == name) {
        return Err("is a label that we set ourselves; expected another name".into());
    }
    Ok(text.into())
}

fn host_pattern(text: &str, _: &Surroundings<'_>) -> Result<HostPattern, String> {
    // Its own message repeats the pattern, which is told before this one.
    HostPattern::parse(text).map_err(|_| format!("is no set of hosts; expected {HOST}"))
}
