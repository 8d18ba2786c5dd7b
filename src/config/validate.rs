//! What a single value must be like, whoever says it: a flag, a variable or, one day, a document.
//!
//! An error is the end of a sentence that begins with the value, and never shows it. The two functions that
//! touch files are [`read`] and [`readable`].

use super::address::Endpoint;
use super::{Address, Secret};
use std::fs;
use std::path::Path;

/// The paths that answer beside the metrics page.
pub const ROUTES: &[&str] = &[
    "/",
    "/scrape",
    "/sd/targets",
    "/api/v1/services",
    "/api/v1/targets",
    "/api/v1/events",
    "/api/v1/config",
    "/api/v1/runtime",
    "/discover-cluster-nodes",
    "/health",
    "/-/healthy",
    "/-/ready",
    "/-/reload",
    "/-/metrics",
];

/// The start of metric names: letters, digits, `_` and `:`, no digit in front; or nothing.
/// <https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels>
pub fn namespace(text: &str) -> Result<(), String> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
    if text.bytes().all(known) && !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(());
    }
    Err("is no start of a metric name; expected letters, digits and _, and no digit in front".into())
}

/// The name of a label that an operator may add: letters, digits and `_`, no digit in front, and not two `_` in
/// front, which Prometheus keeps for itself; nor what histograms and summaries are made with.
/// <https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels>
pub fn label_name(text: &str) -> Result<(), String> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !text.bytes().all(known) {
        return Err("is no name of a label; expected letters, digits and _, and no digit in front".into());
    }
    if text.starts_with("__") {
        return Err("begins with __, which Prometheus keeps for itself; expected another name".into());
    }
    if matches!(text, "le" | "quantile") {
        return Err("is a label of histograms and summaries; expected another name".into());
    }
    Ok(())
}

/// Labels of the families that we make of services, members and collections; and `instance_role`, which a flag adds
/// to what is said of a server.
pub const SERVICE_LABELS: &[&str] =
    &["collector", "err", "instance_role", "kind", "outcome", "phase", "reason", "role", "state"];

/// Labels of the families of servers and of ourselves, but for those of [`SERVICE_LABELS`].
pub const SERVER_LABELS: &[&str] = &[
    "abi_version",
    "api",
    "availability_zone",
    "build_date",
    "certificate",
    "class",
    "cmd",
    "code",
    "commit",
    "commit_sha",
    "consumer",
    "db",
    "engine",
    "errno",
    "event_name",
    "filename",
    "filters",
    "flags",
    "from",
    "golang_version",
    "group",
    "hash",
    "host",
    "id",
    "index_name",
    "ip",
    "key",
    "key_group",
    "limit",
    "master_address",
    "master_host",
    "master_name",
    "master_port",
    "master_replid",
    "master_status",
    "maxmemory_policy",
    "message",
    "module",
    "name",
    "os",
    "output",
    "part",
    "port",
    "process_id",
    "read_only",
    "redis_build_id",
    "redis_mode",
    "redis_version",
    "resp",
    "result",
    "run_id",
    "runid",
    "serial",
    "slave_ip",
    "slave_port",
    "slave_state",
    "source",
    "stream",
    "tcp_port",
    "thread",
    "to",
    "usedby",
    "user",
    "using",
    "val",
    "valkey_release_stage",
    "valkey_version",
    "value",
    "ver",
    "version",
    "where",
];

/// The name of a label that an operator gives to members. A family that has a label of that name keeps its own: what
/// says how services and members are would lack the label, so those names are refused. For [`SERVER_LABELS`] it is
/// a few families, and a warning.
pub fn member_label(text: &str) -> Result<(), String> {
    if SERVICE_LABELS.contains(&text) {
        return Err(
            "is a label of families of services and members, which would lack it; expected another name"
                .into(),
        );
    }
    label_name(text)
}

/// The name of a label that every sample gets: none that a family has, which would be there twice.
pub fn sample_label(text: &str) -> Result<(), String> {
    if SERVICE_LABELS.contains(&text) || SERVER_LABELS.contains(&text) {
        return Err("is a label of families of ours; expected another name".into());
    }
    label_name(text)
}

/// The name of an output, which is that of a folder, too.
pub fn output_name(text: &str) -> Result<(), String> {
    const LONGEST: usize = 64;
    let known = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if text.is_empty() || text.len() > LONGEST || !text.bytes().all(known) || matches!(text, "." | "..") {
        return Err(format!(
            "is no name of an output; expected 1 to {LONGEST} letters, digits, _, - and ., and more than dots"
        ));
    }
    Ok(())
}

/// Headers that a request to an output has already, or that are about the connection, in lower case.
const HEADERS_OF_OURS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "retry-attempt",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-prometheus-remote-write-version",
];

/// A header that an operator adds to requests to an output.
/// Grammar: <https://www.rfc-editor.org/rfc/rfc9110#section-5.1>
pub fn output_header(name: &str, value: &str) -> Result<(), String> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(known) {
        return Err("is no name of a header; expected letters, digits and -".into());
    }
    let lower = name.to_ascii_lowercase();
    if HEADERS_OF_OURS.contains(&lower.as_str()) || lower.starts_with("grpc-") {
        return Err("is a header that we set ourselves; expected another one".into());
    }
    header_value(value)
}

/// The value of a header, which may be a secret.
/// Grammar: <https://www.rfc-editor.org/rfc/rfc9110#section-5.5>
pub fn header_value(text: &str) -> Result<(), String> {
    if text.is_empty() || text.trim() != text || !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Err(
            "has a value that no header can have; expected ASCII on one line, without blanks at its ends"
                .into(),
        );
    }
    Ok(())
}

/// The user of HTTP basic authentication: the first colon ends it.
pub fn basic_user(text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains(':') || text.chars().any(char::is_control) {
        return Err("is no user; expected a name without a colon, on one line".into());
    }
    Ok(())
}

/// A path that no other route has.
pub fn telemetry_path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("is no path; expected one that starts with /, such as /metrics".into());
    }
    if text.bytes().any(|b| b <= b' ' || b >= 0x7f || b"?#%{}\"<>\\^`|".contains(&b)) {
        return Err(
            "has a character that needs an encoding in a URL; expected a path such as /metrics".into()
        );
    }
    if ROUTES.contains(&text) {
        return Err("is taken by another page; expected another path, such as /metrics".into());
    }
    Ok(())
}

/// `host:port` under which others reach us.
pub fn external_address(text: &str) -> Result<String, String> {
    let fail = || "is no address of ours; expected host:port, such as redvigil.example:9121".to_owned();
    if text.contains(['/', '@', '?', '#']) || text.starts_with(':') {
        return Err(fail());
    }
    match Address::parse_with_port(text, 0).map_err(|_| fail())?.endpoint {
        Endpoint::Tcp { port: 0, .. } | Endpoint::Unix(_) => Err(fail()),
        endpoint => Ok(endpoint.to_string()),
    }
}

/// A regular expression.
pub fn regex(text: &str) -> Result<regex::Regex, String> {
    regex::Regex::new(text).map_err(|error| {
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("is no regular expression: {reason}")
    })
}

/// The name of a command: one word, or nothing, or `-`.
pub fn command_name(text: &str) -> Result<(), String> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("is no name of a command; expected one word, or - for none".into());
    }
    Ok(())
}

/// `$2b$12$` and 53 characters of bcrypt's own base 64; cost 4 to 31.
pub fn bcrypt_hash(hash: &Secret) -> Result<(), String> {
    let parts: Vec<&str> = hash.expose().split('$').collect();
    let well_formed = match parts[..] {
        ["", version, cost, digest] => {
            matches!(version, "2" | "2a" | "2b" | "2x" | "2y")
                && cost.len() == 2
                && cost.parse::<u8>().is_ok_and(|cost| (4..=31).contains(&cost))
                && digest.len() == 53
                && digest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/')
        }
        _ => false,
    };
    if well_formed {
        return Ok(());
    }
    Err("is no bcrypt hash; expected one such as htpasswd -nB prints, $2y$10$ and 53 characters; in shells and \
         compose files each $ must be quoted"
        .into())
}

/// The text of a file.
pub fn read(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "cannot be read: it is no UTF-8".into())
}

/// Whether there is a file that we may read. What is in it is not looked at.
pub fn readable(path: &Path) -> Result<(), String> {
    let kind = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.file_type();
    if kind.is_dir() {
        return Err("cannot be read: it is a directory".into());
    }
    // Opening a pipe would wait for its other end.
    if kind.is_file() {
        fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&str) -> Result<(), String>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(rule(text), Ok(()), "{text}");
        }
        for text in bad {
            assert!(rule(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_namespace_starts_metric_names() {
        check(namespace, &["redis", "", "_a:1", "Team_Cache"], &["1a", "my-redis", "a b", "é", "a{"]);
    }

    #[test]
    fn a_label_name_is_free_for_operators() {
        check(
            label_name,
            &["team", "_a1", "Env", "a__b"],
            &["", "1a", "a-b", "a b", "é", "__name__", "__x", "le", "quantile"],
        );
    }

    #[test]
    fn a_label_of_members_is_none_of_those_that_say_how_they_are() {
        check(member_label, &["team", "db", "host"], SERVICE_LABELS);
        check(member_label, &[], &["le", "__x", "a-b"]);
        check(sample_label, &["team", "service"], &[SERVICE_LABELS, SERVER_LABELS, &["le"]].concat());
    }

    #[test]
    fn a_telemetry_path_is_a_path_of_its_own() {
        check(telemetry_path, &["/metrics", "/m/x", "/scrape2", "/metrics/"], ROUTES);
        check(
            telemetry_path,
            &[],
            &["", "metrics", "/a b", "/a?b", "/a#", "/%41", "/{x}", "/é", "http://h/"],
        );
    }

    #[test]
    fn a_command_name_is_one_word() {
        check(command_name, &["CONFIG", "-", "", "b840fc02"], &["CONFIG GET", "a\r\n"]);
    }

    #[test]
    fn a_bcrypt_hash_has_version_cost_and_digest() {
        let rule = |text: &str| bcrypt_hash(&Secret::new(text));
        let digest = "abcdefghijklmnopqrstuv0123456789ABCDEFGHIJKLMNOPQRS./";
        assert_eq!(digest.len(), 53);
        for (start, good) in [
            ("$2b$12$", true),
            ("$2a$04$", true),
            ("$2y$31$", true),
            ("$2$10$", true),
            ("$2b$03$", false),
            ("$2b$32$", false),
            ("$2b$4$", false),
            ("$1$12$", false),
            ("2b$12$", false),
            ("$2b$12$.", false),
        ] {
            assert_eq!(rule(&format!("{start}{digest}")).is_ok(), good, "{start}");
        }
        check(rule, &[], &["", "hunter2", "$2b$12$short", "$2b$12$", "$2b$12"]);
        assert!(!rule("hunter2").expect_err("no hash").contains("hunter2"));
    }
}
