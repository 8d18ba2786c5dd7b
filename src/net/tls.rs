//! TLS by rustls: what a client trusts and shows, and what our own server does.
//!
//! A [`ClientConfig`] is made from files and kept until one of them changes, so renewed certificates need
//! no restart and a reconnect does not read the system's roots again. A [`ServerConfig`] is made by
//! [`server_config`]; who serves keeps it and looks at the [`Stamp`]s of its files.

use crate::config::connect::Tls;
use crate::config::serve::TlsVersion;
use crate::config::web::{ClientAuth, Pem, TlsServer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion,
};
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use webpki::EndEntityCert;

/// What is wrong with TLS: our files, or the other side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds no certificate or key, or a broken one.
    #[error("{place} holds no usable {what}")]
    Pem {
        /// Which file or key of a document.
        place: String,
        /// What was looked for.
        what: &'static str,
    },
    /// A word is none of those that we know.
    #[error("the {what} `{word}` is not supported; expected one of {}", known.join(", "))]
    Unsupported {
        /// A word for what.
        what: &'static str,
        /// The word.
        word: String,
        /// All that there are.
        known: Vec<String>,
    },
    /// The system has no root certificates.
    #[error("the system has no root certificates: name a CA file")]
    NoRoots,
    /// Certificate and key do not fit, or the like.
    #[error("certificate and key cannot be used")]
    Config(#[source] rustls::Error),
    /// The server's name is neither a host name nor an address.
    #[error("`{0}` is no name that a certificate could have")]
    Name(String),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] io::Error),
}

/// The client configurations in use.
#[derive(Debug, Default)]
pub struct Clients {
    made: Mutex<HashMap<Tls, Made>>,
}

#[derive(Debug)]
struct Made {
    config: Arc<ClientConfig>,
    files: Vec<Stamp>,
}

/// A file as it was when it was read. Two that are equal are of the same content, unless somebody went to
/// the length of hiding a change from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    path: PathBuf,
    /// File, size and times of change of content and of permissions; `None` when they cannot be asked.
    seen: Option<(u64, u64, [i64; 4])>,
}

impl Stamp {
    /// Looks at a file, following links.
    pub fn of(path: &Path) -> Self {
        let seen = std::fs::metadata(path).ok().map(|meta| {
            let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
            (meta.ino(), meta.len(), times)
        });
        Self { path: path.to_owned(), seen }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the same file again: whether it changed.
    pub fn is_outdated(&self) -> bool {
        *self != Self::of(&self.path)
    }
}

impl Clients {
    /// The configuration for `tls`, made anew where a file of it changed.
    ///
    /// Reads files, and the system's roots where no CA is named: some milliseconds, once.
    pub fn get(&self, tls: &Tls) -> Result<Arc<ClientConfig>, Error> {
        // The name to verify is no part of it, and whoever sends a request may name any.
        let tls = &Tls { server_name: None, ..tls.clone() };
        let files =
            [tls.ca_file.as_ref(), tls.client.as_ref().map(|c| &c.0), tls.client.as_ref().map(|c| &c.1)];
        let files: Vec<_> = files.into_iter().flatten().map(|path| Stamp::of(path)).collect();
        let mut made = self.made.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(made) = made.get(tls).filter(|made| made.files == files) {
            return Ok(made.config.clone());
        }
        let config = Arc::new(client_config(tls)?);
        made.insert(tls.clone(), Made { config: config.clone(), files });
        Ok(config)
    }
}

/// The name to verify: the override, else the host.
pub fn server_name(tls: &Tls, host: &str) -> Result<ServerName<'static>, Error> {
    let name = tls.server_name.as_deref().unwrap_or(host);
    ServerName::try_from(name.to_owned()).map_err(|_| Error::Name(name.to_owned()))
}

fn client_config(tls: &Tls) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(Error::Config)?;
    let builder = if tls.skip_verification {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots(tls.ca_file.as_deref())?)
    };
    match &tls.client {
        Some((cert, key)) => {
            builder.with_client_auth_cert(certificates(cert)?, private_key(key)?).map_err(Error::Config)
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if roots.is_empty() { Err(Error::NoRoots) } else { Ok(roots) };
    };
    for cert in certificates(path)? {
        roots.add(cert).map_err(|_| unusable(path, "CA certificate"))?;
    }
    Ok(roots)
}

/// All certificates of a PEM file; at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    certificates_in(&read(path)?).ok_or_else(|| unusable(path, "certificate"))
}

fn certificates_in(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certs = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    certs.ok().filter(|certs| !certs.is_empty())
}

/// The first private key of a PEM file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| unusable(path, "private key"))
}

fn unusable(path: &Path, what: &'static str) -> Error {
    Error::Pem { place: path.display().to_string(), what }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })
}

/// Accepts any certificate, as `--skip-tls-verification` asks; signatures are checked all the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What our own server does: made from files and words, some milliseconds.
pub fn server_config(tls: &TlsServer, http2: bool) -> Result<ServerConfig, Error> {
    let provider = Arc::new(provider(tls)?);
    let versions: Vec<&SupportedProtocolVersion> =
        [(TlsVersion::V12, &rustls::version::TLS12), (TlsVersion::V13, &rustls::version::TLS13)]
            .into_iter()
            .filter(|(version, _)| (tls.min_version..=tls.max_version).contains(version))
            .map(|(_, version)| version)
            .collect();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(Error::Config)?;
    let builder = match tls.client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        _ => builder.with_client_cert_verifier(Arc::new(ClientCertificates::new(tls, provider)?)),
    };
    let certs = part(&tls.cert, "cert", "certificate", certificates_in)?;
    let key = part(&tls.key, "key", "private key", |pem| PrivateKeyDer::from_pem_slice(pem).ok())?;
    let mut config = builder.with_single_cert(certs, key).map_err(Error::Config)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok(config)
}

/// What the PEM text of a file or of a document holds.
fn part<T>(
    pem: &Pem,
    key: &str,
    what: &'static str,
    of: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<T, Error> {
    match pem {
        Pem::File(path) => of(&read(path)?).ok_or_else(|| unusable(path, what)),
        Pem::Text(text) => of(text.expose().as_bytes())
            .ok_or_else(|| Error::Pem { place: format!("tls_server_config: {key}"), what }),
    }
}

/// The algorithms that the words of the operator admit.
fn provider(tls: &TlsServer) -> Result<CryptoProvider, Error> {
    let mut provider = ring::default_provider();
    if !tls.cipher_suites.is_empty() {
        let known: Vec<_> = provider.cipher_suites.iter().map(suite_name).collect();
        check_words("cipher suite", &tls.cipher_suites, &known)?;
        let is_named = |suite: &SupportedCipherSuite| tls.cipher_suites.contains(&suite_name(suite));
        let is_13 =
            |suite: &SupportedCipherSuite| suite.version().version == rustls::ProtocolVersion::TLSv1_3;
        // Go, whose words these are, knows no choice among the suites of TLS 1.3: a list that names none
        // of them says nothing about them.
        let names_13 = provider.cipher_suites.iter().any(|suite| is_13(suite) && is_named(suite));
        provider.cipher_suites.retain(|suite| is_named(suite) || (is_13(suite) && !names_13));
    }
    if !tls.curves.is_empty() {
        let name = |group: rustls::NamedGroup| match group {
            rustls::NamedGroup::secp256r1 => "CurveP256".to_owned(),
            rustls::NamedGroup::secp384r1 => "CurveP384".to_owned(),
            group => format!("{group:?}"),
        };
        let known: Vec<_> = provider.kx_groups.iter().map(|group| name(group.name())).collect();
        check_words("curve", &tls.curves, &known)?;
        // In the order of the list: it is one of preference.
        let place = |group: rustls::NamedGroup| tls.curves.iter().position(|word| *word == name(group));
        provider.kx_groups.retain(|group| place(group.name()).is_some());
        provider.kx_groups.sort_by_key(|group| place(group.name()));
    }
    Ok(provider)
}

/// The name that Go and IANA have for a suite.
fn suite_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

fn check_words(what: &'static str, words: &[String], known: &[String]) -> Result<(), Error> {
    match words.iter().find(|word| !known.contains(word)) {
        Some(word) => Err(Error::Unsupported { what, word: word.clone(), known: known.to_vec() }),
        None => Ok(()),
    }
}

/// Which client certificates are accepted.
#[derive(Debug)]
struct ClientCertificates {
    mandatory: bool,
    /// Checks the chain, where it matters.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    /// Names of which one must be in the certificate; none: any.
    names: Vec<AllowedName>,
    provider: Arc<CryptoProvider>,
}

/// A name that a client certificate may have.
#[derive(Debug)]
enum AllowedName {
    Address(IpAddr),
    /// A host name or a URI, equal letter by letter.
    Text(String),
}

impl ClientCertificates {
    fn new(tls: &TlsServer, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        let chain = match tls.client_ca.as_ref().filter(|_| tls.client_auth.verifies()) {
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for cert in part(ca, "client_ca", "CA certificate", certificates_in)? {
                    roots.add(cert).map_err(Error::Config)?;
                }
                let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
                let fault = |error: rustls::server::VerifierBuilderError| {
                    Error::Config(rustls::Error::General(error.to_string()))
                };
                Some(builder.build().map_err(fault)?)
            }
            None => None,
        };
        let name = |text: &String| match text.parse() {
            Ok(address) => Ok(AllowedName::Address(address)),
            // An `@` in a URI stands behind its scheme.
            Err(_) if text.contains('@') && !text.contains(':') => Err(Error::Unsupported {
                what: "client_allowed_sans entry",
                word: text.clone(),
                known: ["a host name", "an IP address", "a URI"].map(Into::into).to_vec(),
            }),
            Err(_) => Ok(AllowedName::Text(text.clone())),
        };
        Ok(Self {
            mandatory: matches!(tls.client_auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify),
            chain,
            names: tls.allowed_sans.iter().map(name).collect::<Result<_, _>>()?,
            provider,
        })
    }

    fn has_allowed_name(&self, cert: &EndEntityCert<'_>) -> bool {
        self.names.iter().any(|name| match name {
            AllowedName::Address(address) => {
                cert.verify_is_valid_for_subject_name(&ServerName::IpAddress((*address).into())).is_ok()
            }
            AllowedName::Text(text) => {
                cert.valid_dns_names().any(|name| name == text)
                    || cert.valid_uri_names().any(|uri| uri == text)
            }
        })
    }
}

impl ClientCertVerifier for ClientCertificates {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(end_entity, intermediates, now)?;
        }
        let cert = EndEntityCert::try_from(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        if self.names.is_empty() || self.has_allowed_name(&cert) {
            return Ok(ClientCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn settings(change: impl FnOnce(&mut TlsServer)) -> TlsServer {
        let own = rcgen::generate_simple_self_signed(["localhost".into()]).expect("a certificate");
        let mut tls = TlsServer {
            cert: Pem::Text(Secret::new(own.cert.pem())),
            key: Pem::Text(Secret::new(own.signing_key.serialize_pem())),
            client_ca: Some(Pem::Text(Secret::new(own.cert.pem()))),
            client_auth: ClientAuth::None,
            allowed_sans: vec![],
            min_version: TlsVersion::V12,
            max_version: TlsVersion::V13,
            cipher_suites: vec![],
            curves: vec![],
        };
        change(&mut tls);
        tls
    }

    fn check(change: impl FnOnce(&mut TlsServer), expected: Result<(), &str>) {
        let made = server_config(&settings(change), true).map(drop).map_err(|error| error.to_string());
        match (made, expected) {
            (Err(error), Err(words)) => assert!(error.contains(words), "{error}"),
            (made, expected) => assert_eq!(made, expected.map_err(Into::into)),
        }
    }

    #[test]
    fn words_that_are_not_known_name_those_that_are() {
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let good = words(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"]);
        check(|tls| tls.cipher_suites = good, Ok(()));
        check(
            |tls| tls.cipher_suites = words(&["TLS_RSA_WITH_AES_128_CBC_SHA"]),
            Err("expected one of TLS_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256, "),
        );
        check(|tls| tls.curves = words(&["CurveP384", "X25519"]), Ok(()));
        check(
            |tls| tls.curves = words(&["CurveP521"]),
            Err("`CurveP521` is not supported; expected one of X25519, CurveP256"),
        );
        check(
            |tls| (tls.client_auth, tls.allowed_sans) = (ClientAuth::RequireAny, words(&["a@example.org"])),
            Err("expected one of a host name, "),
        );
    }

    #[test]
    fn a_list_of_suites_that_names_none_of_tls_13_leaves_those_alone() {
        fn check(words: &[&str], expected: usize) {
            let words = words.iter().map(|w| (*w).to_owned()).collect();
            let provider = provider(&settings(|tls| tls.cipher_suites = words)).expect("known words");
            assert_eq!(provider.cipher_suites.len(), expected);
        }
        check(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"], 4);
        check(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"], 2);
        check(&["TLS_AES_128_GCM_SHA256"], 1);
    }

    #[test]
    fn parts_that_cannot_be_used_are_named() {
        let none = || Pem::Text(Secret::new("nothing"));
        check(|_| (), Ok(()));
        check(|tls| tls.cert = none(), Err("tls_server_config: cert holds no usable certificate"));
        check(|tls| tls.key = none(), Err("tls_server_config: key holds no usable private key"));
        check(
            |tls| (tls.client_ca, tls.client_auth) = (Some(none()), ClientAuth::RequireAndVerify),
            Err("tls_server_config: client_ca holds no usable CA certificate"),
        );
        check(|tls| tls.cert = Pem::File("/nowhere".into()), Err("cannot read /nowhere"));
    }

    #[test]
    fn a_file_that_changed_is_seen() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let stamp = Stamp::of(file.path());
        assert!(!stamp.is_outdated());
        std::fs::write(file.path(), "x").expect("written");
        assert!(stamp.is_outdated());
        drop(file);
        assert!(stamp.is_outdated());
    }
}
