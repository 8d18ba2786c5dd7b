//! Several documents as one tree: what stands later wins, key by key.
//!
//! A mapping is merged with the mapping below it; `services` and `outputs` at the top item by item, by `name`; anything
//! else is taken whole. A key that says nothing in a later document takes back what an earlier one said. Every node keeps
//! its own mark, so a merged tree still says who said what.
//!
//! What a newcomer would get wrong: nothing is judged here. What is given twice in one document is there twice in the
//! result, and who reads the tree complains.

use super::tree::{Entry, Node, Value};
use crate::config::problem::Warning;
use std::collections::HashMap;

/// Lists at the top whose items are merged by their name.
const NAMED: [&str; 2] = ["services", "outputs"];

/// A flag or variable that was said, and of which there is a key, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The key with its path: `collect.client_list`.
    pub key: String,
    /// Who said it: `--export-client-list`, `REDIS_EXPORTER_EXPORT_CLIENT_LIST`.
    pub place: String,
    /// What was said, as it was written.
    pub text: String,
}

/// One document over another. One without a word changes nothing.
pub fn merge(under: Node, over: Node) -> Node {
    if over.is_nothing() { under } else { merge_at(under, over, true) }
}

fn merge_at(under: Node, over: Node, is_top: bool) -> Node {
    match (under.value, over) {
        (Value::Mapping(below), Node { value: Value::Mapping(above), mark }) => {
            let key = |entry: &Entry| Some(entry.key.clone());
            let entries = join(below, above, key, |under, over| {
                let is_named = is_top && NAMED.contains(&over.key.as_str());
                let merged = if is_named { merge_named } else { |under, over| merge_at(under, over, false) };
                Entry { value: merged(under.value, over.value), ..over }
            });
            Node { mark, value: Value::Mapping(entries) }
        }
        (_, over) => over,
    }
}

/// Items of the same name become one, at the place of the first; the others stand behind.
fn merge_named(under: Node, over: Node) -> Node {
    match (under.value, over) {
        (Value::Sequence(below), Node { value: Value::Sequence(above), mark }) => {
            let name = |item: &Node| item.get("name").and_then(Node::text).map(str::to_owned);
            let items = join(below, above, name, |under, over| merge_at(under, over, false));
            Node { mark, value: Value::Sequence(items) }
        }
        (_, over) => over,
    }
}

/// Puts the first of each name in `above` onto the first of that name in `below`; the others stand behind.
fn join<T>(below: Vec<T>, above: Vec<T>, name: fn(&T) -> Option<String>, both: impl Fn(T, T) -> T) -> Vec<T> {
    let mut places = HashMap::new();
    for (place, item) in above.iter().enumerate() {
        if let Some(name) = name(item) {
            places.entry(name).or_insert(place);
        }
    }
    let mut above: Vec<_> = above.into_iter().map(Some).collect();
    let mut joined = Vec::with_capacity(below.len() + above.len());
    for under in below {
        // Taken, so that a second one of that name stays a second one.
        let place = name(&under).and_then(|name| places.remove(&name));
        joined.push(match place.and_then(|place| above[place].take()) {
            Some(over) => both(under, over),
            None => under,
        });
    }
    joined.extend(above.into_iter().flatten());
    joined
}

/// Takes out what flags and variables say, for they go before documents; tells where that says something.
pub fn prune(root: &mut Node, said: &[Said]) -> Vec<Warning> {
    let mut warnings = vec![];
    for Said { key, place, .. } in said {
        let mut node = &mut *root;
        let mut steps = key.split('.').peekable();
        while let (Some(step), Value::Mapping(entries)) = (steps.next(), &mut node.value) {
            if steps.peek().is_none() {
                entries.retain(|entry| {
                    let is_it = entry.key == step;
                    if is_it && !entry.value.is_nothing() {
                        let place_in = format!("{}: {key}", entry.value.mark);
                        warnings.push(Warning { place: place_in, message: format!("overridden by {place}") });
                    }
                    !is_it
                });
                break;
            }
            let Some(entry) = entries.iter_mut().find(|entry| entry.key == step) else { break };
            node = &mut entry.value;
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::super::tree::{self, Mark};
    use super::*;

    /// With the name of the document behind each scalar.
    fn shown(node: &Node) -> String {
        let join = |items: Vec<String>| items.join(" ");
        match &node.value {
            Value::Scalar { .. } if node.is_nothing() => "~".into(),
            Value::Scalar { text, .. } => format!("{text}@{}", node.mark),
            Value::Sequence(items) => format!("[{}]", join(items.iter().map(shown).collect())),
            Value::Mapping(entries) => {
                let entry = |entry: &Entry| format!("{}={}", entry.key, shown(&entry.value));
                format!("{{{}}}", join(entries.iter().map(entry).collect()))
            }
        }
    }

    fn parse(name: &str, text: &str) -> Node {
        tree::parse(name, text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"))
    }

    #[test]
    fn later_documents_win_key_by_key() {
        fn check(under: &str, over: &str, expected: &str) {
            let merged = merge(parse("a", under), parse("b", over));
            assert_eq!(shown(&merged), expected, "{under} | {over}");
        }
        check("x: 1", "", "{x=1@a:1}");
        check("", "x: 1", "{x=1@b:1}");
        check("", "", "~");
        check("x: 1", "x: 2", "{x=2@b:1}");
        check("x: 1\ny: 2", "z: 3\n\nx: 4", "{x=4@b:3 y=2@a:2 z=3@b:1}");
        check("x: {p: 1, q: 2}", "x: {q: 3, r: 4}", "{x={p=1@a:1 q=3@b:1 r=4@b:1}}");
        // Nothing takes back.
        check("x: {p: 1, q: 2}", "x: {p: ~}", "{x={p=~ q=2@a:1}}");
        check("x: {p: 1}", "x:", "{x=~}");
        // Other lists, and what is of another kind, whole.
        check("x: [1, 2]", "x: [3]", "{x=[3@b:1]}");
        check("x: {p: 1}", "x: 2", "{x=2@b:1}");
        check("x: 1", "x: {p: 2}", "{x={p=2@b:1}}");
        check("[1]", "[2]", "[2@b:1]");
        // What is given twice is there twice.
        check("x: 1\nx: 2", "x: 3\nx: 4", "{x=3@b:1 x=2@a:2 x=4@b:2}");
    }

    #[test]
    fn services_and_outputs_are_merged_by_name() {
        fn check(under: &str, over: &str, expected: &str) {
            let of = |name, text| parse(name, &format!("services: {text}"));
            let merged = shown(&merge(of("a", under), of("b", over)));
            assert_eq!(merged, format!("{{services={expected}}}"), "{under} | {over}");
        }
        check("[{name: p, x: 1}]", "[{name: q}]", "[{name=p@a:1 x=1@a:1} {name=q@b:1}]");
        check(
            "[{name: p, x: 1}, {name: q}]",
            "[{name: r}, {name: q, x: 2}, {y: 3, name: p}]",
            "[{name=p@b:1 x=1@a:1 y=3@b:1} {name=q@b:1 x=2@b:1} {name=r@b:1}]",
        );
        check("[{name: p, l: [1]}]", "[{name: p, l: [2]}]", "[{name=p@b:1 l=[2@b:1]}]");
        // Only at the top.
        check(
            "[{name: p, outputs: [{name: i, x: 1}]}]",
            "[{name: p, outputs: [{name: i}]}]",
            "[{name=p@b:1 outputs=[{name=i@b:1}]}]",
        );
        check("[{x: 1}, 2]", "[{x: 3}, 4]", "[{x=1@a:1} 2@a:1 {x=3@b:1} 4@b:1]");
        check(
            "[{name: p}, {name: p}]",
            "[{name: p, x: 1}, {name: p, x: 2}]",
            "[{name=p@b:1 x=1@b:1} {name=p@a:1} {name=p@b:1 x=2@b:1}]",
        );
        check("[{name: p}]", "~", "~");
        check("~", "[{name: p}]", "[{name=p@b:1}]");
    }

    #[test]
    fn what_a_flag_says_is_taken_out_and_told() {
        fn check(text: &str, key: &str, expected: &str, told: &[&str]) {
            let mut root = parse("f", text);
            let said = [Said { key: key.into(), place: "--flag".into(), text: String::new() }];
            let warnings: Vec<_> = prune(&mut root, &said).iter().map(ToString::to_string).collect();
            assert_eq!(
                (shown(&root).as_str(), &*warnings),
                (expected, &told.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>()[..]),
                "{text}"
            );
        }
        check("x: {p: 1, q: 2}", "x.q", "{x={p=1@f:1}}", &["f:1: x.q: overridden by --flag"]);
        check("x: {p: 1}", "x.q", "{x={p=1@f:1}}", &[]);
        check("x: 1", "x.q", "{x=1@f:1}", &[]);
        check("", "x.q", "~", &[]);
        check("x: {q: ~}", "x.q", "{x={}}", &[]);
        check(
            "x:\n  q: 1\n  q: 2",
            "x.q",
            "{x={}}",
            &["f:2: x.q: overridden by --flag", "f:3: x.q: overridden by --flag"],
        );
    }

    #[test]
    fn a_merge_of_many_services_keeps_their_order() {
        let item = |name: usize, document: &str| {
            let mark = Mark { document: document.into(), line: 1, column: 1 };
            let value = Value::Scalar { text: name.to_string(), plain: true };
            let name =
                Entry { key: "name".into(), mark: mark.clone(), value: Node { mark: mark.clone(), value } };
            Node { mark, value: Value::Mapping(vec![name]) }
        };
        let list = |names: Vec<usize>, document: &str| {
            let items = names.into_iter().map(|name| item(name, document)).collect();
            Node {
                mark: Mark { document: document.into(), line: 1, column: 1 },
                value: Value::Sequence(items),
            }
        };
        let merged = merge_named(list((0..5000).collect(), "a"), list((2500..7500).rev().collect(), "b"));
        let names: Vec<_> = merged
            .items()
            .iter()
            .map(|item| item.get("name").and_then(Node::text).unwrap_or_default())
            .collect();
        assert_eq!((names.len(), names[0], names[4999], names[5000]), (7500, "0", "4999", "7499"));
    }
}
