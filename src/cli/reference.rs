//! `docs/flags.md`, written from the table of flags. `tests/flags.rs` compares the file with this text and
//! writes it where `UPDATE=1` is set.

use super::help::{choices, usage};
use crate::config::compat::flags::{Flag, GROUPS, Set};

/// The whole page.
pub fn page() -> String {
    let mut page = String::from(
        "# Flags and variables\n\n\
         This page is written from the table in `src/config/compat/flags.rs`: `UPDATE=1 cargo test --test flags`.\n\n\
         A flag is `--name=value` or `--name value`, with one dash or two; a switch is `--name` or \
         `--name=false`. The command line wins over the environment, and of a flag that is given twice the last \
         one counts, but for those that may be repeated. A variable that is empty is an empty text; for switches \
         and numbers it is as if it were not set. All that is wrong is told at once, one line each, and the exit \
         code is 2.\n",
    );
    for group in GROUPS {
        page.push_str(&format!(
            "\n## {}\n\n| flag | variable | kind | default | meaning |\n| --- | --- | --- | --- | --- |\n",
            group.title
        ));
        for flag in group.flags {
            let cells = [usage(flag), flag.env.into(), kind(flag), default(flag), flag.meaning.into()];
            let [usage, env, kind, default, meaning] = cells.map(|cell| cell.replace('|', "\\|"));
            page.push_str(&format!(
                "| {} | {} | {kind} | {} | {meaning} |\n",
                code(&usage),
                code(&env),
                code(&default)
            ));
        }
    }
    page
}

fn code(text: &str) -> String {
    let parts = text.split(", ").filter(|part| !part.is_empty()).map(|part| format!("`{part}`"));
    parts.collect::<Vec<_>>().join(", ")
}

fn default(flag: &Flag) -> String {
    if matches!(flag.set, Set::Action) { String::new() } else { flag.default.into() }
}

fn kind(flag: &Flag) -> String {
    match flag.set {
        Set::Switch(_) => "switch".into(),
        Set::Integer(..) => "whole number".into(),
        Set::Duration(_) => "duration, such as `15s`, `500ms`, `1m30s`".into(),
        Set::Secret(_) => "secret".into(),
        Set::File(_) => "file".into(),
        Set::Choice(..) => code(&choices(flag).join(", ")),
        Set::Repeated(_) => "may be repeated".into(),
        Set::Text(_) | Set::Parsed(_) => "text".into(),
        Set::Action => "action".into(),
    }
}
