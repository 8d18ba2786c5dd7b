//! A key of Consul.

use crate::follow::Following;
use redvigil::source::{Kind, LARGEST};
use std::time::Duration;
use testbed::Consul;

/// The real one where there is one, and the double.
fn both(token: Option<&str>) -> Vec<Consul> {
    let first = token.map_or_else(Consul::start, Consul::with_token);
    vec![first, Consul::double(token)]
}

fn url(consul: &Consul, query: &str) -> String {
    format!("consul://127.0.0.1:{}/redvigil/config{query}", consul.port())
}

#[test]
fn a_key_that_comes_changes_and_goes_is_followed() {
    for consul in both(None) {
        let kind = consul.kind();
        let mut following = Following::start(&url(&consul, ""));
        following.fails(Kind::Missing, None);
        following.changes(&kind, "a: 1", || consul.put("redvigil/config", b"a: 1"));
        let version = following.state().latest.expect("a document").version;
        for number in 2..6 {
            let text = format!("a: {number}");
            following.changes(&kind, &text, || consul.put("redvigil/config", text.as_bytes()));
        }
        assert_ne!(following.state().latest.expect("a document").version, version);
        consul.put("redvigil/other", b"x");
        following.is_quiet(Duration::from_millis(500));
        consul.delete("redvigil/config");
        following.fails(Kind::Missing, Some("a: 5"));
        following.changes(&kind, "a: 6", || consul.put("redvigil/config", b"a: 6"));
        // Not as text, but empty, or long.
        following.changes(&kind, "", || consul.put("redvigil/config", b""));
        let long = "# a long line of nothing\n".repeat(10_000);
        following.changes(&kind, &long, || consul.put("redvigil/config", long.as_bytes()));
    }
}

#[test]
fn one_that_comes_back_has_forgotten_its_indexes() {
    for mut consul in both(None) {
        for number in 0..20 {
            consul.put("redvigil/config", format!("a: {number}").as_bytes());
        }
        let following = Following::start(&url(&consul, ""));
        following.until("a: 19");
        consul.go_down();
        following.fails(Kind::Unreachable, Some("a: 19"));
        consul.come_back();
        // With an index far below what was waited on.
        following.fails(Kind::Missing, Some("a: 19"));
        let kind = consul.kind();
        following.changes(&kind, "b: 1", || consul.put("redvigil/config", b"b: 1"));
        following.changes(&kind, "b: 2", || consul.put("redvigil/config", b"b: 2"));
    }
}

#[test]
fn who_has_no_token_or_a_wrong_one_is_refused_until_the_file_has_another() {
    for consul in both(Some("hunter2")) {
        consul.put("redvigil/config", b"a: 1");
        Following::start(&url(&consul, "")).fails(Kind::Refused, None);
        Following::start(&url(&consul, "?token_env=WRONG")).fails(Kind::Refused, None);
        Following::start(&url(&consul, "?token_env=RIGHT")).until("a: 1");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "hunter3\n").expect("written");
        let following = Following::start(&url(&consul, &format!("?token_file={}", file.path().display())));
        following.fails(Kind::Refused, None);
        std::fs::write(file.path(), "hunter2\n").expect("written");
        following.until("a: 1");
    }
}

#[test]
fn a_document_that_is_none_keeps_what_was() {
    // The real one takes half a MiB at most, and what is no text.
    let consul = Consul::start();
    let following = Following::start(&url(&consul, ""));
    consul.put("redvigil/config", b"a: 1");
    following.until("a: 1");
    consul.put("redvigil/config", b"a: \xff\xfe");
    following.fails(Kind::NotText, Some("a: 1"));
    consul.put("redvigil/config", b"a: 2");
    following.until("a: 2");
    let double = Consul::double(None);
    let following = Following::start(&url(&double, ""));
    double.put("redvigil/config", b"a: 1");
    following.until("a: 1");
    double.put("redvigil/config", &vec![b'#'; LARGEST + 1]);
    following.fails(Kind::TooLarge, Some("a: 1"));
    double.put("redvigil/config", &vec![b'#'; LARGEST]);
    following.until(&"#".repeat(LARGEST));
}

#[test]
fn the_double_answers_as_a_real_one_did() {
    let recorded = include_str!("../fixtures/consul/answers-1.8.7.txt");
    for consul in both(None) {
        let answers = consul.answers();
        if std::env::var_os("UPDATE").is_some() && !consul.kind().contains("double") {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/consul/answers-1.8.7.txt");
            std::fs::write(path, &answers).expect("written");
            continue;
        }
        assert_eq!(answers, recorded, "{}", consul.kind());
    }
}
