//! What Nacos says, and how the long poll is asked. Pure.
//!
//! What a newcomer would get wrong: a status of 404 has two meanings, that there is no such document and that there is no such
//! API. The body tells them apart.

use super::What;
use crate::net::http::StatusCode;
use serde::Deserialize;
use std::time::Duration;

/// What 1.x and 2.x say of a document that is not there.
const NO_DATA: &[u8] = b"config data not exist";

/// The code of 3.x for that.
const NOT_FOUND: i64 = 20004;

/// What the query of 3.x comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Config {
    /// A document.
    Found {
        /// What it says.
        content: String,
        /// Its MD5, where that is told.
        md5: Option<String>,
    },
    /// No such document.
    Missing,
    /// No such API.
    Unknown,
    /// It says no.
    Refused,
    /// It says nothing that can be understood.
    Nonsense,
}

#[derive(Deserialize)]
struct Answer {
    code: i64,
    data: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Data {
    content: String,
    md5: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Login {
    access_token: String,
    token_ttl: Option<u64>,
}

/// Whether whoever answers so to `GET /v1/cs/configs` has that API.
pub(super) fn knows_v1(status: StatusCode, body: &[u8]) -> bool {
    match status.as_u16() {
        404 => body.trim_ascii().starts_with(NO_DATA),
        410 | 501 => false,
        _ => true,
    }
}

/// Reads the answer to `GET /v3/client/cs/config`.
pub(super) fn config(status: StatusCode, body: &[u8]) -> Config {
    let answer = serde_json::from_slice::<Answer>(body);
    match (status, answer) {
        (StatusCode::OK, Ok(Answer { code: 0 | 200, data: Some(data) })) => {
            match serde_json::from_value::<Data>(data) {
                Ok(Data { content, md5 }) => {
                    Config::Found { content, md5: md5.filter(|md5| !md5.is_empty()) }
                }
                Err(_) => Config::Nonsense,
            }
        }
        (StatusCode::OK | StatusCode::NOT_FOUND, Ok(Answer { code: NOT_FOUND, .. })) => Config::Missing,
        (StatusCode::OK, Ok(Answer { code: 0 | 200, data: None })) => Config::Missing,
        (StatusCode::OK, _) => Config::Nonsense,
        (StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::NOT_IMPLEMENTED, _) => Config::Unknown,
        _ => Config::Refused,
    }
}

/// The token that a login gives, and for how long it counts.
pub(super) fn token(body: &[u8]) -> Option<(String, Duration)> {
    /// Where nothing is said, as Nacos has it.
    const TTL: u64 = 18_000;
    let Login { access_token, token_ttl } = serde_json::from_slice(body).ok()?;
    let ttl = token_ttl.unwrap_or(TTL).clamp(1, 10 * 365 * 86_400);
    Some((access_token, Duration::from_secs(ttl))).filter(|(token, _)| !token.is_empty())
}

/// What the long poll is asked about: words with characters between them that no word has.
pub(super) fn listening(what: &What, md5: &str) -> String {
    let What { id, group, namespace } = what;
    let tenant = if namespace.is_empty() { String::new() } else { format!("\u{2}{namespace}") };
    format!("{id}\u{2}{group}\u{2}{md5}{tenant}\u{1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_known_by_its_answer() {
        fn check(status: u16, body: &str, expected: bool) {
            assert_eq!(
                knows_v1(StatusCode::from_u16(status).expect("a status"), body.as_bytes()),
                expected,
                "{body}"
            );
        }
        check(200, "a: 1", true);
        check(404, "config data not exist", true);
        check(404, "config data not exist\n", true);
        check(403, r#"{"status":403,"error":"Forbidden","message":"unknown user!"}"#, true);
        check(500, "", true);
        check(
            404,
            r#"{"timestamp":"2026-01-01","status":404,"error":"Not Found","path":"/nacos/v1/cs/configs"}"#,
            false,
        );
        check(404, "", false);
        check(410, r#"{"code":20009,"message":"api deprecated"}"#, false);
        check(501, "", false);
    }

    #[test]
    fn the_query_has_a_document_or_says_why_not() {
        fn check(status: u16, body: &str, expected: Config) {
            assert_eq!(
                config(StatusCode::from_u16(status).expect("a status"), body.as_bytes()),
                expected,
                "{body}"
            );
        }
        let found = |content: &str, md5: Option<&str>| Config::Found {
            content: content.into(),
            md5: md5.map(Into::into),
        };
        check(
            200,
            r#"{"code":0,"message":"success","data":{"content":"a: \"1\"\n","md5":"ab","contentType":"yaml","lastModified":1}}"#,
            found("a: \"1\"\n", Some("ab")),
        );
        check(200, r#"{"code":0,"data":{"content":"","md5":""}}"#, found("", None));
        check(200, r#"{"code":0,"data":{"content":"x"}}"#, found("x", None));
        check(
            404,
            r#"{"code":20004,"message":"resource not found","data":"config data not exist"}"#,
            Config::Missing,
        );
        check(200, r#"{"code":20004,"message":"resource not found","data":null}"#, Config::Missing);
        check(200, r#"{"code":0,"message":"success","data":null}"#, Config::Missing);
        check(404, r#"{"status":404,"error":"Not Found"}"#, Config::Unknown);
        check(404, "", Config::Unknown);
        check(403, r#"{"code":403,"message":"access denied"}"#, Config::Refused);
        check(500, "", Config::Refused);
        check(200, "<html>", Config::Nonsense);
        check(200, r#"{"code":0,"data":{"content":null}}"#, Config::Nonsense);
        check(200, r#"{"code":0,"data":["content"]}"#, Config::Nonsense);
        check(200, r#"{"code":30000,"message":"server error"}"#, Config::Nonsense);
    }

    #[test]
    fn a_login_gives_a_token_for_a_while() {
        fn check(body: &str, expected: Option<(&str, u64)>) {
            let found = token(body.as_bytes());
            assert_eq!(
                found,
                expected.map(|(token, ttl)| (token.into(), Duration::from_secs(ttl))),
                "{body}"
            );
        }
        check(r#"{"accessToken":"t0ken","tokenTtl":60,"globalAdmin":true}"#, Some(("t0ken", 60)));
        check(r#"{"accessToken":"t0ken"}"#, Some(("t0ken", 18_000)));
        check(r#"{"accessToken":"t0ken","tokenTtl":0}"#, Some(("t0ken", 1)));
        check(r#"{"accessToken":"","tokenTtl":60}"#, None);
        check(r#"{"accessToken":"t0ken","tokenTtl":-1}"#, None);
        check("true", None);
        check("", None);
    }

    #[test]
    fn the_long_poll_is_about_one_document() {
        fn check(namespace: &str, md5: &str, expected: &str) {
            assert_eq!(listening(&What::new("r.yaml", "G", namespace), md5), expected);
        }
        check("", "ab", "r.yaml\u{2}G\u{2}ab\u{1}");
        check("n", "ab", "r.yaml\u{2}G\u{2}ab\u{2}n\u{1}");
        check("", "", "r.yaml\u{2}G\u{2}\u{1}");
    }
}
