//! A certificate authority of the test's own, with a server and a client certificate.
//!
//! Made anew each time: two calls give two authorities that do not trust each other, which is what a test of
//! a wrong certificate needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

/// A certificate and its key, as PEM files.
#[derive(Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// An authority and what it signed, in a folder that is removed with this.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
    /// The certificate of the authority.
    pub ca: PathBuf,
    /// For servers on `127.0.0.1` and `localhost`.
    pub server: Identity,
    /// For clients.
    pub client: Identity,
    /// For servers that are clients of each other, or of themselves: the members of an etcd.
    pub both: Identity,
}

impl Certificates {
    /// Makes an authority, and a certificate for `localhost` and 127.0.0.1.
    pub fn generate() -> Self {
        Self::generate_for(&["localhost", "127.0.0.1"])
    }

    /// Makes an authority, and a server certificate for these names and addresses.
    pub fn generate_for(names: &[&str]) -> Self {
        let folder = TempDir::with_prefix("redvigil-tls-").expect("a temporary folder can be made");
        let mut params = params(&[], "Test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key();
        let certificate = params.self_signed(&key).expect("an authority can sign itself");
        let ca = folder.path().join("ca.pem");
        fs::write(&ca, certificate.pem()).expect("a temporary file can be written");
        let issuer = Issuer::new(params, key);
        let server = sign(&issuer, folder.path(), "server", names, &[ExtendedKeyUsagePurpose::ServerAuth]);
        let client = sign(&issuer, folder.path(), "client", &[], &[ExtendedKeyUsagePurpose::ClientAuth]);
        let usages = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let both = sign(&issuer, folder.path(), "both", names, &usages);
        Self { folder, ca, server, client, both }
    }

    /// The folder with all the files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What a client that trusts this authority, and shows its client certificate, connects with.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        let chain = CertificateDer::pem_file_iter(&self.client.certificate)
            .expect("the file was written a moment ago")
            .collect::<Result<Vec<_>, _>>()
            .expect("the file holds certificates");
        let key = PrivateKeyDer::from_pem_file(&self.client.key).expect("the file holds a key");
        let config = self.verifier().with_client_auth_cert(chain, key);
        Arc::new(config.expect("key and certificate belong together"))
    }

    /// The same without a client certificate.
    pub fn anonymous_config(&self) -> Arc<ClientConfig> {
        Arc::new(self.verifier().with_no_client_auth())
    }

    fn verifier(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(&self.ca).expect("the file holds a certificate");
        roots.add(ca).expect("our own authority is well formed");
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots)
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("ring makes keys")
}

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("the names of a test certificate are ASCII");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn sign(
    issuer: &Issuer<'_, KeyPair>,
    folder: &Path,
    name: &str,
    names: &[&str],
    usages: &[ExtendedKeyUsagePurpose],
) -> Identity {
    let mut params = params(names, name);
    params.extended_key_usages = usages.to_vec();
    let key = new_key();
    let signed = params.signed_by(&key, issuer).expect("our own authority signs");
    let identity =
        Identity { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
    fs::write(&identity.certificate, signed.pem()).expect("a temporary file can be written");
    fs::write(&identity.key, key.serialize_pem()).expect("a temporary file can be written");
    identity
}
