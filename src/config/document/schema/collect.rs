//! `collect:`, and the same keys of each service.

use super::{FILES, field, no_more, size};
use crate::config::collect::{KeyPattern, Pattern, Script};
use crate::config::document::reader::{Field, Items, Set, Surroundings, Table};
use crate::config::{Collect, validate};
use std::sync::LazyLock;

/// `collect:` in the making.
#[derive(Clone)]
pub struct CollectDraft {
    pub(super) collect: Collect,
    pub(super) search: bool,
    pub(super) search_pattern: Option<Pattern>,
}

impl CollectDraft {
    /// What the flags say; `pattern`: which search indexes, though flags may not ask for any.
    pub fn of(collect: &Collect, pattern: Option<&Pattern>) -> Self {
        Self {
            collect: collect.clone(),
            search: collect.search_indexes.is_some(),
            search_pattern: collect.search_indexes.as_ref().or(pattern).cloned(),
        }
    }

    /// What it comes to.
    pub fn done(self) -> Collect {
        // Made once: there may be thousands of services.
        static ALL: LazyLock<Option<Pattern>> =
            LazyLock::new(|| regex::Regex::new(".*").ok().map(Pattern::from));
        let search_indexes = if self.search { self.search_pattern.or_else(|| ALL.clone()) } else { None };
        Collect { search_indexes, ..self.collect }
    }
}

const KEYS: &str = "texts such as orders:* or 3=orders:*";

/// A switch that may be turned for the moment.
const fn switch(
    key: &'static str,
    default: &'static str,
    set: fn(&mut CollectDraft, bool),
    meaning: &'static str,
) -> Field<CollectDraft> {
    super::switch(key, default, set, meaning).tunable()
}

pub(super) static COLLECT: Table<CollectDraft> = Table {
    fields: &[
        field(
            "config_command",
            "CONFIG",
            "CONFIG",
            Set::Parsed("the name of a command", |d: &mut CollectDraft, v, _| {
                d.collect.config_command = Some(v.to_owned()).filter(|v| !v.is_empty() && v != "-");
                validate::command_name(v)
            }),
            "The name of CONFIG where servers renamed it; - never asks for it.",
        ),
        field(
            "check_keys",
            "[]",
            "[\"orders:*\"]",
            Set::List(&Items { kind: KEYS, least: 0, at: |d: &mut CollectDraft| &mut d.collect.keys.check, parse: key }),
            "Patterns, [db=]pattern, URL-encoded; the keys found by SCAN are exported with size, memory and value.",
        )
        .aside(),
        field(
            "check_single_keys",
            "[]",
            "[\"orders:queue\"]",
            Set::List(&Items { kind: KEYS, least: 0, at: |d: &mut CollectDraft| &mut d.collect.keys.check_single, parse: key }),
            "Keys, [db=]key, URL-encoded; looked up as they are.",
        )
        .aside(),
        field(
            "count_keys",
            "[]",
            "[\"session:*\"]",
            Set::List(&Items { kind: KEYS, least: 0, at: |d: &mut CollectDraft| &mut d.collect.keys.count, parse: key }),
            "Patterns, [db=]pattern, URL-encoded; the keys found by SCAN are counted.",
        )
        .aside(),
        field(
            "check_streams",
            "[]",
            "[\"events:*\"]",
            Set::List(&Items { kind: KEYS, least: 0, at: |d: &mut CollectDraft| &mut d.collect.keys.streams, parse: key }),
            "Patterns, [db=]pattern, URL-encoded; the streams found by SCAN are exported with their groups and \
             consumers.",
        )
        .aside(),
        field(
            "check_single_streams",
            "[]",
            "[\"events:audit\"]",
            Set::List(&Items {
                kind: KEYS,
                least: 0,
                at: |d: &mut CollectDraft| &mut d.collect.keys.streams_single,
                parse: key,
            }),
            "Streams, [db=]stream, URL-encoded; looked up as they are.",
        )
        .aside(),
        switch(
            "streams_exclude_consumer_metrics",
            "false",
            |d: &mut CollectDraft, v| d.collect.exclude_stream_consumers = v,
            "Leave the single consumers of streams out.",
        ),
        field(
            "check_keys_batch_size",
            "1000",
            "1000",
            Set::Integer(1, u32::MAX as u64, |d: &mut CollectDraft, v| {
                d.collect.batch_size = u32::try_from(v).unwrap_or(u32::MAX);
            }),
            "COUNT of every SCAN. More is faster and holds the server up longer at a time.",
        ),
        field(
            "check_key_groups",
            "[]",
            "[\"^(.*):.*\"]",
            Set::List(&Items {
                kind: "Lua patterns",
                least: 0,
                at: |d: &mut CollectDraft| &mut d.collect.key_groups,
                parse: |v, _| Ok(v.to_owned()),
            }),
            "Lua patterns; keys are grouped by what the first one that matches captures.",
        )
        .aside(),
        field(
            "max_distinct_key_groups",
            "100",
            "100",
            Set::Integer(0, 1_000_000_000, |d: &mut CollectDraft, v| d.collect.max_key_groups = size(v)),
            "How many groups of a database are exported, those with the most memory first. The others are added up \
             as overflow.",
        ),
        switch(
            "skip_checkkeys_for_role_master",
            "false",
            |d: &mut CollectDraft, v| d.collect.skip_keys_on_master = v,
            "Look for keys and streams, and count, on replicas only.",
        ),
        switch(
            "disable_exporting_key_values",
            "false",
            |d: &mut CollectDraft, v| d.collect.hide_key_values = v,
            "Never export the value of a key.",
        ),
        field(
            "scripts",
            "[]",
            "[\"queue-length.lua\"]",
            Set::List(&Items { kind: FILES, least: 0, at: |d: &mut CollectDraft| &mut d.collect.scripts, parse: script }),
            "Lua files, run on the server at each collection. Each returns names and numbers in turn, as strings. \
             Followed.",
        )
        .aside(),
        switch(
            "lua_script_read_only",
            "false",
            |d: &mut CollectDraft, v| d.collect.scripts_read_only = v,
            "Run them by EVAL_RO, so that they cannot write.",
        ),
        switch(
            "client_list",
            "false",
            |d: &mut CollectDraft, v| d.collect.client_list = v,
            "Export several series for each client that is connected.",
        ),
        switch(
            "client_port",
            "false",
            |d: &mut CollectDraft, v| d.collect.client_port = v,
            "Add the client's port to those. Each new connection is then a new series.",
        ),
        switch(
            "config_metrics",
            "false",
            |d: &mut CollectDraft, v| d.collect.config_metrics = v,
            "Export every setting of the server.",
        ),
        switch(
            "redact_config_metrics",
            "true",
            |d: &mut CollectDraft, v| d.collect.redact_config = v,
            "Leave out settings that hold passwords.",
        ),
        switch(
            "modules_metrics",
            "false",
            |d: &mut CollectDraft, v| d.collect.modules = v,
            "Export what INFO MODULES says.",
        ),
        switch(
            "search_indexes_metrics",
            "false",
            |d: &mut CollectDraft, v| d.search = v,
            "Export what FT.INFO says of each search index.",
        ),
        field(
            "check_search_indexes",
            ".*",
            "\".*\"",
            Set::Parsed("a regular expression", |d: &mut CollectDraft, v, _| {
                let pattern = validate::regex(v).map_err(|error| format!("{error}; expected one such as ^idx:"))?;
                d.search_pattern = Some(pattern.into());
                Ok(())
            }),
            "Only search indexes whose name has a match of this regular expression.",
        ),
        switch(
            "sentinel_peer_info",
            "false",
            |d: &mut CollectDraft, v| d.collect.sentinel_peers = v,
            "Export one series for each other Sentinel that a Sentinel knows.",
        ),
        switch(
            "latency_histograms",
            "true",
            |d: &mut CollectDraft, v| d.collect.latency = v,
            "Ask for LATENCY LATEST and LATENCY HISTOGRAM.",
        ),
        switch(
            "system_metrics",
            "false",
            |d: &mut CollectDraft, v| d.collect.system_metrics = v,
            "Export the memory of the server's machine.",
        ),
        switch(
            "rdb_file_size_metric",
            "false",
            |d: &mut CollectDraft, v| d.collect.rdb_file_size = v,
            "Export the size of the RDB file, which must lie on this machine under the path that the server names.",
        ),
        switch(
            "metrics_for_empty_databases",
            "true",
            |d: &mut CollectDraft, v| d.collect.empty_databases = v,
            "Export db_keys and db_keys_expiring as 0 for databases without keys.",
        ),
        switch(
            "instance_role_label",
            "false",
            |d: &mut CollectDraft, v| d.collect.role_label = v,
            "Add the label instance_role (master, slave) to what is said of a server. A failover then ends its \
             series; redis_member_role says the same without that.",
        ),
        switch(
            "is_tile38",
            "false",
            |d: &mut CollectDraft, v| d.collect.tile38 = v,
            "The servers are Tile38: export what SERVER EXT says.",
        ),
    ],
    finish: no_more,
};

fn script(text: &str, around: &Surroundings<'_>) -> Result<Script, String> {
    Ok(Script { path: text.into(), source: around.files.read(&around.path(text))? })
}

/// One item in the form of the flags, so that either can be copied into the other.
fn key(text: &str, _: &Surroundings<'_>) -> Result<KeyPattern, String> {
    let expected = "expected [db=]pattern, one an item, with %2C for a comma and %3D for an = in it";
    match KeyPattern::parse_list(text).map(<[KeyPattern; 1]>::try_from) {
        Ok(Ok([key])) if !text.contains(',') => Ok(key),
        _ => Err(format!("is no pattern; {expected}")),
    }
}
