//! TLS by rustls: what a client trusts and shows.
//!
//! A [`ClientConfig`] is made from files and kept until one of them changes, so renewed certificates need
//! no restart and a reconnect does not read the system's roots again.

use crate::config::connect::Tls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

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
    #[error("{} holds no usable {what}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
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

/// A file as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    /// Time of change and size; `None` when it cannot be asked.
    seen: Option<(SystemTime, u64)>,
}

impl Stamp {
    fn of(path: &Path) -> Self {
        let meta = std::fs::metadata(path).ok();
        let seen = meta.and_then(|meta| Some((meta.modified().ok()?, meta.len())));
        Self { path: path.to_owned(), seen }
    }
}

impl Clients {
    /// The configuration for `tls`, made anew where a file of it changed.
    ///
    /// Reads files, and the system's roots where no CA is named: some milliseconds, once.
    pub fn get(&self, tls: &Tls) -> Result<Arc<ClientConfig>, Error> {
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
        roots.add(cert).map_err(|_| Error::Pem { path: path.to_owned(), what: "CA certificate" })?;
    }
    Ok(roots)
}

/// All certificates of a PEM file; at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let no_certificate = || Error::Pem { path: path.to_owned(), what: "certificate" };
    let certs = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
    certs.ok().filter(|certs| !certs.is_empty()).ok_or_else(no_certificate)
}

/// The first private key of a PEM file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| Error::Pem { path: path.to_owned(), what: "private key" })
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
