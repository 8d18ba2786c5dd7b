//! What the operator may say about what is collected.

use super::validate;
use percent_encoding::percent_decode_str;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// A regular expression; two of the same text are the same.
#[derive(Clone)]
pub struct Pattern(regex::Regex);

impl From<regex::Regex> for Pattern {
    fn from(regex: regex::Regex) -> Self {
        Self(regex)
    }
}

impl Deref for Pattern {
    type Target = regex::Regex;

    fn deref(&self) -> &regex::Regex {
        &self.0
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What to ask servers for. The defaults are those of redis_exporter.
#[derive(Clone, Debug, PartialEq)]
pub struct Collect {
    /// `--namespace`: replaces `redis` at the start of metric names; where it is empty, the names have
    /// no prefix and no `_` in front.
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
    pub search_indexes: Option<Pattern>,
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

impl Keys {
    /// The lists with those replaced that the parameters of a `/scrape` request name. `pairs` are decoded
    /// names and values; of repeated names the first counts, an empty value changes nothing, other names
    /// are not looked at. The error names the parameter.
    pub fn with_query<'a>(
        &self,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, String> {
        let mut keys = self.clone();
        let mut lists = [
            ("check-keys", Some(&mut keys.check)),
            ("check-single-keys", Some(&mut keys.check_single)),
            ("check-streams", Some(&mut keys.streams)),
            ("check-single-streams", Some(&mut keys.streams_single)),
            ("count-keys", Some(&mut keys.count)),
        ];
        for (name, text) in pairs {
            let list = lists.iter_mut().find(|(known, _)| *known == name).and_then(|(_, list)| list.take());
            if let Some(list) = list.filter(|_| !text.is_empty()) {
                *list = KeyPattern::parse_list(text).map_err(|error| format!("{name} {error}"))?;
            }
        }
        Ok(keys)
    }
}

/// One item of a key list: `[db=]pattern`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyPattern {
    /// The database, 0 where none was named.
    pub db: u32,
    /// A glob pattern or a key name, URL-decoded.
    pub pattern: String,
}

impl KeyPattern {
    /// Reads a comma list of `[db=]pattern`. Databases are written `3` or `db3`; names are URL-decoded, so
    /// that they may hold a comma (`%2C`) or an `=` (`%3D`); items without a database number or without a
    /// name are skipped, as the peer does.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let mut list = vec![];
        for item in text.split(',') {
            let fail = |why| format!("has the item {item:?}, {why}; expected [db=]pattern by comma");
            let (db, name) = match *item.split('=').collect::<Vec<_>>() {
                [name] => ("0".into(), name),
                // All of them: the peer takes `dbdb0` for `0`.
                [db, name] => (db.trim().replace("db", ""), name),
                _ => return Err(fail("which has more than one =")),
            };
            let pattern = url_decode(name.trim())
                .ok_or_else(|| fail("whose name has a % that begins no URL-encoded UTF-8"))?;
            if db.is_empty() || pattern.is_empty() {
                continue;
            }
            let db = db.parse::<i64>().ok().and_then(|db| u32::try_from(db).ok());
            let db = db.ok_or_else(|| fail("whose database is no number from 0 up"))?;
            list.push(Self { db, pattern });
        }
        Ok(list)
    }
}

/// The decoding of URL queries: `%20` and `+` are blanks. `None` for a `%` without two hex digits.
fn url_decode(text: &str) -> Option<String> {
    let well_formed = text
        .split('%')
        .skip(1)
        .all(|rest| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit));
    let text = text.replace('+', " ");
    well_formed.then(|| percent_decode_str(&text).decode_utf8().ok().map(Into::into)).flatten()
}

/// A Lua script of `--script`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Script {
    /// The path as given: the `filename` label.
    pub path: PathBuf,
    /// The source.
    pub source: String,
}

impl Script {
    /// Reads the files of a comma list; a file that is named twice counts once.
    pub fn read_list(text: &str) -> Result<Vec<Self>, String> {
        let mut scripts: Vec<Self> = vec![];
        for path in text.split(',').filter(|_| !text.is_empty()).map(Path::new) {
            if scripts.iter().all(|script| script.path != path) {
                let source = validate::read(path)
                    .map_err(|error| format!("has the script {path:?}, which {error}"))?;
                scripts.push(Self { path: path.into(), source });
            }
        }
        Ok(scripts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(list: &[KeyPattern]) -> String {
        list.iter().map(|key| format!("{}={}", key.db, key.pattern)).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn key_lists_are_read_as_the_peer_reads_them() {
        fn check(text: &str, expected: Option<&str>) {
            let list = KeyPattern::parse_list(text).ok();
            assert_eq!(list.as_deref().map(written).as_deref(), expected, "{text}");
        }
        check("", Some(""));
        check("k", Some("0=k"));
        check("check-key-01", Some("0=check-key-01"));
        check("db0=k", Some("0=k"));
        check("0=k", Some("0=k"));
        check("db1=key3", Some("1=key3"));
        check("a,db3=b*,15=c", Some("0=a | 3=b* | 15=c"));
        check(" a , db3 = b ", Some("0=a | 3=b"));
        check("dbdbdb0=k", Some("0=k"));
        check("+1=k", Some("1=k"));
        check("=,0=,=k,db=k,, ", Some(""));
        check("wrong=", Some(""));
        check("a%20b,a+b,%2C%3D", Some("0=a b | 0=a b | 0=,="));
        check("%20a", Some("0= a"));
        check("é%C3%A9", Some("0=éé"));
        for text in ["wrong=k", "dbwrong=k", "wrong=wrong=1", "1=2=3=4", "db-1=k", "4294967296=k", "a,b=c"] {
            check(text, None);
        }
        for text in ["%", "%2", "%zz", "a%%20", "%é", "%ff"] {
            check(text, None);
        }
    }

    #[test]
    fn a_request_replaces_the_lists_that_it_names() {
        fn check(pairs: &[(&str, &str)], expected: Result<[&str; 5], &str>) {
            let of = |text| KeyPattern::parse_list(text).expect("a key list");
            let keys = Keys {
                check: of("a*"),
                check_single: of("b"),
                streams: of("c*"),
                streams_single: of("d"),
                count: of("e*"),
            };
            let keys = keys.with_query(pairs.iter().copied());
            let lists = keys.as_ref().map(|k| {
                [&k.check, &k.check_single, &k.streams, &k.streams_single, &k.count].map(|list| written(list))
            });
            let lists = lists.as_ref().map(|lists| lists.each_ref().map(String::as_str));
            match expected {
                Ok(expected) => assert_eq!(lists, Ok(expected), "{pairs:?}"),
                Err(name) => assert!(lists.is_err_and(|error| error.starts_with(name)), "{pairs:?}"),
            }
        }
        let same = ["0=a*", "0=b", "0=c*", "0=d", "0=e*"];
        check(&[], Ok(same));
        check(&[("target", "h"), ("check-keys", ""), ("check-keys", "x")], Ok(same));
        check(&[("check-keys", "x"), ("check-keys", "y")], Ok(["0=x", "0=b", "0=c*", "0=d", "0=e*"]));
        check(
            &[("check-single-keys", "1=x"), ("check-streams", "2=x"), ("check-single-streams", "y")],
            Ok(["0=a*", "1=x", "2=x", "0=y", "0=e*"]),
        );
        check(&[("count-keys", "z*,1=q")], Ok(["0=a*", "0=b", "0=c*", "0=d", "0=z* | 1=q"]));
        check(&[("check-streams", "1=2=3=4")], Err("check-streams "));
        check(&[("count-keys", "dbx=k")], Err("count-keys "));
    }
}
