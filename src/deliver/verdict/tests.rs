//! The table of outcomes.

use super::*;

const V1: Asked = Asked { format: Format::V1, samples: 10, may_fall_back: true, is_first: false };
const V2: Asked = Asked { format: Format::V2, ..V1 };
const FIRST: Asked = Asked { is_first: true, ..V2 };
const ONLY_V2: Asked = Asked { may_fall_back: false, is_first: true, ..V2 };
const HTTP: Asked = Asked { format: Format::OtlpHttp, ..V1 };
const GRPC: Asked = Asked { format: Format::OtlpGrpc, ..V1 };

const RETRY: Verdict = Verdict::Retry { after: None, is_throttled: false };
const SLOWER: Verdict = Verdict::Retry { after: None, is_throttled: true };
const REFUSED: Verdict = Verdict::Refused { written: 0 };
const ACCEPTED: Verdict = Verdict::Accepted { rejected: 0 };

fn status(code: u16) -> Outcome {
    Outcome::Status { code, written: None, rejected: 0, retry_after: None }
}

fn written(code: u16, written: u64) -> Outcome {
    Outcome::Status { code, written: Some(written), rejected: 0, retry_after: None }
}

fn later(code: u16, seconds: u64) -> Outcome {
    let retry_after = Some(Duration::from_secs(seconds));
    Outcome::Status { code, written: None, rejected: 0, retry_after }
}

fn grpc_status(code: u32) -> Outcome {
    Outcome::Grpc { code, rejected: 0, retry_after: None, is_too_large: false }
}

fn check(asked: Asked, outcome: Outcome, expected: Verdict) {
    assert_eq!(verdict(asked, outcome), expected, "{asked:?} {outcome:?}");
}

#[test]
fn success_of_remote_write() {
    for code in [200, 202, 204, 299] {
        check(V1, status(code), ACCEPTED);
        check(V2, written(code, 10), ACCEPTED);
        check(V2, written(code, 7), Verdict::Accepted { rejected: 3 });
        check(V2, written(code, 0), Verdict::Accepted { rejected: 10 });
        check(V2, written(code, 11), ACCEPTED);
        check(V2, written(code, u64::MAX), ACCEPTED);
    }
}

#[test]
fn success_of_2_0_without_written_is_none() {
    check(V2, status(204), Verdict::FallBack);
    check(FIRST, status(200), Verdict::FallBack);
    check(ONLY_V2, status(204), Verdict::Held(Hold::Unsupported));
}

#[test]
fn what_is_not_understood_is_said_in_1_0() {
    check(V2, status(415), Verdict::FallBack);
    check(V2, written(415, 0), Verdict::FallBack);
    check(ONLY_V2, status(415), Verdict::Held(Hold::Unsupported));
    check(V1, status(415), Verdict::Held(Hold::Unsupported));
    check(HTTP, status(415), Verdict::Held(Hold::Unsupported));
    check(FIRST, status(400), Verdict::FallBack);
    check(V2, status(400), REFUSED);
    check(ONLY_V2, status(400), REFUSED);
    // Who counts what was written knows 2.0.
    check(FIRST, written(400, 4), Verdict::Refused { written: 4 });
    check(FIRST, status(422), REFUSED);
}

#[test]
fn what_is_refused_is_never_sent_again() {
    for code in [400, 409, 422] {
        for asked in [V1, V2, HTTP] {
            check(asked, status(code), REFUSED);
        }
        check(V2, written(code, 9), Verdict::Refused { written: 9 });
        check(V2, written(code, 90), Verdict::Refused { written: 10 });
    }
    check(GRPC, status(400), Verdict::Held(Hold::Unsupported));
}

#[test]
fn what_passes_is_tried_again() {
    for kind in Kind::ALL {
        let expected = if kind == Kind::Local { Verdict::Held(Hold::Local) } else { RETRY };
        for asked in [V1, V2, HTTP, GRPC] {
            check(asked, Outcome::Failed(kind), expected);
        }
    }
    for code in [500, 501, 502, 503, 504, 505, 507, 511, 599, 408] {
        check(V1, status(code), RETRY);
        check(V2, status(code), RETRY);
        check(V2, written(code, 5), RETRY);
    }
    for code in [502, 503, 504] {
        check(HTTP, status(code), RETRY);
        check(GRPC, status(code), RETRY);
    }
    for code in [500, 501, 505] {
        check(HTTP, status(code), REFUSED);
    }
    check(HTTP, status(408), Verdict::Held(Hold::Refusal));
}

#[test]
fn a_receiver_may_say_when_but_not_for_ever() {
    let after =
        |seconds, is_throttled| Verdict::Retry { after: Some(Duration::from_secs(seconds)), is_throttled };
    for asked in [V1, V2, HTTP, GRPC] {
        check(asked, status(429), SLOWER);
        check(asked, later(429, 7), after(7, true));
        check(asked, later(429, 301), after(300, true));
        check(asked, later(503, 20), after(20, false));
        check(asked, later(503, u64::MAX), after(300, false));
    }
}

#[test]
fn what_is_about_us_is_kept() {
    for asked in [V1, V2, FIRST, HTTP, GRPC] {
        check(asked, status(301), Verdict::Held(Hold::Redirect));
        check(asked, status(308), Verdict::Held(Hold::Redirect));
        check(asked, status(401), Verdict::Held(Hold::Unauthorized));
        check(asked, status(403), Verdict::Held(Hold::Forbidden));
        check(asked, status(404), Verdict::Held(Hold::NotFound));
        check(asked, status(405), Verdict::Held(Hold::MethodNotAllowed));
        check(asked, status(407), Verdict::Held(Hold::ProxyUnauthorized));
        check(asked, status(413), Verdict::TooLarge);
    }
    for code in [402, 406, 410, 411, 414, 418, 421, 426, 431, 451, 499, 100, 199, 600, 999] {
        check(V1, status(code), Verdict::Held(Hold::Refusal));
        check(V2, status(code), Verdict::Held(Hold::Refusal));
    }
}

#[test]
fn success_of_otlp_may_be_partial() {
    let partial = |rejected| Outcome::Status { code: 200, written: None, rejected, retry_after: None };
    check(HTTP, partial(0), ACCEPTED);
    check(HTTP, partial(3), Verdict::Accepted { rejected: 3 });
    check(HTTP, partial(u64::MAX), Verdict::Accepted { rejected: 10 });
    let partial = |rejected| Outcome::Grpc { code: 0, rejected, retry_after: None, is_too_large: false };
    check(GRPC, partial(0), ACCEPTED);
    check(GRPC, partial(3), Verdict::Accepted { rejected: 3 });
}

#[test]
fn statuses_of_grpc() {
    for code in [1, 4, 10, 11, 14, 15] {
        check(GRPC, grpc_status(code), RETRY);
    }
    for code in [2, 3, 6, 9, 13, 17, u32::MAX] {
        check(GRPC, grpc_status(code), REFUSED);
    }
    check(GRPC, grpc_status(5), Verdict::Held(Hold::NotFound));
    check(GRPC, grpc_status(12), Verdict::Held(Hold::NotFound));
    check(GRPC, grpc_status(7), Verdict::Held(Hold::Forbidden));
    check(GRPC, grpc_status(16), Verdict::Held(Hold::Unauthorized));
    check(GRPC, grpc_status(8), Verdict::Held(Hold::Exhausted));
    let after = |code, seconds| {
        let retry_after = Some(Duration::from_secs(seconds));
        Outcome::Grpc { code, rejected: 0, retry_after, is_too_large: false }
    };
    for code in [8, 14] {
        let expected = Verdict::Retry { after: Some(Duration::from_secs(9)), is_throttled: true };
        check(GRPC, after(code, 9), expected);
    }
    check(GRPC, after(13, 9), REFUSED);
    let large = |code| Outcome::Grpc { code, rejected: 0, retry_after: None, is_too_large: true };
    check(GRPC, large(8), Verdict::TooLarge);
    check(GRPC, large(11), Verdict::TooLarge);
    check(GRPC, large(13), REFUSED);
}

#[test]
fn retry_after_has_two_forms() {
    // 1994-11-06 08:49:37
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let check = |text: &str, expected: Option<u64>| {
        assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
    };
    check("0", Some(0));
    check("120", Some(120));
    check(" 7 ", Some(7));
    check("Sun, 06 Nov 1994 08:50:07 GMT", Some(30));
    check("Sun, 06 Nov 1994 08:49:37 GMT", Some(0));
    check("Sun, 06 Nov 1993 08:49:37 GMT", None);
    check("Sat, 06 Nov 1993 08:49:37 GMT", Some(0));
    check("Sunday, 06-Nov-94 08:49:47 GMT", Some(10));
    check("", None);
    check("-1", None);
    check("1.5", None);
    check("soon", None);
    assert_eq!(retry_after("99999999999999999999999", now), Some(Duration::MAX));
}
