//! Certificates, versions, HTTP/2, and the web config file.

use super::{PATIENCE, exporter, value};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ALL_VERSIONS, ClientConfig, RootCertStore, SupportedProtocolVersion};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use testbed::http::{self, Request};
use testbed::{Certificates, Exporter, Identity, wait_until};

fn flags(certificates: &Certificates, more: &[&str]) -> Vec<String> {
    let mut flags = vec![
        "--redis.addr=".to_owned(),
        format!("--tls-server-cert-file={}", certificates.server.certificate.display()),
        format!("--tls-server-key-file={}", certificates.server.key.display()),
    ];
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    flags
}

fn start(flags: &[String], client: Arc<ClientConfig>) -> Exporter {
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    exporter(&flags).https(client).start()
}

/// Whether a request by TLS is answered.
fn answers(exporter: &Exporter, client: &Arc<ClientConfig>) -> bool {
    let limit = Duration::from_secs(10);
    http::send(exporter.port(), Some(client.clone()), Request::get("/health", &[]), limit)
        .is_ok_and(|response| response.status == 200)
}

/// A client that trusts this authority, shows this certificate, and speaks these versions.
fn client(
    trusted: &Certificates,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&trusted.ca).expect("a certificate")).expect("well formed");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions that ring has")
        .with_root_certificates(roots);
    Arc::new(builder.with_client_auth_cert(vec![certificate], key).expect("a pair"))
}

/// The same with the client certificate of `shown`.
fn showing(
    trusted: &Certificates,
    shown: &Identity,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let certificate = CertificateDer::from_pem_file(&shown.certificate).expect("a certificate");
    client(trusted, certificate, PrivateKeyDer::from_pem_file(&shown.key).expect("a key"), versions)
}

#[test]
fn a_pair_is_enough_and_a_ca_makes_client_certificates_mandatory() {
    let certificates = Certificates::generate();
    let (known, anonymous) = (certificates.client_config(), certificates.anonymous_config());
    let open = start(&flags(&certificates, &["--tls-server-min-version=TLS1.0"]), anonymous.clone());
    assert!(answers(&open, &anonymous) && answers(&open, &known));
    // Plain HTTP is no TLS.
    assert!(http::send(open.port(), None, Request::get("/health", &[]), PATIENCE).is_err());

    let ca = format!("--tls-server-ca-cert-file={}", certificates.ca.display());
    let closed = start(&flags(&certificates, &["--tls-server-min-version=TLS1.1", &ca]), known.clone());
    assert!(answers(&closed, &known));
    assert!(!answers(&closed, &anonymous));
    let stranger = Certificates::generate();
    assert!(!answers(&closed, &stranger.client_config()));
}

#[test]
fn the_oldest_version_holds_with_a_ca_too() {
    let certificates = Certificates::generate();
    let known = certificates.client_config();
    let ca = format!("--tls-server-ca-cert-file={}", certificates.ca.display());
    for more in [vec!["--tls-server-min-version=TLS1.3"], vec!["--tls-server-min-version=TLS1.3", &ca]] {
        let exporter = start(&flags(&certificates, &more), known.clone());
        assert!(answers(&exporter, &showing(&certificates, &certificates.client, &[&TLS13])));
        assert!(!answers(&exporter, &showing(&certificates, &certificates.client, &[&TLS12])));
    }
}

#[test]
fn files_that_cannot_be_used_end_the_start_with_one_line() {
    let certificates = Certificates::generate();
    let empty = certificates.folder().join("empty.pem");
    fs::write(&empty, "").expect("written");
    let broken = format!("--tls-server-ca-cert-file={}", empty.display());
    let finished = exporter(&flags(&certificates, &[&broken]).iter().map(String::as_str).collect::<Vec<_>>())
        .run_to_end(PATIENCE);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("empty.pem holds no usable CA certificate"), "{}", finished.stderr);
    let config = certificates.folder().join("web.yml");
    for (text, expected) in [
        ("tls_server_config: {cert_file: none.pem, key_file: none.key}", "cannot read "),
        ("tls_server_config:\n  certfile: x", "web.yml: line 2 column 3: unknown key \"certfile\""),
        (
            "tls_server_config: {cert_file: server.pem, key_file: server.key, curve_preferences: [CurveP521]}",
            "`CurveP521`",
        ),
    ] {
        fs::write(&config, text).expect("written");
        let finished = exporter(&["--redis.addr=", &format!("--web.config.file={}", config.display())])
            .run_to_end(PATIENCE);
        assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    }
}

/// Copies what `from` made over the files of `to`, as a renewal does.
fn renew(to: &Certificates, from: &Certificates) {
    fs::copy(&from.server.certificate, &to.server.certificate).expect("copied");
    fs::copy(&from.server.key, &to.server.key).expect("copied");
}

#[test]
fn a_renewed_certificate_needs_no_restart_and_a_vanished_one_does_no_harm() {
    let (old, new) = (Certificates::generate(), Certificates::generate());
    let exporter = start(&flags(&old, &[]), old.anonymous_config());
    assert!(!answers(&exporter, &new.anonymous_config()));
    renew(&old, &new);
    wait_until("the new certificate", PATIENCE, || answers(&exporter, &new.anonymous_config()));
    assert!(!answers(&exporter, &old.anonymous_config()));
    // The last good one stays, whatever becomes of the files.
    fs::remove_file(&old.server.key).expect("removed");
    let failed = || {
        let page = http::send(
            exporter.port(),
            Some(new.anonymous_config()),
            Request::get("/metrics", &[]),
            PATIENCE,
        );
        value(page.expect("an answer").text(), "redvigil_web_config_last_reload_successful") == Some(0.0)
    };
    wait_until("the loss is seen", PATIENCE, failed);
    assert!(answers(&exporter, &new.anonymous_config()));
    let lines = exporter.stderr().lines().filter(|line| line.contains("the last good ones stay")).count();
    assert_eq!(lines, 1, "{}", exporter.stderr());
}

fn write(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).expect("written");
    fs::rename(fresh, path).expect("renamed");
}

#[test]
fn a_web_config_file_that_changes_takes_effect_and_a_broken_one_does_not() {
    let certificates = Certificates::generate();
    let path = certificates.folder().join("web.yml");
    let headers =
        "http_server_config: {headers: {X-Frame-Options: deny, Strict-Transport-Security: max-age=1}}\n";
    write(&path, headers);
    let exporter = exporter(&["--redis.addr=", &format!("--web.config.file={}", path.display())]).start();
    let response = exporter.get("/nowhere", &[]);
    assert_eq!(response.header("x-frame-options"), Some("deny"));
    assert_eq!(response.header("strict-transport-security"), Some("max-age=1"));

    write(&path, "http_server_config: {headers: {X-Frame-Options: sameorigin}}\n");
    let frame = || exporter.get("/", &[]).header("x-frame-options").map(str::to_owned);
    wait_until("the change", PATIENCE, || frame().as_deref() == Some("sameorigin"));

    write(&path, "nonsense: true\n");
    let failed = || value(&exporter.metrics(), "redvigil_web_config_last_reload_successful");
    wait_until("the failure", PATIENCE, || failed() == Some(0.0));
    assert_eq!(frame().as_deref(), Some("sameorigin"));

    write(&path, "tls_server_config: {cert_file: server.pem, key_file: server.key}\n");
    wait_until("TLS", PATIENCE, || answers(&exporter, &certificates.anonymous_config()));
    write(&path, headers);
    wait_until("plain HTTP again", PATIENCE, || {
        exporter.try_get("/", &[]).is_ok_and(|response| response.header("x-frame-options") == Some("deny"))
    });
    assert_eq!(failed(), Some(1.0));
}

#[test]
fn client_certificates_are_asked_for_as_the_web_config_file_says() {
    let certificates = Certificates::generate();
    let stranger = Certificates::generate();
    let path = certificates.folder().join("web.yml");
    let config = |auth: &str, more: &str| {
        write(
            &path,
            &format!(
                "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  client_auth_type: {auth}\n{more}"
            ),
        );
        exporter(&["--redis.addr=", &format!("--web.config.file={}", path.display())])
            .https(certificates.client_config())
            .start()
    };
    let ca = "  client_ca_file: ca.pem\n";
    let check = |auth: &str, more: &str, expected: [bool; 3]| {
        let exporter = config(auth, more);
        let shown = [
            answers(&exporter, &certificates.client_config()),
            answers(&exporter, &certificates.anonymous_config()),
            answers(&exporter, &showing(&certificates, &stranger.client, ALL_VERSIONS)),
        ];
        assert_eq!(shown, expected, "{auth} {more}: known, none, unknown");
    };
    check("NoClientCert", "", [true, true, true]);
    check("RequestClientCert", "", [true, true, true]);
    check("RequireAnyClientCert", "", [true, false, true]);
    check("VerifyClientCertIfGiven", ca, [true, true, false]);
    check("RequireAndVerifyClientCert", ca, [true, false, false]);
}

#[test]
fn a_client_certificate_must_have_an_allowed_name() {
    let certificates = Certificates::generate();
    let of = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let own = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(own.signing_key.serialize_pem().as_bytes()).expect("a key");
        client(&certificates, own.cert.der().clone(), key, ALL_VERSIONS)
    };
    let path = certificates.folder().join("web.yml");
    write(
        &path,
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n\
         \x20 client_auth_type: RequireAnyClientCert\n  client_allowed_sans: [a.example, 10.1.2.3]\n",
    );
    let exporter = exporter(&["--redis.addr=", &format!("--web.config.file={}", path.display())])
        .https(of(&["a.example"]))
        .start();
    for (names, expected) in [
        (&["a.example"][..], true),
        (&["b.example", "a.example"], true),
        (&["10.1.2.3"], true),
        (&["b.example", "10.1.2.4"], false),
        (&["*.example"], false),
        (&["x.a.example"], false),
        (&[], false),
    ] {
        assert_eq!(answers(&exporter, &of(names)), expected, "{names:?}");
    }
    assert!(!answers(&exporter, &certificates.anonymous_config()));
}

/// The protocol that is agreed on, and the status of twenty requests at once over it.
async fn by_http2(port: u16, client: &Arc<ClientConfig>) -> Option<Vec<u16>> {
    let mut client = ClientConfig::clone(client);
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = connector.connect(name, stream).await.expect("a handshake");
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return None;
    }
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.expect("HTTP/2");
    tokio::spawn(connection);
    let requests = (0..20).map(|_| {
        let mut sender = sender.clone();
        tokio::spawn(async move {
            let request = hyper::Request::get("https://localhost/metrics")
                .body(http_body_util::Empty::<bytes::Bytes>::new());
            sender.send_request(request.expect("a request")).await.expect("an answer").status().as_u16()
        })
    });
    let mut statuses = vec![];
    for request in requests.collect::<Vec<_>>() {
        statuses.push(request.await.expect("no panic"));
    }
    Some(statuses)
}

#[tokio::test]
async fn http2_is_offered_over_tls_unless_it_is_off() {
    let certificates = Certificates::generate();
    let client = certificates.client_config();
    let ca = format!("--tls-server-ca-cert-file={}", certificates.ca.display());
    let exporter_ = start(&flags(&certificates, &[&ca]), client.clone());
    assert_eq!(by_http2(exporter_.port(), &client).await, Some(vec![200; 20]));
    let path = certificates.folder().join("web.yml");
    write(
        &path,
        "tls_server_config: {cert_file: server.pem, key_file: server.key}\nhttp_server_config: {http2: false}\n",
    );
    let off = exporter(&["--redis.addr=", &format!("--web.config.file={}", path.display())])
        .https(client.clone())
        .start();
    assert_eq!(by_http2(off.port(), &client).await, None);
}
