//! A document of Nacos, by both of its APIs.

use crate::follow::Following;
use redvigil::source::{Kind, LARGEST};
use std::time::Duration;
use testbed::nacos::Api;
use testbed::{Nacos, Rnacos};

const BOTH: [Api; 2] = [Api::V1, Api::V3];

fn url(nacos: &Nacos, query: &str) -> String {
    format!("nacos://127.0.0.1:{}/r.yaml{query}", nacos.port())
}

#[test]
fn a_document_that_comes_changes_and_goes_is_followed() {
    for api in BOTH {
        for query in ["", if api == Api::V1 { "?api=v1" } else { "?api=v3" }] {
            let nacos = Nacos::start(api);
            let what = format!("a double of Nacos, {api:?}");
            let mut following = Following::start(&url(&nacos, query));
            following.fails(Kind::Missing, None);
            let publish = |text: &str| nacos.publish("r.yaml", "DEFAULT_GROUP", "", text);
            for number in 1..5 {
                let text = format!("a: \"{number} ä\"\n");
                following.changes(&what, &text, || publish(&text));
            }
            nacos.publish("r.yaml", "DEFAULT_GROUP", "elsewhere", "b: 1");
            nacos.publish("r.yaml", "OTHER", "", "b: 1");
            following.is_quiet(Duration::from_millis(600));
            nacos.remove("r.yaml", "DEFAULT_GROUP", "");
            following.fails(Kind::Missing, Some("a: \"4 ä\"\n"));
            following.changes(&what, "a: 5", || publish("a: 5"));
        }
    }
}

#[test]
fn a_group_of_a_namespace_is_another_document() {
    for api in BOTH {
        let nacos = Nacos::start(api);
        nacos.publish("r.yaml", "DEFAULT_GROUP", "", "wrong");
        nacos.publish("r.yaml", "G", "n-1", "a: 1");
        let following = Following::start(&url(&nacos, "?group=G&namespace=n-1"));
        following.until("a: 1");
        following.changes(&format!("{api:?} in a namespace"), "a: 2", || {
            nacos.publish("r.yaml", "G", "n-1", "a: 2")
        });
        let place = following.state().latest.expect("a document").place;
        assert_eq!(*place, *url(&nacos, "?group=G&namespace=n-1"));
    }
}

#[test]
fn a_server_that_waits_is_not_asked_again_and_again() {
    let nacos = Nacos::start(Api::V1);
    nacos.publish("r.yaml", "DEFAULT_GROUP", "", "a: 1");
    let following = Following::start(&url(&nacos, ""));
    following.until("a: 1");
    std::thread::sleep(Duration::from_secs(1));
    assert!(nacos.asked() <= 3, "{}", nacos.asked());
}

#[test]
fn one_that_was_down_is_followed_again() {
    for api in BOTH {
        let nacos = Nacos::start(api);
        nacos.publish("r.yaml", "DEFAULT_GROUP", "", "a: 1");
        let following = Following::start(&url(&nacos, ""));
        following.until("a: 1");
        nacos.set_down(true);
        following.fails(Kind::Unreachable, Some("a: 1"));
        nacos.publish("r.yaml", "DEFAULT_GROUP", "", "a: 2");
        nacos.set_down(false);
        following.until("a: 2");
    }
}

#[test]
fn who_logs_in_is_known_and_logs_in_again_in_time() {
    for api in BOTH {
        let nacos = Nacos::with_user(api, "me", "hunter2", Duration::from_secs(2));
        nacos.publish("r.yaml", "DEFAULT_GROUP", "", "a: 1");
        Following::start(&url(&nacos, "")).fails(Kind::Refused, None);
        Following::start(&url(&nacos, "?username=me&password_env=WRONG")).fails(Kind::Refused, None);
        let before = nacos.logins();
        let following = Following::start(&url(&nacos, "?username=me&password_env=RIGHT"));
        following.until("a: 1");
        assert_eq!(nacos.logins(), before + 1);
        // Longer than the token lives.
        for number in 2..5 {
            std::thread::sleep(Duration::from_secs(1));
            let text = format!("a: {number}");
            nacos.publish("r.yaml", "DEFAULT_GROUP", "", &text);
            following.until(&text);
        }
        assert!(nacos.logins() > before + 1, "{}", nacos.logins());
    }
}

#[test]
fn nonsense_keeps_what_was() {
    let large = vec![b'#'; LARGEST * 3 + 1];
    let nonsense: [(Api, u16, &[u8], Kind); 7] = [
        (Api::V1, 500, b"caused: out of memory", Kind::Unavailable),
        (Api::V1, 409, b"requested file is being modified", Kind::Unavailable),
        (Api::V1, 200, b"a: \xff", Kind::NotText),
        (Api::V1, 200, &large, Kind::TooLarge),
        (Api::V3, 200, b"<html>", Kind::Protocol),
        (Api::V3, 503, b"", Kind::Unavailable),
        (Api::V3, 200, &large, Kind::TooLarge),
    ];
    for (api, status, body, kind) in nonsense {
        let nacos = Nacos::start(api);
        nacos.publish("r.yaml", "DEFAULT_GROUP", "", "a: 1");
        let following = Following::start(&url(&nacos, ""));
        following.until("a: 1");
        nacos.answer(Some((status, body)));
        following.fails(kind, Some("a: 1"));
        nacos.publish("r.yaml", "DEFAULT_GROUP", "", "a: 2");
        nacos.answer(None);
        following.until("a: 2");
    }
}

#[test]
fn a_real_server_of_its_kind_is_followed_where_there_is_one() {
    // `make soak` with REDVIGIL_RNACOS; too dear to build for `make test`.
    let Some(rnacos) = Rnacos::start() else { return };
    let mut following = Following::start(&format!("nacos://127.0.0.1:{}/r.yaml", rnacos.port()));
    following.fails(Kind::Missing, None);
    for number in 1..5 {
        let text = format!("a:{number}");
        following.changes("rnacos", &text, || rnacos.publish("r.yaml", "DEFAULT_GROUP", &text));
    }
    rnacos.publish("r.yaml", "OTHER", "b:1");
    following.is_quiet(Duration::from_millis(600));
    rnacos.remove("r.yaml", "DEFAULT_GROUP");
    following.fails(Kind::Missing, Some("a:4"));
    following.changes("rnacos", "a:5", || rnacos.publish("r.yaml", "DEFAULT_GROUP", "a:5"));
}
