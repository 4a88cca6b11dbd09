//! From `[nats]` to a running publisher, which carries out commands too.

use std::path::PathBuf;
use std::time::Duration;

use crate::agent::clerk::Clerk;
use crate::agent::outbox::CatalogOutbox;
use crate::bus::{Bus, BusConfig, BusTls, Credentials};
use crate::catalog::Catalog;
use crate::clock;
use crate::config::{Nats, NatsAuth};
use crate::event::Origin;

/// How often the outbox is pruned.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Why the publisher cannot be set up. A server that is away is no reason.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// `url` names no servers.
    #[error("[nats] url: {0}")]
    Servers(#[from] crate::bus::BadServers),
    /// The file with the seed cannot be read.
    #[error("[nats] nkey: {} cannot be read ({why}); name a file that holds an nkey seed", path.display())]
    Seed {
        /// The file.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
}

/// Starts publishing, and carrying out commands, in the background.
pub(super) fn start(
    nats: &Nats,
    origin: Origin,
    catalog: Catalog,
    clerk: Clerk,
) -> Result<Bus, BusError> {
    let mut config = BusConfig::new(nats.servers.join(",").parse()?, origin);
    config.replicas = nats.replicas;
    config.credentials = match &nats.auth {
        NatsAuth::None => Credentials::None,
        NatsAuth::Creds(path) => Credentials::File(path.clone()),
        NatsAuth::NKey(path) => {
            let seed = std::fs::read_to_string(path)
                .map_err(|why| BusError::Seed { path: path.clone(), why })?;
            Credentials::Nkey(seed.trim().to_owned())
        }
        NatsAuth::User { user, password } => {
            Credentials::Password { user: user.clone(), password: password.expose().to_owned() }
        }
        NatsAuth::Token(token) => Credentials::Token(token.expose().to_owned()),
    };
    config.tls = BusTls {
        required: false,
        roots: nats.tls.ca.iter().cloned().collect(),
        identity: nats.tls.client.clone(),
    };
    tokio::spawn(prune(catalog.clone(), nats.reconcile));
    Ok(Bus::start(config, CatalogOutbox { catalog }, clerk))
}

async fn prune(catalog: Catalog, window: Duration) {
    loop {
        tokio::time::sleep(PRUNE_EVERY).await;
        let before = clock::wall().minus(window);
        match catalog.prune_outbox(before).await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(rows, "pruned the outbox"),
            Err(why) => tracing::warn!(%why, "the outbox could not be pruned"),
        }
    }
}
