//! Certificates of a test's own authority, made as they are needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version,
};

/// An authority that nobody knows but the test.
pub struct Authority {
    folder: tempfile::TempDir,
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Issued {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Both in one file, the certificate first.
    pub both: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("a file");
        Self { folder, certificate, issuer: Issuer::new(params, key) }
    }

    /// Its own certificate, a PEM file.
    pub fn pem(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for these names and addresses; its files are called `file`.
    pub fn issue(&self, file: &str, names: &[&str]) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |suffix: &str| self.folder.path().join(format!("{file}-{suffix}.pem"));
        let issued = Issued { cert: path("cert"), key: path("key"), both: path("both") };
        std::fs::write(&issued.cert, certificate.pem()).expect("a file");
        std::fs::write(&issued.key, key.serialize_pem()).expect("a file");
        std::fs::write(&issued.both, certificate.pem() + &key.serialize_pem()).expect("a file");
        issued
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("an authority");
        Arc::new(roots)
    }

    /// What a client needs that believes this authority, and shows a certificate if it has one.
    pub fn client(
        &self,
        shows: Option<&Issued>,
        version: &'static SupportedProtocolVersion,
    ) -> Arc<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(self.roots());
        Arc::new(match shows {
            None => config.with_no_client_auth(),
            Some(issued) => {
                let (chain, key) = issued.read();
                config.with_client_auth_cert(chain, key).expect("a certificate")
            }
        })
    }

    /// What a server needs that shows this certificate; `asks` for one of this authority.
    pub fn server(&self, shows: &Issued, asks: bool) -> Arc<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = if asks {
            WebPkiClientVerifier::builder_with_provider(self.roots(), Arc::clone(&provider))
                .build()
                .expect("a verifier")
        } else {
            WebPkiClientVerifier::no_client_auth()
        };
        let (chain, key) = shows.read();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .expect("versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .expect("a certificate");
        Arc::new(config)
    }
}

impl Issued {
    pub fn read(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::pem_file_iter(&self.cert).expect("a file");
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("a key");
        (chain.map(|cert| cert.expect("a certificate")).collect(), key)
    }

    /// Takes the place of another's files.
    pub fn replace(&self, other: &Issued) {
        let copy = |from: &Path, to: &Path| {
            std::fs::copy(from, to).expect("a copy");
        };
        copy(&self.cert, &other.cert);
        copy(&self.key, &other.key);
    }
}
