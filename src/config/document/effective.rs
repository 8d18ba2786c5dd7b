//! The configuration that runs, key by key, with who said each value: for people, and for comparing.
//!
//! Documents are shown as they were written, flags as they were given, and defaults as the tables have them. Of each item
//! of a list only what was said of it is here: what an item does not say is a default, or what stands at the top.
//!
//! What a newcomer would get wrong: this is no way back to a document. Secrets are not there, and neither is anything with an
//! `@` in it, or a URL with a query: there may be one in it.

use super::Origin;
use super::reader::Row;
use super::tree::{Node, Value};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// A key, or a flag that no key says, and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// `health.failures_to_down`, `services.orders.sentinel.master`, `--namespace`.
    pub key: String,
    /// `None`: nobody may see it.
    pub value: Option<Json>,
    /// `redvigil.yaml:12`, `etcd://host:2379/key:3`, `REDIS_ADDR`, `--namespace`, `runtime`, `default`.
    pub origin: String,
    /// Whether a change of it counts at the next start only.
    pub restart: bool,
    /// Of what it is, secret or not: only for comparing.
    print: u64,
}

/// What stands for nobody's word.
pub const DEFAULT: &str = "default";

/// All of it, in the order of the tables; `rows` are those of a whole document.
pub fn settings(origin: &Origin, rows: &[Row]) -> Vec<Setting> {
    let mut all = vec![];
    Walk { origin, all: &mut all, of: |_| true }.mapping(rows, Some(&origin.tree), "", true);
    for other in &origin.sources.flags.others {
        // A flag is a word of the process.
        let (key, value) = (format!("--{}", other.name), other.value.as_deref().map(Json::from));
        let origin = other.place.clone().unwrap_or_else(|| DEFAULT.into());
        let print = xxh3_64(other.value.as_deref().unwrap_or_default().as_bytes());
        all.push(Setting { key, value, origin, restart: true, print });
    }
    all
}

/// What of documents counts at the next start only, for comparing. Costs nothing where lists have no such key.
pub fn at_start(origin: &Origin, rows: &[Row]) -> BTreeMap<String, u64> {
    let mut all = vec![];
    Walk { origin, all: &mut all, of: Row::counts_at_start }.mapping(rows, Some(&origin.tree), "", true);
    all.into_iter().map(|setting| (setting.key, setting.print)).collect()
}

struct Walk<'a> {
    origin: &'a Origin,
    all: &'a mut Vec<Setting>,
    /// Of which rows.
    of: fn(&Row) -> bool,
}

impl Walk<'_> {
    /// `has_defaults`: whether what was not said is told, too.
    fn mapping(&mut self, rows: &[Row], node: Option<&Node>, before: &str, has_defaults: bool) {
        let of = self.of;
        for row in rows.iter().filter(|row| of(row)) {
            let key = format!("{before}{}", row.key);
            let said = node.and_then(|node| node.get(row.key)).filter(|node| !node.is_nothing());
            match (row.nested.is_empty(), row.each) {
                (false, false) if has_defaults || said.is_some() => {
                    self.mapping(&row.nested, said, &format!("{key}."), has_defaults);
                }
                (false, true) => {
                    for (index, item) in said.map(Node::items).unwrap_or_default().iter().enumerate() {
                        let name =
                            item.get("name").and_then(Node::text).map_or(index.to_string(), str::to_owned);
                        self.mapping(&row.nested, Some(item), &format!("{key}.{name}."), false);
                    }
                }
                (true, _) if has_defaults || said.is_some() => self.leaf(row, said, key),
                _ => {}
            }
        }
    }

    fn leaf(&mut self, row: &Row, said: Option<&Node>, key: String) {
        let flag = || self.origin.sources.flags.said.iter().rev().find(|said| said.key == key);
        let (value, origin) = match said {
            Some(node) => (json(node), node.mark.to_string()),
            None => match flag() {
                Some(flag) => (plain(&flag.text), flag.place.clone()),
                None => (plain(row.default), DEFAULT.into()),
            },
        };
        let print = xxh3_64(value.to_string().as_bytes());
        let value = (!row.secret).then_some(value).map(seen);
        self.all.push(Setting { key, value, origin, restart: row.restart, print });
    }
}

/// As it was written.
fn json(node: &Node) -> Json {
    match &node.value {
        Value::Scalar { text, plain: true } => plain(text),
        Value::Scalar { text, .. } => Json::from(text.as_str()),
        Value::Sequence(items) => Json::Array(items.iter().map(json).collect()),
        Value::Mapping(entries) => Json::Object(
            entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect::<Map<_, _>>(),
        ),
    }
}

/// A text without quotes: a switch, a whole number, or a text.
fn plain(text: &str) -> Json {
    match text {
        "" => Json::Null,
        "true" | "True" | "TRUE" => Json::Bool(true),
        "false" | "False" | "FALSE" => Json::Bool(false),
        "[]" => Json::Array(vec![]),
        text => match text.parse::<u64>() {
            Ok(number) => Json::from(number),
            Err(_) => Json::from(text),
        },
    }
}

/// What stands for a part that may hold a secret.
const HIDDEN: &str = "<hidden>";

/// Without what may be a secret: an address with a password, a URL with a query.
fn seen(value: Json) -> Json {
    match value {
        Json::String(text) if text.contains('@') || text.contains("://") && text.contains('?') => {
            Json::from(HIDDEN)
        }
        Json::Array(items) => Json::Array(items.into_iter().map(seen).collect()),
        Json::Object(items) => {
            Json::Object(items.into_iter().map(|(key, value)| (key, seen(value))).collect())
        }
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::super::overrides::Overrides;
    use super::super::reader::Files;
    use super::super::{Flags, Other, Said, Sources, Text, Texts, rows};
    use super::*;
    use std::sync::Arc;

    /// What a file and a flag come to, with secrets wherever one may stand.
    fn origin(text: &str) -> Arc<Origin> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("secret"), "hunter2").expect("a file");
        let said = Said {
            key: "collect.client_list".into(),
            place: "--export-client-list".into(),
            text: "true".into(),
        };
        let other = |name, value: Option<&str>, place: Option<&str>| Other {
            name,
            value: value.map(Into::into),
            place: place.map(Into::into),
        };
        let others = vec![
            other("namespace", Some("redis"), None),
            other("redis.password", None, Some("REDIS_PASSWORD")),
        ];
        let flags = Flags { said: vec![said], others, ..Flags::default() };
        let sources = Sources { file: Some(folder.path().join("r.yaml")), flags: Arc::new(flags) };
        let overrides =
            Overrides::default().patched(&serde_json::json!({"log": {"level": "debug"}}), &rows());
        let texts = Texts {
            file: Some(Text { name: "r.yaml".into(), text: text.into() }),
            remote: None,
            overrides: overrides.expect("may be said"),
        };
        let env = |name: &str| (name == "PW").then(|| "hunter2".into());
        let loaded =
            sources.load(&texts, &Files::default(), &env).unwrap_or_else(|problems| panic!("{problems:?}"));
        loaded.config.origin.expect("it came from somewhere")
    }

    const SECRETS: &str = r#"
credentials:
  - { name: p, match: { hosts: [h] }, username: me, password: hunter2, sentinel_password: hunter2 }
  - { name: q, match: { hosts: [i] }, password_file: secret }
  - { name: r, match: { hosts: [j] }, password_env: PW, sentinel_password_env: PW }
services:
  - { name: a, instances: ["redis://me:hunter2@h:1", "k:2"], labels: { team: x } }
  - { name: b, cluster: { seeds: ["rediss://:hunter2@h:1"] } }
  - { name: c, sentinel: { master: m, addresses: ["redis://:hunter2@h:1"] } }
outputs:
  - name: one
    remote_write: { url: "https://h/w?token=hunter2", bearer_token: hunter2, headers: { X-Key: hunter2 } }
  - name: two
    remote_write: { url: "https://h/w", basic_auth: { username: me, password: hunter2 } }
  - { name: three, otlp: { endpoint: "https://h", headers: { X-Key: hunter2 }, bearer_token: hunter2 } }
health: { failures_to_down: 5 }
"#;

    #[test]
    fn no_secret_is_shown_wherever_it_stands() {
        let settings = settings(&origin(SECRETS), &rows());
        let shown = format!("{settings:?}");
        assert!(SECRETS.matches("hunter2").count() > 10 && !shown.contains("hunter"), "{shown}");
        let found = |key: &str| {
            settings.iter().find(|setting| setting.key == key).unwrap_or_else(|| panic!("no {key}"))
        };
        let check = |key: &str, value: Option<Json>, origin: &str| {
            assert_eq!((&found(key).value, found(key).origin.as_str()), (&value, origin), "{key}");
        };
        check("health.failures_to_down", Some(5.into()), "r.yaml:16");
        check("health.failover_max", Some("1m".into()), DEFAULT);
        check("collect.client_list", Some(true.into()), "--export-client-list");
        check("log.level", Some("debug".into()), "runtime");
        check("--namespace", Some("redis".into()), DEFAULT);
        check("--redis.password", None, "REDIS_PASSWORD");
        check("credentials.p.password", None, "r.yaml:3");
        check("credentials.p.username", Some("me".into()), "r.yaml:3");
        check("services.a.instances", Some(serde_json::json!([HIDDEN, "k:2"])), "r.yaml:7");
        check("outputs.one.remote_write.url", Some(HIDDEN.into()), "r.yaml:12");
        check("outputs.two.remote_write.url", Some("https://h/w".into()), "r.yaml:14");
    }

    #[test]
    fn what_counts_at_the_next_start_only_is_told_apart_by_its_value() {
        let of = |text: &str| at_start(&origin(text), &rows());
        let before = of(SECRETS);
        let keys: Vec<_> = before.keys().map(String::as_str).collect();
        assert_eq!(keys, ["log.format"]);
        assert_eq!(before, of("{}"), "what is said elsewhere, and the default, are nothing");
        assert_eq!(before, of("log: { format: txt }"));
        assert_ne!(before, of("log: { format: json }"));
    }
}
