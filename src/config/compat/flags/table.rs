//! The rows of the table of flags, in the order of the help.

use super::{Group, Set, flag, switch};
use crate::config::scrape::HostPattern;
use crate::config::serve::{Listen, TlsVersion};
use crate::config::telemetry::{Format, Level};
use crate::config::{Address, collect, credentials, peers, units, validate};
use std::path::Path;

/// The table.
pub static GROUPS: &[Group] = &[
    Group {
        title: "Services",
        flags: &[
            flag(
                "config.file",
                "REDVIGIL_CONFIG_FILE",
                "",
                "FILE",
                Set::Text(|d, v| d.document = Some(v).filter(|v| !v.is_empty()).map(Into::into)),
                "A YAML file that names services, whose members are found and followed, with credentials for them. \
                 What flags and variables say goes before what it says. `redvigil check FILE` looks at it without starting, \
                 docs/config.md has every key. Followed, and read again at POST /-/reload.",
            ),
            flag(
                "config.source",
                "REDVIGIL_CONFIG_SOURCE",
                "",
                "URL",
                Set::Text(|d, v| d.source = Some(v).filter(|v| !v.is_empty())),
                "Who keeps another such document, which is followed and goes before the file: etcd://HOST:2379,HOST/KEY, \
                 consul://HOST:8500/KEY or nacos://HOST:8848/DATAID?group=G&namespace=N. Behind the ?, secrets are named and \
                 never said: username= with password_file= or password_env= (etcd, Nacos), token_file= or token_env= \
                 (Consul); tls=true with ca_file=, cert_file=, key_file=, server_name= and skip_verify=. The last document \
                 that was good is kept in --storage.path, and used when nobody answers at the start.",
            )
            .private(),
        ],
    },
    Group {
        title: "Redis or Valkey",
        flags: &[
            flag(
                "redis.addr",
                "REDIS_ADDR",
                "redis://localhost:6379",
                "ADDRESS",
                Set::Parsed(|d, v| {
                    let target = match v {
                        "" => None,
                        v => Some(Address::parse(v).map_err(|error| {
                            format!("is no address: {error}; expected one such as redis://host:6379")
                        })?),
                    };
                    d.config.connect.flag_target.clone_from(&target);
                    d.config.scrape.target = target;
                    Ok(())
                }),
                "The server that the metrics page is about: redis://, rediss://, valkey://, valkeys:// or tcp:// \
                 with [user:password@]host:port[/db], unix:///path, or host:port. Empty: the metrics page is \
                 about the exporter alone.",
            )
            .private(),
            flag(
                "redis.user",
                "REDIS_USER",
                "",
                "USER",
                Set::Text(|d, v| d.config.connect.user = v),
                "The ACL user, where the address names none. Used only where a password is known too.",
            ),
            flag(
                "redis.password",
                "REDIS_PASSWORD",
                "",
                "PASSWORD",
                Set::Secret(|d, v| d.config.connect.password = v),
                "The password, where neither the address nor the password file has one. A target of /scrape \
                 gets it only where it is the server of --redis.addr, stands in the password file or matches \
                 --scrape.credentials-for.",
            ),
            flag(
                "redis.password-file",
                "REDIS_PASSWORD_FILE",
                "",
                "FILE",
                Set::Parsed(|d, v| {
                    if !v.is_empty() {
                        d.config.connect.password_file = Some(v.into());
                        d.config.connect.passwords = credentials::read_password_file(Path::new(v))?;
                    }
                    Ok(())
                }),
                "A JSON object from addresses to passwords. An address may be written in any form; an empty \
                 password stands for that of --redis.password. Followed, and read again at POST /-/reload.",
            ),
            flag(
                "connection-timeout",
                "REDIS_EXPORTER_CONNECTION_TIMEOUT",
                "15s",
                "DURATION",
                Set::Duration(|d, v| d.config.connect.timeout = v),
                "How long connecting with authentication may take, and how long a server may be silent between \
                 two replies, for callers that send no time-out of their own.",
            ),
            switch(
                "set-client-name",
                "REDIS_EXPORTER_SET_CLIENT_NAME",
                "true",
                |d, v| d.config.connect.set_client_name = v,
                "Give the connection a name by CLIENT SETNAME.",
            ),
            switch(
                "ping-on-connect",
                "REDIS_EXPORTER_PING_ON_CONNECT",
                "false",
                |d, v| d.config.connect.ping = v,
                "Send PING first and export how long the answer took.",
            ),
            flag(
                "config-command",
                "REDIS_EXPORTER_CONFIG_COMMAND",
                "CONFIG",
                "NAME",
                Set::Parsed(|d, v| {
                    d.config.collect.config_command = Some(v.to_owned()).filter(|v| !v.is_empty() && v != "-");
                    validate::command_name(v)
                }),
                "The name of CONFIG where the server renamed it; - never asks for it.",
            ),
            switch(
                "is-cluster",
                "REDIS_EXPORTER_IS_CLUSTER",
                "false",
                |d, v| d.config.collect.cluster = v,
                "The server is a node of a cluster: keys, streams, counts and groups cover all masters, and \
                 /discover-cluster-nodes answers.",
            ),
            switch(
                "cluster-discover-hostnames",
                "REDIS_EXPORTER_CLUSTER_DISCOVER_HOSTNAMES",
                "false",
                |d, v| d.config.collect.cluster_hostnames = v,
                "Name nodes in /discover-cluster-nodes by the host name that they announce, where they do.",
            ),
            switch(
                "is-tile38",
                "REDIS_EXPORTER_IS_TILE38",
                "false",
                |d, v| d.config.collect.tile38 = v,
                "The server is Tile38: export what SERVER EXT says.",
            ),
        ],
    },
    Group {
        title: "TLS to Redis or Valkey",
        flags: &[
            flag(
                "tls-ca-cert-file",
                "REDIS_EXPORTER_TLS_CA_CERT_FILE",
                "",
                "FILE",
                Set::File(|d, v| d.config.connect.tls.ca_file = Some(v)),
                "Certificates (PEM) that the server's one must chain to, in place of the system's.",
            ),
            flag(
                "tls-client-cert-file",
                "REDIS_EXPORTER_TLS_CLIENT_CERT_FILE",
                "",
                "FILE",
                Set::File(|d, v| d.client_cert = Some(v)),
                "Our own certificate (PEM), for servers that ask for one. Needs the key.",
            ),
            flag(
                "tls-client-key-file",
                "REDIS_EXPORTER_TLS_CLIENT_KEY_FILE",
                "",
                "FILE",
                Set::File(|d, v| d.client_key = Some(v)),
                "The key (PEM) of that certificate.",
            ),
            flag(
                "tls-server-name",
                "REDIS_EXPORTER_TLS_SERVER_NAME",
                "",
                "NAME",
                Set::Text(|d, v| d.config.connect.tls.server_name = Some(v).filter(|v| !v.is_empty())),
                "The name that the certificate must have, where it is not the host that we dial. Sent as SNI.",
            ),
            switch(
                "skip-tls-verification",
                "REDIS_EXPORTER_SKIP_TLS_VERIFICATION",
                "false",
                |d, v| d.config.connect.tls.skip_verification = v,
                "Accept any certificate.",
            ),
        ],
    },
    Group {
        title: "What is exported",
        flags: &[
            flag(
                "namespace",
                "REDIS_EXPORTER_NAMESPACE",
                "redis",
                "NAME",
                Set::Parsed(|d, v| {
                    d.config.collect.namespace = v.into();
                    validate::namespace(v)
                }),
                "What metric names begin with, in place of redis.",
            ),
            switch(
                "redis-only-metrics",
                "REDIS_EXPORTER_REDIS_ONLY_METRICS",
                "false",
                |d, v| d.config.serve.redis_only = v,
                "Leave out what is about this process: process_*, redvigil_* and the build information.",
            ),
            switch(
                "include-go-runtime-metrics",
                "REDIS_EXPORTER_INCLUDE_GO_RUNTIME_METRICS",
                "false",
                |d, v| d.go_runtime = v,
                "Accepted and without effect: there is no Go runtime here.",
            ),
            switch(
                "append-instance-role-label",
                "REDIS_EXPORTER_APPEND_INSTANCE_ROLE_LABEL",
                "false",
                |d, v| d.config.collect.role_label = v,
                "Add the label instance_role (master, slave) to what is said of a server.",
            ),
            switch(
                "include-metrics-for-empty-databases",
                "REDIS_EXPORTER_INCL_METRICS_FOR_EMPTY_DATABASES",
                "true",
                |d, v| d.config.collect.empty_databases = v,
                "Export db_keys and db_keys_expiring as 0 for databases without keys.",
            ),
            switch(
                "exclude-latency-histogram-metrics",
                "REDIS_EXPORTER_EXCLUDE_LATENCY_HISTOGRAM_METRICS",
                "false",
                |d, v| d.config.collect.latency = !v,
                "Ask for neither LATENCY LATEST nor LATENCY HISTOGRAM.",
            ),
            switch(
                "include-config-metrics",
                "REDIS_EXPORTER_INCL_CONFIG_METRICS",
                "false",
                |d, v| d.config.collect.config_metrics = v,
                "Export every setting of the server.",
            ),
            switch(
                "redact-config-metrics",
                "REDIS_EXPORTER_REDACT_CONFIG_METRICS",
                "true",
                |d, v| d.config.collect.redact_config = v,
                "Leave out settings that hold passwords.",
            ),
            switch(
                "include-modules-metrics",
                "REDIS_EXPORTER_INCL_MODULES_METRICS",
                "false",
                |d, v| d.config.collect.modules = v,
                "Export what INFO MODULES says.",
            ),
            switch(
                "include-search-indexes-metrics",
                "REDIS_EXPORTER_INCL_SEARCH_INDEXES_METRICS",
                "false",
                |d, v| d.search_indexes = v,
                "Export what FT.INFO says of each search index.",
            ),
            flag(
                "check-search-indexes",
                "REDIS_EXPORTER_CHECK_SEARCH_INDEXES",
                ".*",
                "REGEX",
                Set::Text(|d, v| d.search_pattern = v),
                "Only search indexes whose name has a match of this regular expression.",
            ),
            switch(
                "include-sentinel-peer-info",
                "REDIS_EXPORTER_INCL_SENTINEL_PEER_INFO",
                "false",
                |d, v| d.config.collect.sentinel_peers = v,
                "Export one series for each other Sentinel that a Sentinel knows.",
            ),
            switch(
                "include-system-metrics",
                "REDIS_EXPORTER_INCL_SYSTEM_METRICS",
                "false",
                |d, v| d.config.collect.system_metrics = v,
                "Export the memory of the server's machine.",
            ),
            switch(
                "include-rdb-file-size-metric",
                "REDIS_EXPORTER_INCL_RDB_FILE_SIZE_METRIC",
                "false",
                |d, v| d.config.collect.rdb_file_size = v,
                "Export the size of the RDB file, which must lie on this machine under the path that the server \
                 names.",
            ),
            switch(
                "export-client-list",
                "REDIS_EXPORTER_EXPORT_CLIENT_LIST",
                "false",
                |d, v| d.config.collect.client_list = v,
                "Export several series for each client that is connected.",
            ),
            switch(
                "export-client-port",
                "REDIS_EXPORTER_EXPORT_CLIENT_PORT",
                "false",
                |d, v| d.config.collect.client_port = v,
                "Add the client's port to those. Each new connection is then a new series.",
            ),
        ],
    },
    Group {
        title: "Keys, streams and scripts",
        flags: &[
            flag(
                "check-keys",
                "REDIS_EXPORTER_CHECK_KEYS",
                "",
                "LIST",
                Set::Parsed(|d, v| {
                    d.config.collect.keys.check = collect::KeyPattern::parse_list(v)?;
                    Ok(())
                }),
                "Patterns by comma, [db=]pattern, URL-encoded; the keys found by SCAN are exported with size, \
                 memory and value.",
            ),
            flag(
                "check-single-keys",
                "REDIS_EXPORTER_CHECK_SINGLE_KEYS",
                "",
                "LIST",
                Set::Parsed(|d, v| {
                    d.config.collect.keys.check_single = collect::KeyPattern::parse_list(v)?;
                    Ok(())
                }),
                "Keys by comma, [db=]key, URL-encoded; looked up as they are.",
            ),
            flag(
                "count-keys",
                "REDIS_EXPORTER_COUNT_KEYS",
                "",
                "LIST",
                Set::Parsed(|d, v| {
                    d.config.collect.keys.count = collect::KeyPattern::parse_list(v)?;
                    Ok(())
                }),
                "Patterns by comma, [db=]pattern, URL-encoded; the keys found by SCAN are counted.",
            ),
            flag(
                "check-streams",
                "REDIS_EXPORTER_CHECK_STREAMS",
                "",
                "LIST",
                Set::Parsed(|d, v| {
                    d.config.collect.keys.streams = collect::KeyPattern::parse_list(v)?;
                    Ok(())
                }),
                "Patterns by comma, [db=]pattern, URL-encoded; the streams found by SCAN are exported with \
                 their groups and consumers.",
            ),
            flag(
                "check-single-streams",
                "REDIS_EXPORTER_CHECK_SINGLE_STREAMS",
                "",
                "LIST",
                Set::Parsed(|d, v| {
                    d.config.collect.keys.streams_single = collect::KeyPattern::parse_list(v)?;
                    Ok(())
                }),
                "Streams by comma, [db=]stream, URL-encoded; looked up as they are.",
            ),
            switch(
                "streams-exclude-consumer-metrics",
                "REDIS_EXPORTER_STREAMS_EXCLUDE_CONSUMER_METRICS",
                "false",
                |d, v| d.config.collect.exclude_stream_consumers = v,
                "Leave the single consumers of streams out.",
            ),
            flag(
                "check-keys-batch-size",
                "REDIS_EXPORTER_CHECK_KEYS_BATCH_SIZE",
                "1000",
                "COUNT",
                Set::Integer(1, u32::MAX as i64, |d, v| {
                    d.config.collect.batch_size = u32::try_from(v).unwrap_or(u32::MAX);
                }),
                "COUNT of every SCAN. More is faster and holds the server up longer at a time.",
            ),
            flag(
                "check-key-groups",
                "REDIS_EXPORTER_CHECK_KEY_GROUPS",
                "",
                "CSV",
                Set::Parsed(|d, v| {
                    d.config.collect.key_groups = units::csv(v)?;
                    Ok(())
                }),
                "Lua patterns as one line of CSV; keys are grouped by what the first one that matches captures.",
            ),
            flag(
                "max-distinct-key-groups",
                "REDIS_EXPORTER_MAX_DISTINCT_KEY_GROUPS",
                "100",
                "COUNT",
                Set::Integer(0, i64::MAX, |d, v| {
                    d.config.collect.max_key_groups = usize::try_from(v).unwrap_or(usize::MAX);
                }),
                "How many groups of a database are exported, those with the most memory first. The others are \
                 added up as overflow.",
            ),
            switch(
                "skip-checkkeys-for-role-master",
                "REDIS_EXPORTER_SKIP_CHECKKEYS_FOR_ROLE_MASTER",
                "false",
                |d, v| d.config.collect.skip_keys_on_master = v,
                "Look for keys and streams, and count, on replicas only.",
            ),
            switch(
                "disable-exporting-key-values",
                "REDIS_EXPORTER_DISABLE_EXPORTING_KEY_VALUES",
                "false",
                |d, v| d.config.collect.hide_key_values = v,
                "Never export the value of a key.",
            ),
            flag(
                "script",
                "REDIS_EXPORTER_SCRIPT",
                "",
                "FILES",
                Set::Parsed(|d, v| {
                    d.config.collect.scripts = collect::Script::read_list(v)?;
                    Ok(())
                }),
                "Lua files by comma, run on the server at each collection. Each returns names and numbers in \
                 turn, as strings.",
            ),
            switch(
                "lua-script-read-only",
                "REDIS_EXPORTER_LUA_SCRIPT_READ_ONLY",
                "false",
                |d, v| d.config.collect.scripts_read_only = v,
                "Run them by EVAL_RO, so that they cannot write.",
            ),
        ],
    },
    Group {
        title: "Requests to /scrape",
        flags: &[
            flag(
                "scrape.allow",
                "REDVIGIL_SCRAPE_ALLOW",
                "",
                "HOSTS",
                Set::Repeated(|d, v| {
                    d.config.scrape.allow.extend(HostPattern::parse_list(v)?);
                    Ok(())
                }),
                "The only targets that are accepted: host names with * (which stays within one part of a name, but \
                 for *.domain), host:port, networks such as 10.0.0.0/8, unix:///path, by comma. Empty: every \
                 target but unix sockets. May be repeated.",
            ),
            flag(
                "scrape.credentials-for",
                "REDVIGIL_SCRAPE_CREDENTIALS_FOR",
                "",
                "HOSTS",
                Set::Repeated(|d, v| {
                    d.config.connect.trusted.extend(HostPattern::parse_list(v)?);
                    Ok(())
                }),
                "Targets that get the user and the password of --redis.user and --redis.password, in the form \
                 of --scrape.allow. May be repeated.",
            ),
            flag(
                "scrape.timeout-offset",
                "REDVIGIL_SCRAPE_TIMEOUT_OFFSET",
                "500ms",
                "DURATION",
                Set::Duration(|d, v| d.config.scrape.timeout_offset = v),
                "How much sooner than the caller gives up an answer leaves; at most a quarter of the caller's \
                 time-out is taken.",
            ),
            switch(
                "disable-scrape-endpoint",
                "REDIS_EXPORTER_DISABLE_SCRAPE_ENDPOINT",
                "false",
                |d, v| d.config.serve.scrape_endpoint = !v,
                "Answer 404.",
            ),
        ],
    },
    Group {
        title: "Our own HTTP side",
        flags: &[
            flag(
                "web.listen-address",
                "REDIS_EXPORTER_WEB_LISTEN_ADDRESS",
                ":9121",
                "ADDRESS",
                Set::Repeated(|d, v| {
                    d.config.serve.listen.push(Listen::parse(v)?);
                    Ok(())
                }),
                "Where to listen: :port, host:port, [IPv6]:port, unix:/path. May be repeated.",
            ),
            switch(
                "web.systemd-socket",
                "REDVIGIL_WEB_SYSTEMD_SOCKET",
                "false",
                |d, v| d.config.serve.systemd_socket = v,
                "Take the sockets that systemd opened in place of --web.listen-address.",
            ),
            flag(
                "web.telemetry-path",
                "REDIS_EXPORTER_WEB_TELEMETRY_PATH",
                "/metrics",
                "PATH",
                Set::Parsed(|d, v| {
                    d.config.serve.telemetry_path = v.into();
                    validate::telemetry_path(v)
                }),
                "The path of the metrics page.",
            ),
            switch(
                "web.prefer-openmetrics",
                "REDVIGIL_WEB_PREFER_OPENMETRICS",
                "false",
                |d, v| d.config.serve.prefer_openmetrics = v,
                "Send OpenMetrics to callers that accept it as well as the older text format.",
            ),
            flag(
                "web.max-requests",
                "REDVIGIL_WEB_MAX_REQUESTS",
                "512",
                "COUNT",
                Set::Integer(1, u32::MAX as i64, |d, v| {
                    d.config.serve.max_requests = usize::try_from(v).unwrap_or(usize::MAX);
                }),
                "How many requests are worked on at once; those beyond are answered 503.",
            ),
            flag(
                "web.max-connections",
                "REDVIGIL_WEB_MAX_CONNECTIONS",
                "1024",
                "COUNT",
                Set::Integer(1, u32::MAX as i64, |d, v| {
                    d.config.serve.max_connections = usize::try_from(v).unwrap_or(usize::MAX);
                }),
                "How many connections are open at once, idle ones included.",
            ),
            flag(
                "web.external-address",
                "REDVIGIL_WEB_EXTERNAL_ADDRESS",
                "",
                "HOST:PORT",
                Set::Parsed(|d, v| {
                    d.config.serve.external_address = match v {
                        "" => None,
                        v => Some(validate::external_address(v)?),
                    };
                    Ok(())
                }),
                "Where Prometheus reaches us, for /sd/targets. Empty: the host that the request names.",
            ),
            switch(
                "web.enable-runtime-api",
                "REDVIGIL_WEB_ENABLE_RUNTIME_API",
                "false",
                |d, v| d.config.serve.runtime_api = v,
                "Let PATCH /api/v1/runtime change settings until the next start, for callers with a password or a client \
                 certificate: docs/api.md.",
            ),
            flag(
                "web.config.file",
                "REDVIGIL_WEB_CONFIG_FILE",
                "",
                "FILE",
                Set::File(|d, v| d.config.serve.web_config = Some(v)),
                "TLS, users and headers in the schema of the Prometheus exporters, in place of the flags below. \
                 Read again when it changes.",
            ),
            flag(
                "tls-server-cert-file",
                "REDIS_EXPORTER_TLS_SERVER_CERT_FILE",
                "",
                "FILE",
                Set::File(|d, v| d.server_cert = Some(v)),
                "Our certificate (PEM): serve HTTPS. Needs the key. Read again when it changes.",
            ),
            flag(
                "tls-server-key-file",
                "REDIS_EXPORTER_TLS_SERVER_KEY_FILE",
                "",
                "FILE",
                Set::File(|d, v| d.server_key = Some(v)),
                "The key (PEM) of that certificate.",
            ),
            flag(
                "tls-server-ca-cert-file",
                "REDIS_EXPORTER_TLS_SERVER_CA_CERT_FILE",
                "",
                "FILE",
                Set::File(|d, v| d.server_ca = Some(v)),
                "Certificates (PEM) that a caller's one must chain to; callers without one are refused.",
            ),
            flag(
                "tls-server-min-version",
                "REDIS_EXPORTER_TLS_SERVER_MIN_VERSION",
                "TLS1.2",
                "VERSION",
                Set::Choice(&["TLS1.0", "TLS1.1", "TLS1.2", "TLS1.3"], |d, v| {
                    d.server_min_version = TlsVersion::parse(v)?;
                    Ok(())
                }),
                "The oldest TLS that callers may speak. TLS1.0 and TLS1.1 are accepted and mean TLS1.2.",
            ),
            flag(
                "basic-auth-username",
                "REDIS_EXPORTER_BASIC_AUTH_USERNAME",
                "",
                "USER",
                Set::Text(|d, v| d.auth_user = v),
                "The user that callers must give, on every path but /-/healthy and /-/ready. Needs one of the passwords.",
            ),
            flag(
                "basic-auth-password",
                "REDIS_EXPORTER_BASIC_AUTH_PASSWORD",
                "",
                "PASSWORD",
                Set::Secret(|d, v| d.auth_password = v),
                "That user's password.",
            ),
            flag(
                "basic-auth-hash-password",
                "REDIS_EXPORTER_BASIC_AUTH_HASH_PASSWORD",
                "",
                "HASH",
                Set::Secret(|d, v| d.auth_hash = v),
                "That user's password as a bcrypt hash, in place of the plain one.",
            ),
        ],
    },
    Group {
        title: "Outputs",
        flags: &[flag(
            "storage.path",
            "REDVIGIL_STORAGE_PATH",
            "",
            "DIR",
            Set::Text(|d, v| d.config.deliver.storage = Some(v).filter(|v| !v.is_empty()).map(Into::into)),
            "Where the queues of outputs are kept; it is made where it is not there. Empty: the directory that systemd gives by \
             StateDirectory= in $STATE_DIRECTORY, else /var/lib/redvigil. Nothing is written where there are no outputs.",
        )],
    },
    Group {
        title: "Other copies of this exporter",
        flags: &[
            flag(
                "registry.advertise",
                "REDVIGIL_REGISTRY_ADVERTISE",
                "",
                "URL",
                Set::Parsed(|d, v| {
                    d.config.peers.own.advertise = match v {
                        "" => None,
                        v => Some(peers::advertise(v)?),
                    };
                    Ok(())
                }),
                "Where Prometheus and other copies reach this one, in place of registry.advertise of the configuration file, so \
                 that all copies can have the same file: http://10.0.0.5:9121.",
            ),
            flag(
                "registry.zone",
                "REDVIGIL_REGISTRY_ZONE",
                "",
                "NAME",
                Set::Text(|d, v| d.config.peers.own.zone = Some(v).filter(|v| !v.is_empty())),
                "Where this copy runs, in place of registry.zone.",
            ),
            flag(
                "registry.weight",
                "REDVIGIL_REGISTRY_WEIGHT",
                "",
                "N",
                Set::Parsed(|d, v| {
                    d.config.peers.own.weight = match v {
                        "" => None,
                        v => Some(peers::weight(v)?),
                    };
                    Ok(())
                }),
                "How much of the work this copy takes compared with the others, from 1 to 10000, in place of registry.weight, \
                 which is 100 where nobody says it.",
            ),
        ],
    },
    Group {
        title: "Logs, and this program",
        flags: &[
            flag(
                "log-level",
                "REDIS_EXPORTER_LOG_LEVEL",
                "INFO",
                "LEVEL",
                Set::Choice(&["DEBUG", "INFO", "WARN", "WARNING", "ERROR"], |d, v| {
                    d.config.telemetry.level = Level::parse(v)?;
                    Ok(())
                }),
                "How much is logged, in upper or lower case.",
            )
            .also("log.level"),
            switch(
                "debug",
                "REDIS_EXPORTER_DEBUG",
                "false",
                |d, v| d.debug = v,
                "Log everything, whatever --log-level says.",
            ),
            flag(
                "log-format",
                "REDIS_EXPORTER_LOG_FORMAT",
                "txt",
                "FORMAT",
                Set::Choice(&["txt", "json"], |d, v| {
                    d.config.telemetry.format = Format::parse(v)?;
                    Ok(())
                }),
                "Lines of key=value pairs, or of JSON.",
            )
            .also("log.format"),
            flag("version", "", "false", "", Set::Action, "Print the version and exit."),
            flag("help", "", "false", "", Set::Action, "Print this text and exit.").also("h"),
        ],
    },
];
