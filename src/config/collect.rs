//! What the operator may say about what is collected.

use std::path::PathBuf;

/// What to ask servers for. The defaults are those of redis_exporter.
#[derive(Clone, Debug)]
pub struct Collect {
    /// `--namespace`: replaces `redis` at the start of metric names.
    pub namespace: String,
    /// `--config-command`: the name of `CONFIG` where it was renamed; `None` (flag value `-`): not asked.
    pub config_command: Option<String>,
    /// Key, stream and count patterns; `/scrape` parameters replace them one by one.
    pub keys: Keys,
    /// `--streams-exclude-consumer-metrics`.
    pub exclude_stream_consumers: bool,
    /// `--check-keys-batch-size`: COUNT of every SCAN.
    pub batch_size: u32,
    /// `--check-key-groups`: Lua patterns.
    pub key_groups: Vec<String>,
    /// `--max-distinct-key-groups`.
    pub max_key_groups: usize,
    /// `--script`: Lua files, read at start.
    pub scripts: Vec<Script>,
    /// `--lua-script-read-only`: run them by `EVAL_RO`.
    pub scripts_read_only: bool,
    /// `--disable-exporting-key-values`.
    pub hide_key_values: bool,
    /// `--skip-checkkeys-for-role-master`.
    pub skip_keys_on_master: bool,
    /// `--is-tile38`.
    pub tile38: bool,
    /// `--is-cluster`: key work covers every master of the cluster; opens `/discover-cluster-nodes`.
    pub cluster: bool,
    /// `--cluster-discover-hostnames`.
    pub cluster_hostnames: bool,
    /// `--export-client-list`.
    pub client_list: bool,
    /// `--export-client-port`.
    pub client_port: bool,
    /// `--include-config-metrics`.
    pub config_metrics: bool,
    /// `--redact-config-metrics`.
    pub redact_config: bool,
    /// `--include-modules-metrics`.
    pub modules: bool,
    /// `--include-search-indexes-metrics` with `--check-search-indexes` (RE2, unanchored).
    pub search_indexes: Option<regex::Regex>,
    /// `--include-sentinel-peer-info`.
    pub sentinel_peers: bool,
    /// `--exclude-latency-histogram-metrics`, negated: `LATENCY LATEST` and `LATENCY HISTOGRAM`.
    pub latency: bool,
    /// `--include-system-metrics`.
    pub system_metrics: bool,
    /// `--include-rdb-file-size-metric`.
    pub rdb_file_size: bool,
    /// `--include-metrics-for-empty-databases`.
    pub empty_databases: bool,
    /// `--append-instance-role-label`.
    pub role_label: bool,
}

impl Default for Collect {
    fn default() -> Self {
        Self {
            namespace: "redis".into(),
            config_command: Some("CONFIG".into()),
            keys: Keys::default(),
            exclude_stream_consumers: false,
            batch_size: 1000,
            key_groups: vec![],
            max_key_groups: 100,
            scripts: vec![],
            scripts_read_only: false,
            hide_key_values: false,
            skip_keys_on_master: false,
            tile38: false,
            cluster: false,
            cluster_hostnames: false,
            client_list: false,
            client_port: false,
            config_metrics: false,
            redact_config: true,
            modules: false,
            search_indexes: None,
            sentinel_peers: false,
            latency: true,
            system_metrics: false,
            rdb_file_size: false,
            empty_databases: true,
            role_label: false,
        }
    }
}

/// The patterns that `/scrape` parameters may replace for one request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Keys {
    /// `check-keys`: glob patterns, expanded by SCAN.
    pub check: Vec<KeyPattern>,
    /// `check-single-keys`: names, looked up as they are.
    pub check_single: Vec<KeyPattern>,
    /// `check-streams`: glob patterns.
    pub streams: Vec<KeyPattern>,
    /// `check-single-streams`: names.
    pub streams_single: Vec<KeyPattern>,
    /// `count-keys`: glob patterns.
    pub count: Vec<KeyPattern>,
}

/// One item of a key list: `[db=]pattern`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyPattern {
    /// The database, 0 where none was named.
    pub db: u32,
    /// A glob pattern or a key name, URL-decoded.
    pub pattern: String,
}

/// A Lua script of `--script`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The path as given: the `filename` label.
    pub path: PathBuf,
    /// The source.
    pub source: String,
}
