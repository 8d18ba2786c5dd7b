//! `tls_server_cert_serial` and `tls_server_cert_expires_in_seconds`: the certificates of Valkey 9.1.
//!
//! Where there is no certificate the server says serial `none` and 0 seconds; we say nothing, lest an alert
//! on expiry fires for servers without TLS.

use super::Info;
use super::number::number;
use exposition::{Builder, Desc};

static CERTIFICATE: Desc =
    Desc::gauge("redis_tls_certificate_info", "Certificates that the server has loaded; always 1.")
        .labels(&["certificate", "serial"]);
static SERVER: Desc = Desc::gauge(
    "redis_tls_server_cert_expires_in_seconds",
    "Time until the server's certificate expires, in seconds.",
);
static CLIENT: Desc = Desc::gauge(
    "redis_tls_client_cert_expires_in_seconds",
    "Time until the certificate that the server uses as a client expires, in seconds.",
);
static CA: Desc = Desc::gauge(
    "redis_tls_ca_cert_expires_in_seconds",
    "Time until the first CA certificate expires, in seconds.",
);

/// Certificate, its two fields and its family.
static ROWS: [(&str, &str, &str, &Desc); 3] = [
    ("ca", "tls_ca_cert_serial", "tls_ca_cert_expires_in_seconds", &CA),
    ("client", "tls_client_cert_serial", "tls_client_cert_expires_in_seconds", &CLIENT),
    ("server", "tls_server_cert_serial", "tls_server_cert_expires_in_seconds", &SERVER),
];

/// Every family of this file.
pub fn descs() -> [&'static Desc; 4] {
    [&CA, &CERTIFICATE, &CLIENT, &SERVER]
}

/// Records each certificate.
pub fn read(info: &Info<'_>, out: &mut Builder) {
    for (certificate, serial, expiry, desc) in ROWS {
        let Some(serial) = info.get(serial).filter(|serial| !matches!(*serial, "" | "none")) else {
            continue;
        };
        let family = out.family(&CERTIFICATE);
        out.sample(family, &[certificate, serial], 1.0);
        if let Some(seconds) = info.get(expiry).and_then(number) {
            out.push(desc, seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::info::testing::lines;

    fn check(info: &str, expected: &[&str]) {
        assert_eq!(lines(info, |info, _, out| read(info, out)), expected, "{info}");
    }

    #[test]
    fn a_certificate_has_its_serial_and_expiry() {
        check(
            "tls_server_cert_serial:01A2\ntls_server_cert_expires_in_seconds:-5",
            &[
                "redis_tls_certificate_info{certificate=server,serial=01A2} 1",
                "redis_tls_server_cert_expires_in_seconds -5",
            ],
        );
    }

    #[test]
    fn without_tls_there_is_nothing() {
        check("tls_ca_cert_serial:none\ntls_ca_cert_expires_in_seconds:0", &[]);
        check("tls_ca_cert_expires_in_seconds:0", &[]);
    }
}
