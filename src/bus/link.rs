//! One connection to NATS, used once.
//!
//! The client would reconnect by itself and send on what it had in hand. Then an event could
//! reach a server that has just lost the ones before it. So a connection that is lost is given
//! up: the next one starts with the comparison of [`crate::bus`]'s reconcile step.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event};
use tokio::sync::watch;

use crate::bus::settings::{BusConfig, Credentials};
use crate::bus::trouble::Trouble;

/// A live connection. Dropping it closes it.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) jetstream: Context,
    lost: watch::Receiver<bool>,
    said: Arc<Mutex<Option<String>>>,
    /// The client's reconnect waits for the end of this.
    _held: watch::Sender<()>,
}

impl Link {
    /// Connects, within the patience of the configuration for each server.
    pub(super) async fn connect(config: &BusConfig) -> Result<Self, Trouble> {
        let established = Arc::new(AtomicBool::new(false));
        let (tell_lost, lost) = watch::channel(false);
        let tell_lost = Arc::new(tell_lost);
        let (held, released) = watch::channel(());
        let said = Arc::new(Mutex::new(None));

        let options = options(config)
            .await?
            .max_reconnects(config.servers.count())
            .reconnect_to_server_callback({
                let established = Arc::clone(&established);
                move |_, _| {
                    let again = established.load(Ordering::Acquire);
                    let (tell_lost, mut released) = (Arc::clone(&tell_lost), released.clone());
                    async move {
                        if again {
                            tell_lost.send_replace(true);
                            while released.changed().await.is_ok() {}
                        }
                        None
                    }
                }
            })
            .event_callback({
                let said = Arc::clone(&said);
                move |event| {
                    let said = Arc::clone(&said);
                    async move {
                        if let Event::ServerError(error) = event {
                            let text = printable(&error.to_string());
                            *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
                        }
                    }
                }
            });
        let client = options.connect(config.servers.addresses()).await.map_err(|why| {
            Trouble::Unreachable {
                servers: config.servers.to_string(),
                why: printable(&why.to_string()),
            }
        })?;
        established.store(true, Ordering::Release);

        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(config.patience)
            .ack_timeout(config.patience)
            .build(client.clone());
        Ok(Self { client, jetstream, lost, said, _held: held })
    }

    /// Returns when the connection is gone.
    pub(super) async fn lost(&self) {
        // An error means that the client is gone altogether, and the connection with it.
        let _ = self.lost.clone().wait_for(|lost| *lost).await;
    }

    /// No answer came; with what the server last complained about.
    pub(super) fn silent(&self) -> Trouble {
        Trouble::Silent(self.said.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

async fn options(config: &BusConfig) -> Result<ConnectOptions, Trouble> {
    let plain = ConnectOptions::new()
        .name(format!("assent/{}/{}", config.origin.tenant, config.origin.node))
        .connection_timeout(config.patience)
        .request_timeout(Some(config.patience))
        .ignore_discovered_servers()
        .retain_servers_order()
        .require_tls(config.tls.required);
    let mut options = match &config.credentials {
        Credentials::None => plain,
        Credentials::File(path) => plain.credentials_file(path).await.map_err(|why| {
            Trouble::Credentials { path: path.display().to_string(), why: why.to_string() }
        })?,
        Credentials::Nkey(seed) => plain.nkey(seed.clone()),
        Credentials::Password { user, password } => {
            plain.user_and_password(user.clone(), password.clone())
        }
        Credentials::Token(token) => plain.token(token.clone()),
    };
    for root in &config.tls.roots {
        options = options.add_root_certificates(root.clone());
    }
    if let Some((certificate, key)) = &config.tls.identity {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options)
}

/// A server's words, fit for a log.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
