//! `scrape:`.

use super::{HOSTS, HOUR, field, host_pattern, no_more, size, switch};
use crate::config::Scrape;
use crate::config::document::reader::{Items, Part, Set, Table};
use crate::config::scrape::KeyScans;
use std::time::Duration;

pub(super) static SCRAPE: Table<Scrape> = Table {
    fields: &[
        field(
            "concurrency",
            "64",
            "64",
            Set::Integer(1, 65_536, |s: &mut Scrape, v| s.concurrency = size(v)),
            "How many collections of members run at once. More needs more memory and connections; raise it where \
             ticks are skipped.",
        ).tunable(),
        field(
            "per_host",
            "4",
            "4",
            Set::Integer(1, 65_536, |s: &mut Scrape, v| s.per_host = size(v)),
            "How many of them on one host, so that many servers on one machine are not all asked at once.",
        ).tunable(),
        field(
            "key_scans",
            "",
            "",
            Set::Section(&Part { table: &KEY_SCANS, at: |s: &mut Scrape| &mut s.key_scans }),
            "When keys and streams are looked for, which costs servers more than all else.",
        ),
        field(
            "allow",
            "",
            "[\"*.redis.prod\"]",
            Set::List(&Items {
                kind: HOSTS,
                least: 0,
                at: |s: &mut Scrape| &mut s.allow,
                parse: host_pattern,
            }),
            "Targets that /scrape accepts beside members of services. Without services: the only ones. \
             --scrape.allow goes before it.",
        )
        .aside(),
        field(
            "timeout_offset",
            "500ms",
            "500ms",
            Set::Duration(Duration::ZERO, HOUR, |s: &mut Scrape, v| s.timeout_offset = v),
            "How much sooner than the caller gives up an answer leaves; at most a quarter of the caller's time-out is \
             taken.",
        ),
    ],
    finish: no_more,
};

pub(super) static KEY_SCANS: Table<KeyScans> = Table {
    fields: &[
        field(
            "interval",
            "5m",
            "5m",
            Set::Duration(
                Duration::from_millis(10),
                Duration::from_secs(30 * 24 * 3600),
                |k: &mut KeyScans, v| k.interval = v,
            ),
            "How often.",
        ),
        switch(
            "replicas_first",
            "true",
            |k: &mut KeyScans, v| k.replicas_first = v,
            "Ask a replica rather than the master, where there is one.",
        ),
        field(
            "keys_per_second",
            "20000",
            "20000",
            Set::Integer(1, 1_000_000_000, |k: &mut KeyScans, v| {
                k.keys_per_second = u32::try_from(v).unwrap_or(u32::MAX);
            }),
            "How many keys a second are looked at on one server.",
        ),
    ],
    finish: no_more,
};
