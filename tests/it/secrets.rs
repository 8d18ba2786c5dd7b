//! No password and no ephemeral port in anything that leaves: log, pages, labels, headers.

use crate::{encoded, exporter};
use std::fs;
use testbed::http::Request;
use testbed::{Action, Exporter, Part, ScriptedServer, Server, scripted};

/// Distinctive, and with every character that some encoding would change.
const SECRETS: &[&str] =
    &["hush-url%2F%3A", "hush-url/:", "hush-flag", "hush-file", "hush-env", "hush-query"];

/// Where `outgoing` connections get their numbers on Linux; servers of the tests have lower ones.
const EPHEMERAL: std::ops::RangeInclusive<u32> = 32_768..=60_999;

#[track_caller]
fn assert_says_nothing(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what}: {}", line_with(text, secret));
    }
    // The prefix alone, too: no secret may leave cut in two.
    assert!(!text.contains("hush-"), "{what}: {}", line_with(text, "hush-"));
    for (at, _) in text.match_indices(':') {
        let digits: String = text[at + 1..].chars().take_while(char::is_ascii_digit).collect();
        let port = digits.len() == 5 && digits.parse().is_ok_and(|number| EPHEMERAL.contains(&number));
        assert!(!port, "{what}: {}", line_with(text, &digits));
    }
}

fn line_with<'a>(text: &'a str, word: &str) -> &'a str {
    text.lines().find(|line| line.contains(word)).unwrap_or_default()
}

/// Every page, its headers, and then the log.
fn assert_quiet(exporter: Exporter, targets: &[String]) {
    let mut paths = vec!["/metrics".to_owned(), "/".to_owned(), "/health".to_owned(), "/nowhere".to_owned()];
    for target in targets {
        paths.push(format!("/scrape?target={}", encoded(target)));
    }
    paths.push("/scrape?target=redis%3A%2F%2Fme%3Ahush-query%40".to_owned());
    paths.push("/scrape?target=redis%3A%2F%2Fme%3Ahush-query%40host%3Ax".to_owned());
    for path in &paths {
        for _ in 0..2 {
            let response = exporter.get(path, &[("X-Prometheus-Scrape-Timeout-Seconds", "0.4")]);
            assert_says_nothing(path, &String::from_utf8_lossy(&response.body));
            assert_says_nothing(path, &format!("{:?}", response.headers));
        }
    }
    let mut exporter = exporter;
    exporter.stop();
    assert_says_nothing("stderr", &exporter.stderr());
    assert_says_nothing("stdout", &exporter.stdout());
    assert!(exporter.stderr().lines().count() > 0, "nothing was logged: this test looks in the wrong place");
}

/// Servers that fail in every way that there is.
fn troubled() -> Vec<ScriptedServer> {
    let everything = |action: Action| ScriptedServer::start(move |_| action.clone());
    let at_auth = |reply: &'static str| {
        ScriptedServer::start(move |command| match command[0].as_slice() {
            b"HELLO" => {
                Action::reply("-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH'\r\n")
            }
            b"AUTH" => {
                // As a server does that does not know AUTH: it repeats the arguments.
                let words: Vec<_> = command[1..].iter().map(|w| String::from_utf8_lossy(w)).collect();
                Action::reply(reply.replace("ARGS", &words.join("' '")))
            }
            _ => Action::Default,
        })
    };
    let greeting = |reply: &'static str| {
        let greet = move |_| Some(Action::Then(reply.into(), Box::new(Action::Close)));
        ScriptedServer::builder().greeting(greet).start(|_| Action::Default)
    };
    vec![
        everything(Action::Default),
        everything(Action::reply(scripted::NOAUTH)),
        everything(Action::reply(scripted::WRONGPASS)),
        everything(Action::reply(scripted::LOADING)),
        everything(Action::reply("HTTP/1.1 400 Bad Request\r\n\r\n")),
        everything(Action::Half(b"$100\r\nab".to_vec())),
        everything(Action::Close),
        everything(Action::Reset),
        greeting(scripted::MAXCLIENTS),
        greeting(scripted::PROTECTED),
        at_auth("-ERR unknown command 'AUTH', with args beginning with: 'ARGS' \r\n"),
        at_auth("-ERR you said 'ARGS' to me\r\n"),
        at_auth(scripted::WRONGPASS),
    ]
}

#[test]
fn passwords_stay_secret_in_every_kind_of_trouble() {
    let servers = troubled();
    let real = Server::builder(Part::Redis7).password("hush-flag").start();
    let dead = testbed::Port::take();
    let mut addresses: Vec<String> = servers.iter().map(ScriptedServer::address).collect();
    addresses.extend([
        real.address(),
        format!("127.0.0.1:{}", dead.number()),
        "no-such-host.invalid:6379".into(),
    ]);
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("passwords.json");
    let entry = |address: &String| format!(r#""redis://{address}": "hush-file""#);
    let entries: Vec<_> = addresses.iter().map(entry).collect();
    fs::write(&file, format!("{{{}}}", entries.join(","))).expect("a temporary file can be written");
    let file = file.display().to_string();
    let targets: Vec<String> = addresses
        .iter()
        .flat_map(|address| {
            [address.clone(), format!("redis://me:hush-query@{address}/3"), format!("rediss://{address}")]
        })
        .collect();
    let debug = ["--log-level=debug", "--debug", "--connection-timeout=300ms"];
    for format in ["txt", "json"] {
        let format = format!("--log-format={format}");
        let own = &addresses[0];
        assert_quiet(
            exporter(&[&format, &format!("--redis.addr=redis://me:hush-url%2F%3A@{own}")])
                .args(&debug)
                .start(),
            &targets[..6],
        );
        assert_quiet(
            exporter(&[&format, "--redis.addr=", "--redis.user=me", "--redis.password=hush-flag"])
                .args(&debug)
                .start(),
            &targets,
        );
        assert_quiet(
            exporter(&[&format, &format!("--redis.addr={own}"), &format!("--redis.password-file={file}")])
                .args(&debug)
                .start(),
            &targets,
        );
        assert_quiet(
            exporter(&[&format, &format!("--redis.addr={own}")])
                .args(&debug)
                .env("REDIS_PASSWORD", "hush-env")
                .env("REDIS_EXPORTER_BASIC_AUTH_PASSWORD", "")
                .start(),
            &targets[..6],
        );
    }
}

#[test]
fn what_is_refused_at_start_is_not_repeated() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("passwords.json");
    fs::write(&file, r#"{"redis://h": "hush-file", "h": ["hush-file"]}"#).expect("a file can be written");
    let file = format!("--redis.password-file={}", file.display());
    for args in [
        &["--redis.addr=redis://me:hush-url%2F%3A@host:x"][..],
        &["--redis.addr=http://me:hush-url%2F%3A@host"],
        &["--redis.password=hush-flag", "--no-such-flag"],
        &["--redis.passwort=hush-flag"],
        &[&file],
        &["--basic-auth-username=me", "--basic-auth-hash-password=hush-flag"],
        &[
            "--basic-auth-username=me",
            "--basic-auth-password=hush-flag",
            "--basic-auth-hash-password=hush-flag",
        ],
    ] {
        let finished = exporter(args).run_to_end(crate::PATIENCE);
        assert!(!finished.status.success(), "{args:?}");
        assert_says_nothing(&format!("{args:?}"), &(finished.stdout + &finished.stderr));
    }
}

/// A document with a secret wherever one may stand; files of secrets are in the folder.
const DOCUMENT: &str = r#"
credentials:
  - { name: p, match: { services: [a] }, username: me, password: hush-profile, sentinel_password: hush-profile }
  - { name: q, match: { services: [b] }, password_file: hidden, sentinel_password_file: hidden }
  - { name: r, match: { services: [c] }, password_env: HIDDEN, sentinel_password_env: HIDDEN }
services:
  - { name: a, instances: ["redis://me:hush-url@127.0.0.1:1", "127.0.0.1:2"] }
  - { name: b, cluster: { seeds: ["rediss://:hush-url@127.0.0.1:3"] } }
  - { name: c, sentinel: { master: m, addresses: ["redis://:hush-url@127.0.0.1:4"] } }
outputs:
  - name: one
    remote_write: { url: "http://127.0.0.1:5/w?token=hush-query", bearer_token: hush-token, headers: { X-Key: hush-header } }
  - name: two
    remote_write: { url: "http://127.0.0.1:5/w", basic_auth: { username: me, password: hush-token } }
  - { name: three, otlp: { endpoint: "http://127.0.0.1:5", headers: { X-Key: hush-header }, bearer_token_file: hidden } }
registry:
  etcd: { endpoints: ["http://127.0.0.1:6"], username: me, password: hush-etcd }
  consul: { url: "http://127.0.0.1:7", token: hush-consul }
"#;

/// Documents that are wrong, each where a secret is near or in the wrong place.
const WRONG: &[&str] = &[
    "credentials: [{ name: p, match: { services: [a] }, password: [hush-list] }]\n",
    "credentials: [{ name: p, match: { services: [a] }, password: { hush-key: hush-map } }]\n",
    "credentials: [{ name: p, match: { services: [a] }, password: hush-one, password_file: hidden }]\n",
    "credentials: [{ name: p, match: { services: [a] }, password: \"hush-open }]\n",
    "credentials: hush-text\n",
    "services: [{ name: a, instances: [\"redis://me:hush-url@127.0.0.1:x\"] }]\n",
    "services: [{ name: a, instances: [\"http://me:hush-url@127.0.0.1\"] }]\n",
    "services: [{ name: a, instances: [\"redis://me:hush-url@127.0.0.1:1\"], colour: red }]\n",
    "outputs: [{ name: o, remote_write: { url: \"http://me:hush-url@h/w\" } }]\n",
    "outputs: [{ name: o, remote_write: { url: \"ftp://h/w?token=hush-query\" } }]\n",
    "outputs: [{ name: o, remote_write: { url: \"http://h/w\", bearer_token: [hush-list] } }]\n",
    "outputs: [{ name: o, remote_write: { url: \"http://h/w\", headers: { \"X Key\": hush-header } } }]\n",
    "outputs: [{ name: o, remote_write: { url: \"http://h/w\", headers: { X-Key: \"hush-\\u0007\" } } }]\n",
    "registry: { etcd: { endpoints: [\"http://me:hush-url@h:1\"] } }\n",
    "registry: { etcd: { endpoints: [\"http://h:1\"], password: hush-etcd } }\n",
    "registry: { consul: { url: \"http://me:hush-url@h:1\", token: hush-consul } }\n",
];

#[test]
fn a_configuration_is_shown_without_what_is_secret_in_it() {
    const LOGIN: &[(&str, &str)] = &[("Authorization", "Basic bWU6aHVzaC11c2Vy")];
    const PAGES: &[&str] = &[
        "/",
        "/metrics",
        "/-/metrics",
        "/scrape?target=127.0.0.1:2",
        "/sd/targets",
        "/sd/exporters",
        "/health",
        "/api/v1/services",
        "/api/v1/targets",
        "/api/v1/events",
        "/api/v1/outputs",
        "/api/v1/config",
        "/api/v1/runtime",
        "/api/v1/peers",
        "/discover-cluster-nodes",
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    write("hidden", "hush-file");
    write("r.yaml", DOCUMENT);
    let consul = testbed::Consul::with_token("hush-token");
    consul.put("redvigil", b"global: { scrape_interval: 1s, scrape_timeout: 1s }\n");
    let etcd = testbed::Etcd::start();
    etcd.put("/redvigil", "global: { scrape_interval: 1s, scrape_timeout: 1s }\n", 0);
    write("token", "hush-token");
    let sources = [
        format!(
            "consul://127.0.0.1:{}/redvigil?token_file={}",
            consul.port(),
            folder.path().join("token").display()
        ),
        format!("etcd://127.0.0.1:{}/redvigil", etcd.port()),
    ];
    for (source, format) in sources.iter().zip(["txt", "json"]) {
        let state = folder.path().join(format);
        let mut exporter = exporter(&[
            format!("--config.file={}", folder.path().join("r.yaml").display()),
            format!("--config.source={source}"),
            format!("--storage.path={}", state.display()),
            format!("--log-format={format}"),
        ])
        .args(&["--log-level=debug", "--web.enable-runtime-api", "--registry.advertise=http://127.0.0.1:9"])
        .args(&["--basic-auth-username=me", "--basic-auth-password=hush-user"])
        .env("HIDDEN", "hush-env")
        .start();
        let look = |what: &str| {
            for page in PAGES {
                let response = exporter.get(page, LOGIN);
                assert_ne!(response.status, 401, "{page}");
                assert_keeps(&format!("{what}: {page}"), &String::from_utf8_lossy(&response.body));
                assert_keeps(&format!("{what}: {page}"), &format!("{:?}", response.headers));
            }
        };
        let tried = || exporter.get("/api/v1/outputs", LOGIN).text().contains("refused");
        testbed::wait_until("the outputs to have been tried", crate::PATIENCE, tried);
        look("right");
        let reload = || {
            let request = Request { method: "POST", path: "/-/reload", headers: LOGIN, body: b"" };
            exporter.send(request)
        };
        for wrong in WRONG {
            write("r.yaml", wrong);
            let response = reload();
            assert_eq!(response.status, 500, "{wrong}: {}", response.text());
            assert_keeps(wrong, response.text());
            look(wrong);
        }
        let patch = br#"{"credentials": [{"name": "p", "password": "hush-patch"}], "log": {"level": {"hush-a": "hush-b"}}}"#;
        let request = Request { method: "PATCH", path: "/api/v1/runtime", headers: LOGIN, body: patch };
        let response = exporter.send(request);
        assert_eq!(response.status, 422, "{}", response.text());
        assert_keeps("a patch", response.text());
        write("r.yaml", DOCUMENT);
        assert_eq!(reload().status, 200);
        exporter.stop();
        assert_keeps("stderr", &exporter.stderr());
        assert_keeps("stdout", &exporter.stdout());
        assert!(
            exporter.stderr().contains("reload failed"),
            "nothing was logged: this looks in the wrong place"
        );
    }
}

/// No part of a secret is in it.
#[track_caller]
fn assert_keeps(what: &str, text: &str) {
    assert!(!text.contains("hush-"), "{what}: {}", line_with(text, "hush-"));
}
