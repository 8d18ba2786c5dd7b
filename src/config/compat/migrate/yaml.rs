//! Single values as YAML.

use crate::config::collect::KeyPattern;
use std::path::{Path, PathBuf};

/// Patterns by comma as a list; those that the exporter skips are left out.
pub(super) fn keys(text: &str) -> String {
    let items = text.split(',').map(str::trim);
    let good = items.filter(|item| KeyPattern::parse_list(item).is_ok_and(|patterns| patterns.len() == 1));
    let mut items: Vec<String> = vec![];
    for item in good {
        if !items.iter().any(|known| KeyPattern::parse_list(known) == KeyPattern::parse_list(item)) {
            items.push(item.into());
        }
    }
    list(items)
}

/// The reader takes nothing twice.
pub(super) fn distinct(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut known: Vec<String> = vec![];
    for item in items {
        if !known.contains(&item) {
            known.push(item);
        }
    }
    known
}

pub(super) fn list(items: Vec<String>) -> String {
    format!("[{}]", items.iter().map(|item| json(item)).collect::<Vec<_>>().join(", "))
}

/// A path that means the same wherever the result is put.
pub(super) fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path)).display().to_string()
}

/// A text as YAML, without quotes where it needs none.
pub(super) fn quoted(text: &str) -> String {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./-".contains(&b));
    let means_something = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if is_word && !means_something.contains(&text.to_ascii_lowercase().as_str()) {
        text.into()
    } else {
        json(text)
    }
}

/// A text in quotes: those of JSON are good YAML.
pub(super) fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text in a comment, which ends with the line.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') { ' ' } else { c })
        .collect()
}
