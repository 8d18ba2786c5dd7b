//! What is said for the moment, by `PATCH /api/v1/runtime`: the last layer, gone at the next start.
//!
//! It has the form of the document, but for `services` and `outputs`, which are mappings by name here: a merge patch
//! (<https://www.rfc-editor.org/rfc/rfc7396>) takes lists whole, and one service is what is spoken of.
//!
//! What a newcomer would get wrong: only which keys may be said is judged here. Whether a value is right is the matter of
//! the tables, once it is a layer of the tree.

use super::reader::Row;
use super::tree::{Entry, Mark, Node, Value};
use crate::config::problem::{Problem, Warning, shown};
use serde_json::{Map, Value as Json};
use std::sync::Arc;

/// The name of the layer, as problems and origins have it.
pub const PLACE: &str = "runtime";

/// What was said for the moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides(Map<String, Json>);

impl Overrides {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As JSON.
    pub fn json(&self) -> Json {
        Json::Object(self.0.clone())
    }

    /// Each that was said, with its path: `services.orders.collect.client_list`, `true`.
    pub fn list(&self) -> Vec<(String, String)> {
        let mut list = vec![];
        flatten(&self.0, "", &mut list);
        list
    }

    /// These with a merge patch on top: `null` takes one back. `rows` says which keys there are, and which of them may be
    /// said for the moment.
    pub fn patched(&self, patch: &Json, rows: &[Row]) -> Result<Self, Vec<Problem>> {
        let mut problems = vec![];
        match patch {
            Json::Object(patch) => judge(patch, rows, "", &mut problems),
            _ => problems.push(problem("", "is no object; expected keys of the configuration file")),
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut all = self.0.clone();
        if let Json::Object(patch) = patch {
            merge(&mut all, patch);
        }
        Ok(Self(all))
    }

    /// The layer over these documents. What is said of a service or output that is there no more has no effect.
    pub(super) fn tree(&self, root: &Node, warnings: &mut Vec<Warning>) -> Node {
        let mut entries = vec![];
        for (key, value) in &self.0 {
            let value = match value {
                Json::Object(items) if is_by_name(key) => {
                    let known = root.get(key).map(Node::items).unwrap_or_default();
                    let mut list = vec![];
                    for (name, item) in items {
                        if known.iter().any(|known| known.get("name").and_then(Node::text) == Some(name)) {
                            list.push(named(name, item));
                        } else {
                            let place = format!("{PLACE}: {key}.{}", shown(name));
                            warnings.push(Warning {
                                place,
                                message: "without effect: there is none of that name".into(),
                            });
                        }
                    }
                    if list.is_empty() {
                        continue;
                    }
                    node(Value::Sequence(list))
                }
                value => of_json(value),
            };
            entries.push(Entry { key: key.clone(), mark: mark(), value });
        }
        node(if entries.is_empty() { nothing() } else { Value::Mapping(entries) })
    }

    /// The names of services or outputs of which something is said.
    pub fn names(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0
            .get(key)
            .and_then(Json::as_object)
            .into_iter()
            .flat_map(|items| items.keys().map(String::as_str))
    }
}

fn is_by_name(key: &str) -> bool {
    matches!(key, "services" | "outputs")
}

fn problem(path: &str, message: &str) -> Problem {
    Problem { place: path.into(), message: message.into() }
}

/// Whether all of it may be said for the moment.
fn judge(patch: &Map<String, Json>, rows: &[Row], before: &str, problems: &mut Vec<Problem>) {
    for (key, value) in patch {
        let plain = key.len() <= 64 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let path = format!("{before}{}", if plain { key.clone() } else { shown(key) });
        let Some(row) = rows.iter().find(|row| row.key == key) else {
            problems.push(problem(&path, "there is no such key"));
            continue;
        };
        match value {
            Json::Null if !row.nested.is_empty() => {}
            Json::Object(items) if row.each && is_by_name(key) => {
                for (name, item) in items {
                    let path = format!("{path}.{}", shown(name).trim_matches('"'));
                    match item {
                        Json::Null => {}
                        Json::Object(item) => judge(item, &row.nested, &format!("{path}."), problems),
                        _ => problems.push(problem(&path, "is no object; expected keys of it")),
                    }
                }
            }
            Json::Object(items) if !row.each && !row.nested.is_empty() => {
                judge(items, &row.nested, &format!("{path}."), problems);
            }
            _ if !row.nested.is_empty() => problems.push(problem(
                &path,
                match row.each && is_by_name(key) {
                    true => "is no object; expected one with names as its keys",
                    false => "is no object; expected keys of it",
                },
            )),
            _ if !row.tunable => {
                problems.push(problem(&path, "cannot be changed for the moment; expected it in a document"))
            }
            Json::Object(_) | Json::Array(_) => problems.push(problem(&path, "is no single value")),
            _ => {}
        }
    }
}

/// RFC 7396, and objects that become empty go.
fn merge(into: &mut Map<String, Json>, patch: &Map<String, Json>) {
    for (key, value) in patch {
        match value {
            Json::Null => _ = into.remove(key),
            Json::Object(items) => {
                let slot = into.entry(key).or_insert_with(|| Json::Object(Map::new()));
                if !slot.is_object() {
                    *slot = Json::Object(Map::new());
                }
                if let Json::Object(slot) = slot {
                    merge(slot, items);
                    if slot.is_empty() {
                        into.remove(key);
                    }
                }
            }
            value => _ = into.insert(key.clone(), value.clone()),
        }
    }
}

fn flatten(items: &Map<String, Json>, before: &str, list: &mut Vec<(String, String)>) {
    for (key, value) in items {
        match value {
            Json::Object(items) => flatten(items, &format!("{before}{key}."), list),
            Json::String(text) => list.push((format!("{before}{key}"), text.clone())),
            value => list.push((format!("{before}{key}"), value.to_string())),
        }
    }
}

fn mark() -> Mark {
    Mark { document: Arc::from(PLACE), line: 0, column: 0 }
}

fn node(value: Value) -> Node {
    Node { mark: mark(), value }
}

fn nothing() -> Value {
    Value::Scalar { text: String::new(), plain: true }
}

/// An item of a list with its name.
fn named(name: &str, item: &Json) -> Node {
    let name = Entry {
        key: "name".into(),
        mark: mark(),
        value: node(Value::Scalar { text: name.into(), plain: false }),
    };
    let rest = match of_json(item).value {
        Value::Mapping(entries) => entries,
        _ => vec![],
    };
    node(Value::Mapping([name].into_iter().chain(rest).collect()))
}

fn of_json(value: &Json) -> Node {
    node(match value {
        Json::Null => nothing(),
        Json::Bool(_) | Json::Number(_) => Value::Scalar { text: value.to_string(), plain: true },
        Json::String(text) => Value::Scalar { text: text.clone(), plain: false },
        Json::Array(items) => Value::Sequence(items.iter().map(of_json).collect()),
        Json::Object(items) => {
            let entry = |(key, value): (&String, &Json)| Entry {
                key: key.clone(),
                mark: mark(),
                value: of_json(value),
            };
            Value::Mapping(items.iter().map(entry).collect())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document::rows;
    use serde_json::json;

    #[test]
    fn a_patch_adds_changes_and_takes_back() {
        fn check(before: Json, patch: Json, expected: Json) {
            let Json::Object(before) = before else { panic!("an object") };
            let patched = Overrides(before).patched(&patch, &rows());
            assert_eq!(patched.map(|overrides| overrides.json()), Ok(expected), "{patch}");
        }
        check(json!({}), json!({}), json!({}));
        check(json!({}), json!({"log": {"level": "debug"}}), json!({"log": {"level": "debug"}}));
        let both = json!({"health": {"failures_to_down": 5}, "log": {"level": "debug"}});
        check(both.clone(), json!({"log": null}), json!({"health": {"failures_to_down": 5}}));
        check(both.clone(), json!({"log": {"level": null}}), json!({"health": {"failures_to_down": 5}}));
        check(both.clone(), json!({"log": {"level": null}, "health": null}), json!({}));
        check(
            both,
            json!({"health": {"failures_to_down": 6}}),
            json!({"health": {"failures_to_down": 6}, "log": {"level": "debug"}}),
        );
        let orders = json!({"services": {"orders": {"collect": {"client_list": true}}}});
        check(json!({}), orders.clone(), orders.clone());
        check(orders.clone(), json!({"services": {"orders": null}}), json!({}));
        check(orders, json!({"services": {"orders": {"collect": {"client_list": null}}}}), json!({}));
    }

    #[test]
    fn only_some_keys_may_be_said_for_the_moment() {
        fn check(patch: Json, expected: &str) {
            let problems = Overrides::default().patched(&patch, &rows()).expect_err("a problem");
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(expected), "{patch}: {problems:?}");
        }
        check(json!([]), ": is no object");
        check(json!({"zzz": 1}), "zzz: there is no such key");
        check(json!({"a\nb": 1}), "\"a\\nb\": there is no such key");
        check(json!({"global": {"job": "x"}}), "global.job: cannot be changed for the moment");
        check(json!({"global": {"job": null}}), "global.job: cannot be changed for the moment");
        check(json!({"global": 1}), "global: is no object");
        check(json!({"health": {"failures_to_down": [1]}}), "health.failures_to_down: is no single value");
        check(json!({"services": []}), "services: is no object; expected one with names");
        check(json!({"services": {"a": 1}}), "services.a: is no object");
        check(json!({"services": {"a": {"dns": true}}}), "services.a.dns: cannot be changed");
        check(
            json!({"services": {"a": {"collect": {"check_keys": ["x"]}}}}),
            "services.a.collect.check_keys: cannot be changed",
        );
        check(json!({"credentials": {"p": {"password": "x"}}}), "credentials: is no object");
        check(
            json!({"outputs": {"m": {"remote_write": {"url": "x"}}}}),
            "outputs.m.remote_write.url: cannot be changed",
        );
    }
}
