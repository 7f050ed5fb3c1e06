//! Certificates for servers of the tests, made when they run.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Names that servers of the tests are reached by.
pub const LOOPBACK: [&str; 2] = ["127.0.0.1", "localhost"];

/// An authority that nobody trusts unless told.
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A server's certificate with its key.
pub struct Identity {
    certificate: Certificate,
    key: KeyPair,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Writes its certificate as PEM.
    pub fn write(&self, path: &Path) {
        fs::write(path, self.certificate.pem()).expect("to write a certificate");
    }

    /// A certificate for `names`, valid through the years from the first to before the second.
    pub fn issue(&self, names: &[&str], years: (i32, i32)) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let signed = leaf(names, years).signed_by(&key, &self.issuer);
        Identity { certificate: signed.expect("a certificate"), key }
    }
}

impl Identity {
    /// A certificate that no authority signed.
    pub fn self_signed(names: &[&str]) -> Self {
        let key = KeyPair::generate().expect("a key");
        let certificate = leaf(names, (2000, 4000)).self_signed(&key).expect("a certificate");
        Self { certificate, key }
    }

    /// Writes certificate and key as PEM.
    pub fn write(&self, certificate: &Path, key: &Path) {
        fs::write(certificate, self.certificate.pem()).expect("to write a certificate");
        fs::write(key, self.key.serialize_pem()).expect("to write a key");
    }

    /// Settings of a server that shows this certificate.
    pub fn server(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> rustls::ServerConfig {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let chain = vec![CertificateDer::from(self.certificate.der().to_vec())];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate with its key")
    }
}

fn leaf(names: &[&str], (from, until): (i32, i32)) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut leaf = CertificateParams::new(names).expect("names of a server");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.not_before = date_time_ymd(from, 1, 1);
    leaf.not_after = date_time_ymd(until, 1, 1);
    leaf
}
