//! The order of the rooms and the house rules, held by reading the source.
//!
//! `src/lib.rs` lists the rooms; a room may name itself and rooms above it. What is found wrong is said
//! with file and line.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Pairs that the order alone would allow but the design does not (DESIGN: "may name").
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("resilience", &["telemetry"]),
    ("peers", &["source", "connect"]),
    ("collect", &["net", "source"]),
    ("detect", &["net", "source", "connect"]),
    ("deliver", &["source", "connect", "detect", "scrape"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).expect("a folder of the project").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The rooms in their order, from the `pub mod` lines of `src/lib.rs`.
fn rooms() -> Vec<String> {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let name = |line: &str| Some(line.strip_prefix("pub mod ")?.split_once(';')?.0.to_owned());
    lib.lines().filter_map(name).collect()
}

/// The room of a file: `src/connect/dial.rs` and `src/cli.rs` are in `connect` and `cli`.
fn room(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("a file below src");
    let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.strip_suffix(".rs").unwrap_or(&first).to_owned()
}

/// The rooms that a line names: `crate::connect::Kind`, `use crate::{config, connect::Kind};`.
fn named(line: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let code = line.split("//").next().unwrap_or_default();
    let mut found = vec![];
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => {
                let mut depth = 0;
                let mut item = String::new();
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => found.push(word(std::mem::take(&mut item).trim())),
                        _ if depth == 0 => item.push(c),
                        _ => {}
                    }
                }
                found.push(word(item.trim()));
            }
            None => found.push(word(rest)),
        }
    }
    found
}

/// Lines of a file that ship: all before the tests at its foot.
fn shipped(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.lines().position(|line| line == "#[cfg(test)]").unwrap_or(usize::MAX);
    text.lines().enumerate().take(end).map(|(i, line)| (i + 1, line))
}

fn check(faults: BTreeSet<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn imports_point_up_the_list_of_rooms() {
    let rooms = rooms();
    assert!(rooms.len() > 5, "src/lib.rs lists the rooms as `pub mod name;`");
    let place = |name: &str| rooms.iter().position(|room| room == name);
    let mut faults = BTreeSet::new();
    for path in files(&root().join("src")) {
        let own = room(&path);
        let Some(own_place) = place(&own) else { continue };
        let text = fs::read_to_string(&path).expect("a source file");
        for (number, line) in text.lines().enumerate() {
            for other in named(line) {
                let Some(other_place) = place(&other) else { continue };
                let barred = FORBIDDEN.iter().any(|(r, no)| *r == own && no.contains(&other.as_str()));
                if other_place > own_place || barred {
                    let path = path.strip_prefix(root()).expect("inside").display();
                    faults.insert(format!("{path}:{}: `{own}` may not name `{other}`", number + 1));
                }
            }
        }
    }
    check(faults);
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut all = files(&root().join("src"));
    all.extend(files(&root().join("crates")));
    all.extend(files(&root().join("tests")));
    let silent = all.iter().filter(|path| {
        !path.components().any(|c| c.as_os_str() == "target")
            && !fs::read_to_string(path).expect("a source file").starts_with("//!")
    });
    check(silent.map(|path| format!("{}: does not open with `//!`", path.display())).collect());
}

#[test]
fn no_room_is_called_by_what_it_is_not() {
    let vague = ["util", "utils", "helper", "helpers", "manager", "common", "misc"];
    let stem =
        |path: &PathBuf| path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let found = files(&root().join("src")).into_iter().filter(|path| vague.contains(&stem(path).as_str()));
    check(found.map(|path| format!("{}: a name that says nothing", path.display())).collect());
}

#[test]
fn house_rules_hold() {
    /// A text that may stand only in files whose path holds one of these.
    const RULES: &[(&str, &[&str], &str)] = &[
        ("tokio::spawn", &["src/daemon/tasks.rs"], "only daemon/tasks starts tasks that nobody owns"),
        (
            "unbounded_channel",
            &[],
            "a channel has a bound, and a line that says what happens when it is full",
        ),
        ("process::exit", &[], "only main ends the process, by returning"),
        (
            ".expose()",
            &["src/config/", "src/connect/", "src/net/", "src/serve/auth"],
            "secrets go where they belong",
        ),
        ("std::thread::sleep", &[], "waiting hears the token"),
    ];
    let mut faults = BTreeSet::new();
    for path in files(&root().join("src")) {
        let shown = path.strip_prefix(root()).expect("inside").display().to_string();
        let text = fs::read_to_string(&path).expect("a source file");
        for (number, line) in shipped(&text) {
            for (word, places, why) in RULES {
                if line.contains(word) && !places.iter().any(|place| shown.starts_with(place)) {
                    faults.insert(format!("{shown}:{number}: {word}: {why}"));
                }
            }
        }
    }
    check(faults);
}

#[test]
fn exposition_is_pure() {
    let mut faults = BTreeSet::new();
    for path in files(&root().join("crates/exposition/src")) {
        let text = fs::read_to_string(&path).expect("a source file");
        for (number, line) in shipped(&text) {
            for word in ["std::fs", "std::net", "std::time", "tokio", "std::env", "std::thread"] {
                if line.split("//").next().is_some_and(|code| code.contains(word)) {
                    faults.insert(format!("{}:{number}: {word} has no place here", path.display()));
                }
            }
        }
    }
    check(faults);
}

#[test]
fn every_dependency_has_its_line_of_reason() {
    let page = fs::read_to_string(root().join("docs/dependencies.md")).expect("docs/dependencies.md");
    let explained: BTreeSet<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|line| line.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2))
        .collect();
    let mut used = BTreeSet::new();
    for manifest in
        ["Cargo.toml", "crates/exposition/Cargo.toml", "tests/support/Cargo.toml", "fuzz/Cargo.toml"]
    {
        let text = fs::read_to_string(root().join(manifest)).expect("a manifest");
        let mut inside = false;
        for line in text.lines() {
            if line.starts_with('[') {
                inside = line.contains("dependencies]");
            } else if inside && let Some((name, _)) = line.split_once([' ', '.', '=']) {
                used.insert(name.to_owned());
            }
        }
    }
    used.remove("redvigil");
    let faults = used.iter().filter(|name| !explained.contains(name.as_str()));
    let mut faults: BTreeSet<_> =
        faults.map(|name| format!("docs/dependencies.md: no line for {name}")).collect();
    let idle = explained.iter().filter(|name| !used.contains(**name));
    faults.extend(idle.map(|name| format!("docs/dependencies.md: {name} is not used")));
    check(faults);
}

#[test]
fn the_reader_of_imports_understands_groups() {
    assert_eq!(named("use crate::{config::Address, connect::{A, B}, net};"), ["config", "connect", "net"]);
    assert_eq!(named("let x = crate::scrape::y; // crate::serve"), ["scrape"]);
}
