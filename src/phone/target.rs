//! Whom to call: a SIP URI, and the address that it stands for.

use std::net::SocketAddr;
use std::str::FromStr;

use bytes::Bytes;
use sipx_sip::{Host, Uri, UriTransport};

/// A SIP URI that can be called over UDP.
#[derive(Clone, Debug)]
pub struct Target {
    uri: Uri,
}

/// Why somebody cannot be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// It is no SIP URI.
    #[error("\"{0}\" is not a SIP URI: write for example sip:100@127.0.0.1:5060")]
    NotSip(String),
    /// It asks for a transport that the phone does not have.
    #[error("the test phone speaks UDP only: leave out \";transport=\"")]
    Transport,
    /// Its host has no address.
    #[error("the host \"{0}\" has no address: check the name, or give the address itself")]
    NoAddress(String),
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let not_sip = || BadTarget::NotSip(text.to_owned());
        // `100@pbx` is what people type.
        let bare = text.split_once('@').is_some_and(|(user, _)| !user.contains(':'));
        let text = if bare { format!("sip:{text}") } else { text.to_owned() };
        let uri = Uri::parse(Bytes::from(text)).map_err(|_| not_sip())?;
        if !uri.scheme().is_sip() || uri.host().is_none() {
            return Err(not_sip());
        }
        if uri.scheme().is_secure() {
            return Err(BadTarget::Transport);
        }
        match uri.selected_transport() {
            Ok(UriTransport::Udp) => Ok(Self { uri }),
            _ => Err(BadTarget::Transport),
        }
    }
}

impl Target {
    /// The URI itself.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Where its host is; the system's resolver is asked for a name.
    ///
    /// # Errors
    /// [`BadTarget::NoAddress`].
    pub async fn address(&self) -> Result<SocketAddr, BadTarget> {
        resolve(&self.uri).await
    }
}

/// The address of a URI's host.
pub(super) async fn resolve(uri: &Uri) -> Result<SocketAddr, BadTarget> {
    let port = uri.port().unwrap_or(5060);
    match uri.host() {
        Some(Host::Ip(ip)) => Ok(SocketAddr::new(*ip, port)),
        Some(Host::Name(name)) => {
            let name = String::from_utf8_lossy(name.as_bytes()).into_owned();
            let found = tokio::net::lookup_host((name.as_str(), port)).await;
            found.ok().and_then(|mut all| all.next()).ok_or(BadTarget::NoAddress(name))
        }
        None => Err(BadTarget::NoAddress(String::new())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_sip_uri_over_udp() {
        for good in ["sip:100@127.0.0.1:5060", "100@127.0.0.1", "sip:127.0.0.1", "sip:a@[::1]:5070"]
        {
            assert!(good.parse::<Target>().is_ok(), "{good}");
        }
        for bad in ["", "tel:+4930", "sips:a@b", "sip:a@b;transport=tcp", "mailto:a@b", "sip:"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_address_needs_no_resolver() {
        let target: Target = "sip:100@127.0.0.1:5070".parse().unwrap();
        assert_eq!(target.address().await, Ok("127.0.0.1:5070".parse().unwrap()));
        let target: Target = "sip:[::1]".parse().unwrap();
        assert_eq!(target.address().await, Ok("[::1]:5060".parse().unwrap()));
    }
}
