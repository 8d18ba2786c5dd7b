//! `docs/flags.md`, written from the table of flags; `docs/config.md` and `docs/example.yaml`, written from the
//! tables of the configuration file. `tests/flags.rs` compares the files with these texts and writes them where
//! `UPDATE=1` is set.

use super::help::{WIDTH, choices, lines, usage};
use crate::config::compat::flags::{Flag, GROUPS, Set};
use crate::config::document;
use crate::config::document::reader::Row;

/// `docs/flags.md`.
pub fn flags() -> String {
    let mut page = String::from(
        "# Flags and variables\n\n\
         This page is written from the table in `src/config/compat/flags/table.rs`: `UPDATE=1 cargo test --test flags`.\n\n\
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
            let [usage, env, kind, default, meaning] = cells.map(cell);
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

/// `docs/config.md`.
pub fn config() -> String {
    let mut page = String::from(
        "# The configuration file\n\n\
         This page and [example.yaml](example.yaml) are written from the tables in `src/config/document/schema/`: \
         `UPDATE=1 cargo test --test flags`.\n\n\
         `--config.file=redvigil.yaml` names a YAML file. `redvigil check redvigil.yaml` reads it without starting. \
         All that is wrong is told at once, each with line, path and what was expected; unknown keys are wrong, \
         too. What has no effect beside the rest is a warning with line and path: `check` tells it and ends with 0, \
         a start and a reload log it. A key without a value is as if it were not there. Anchors, aliases, tags and a second document are \
         refused. Paths are relative to the folder of the file.\n\n\
         ## Layers and reload\n\n\
         What is said later goes before what is said earlier: defaults, the file, the document of `--config.source`, variables, \
         [flags](flags.md), and what is said for the moment by [`/api/v1/runtime`](api.md). Mappings are merged key by key; `services` and `outputs` \
         item by item, by `name`; any other list is taken whole. `key: null` takes back what an earlier document said. A key that a flag or \
         variable says, too, is without effect, and a warning says so. Problems name document and line, whichever it is. Paths in a remote \
         document begin at the folder of the file, too; without one, where the process runs.\n\n\
         The file, the remote document, and files with passwords and scripts are followed: what changes is in effect within a second, without a \
         restart, and what it is not about goes on as it was. A file that is being written is waited for until it was left alone for a moment; who \
         puts a new one in its place by renaming is safe in any case. A document that becomes empty is refused. \
         `POST /-/reload` and SIGHUP read all of it again, at once. Whatever is wrong changes nothing; the log, `/`, [`/api/v1/config`](api.md) and `redvigil_config_last_reload_successful` say what. A remote document that was good is \
         kept below `--storage.path`, and used at a start when nobody answers within ten seconds.\n\n\
         Keys with *runtime* behind them may be said for the moment; a change of one with *restart* counts at the next start, and the log, `/` and \
         `/api/v1/config` say so. All others count at once. Flags and variables are read at the start alone.\n\n\
         `redvigil migrate [--prometheus prometheus.yml] [flags]` writes such a file from the flags, variables and \
         password file of a redis_exporter, and from the jobs of the Prometheus that asks it for many targets. What \
         could not be carried over, such as jobs whose targets no exporter is asked for, is told on stderr and stands \
         there as a comment.\n\n\
         Durations are whole numbers with units, the largest first: `15s`, `5m`, `1h30m`, `500ms`, `1d`. Sizes are \
         whole numbers with a unit: `KiB`, `MiB`, `GiB` and `TiB` are powers of 1024, `kB`, `MB`, `GB` and `TB` of 1000.\n\n\
         ## The whole document\n\n",
    );
    describe(&document::rows(), "", &mut page);
    page
}

/// A table of the keys below `path`, and one for each mapping among them.
fn describe(rows: &[Row], path: &str, page: &mut String) {
    page.push_str("| field | what it is | default | meaning |\n| --- | --- | --- | --- |\n");
    let below = |row: &Row| format!("{path}{}{}", row.key, if row.each { "[]" } else { "" });
    for row in rows {
        let kind = match (row.nested.is_empty(), row.each) {
            (true, _) => row.kind.as_str(),
            (false, true) => "a list of mappings",
            (false, false) => "a mapping",
        };
        let default = if row.required { "must be given".into() } else { code(&cell(row.default.into())) };
        let marks = [(row.tunable, " *runtime*"), (row.restart, " *restart*")];
        let marks: String = marks.into_iter().filter(|(is_so, _)| *is_so).map(|(_, mark)| mark).collect();
        let meaning = format!("{}{marks}", row.meaning);
        let cells = [kind, &meaning].map(|text| cell(text.into()));
        page.push_str(&format!("| `{path}{}` | {} | {default} | {} |\n", row.key, cells[0], cells[1]));
    }
    for row in rows.iter().filter(|row| !row.nested.is_empty() && !is_told_elsewhere(path, row)) {
        page.push_str(&format!("\n## {}\n\n{}\n\n", below(row), row.meaning));
        describe(&row.nested, &format!("{}.", below(row)), page);
    }
}

/// `services[].collect` has the keys of `collect`, `sentinel_tls` those of `tls`, and `otlp` many of `remote_write`.
fn is_told_elsewhere(path: &str, row: &Row) -> bool {
    let is_twice = path.ends_with(".otlp.") && matches!(row.key, "basic_auth" | "tls");
    is_twice || !path.is_empty() && matches!(row.key, "collect" | "sentinel_tls")
}

/// `docs/example.yaml`.
pub fn example() -> String {
    let mut text = String::from(
        "# A configuration file with every key: docs/config.md says more. Values that are not said otherwise are the\n\
         # defaults. What is commented out needs a file, or takes the place of something else.\n\
         #\n\
         # This file is written from the tables in src/config/document/schema/: UPDATE=1 cargo test --test flags\n",
    );
    for row in document::rows() {
        text.push('\n');
        write_example(&row, "", "", &mut text);
    }
    text
}

/// A field with its meaning above. `dash` begins an item of a list.
fn write_example(row: &Row, indent: &str, dash: &str, text: &mut String) {
    for line in lines(row.meaning, WIDTH - indent.len() - 2) {
        text.push_str(&format!("{indent}# {line}\n"));
    }
    let start = format!("{indent}{dash}{}{}:", if row.aside { "# " } else { "" }, row.key);
    if !row.example.is_empty() {
        text.push_str(&format!("{start} {}\n", row.example));
        return;
    }
    text.push_str(&format!("{start}\n"));
    let indent = format!("{indent}{}  ", " ".repeat(dash.len()));
    for (index, nested) in row.nested.iter().enumerate() {
        match (row.each, index) {
            (true, 0) => write_example(nested, &indent, "- ", text),
            (true, _) => write_example(nested, &format!("{indent}  "), "", text),
            (false, _) => write_example(nested, &indent, "", text),
        }
    }
    text.push_str(row.more);
}

fn cell(text: String) -> String {
    text.replace('|', "\\|")
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
