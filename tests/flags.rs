//! The flags as operators see them: nothing of redis_exporter's is missing, the page about them is the
//! table's, and the completions complete.

use redvigil::cli::{completions, reference};
use redvigil::config::compat::Shell;
use redvigil::config::compat::flags::{self, Set};
use redvigil::config::document::Sources;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn every_flag_of_redis_exporter_is_here_with_its_variable_and_default() {
    let table = include_str!("fixtures/compat/flags.tsv");
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 59);
    for row in rows {
        let [name, env, kind, default, _] = row[..] else { panic!("{row:?}") };
        let flag = flags::find(name).unwrap_or_else(|| panic!("--{name} is missing"));
        assert_eq!((flag.name, flag.env, flag.default), (name, env, default));
        let found = match flag.set {
            Set::Switch(_) | Set::Action => "bool",
            Set::Integer(..) => "int64",
            _ => "string",
        };
        assert_eq!(found, kind, "--{name}");
    }
}

#[test]
fn every_flag_of_ours_has_a_variable_of_its_own() {
    let mut envs: Vec<&str> = flags::all().map(|flag| flag.env).filter(|env| !env.is_empty()).collect();
    envs.sort_unstable();
    let all = envs.len();
    envs.dedup();
    assert_eq!(envs.len(), all);
    let mut names: Vec<&str> = flags::all().flat_map(|flag| flag.names()).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    for flag in flags::all().filter(|flag| flag.env.starts_with("REDVIGIL_")) {
        let upper = flag.name.to_ascii_uppercase().replace(['.', '-'], "_");
        assert_eq!(flag.env, format!("REDVIGIL_{upper}"));
    }
}

#[test]
fn the_pages_are_those_of_the_tables() {
    for (name, text) in [
        ("docs/flags.md", reference::flags()),
        ("docs/config.md", reference::config()),
        ("docs/example.yaml", reference::example()),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &text).expect("the page can be written");
        }
        let page = fs::read_to_string(&path).unwrap_or_default();
        assert!(page == text, "{name} is old; write it by UPDATE=1 cargo test --test flags");
    }
}

#[test]
fn the_example_is_a_document_and_so_is_all_that_it_comments_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |text: &str| {
        let path = folder.path().join("example.yaml");
        fs::write(&path, text).expect("a file");
        let sources = Sources { file: Some(path), ..Sources::default() };
        sources
            .load_file(|_| None)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let example = reference::example();
    let loaded = check(&example).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!((loaded.config.discover.services.len(), loaded.warnings), (4, vec![]));
    // Whatever is commented out is a key of that place: all that can be wrong is what it says there.
    let aside = |line: &str| line.trim_start().strip_prefix("# ").is_some_and(is_key);
    let mut found = 0;
    for (index, _) in example.lines().enumerate().filter(|(_, line)| aside(line)) {
        let lines = example.lines().enumerate();
        let text = lines.map(|(at, line)| if at == index { line.replacen("# ", "", 1) } else { line.into() });
        let text = text.collect::<Vec<_>>().join("\n");
        let problems = check(&text).err().unwrap_or_default();
        let harmless = ["cannot be combined with", "cannot be read", "is not set", "needs "];
        for problem in problems {
            assert!(harmless.iter().any(|text| problem.contains(text)), "line {}: {problem}", index + 1);
        }
        found += 1;
    }
    assert!(found > 15, "{found}");
}

/// `key: value`, and no sentence.
fn is_key(text: &str) -> bool {
    text.split_once(": ").is_some_and(|(key, _)| {
        key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
    })
}

#[test]
fn bash_completes_flags_and_values() {
    fn check(words: &[&str], expected: &str) {
        let program = format!(
            "{}\nCOMP_WORDS=({}); COMP_CWORD={}; _redvigil; echo \"${{COMPREPLY[*]}}\"",
            completions::script(Shell::Bash),
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            words.len() - 1
        );
        let output = Command::new("bash").args(["--norc", "-c", &program]).output().expect("bash runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), expected, "{words:?}");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    check(&["redvigil", ""], "help version completions check migrate");
    check(&["redvigil", "migrate", "--prometheus", "Cargo.t"], "Cargo.toml");
    check(&["redvigil", "check", "Cargo.t"], "Cargo.toml");
    check(&["redvigil", "completions", ""], "bash zsh fish");
    check(&["redvigil", "--check-single"], "--check-single-keys= --check-single-streams=");
    check(&["redvigil", "--deb"], "--debug");
    check(&["redvigil", "--log-format", "=", "j"], "json");
    check(&["redvigil", "--log-format", "="], "txt json");
    check(&["redvigil", "--log.format", ""], "txt json");
    check(&["redvigil", "--debug", "=", ""], "true false");
    check(&["redvigil", "--debug", "--redis.addr"], "--redis.addr=");
    check(&["redvigil", "--redis.addr", "=", ""], "");
    check(&["redvigil", "--script", "=", "Cargo.t"], "Cargo.toml");
    check(&["redvigil", "--tls-ca-cert-file", "Cargo.l"], "Cargo.lock");
}

#[test]
fn every_shell_knows_every_flag() {
    for (shell, form) in [(Shell::Bash, "--"), (Shell::Zsh, "'--"), (Shell::Fish, "-l ")] {
        let script = completions::script(shell);
        for name in flags::all().flat_map(|flag| flag.names()).filter(|name| name.len() > 1) {
            let is_there = ["=", " ", "[", "'"].iter().any(|end| {
                script.contains(&format!("{form}{name}{end}")) || script.contains(&format!("'*--{name}{end}"))
            });
            assert!(is_there, "{shell:?}: {name}");
        }
    }
}
