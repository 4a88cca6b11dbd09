//! TLS 1.2 and 1.3: our certificate, whose certificates we believe, and the handshakes.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::net::TcpStream;
use tokio_rustls::rustls::client::{ClientConfig, WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{ParsedCertificate, ServerConfig, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Which files hold what, all of them PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our certificate with its chain, and its key. Needed to listen; shown to next hops that ask.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Authorities of the certificates that callers must show; callers need none when `None`.
    pub client_ca: Option<PathBuf>,
    /// Authorities of the certificates that next hops show; those of the system when `None`.
    pub ca: Option<PathBuf>,
}

/// What the files of [`TlsFiles`] held, checked, ready for handshakes.
#[derive(Clone)]
pub struct Tls {
    accepts: Option<Arc<ServerConfig>>,
    connects: Arc<ClientConfig>,
}

/// Why the certificates are of no use. Names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the kind that is wanted.
    #[error("{key}: {} holds no {wanted} in PEM that can be read ({why})", path.display())]
    File {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// What happened.
        why: String,
    },
    /// The certificate and the key do not fit, or are of a kind that TLS does not know.
    #[error(
        "sip.tls.cert and sip.tls.key are of no use together ({0}); name a key and its own certificate"
    )]
    Identity(rustls::Error),
    /// The authorities cannot be used.
    #[error("{key} holds no authority that can be used ({why}); name a file of CA certificates")]
    Authorities {
        /// The key of the configuration.
        key: &'static str,
        /// What happened.
        why: String,
    },
    /// The system knows no authority.
    #[error(
        "the system has no certificate authorities; install ca-certificates, or set sip.tls.ca"
    )]
    NoSystemAuthorities,
}

impl Tls {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// [`TlsError`]: what is in use stays in use.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let identity =
            files.identity.as_ref().map(|(cert, key)| identity(cert, key)).transpose()?;
        let accepts = match &identity {
            Some(identity) => Some(accepting(&provider, files.client_ca.as_deref(), identity)?),
            None => None,
        };
        let connects = connecting(&provider, files.ca.as_deref(), identity.as_ref())?;
        Ok(Self { accepts, connects })
    }

    /// Whether it can answer a handshake.
    #[must_use]
    pub fn accepts(&self) -> bool {
        self.accepts.is_some()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls {{ accepts: {}, … }}", self.accepts())
    }
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn identity(cert: &Path, key: &Path) -> Result<Identity, TlsError> {
    let chain = certificates("sip.tls.cert", cert)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|why| TlsError::File {
        key: "sip.tls.key",
        path: key.to_owned(),
        wanted: "private key",
        why: why.to_string(),
    })?;
    Ok(Identity { chain, key })
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file =
        |why: String| TlsError::File { key, path: path.to_owned(), wanted: "certificate", why };
    let found = CertificateDer::pem_file_iter(path).map_err(|why| file(why.to_string()))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|why| file(why.to_string()))?;
    if found.is_empty() { Err(file("there is none in it".to_owned())) } else { Ok(found) }
}

fn authorities(key: &'static str, path: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(key, path)? {
        let added = roots.add(certificate);
        added.map_err(|why| TlsError::Authorities { key, why: why.to_string() })?;
    }
    Ok(Arc::new(roots))
}

/// The authorities of the system. One that cannot be read is one that is not believed.
fn system_authorities() -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoSystemAuthorities) } else { Ok(Arc::new(roots)) }
}

fn accepting(
    provider: &Arc<CryptoProvider>,
    client_ca: Option<&Path>,
    identity: &Identity,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = match client_ca {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(path) => {
            let key = "sip.tls.client_ca";
            let roots = authorities(key, path)?;
            WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
                .build()
                .map_err(|why| TlsError::Authorities { key, why: why.to_string() })?
        }
    };
    ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Identity)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map(Arc::new)
        .map_err(TlsError::Identity)
}

fn connecting(
    provider: &Arc<CryptoProvider>,
    ca: Option<&Path>,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let key = "sip.tls.ca";
    let roots = match ca {
        Some(path) => authorities(key, path)?,
        None => system_authorities()?,
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|why| TlsError::Authorities { key, why: why.to_string() })?;
    let config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Identity)?
        .with_webpki_verifier(verifier);
    match identity {
        None => Ok(Arc::new(config.with_no_client_auth())),
        Some(identity) => config
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map(Arc::new)
            .map_err(TlsError::Identity),
    }
}

/// The certificates in force. They change when the configuration is read again; connections that
/// are open keep those that they began with.
#[derive(Debug, Default)]
pub(super) struct Credentials(RwLock<Option<Tls>>);

impl Credentials {
    pub(super) fn new(tls: Option<Tls>) -> Self {
        Self(RwLock::new(tls))
    }

    pub(super) fn replace(&self, tls: Tls) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(tls);
    }

    fn current(&self) -> Option<Tls> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server's side of a handshake.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<server::TlsStream<TcpStream>> {
        let accepts = self.current().and_then(|tls| tls.accepts);
        let accepts = accepts.ok_or_else(|| io::Error::other("there is no certificate to show"))?;
        TlsAcceptor::from(accepts).accept(stream).await
    }

    /// The client's side: the peer must show a certificate for `name`, or for its address where
    /// nobody knows a name (RFC 5922, 7.1).
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        name: Option<&str>,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let connects = self.current().map(|tls| tls.connects);
        let connects = connects.ok_or_else(|| io::Error::other("TLS is not configured"))?;
        let name = wanted(name, peer).ok_or_else(|| io::Error::other("its name is none"))?;
        TlsConnector::from(connects).connect(name, stream).await
    }
}

/// Whom a certificate must be for: whoever has this name, or this address where nobody knows one.
fn wanted(name: Option<&str>, addr: SocketAddr) -> Option<ServerName<'static>> {
    match name {
        Some(name) => ServerName::try_from(name.to_owned()).ok(),
        None => Some(ServerName::from(addr.ip().to_canonical())),
    }
}

/// A certificate that a peer has shown and that `sip.tls.client_ca` vouches for.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Shown(CertificateDer<'static>);

impl Shown {
    /// The certificate of the other end of a connection that was accepted.
    pub(super) fn on(stream: &server::TlsStream<TcpStream>) -> Option<Self> {
        let (_, connection) = stream.get_ref();
        Some(Self(connection.peer_certificates()?.first()?.clone().into_owned()))
    }

    /// Whether it is a certificate for this name, or for this address where there is no name.
    pub(super) fn is_for(&self, name: Option<&str>, addr: SocketAddr) -> bool {
        let Ok(certificate) = ParsedCertificate::try_from(&self.0) else { return false };
        wanted(name, addr).is_some_and(|name| verify_server_name(&certificate, &name).is_ok())
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(…)")
    }
}

/// Handshakes in progress, counted, so that those who start them and then fall silent leave room
/// for others.
#[derive(Debug, Default)]
pub(super) struct Handshakes(Mutex<Running>);

#[derive(Debug, Default)]
struct Running {
    by_source: HashMap<IpAddr, usize>,
    all: usize,
    strangers: usize,
}

/// Handshakes at one time with one address, with addresses outside `sip.peers`, and altogether.
const FROM_ONE: usize = 32;
const FROM_STRANGERS: usize = 64;
const ALL: usize = 512;

impl Handshakes {
    /// Room for one more; `None` when there is none. It is given back with the value.
    pub(super) fn begin(self: &Arc<Self>, source: IpAddr, is_peer: bool) -> Option<Handshake> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from_here = running.by_source.get(&source).copied().unwrap_or(0);
        let crowded = !is_peer && running.strangers >= FROM_STRANGERS;
        if crowded || from_here >= FROM_ONE || running.all >= ALL {
            return None;
        }
        running.by_source.insert(source, from_here + 1);
        running.all += 1;
        running.strangers += usize::from(!is_peer);
        Some(Handshake { all: Arc::clone(self), source, is_peer })
    }
}

/// A handshake in progress.
#[derive(Debug)]
pub(super) struct Handshake {
    all: Arc<Handshakes>,
    source: IpAddr,
    is_peer: bool,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut running = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.all = running.all.saturating_sub(1);
        running.strangers = running.strangers.saturating_sub(usize::from(!self.is_peer));
        match running.by_source.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(running.by_source.remove(&self.source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_of_one_address_leave_room_for_others() {
        let handshakes = Arc::new(Handshakes::default());
        let addr = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut held: Vec<_> = (0..FROM_ONE).map(|_| handshakes.begin(addr(1), true)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(handshakes.begin(addr(1), true).is_none());
        assert!(handshakes.begin(addr(2), true).is_some());
        held.pop();
        assert!(handshakes.begin(addr(1), true).is_some());
        held.clear();
        let running = handshakes.0.lock().unwrap();
        assert_eq!((running.all, running.strangers, running.by_source.len()), (0, 0, 0));
    }

    #[test]
    fn strangers_leave_room_for_peers() {
        let handshakes = Arc::new(Handshakes::default());
        let addr = |n: usize| IpAddr::from(std::net::Ipv4Addr::from(u32::try_from(n).unwrap()));
        let held: Vec<_> = (0..FROM_STRANGERS).map(|n| handshakes.begin(addr(n), false)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(handshakes.begin(addr(1000), false).is_none());
        assert!(handshakes.begin(addr(1000), true).is_some());
    }

    #[test]
    fn a_file_that_is_of_no_use_is_named_with_its_key() {
        let missing = TlsFiles {
            identity: Some(("/nowhere/cert.pem".into(), "/nowhere/key.pem".into())),
            ..TlsFiles::default()
        };
        let said = Tls::load(&missing).unwrap_err().to_string();
        assert!(said.contains("sip.tls.cert: /nowhere/cert.pem holds no certificate"), "{said}");
    }
}
