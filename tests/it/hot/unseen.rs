//! Keys of which nobody can see from outside that a change counts, or only by what another test does, and why it does.
//!
//! What a newcomer would get wrong: a name stands for all keys that begin with it.

/// Keys, and why.
pub const NOT_SEEN: &[(&[&str], &str)] = &[
    (
        &[
            "scrape.concurrency",
            "scrape.per_host",
            "scrape.timeout_offset",
            "scrape.key_scans.keys_per_second",
        ],
        "how much or how fast at most: read anew for each collection, scan and answer; who waits is shown in units of permits and key_scans",
    ),
    (
        &["global.scrape_timeout", "services[].replication_lag_bytes"],
        "a time and a limit: read anew for each round, as what is collected and the labels, which are seen here",
    ),
    (&["scrape.key_scans.replicas_first"], "needs replicas; read when a scan begins"),
    (
        &["health.failover_max", "breaker.pause", "breaker.max_pause"],
        "times of outages: given to each observation, as failures_to_down is, which is seen here",
    ),
    (&["discover.interval"], "how soon a member is noticed: unit tests of discover"),
    (
        &["services[].sentinel", "services[].cluster", "services[].dns", "services[].rewrite"],
        "who the members are: unit tests of discover, and it::services, follow and resharding change them",
    ),
    (
        &[
            "credentials[].tls",
            "credentials[].sentinel",
            "outputs[].remote_write.tls",
            "outputs[].otlp.tls",
            "registry.etcd.tls",
            "registry.consul.tls",
        ],
        "needs another server: a login or TLS that is another one is another connection, in the same place as username and password",
    ),
    (
        &[
            "credentials[].password_env",
            "outputs[].remote_write.bearer_token_env",
            "outputs[].remote_write.basic_auth.password_env",
            "outputs[].otlp.bearer_token_env",
            "registry.etcd.password_env",
            "registry.consul.token_env",
        ],
        "the environment of a process does not change; the word is the same one as that of the key without _env",
    ),
    (
        &[
            "outputs[].remote_write.basic_auth.password_file",
            "outputs[].otlp.bearer_token_file",
            "outputs[].otlp.basic_auth",
            "registry.etcd.password_file",
            "registry.consul.token_file",
        ],
        "the same word from a file, as bearer_token_file of remote_write, which is seen here",
    ),
    (
        &["registry.etcd.username", "registry.etcd.password"],
        "needs an etcd with users; as the endpoints, which are seen: another lease",
    ),
    (&["registry.consul.token"], "needs a Consul that asks for it; as its url"),
    (
        &[
            "outputs[].remote_write.timeout",
            "outputs[].otlp.timeout",
            "outputs[].replay.max_samples_per_second",
        ],
        "how long and how fast: another course of the sender, as url, which is seen here",
    ),
    (
        &[
            "outputs[].queue.max_age",
            "outputs[].queue.min_free",
            "outputs[].queue.memory",
            "outputs[].queue.fsync",
            "outputs[].queue.on_full",
            "outputs[].queue.linger",
        ],
        "bounds of the queue, which is opened anew, as for max_bytes, lanes and durability, which are seen here",
    ),
    (
        &[
            "registry.sharding.min_peers",
            "registry.sharding.settle",
            "registry.sharding.on_etcd_loss",
            "registry.etcd.ttl",
            "registry.consul.ttl",
        ],
        "needs others, an outage or time: unit tests of peers; read at each decision, and another ttl is another lease",
    ),
    (
        &[
            "collect.sentinel_peer_info",
            "collect.is_tile38",
            "collect.modules_metrics",
            "collect.search_indexes_metrics",
            "collect.check_search_indexes",
        ],
        "needs servers of other kinds",
    ),
    (
        &[
            "collect.check_keys_batch_size",
            "collect.max_distinct_key_groups",
            "collect.skip_checkkeys_for_role_master",
            "collect.lua_script_read_only",
        ],
        "how it is asked; part of what a scan or a script is asked with, as their keys, which are seen here",
    ),
    (
        &["services[].collect", "outputs[].otlp.headers", "outputs[].otlp.bearer_token"],
        "the same rows, or the same code, as those without",
    ),
];
