//! The flags as operators see them: nothing of redis_exporter's is missing, the page about them is the
//! table's, and the completions complete.

use redvigil::cli::{completions, reference};
use redvigil::config::compat::Shell;
use redvigil::config::compat::flags::{self, Set};
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
fn the_page_about_flags_is_that_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/flags.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().expect("it is a path in a folder")).expect("the folder can be made");
        fs::write(&path, reference::page()).expect("the page can be written");
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(page == reference::page(), "docs/flags.md is old; write it by UPDATE=1 cargo test --test flags");
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
    check(&["redvigil", ""], "help version completions check");
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
