//! Where NATS is, who we are there, and how patient we are.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use async_nats::ServerAddr;

use crate::event::Origin;

/// What the publisher needs to know. [`BusConfig::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct BusConfig {
    /// The servers, in the order of the configuration.
    pub servers: Servers,
    /// How to log in.
    pub credentials: Credentials,
    /// Certificates, where the defaults of the system do not do.
    pub tls: BusTls,
    /// The tenant of the subjects and the node that names consumers and connections.
    pub origin: Origin,
    /// How long JetStream remembers message ids, for a stream that this agent creates. At least
    /// two minutes.
    pub duplicate_window: Duration,
    /// On how many servers a stream that this agent creates is kept.
    pub replicas: usize,
    /// How long to wait for a connection, an answer or an acknowledgement.
    pub patience: Duration,
    /// The pause after a first failure; doubles up to [`Self::longest_pause`].
    pub shortest_pause: Duration,
    /// The longest pause between attempts.
    pub longest_pause: Duration,
}

/// The shortest time that JetStream has to remember message ids.
pub(super) const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

impl BusConfig {
    /// The defaults: no login, one replica, two minutes of duplicate window, five seconds of
    /// patience, pauses of 250 ms to 15 s.
    #[must_use]
    pub fn new(servers: Servers, origin: Origin) -> Self {
        Self {
            servers,
            credentials: Credentials::None,
            tls: BusTls::default(),
            origin,
            duplicate_window: DUPLICATE_WINDOW,
            replicas: 1,
            patience: Duration::from_secs(5),
            shortest_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(15),
        }
    }
}

/// One or more NATS servers: `nats.url`, several separated by commas.
#[derive(Clone)]
pub struct Servers(Vec<ServerAddr>);

/// Why a text does not name NATS servers.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "a NATS server is written as nats://host:4222 or tls://host:4222, several with commas \
     between them ({0})"
)]
pub struct BadServers(String);

impl Servers {
    pub(super) fn addresses(&self) -> Vec<ServerAddr> {
        self.0.clone()
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

impl FromStr for Servers {
    type Err = BadServers;

    fn from_str(text: &str) -> Result<Self, BadServers> {
        let servers = text
            .split(',')
            .map(|url| url.trim().parse::<ServerAddr>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|why| BadServers(why.to_string()))?;
        if servers.iter().any(|server| server.host().is_empty()) {
            return Err(BadServers("the host is missing".to_owned()));
        }
        Ok(Self(servers))
    }
}

/// Hosts and ports; a password in the URL is not shown.
impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, server) in self.0.iter().enumerate() {
            let comma = if nth == 0 { "" } else { "," };
            write!(f, "{comma}{}:{}", server.host(), server.port())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How to log in. Shows no secret.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Not at all, or as the URL says.
    #[default]
    None,
    /// A `.creds` file with a JWT and a seed. Read at every connection, so that it can be replaced.
    File(PathBuf),
    /// The seed of an nkey.
    Nkey(String),
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::None => "None",
            Credentials::File(_) => "File(…)",
            Credentials::Nkey(_) => "Nkey(…)",
            Credentials::Password { .. } => "Password(…)",
            Credentials::Token(_) => "Token(…)",
        })
    }
}

/// Certificates for TLS, PEM files.
#[derive(Clone, Debug, Default)]
pub struct BusTls {
    /// TLS also for `nats://`.
    pub required: bool,
    /// Who may have signed the server's certificate, beside the system's list.
    pub roots: Vec<PathBuf>,
    /// Our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_one_or_several_and_their_passwords_not_shown() {
        let one: Servers = "tls://nats.example:4222".parse().unwrap();
        assert_eq!(one.to_string(), "nats.example:4222");
        let two: Servers = "nats://user:secret@a:1, b".parse().unwrap();
        assert_eq!(format!("{two:?}"), "a:1,b:4222");
        for bad in ["", "http://x", "nats://", ","] {
            assert!(bad.parse::<Servers>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn credentials_do_not_print() {
        let password = Credentials::Password { user: "u".into(), password: "hunter2".into() };
        assert!(!format!("{password:?}").contains("hunter2"));
    }
}
