//! Starting: everything that can be wrong is found before the first call is taken.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::agent::clerk::Clerk;
use crate::agent::core::{Core, Inward, Table};
use crate::agent::counters::Counters;
use crate::agent::health::Health;
use crate::agent::keeper::Keeper;
use crate::agent::next_hop::{Locator, inline};
use crate::agent::observe::Observer;
use crate::agent::prior::{PriorBook, TokenKeyError, TokenRules};
use crate::agent::probe::{self, Probes};
use crate::agent::ready::{Ready, ReadyFile};
use crate::agent::scribe::{Scribe, Told};
use crate::agent::targets::TargetBook;
use crate::agent::{bus, chain, recovery};
use crate::bus::Bus;
use crate::call::message::Transport;
use crate::call::session_timer;
use crate::catalog::{self, Catalog};
use crate::clock;
use crate::config::{self, Config, Host, SipTls};
use crate::control::{self, ControlRequest, DataFolder};
use crate::erasure::{self, Eraser};
use crate::event::{AgentReady, Origin, Word};
use crate::http;
use crate::keys::{FileKeyStore, KeyFolderError, KeyStore, ReferenceKey, SigningKey};
use crate::media::{Media, MediaConfig, MediaError, PromptBook, PromptError};
use crate::network::Network;
use crate::rtp::Codec;
use crate::segment::{SegmentStore, StoreError, StoreOptions};
use crate::sip::{self, Endpoint, Sip, SipConfig};

/// Why an agent does not start. Each message names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder is in use or of no use.
    #[error(transparent)]
    Data(#[from] control::ClaimError),
    /// The key folder is of no use.
    #[error("[keys] path: {0}")]
    Keys(#[from] KeyFolderError),
    /// The key store is of no use.
    #[error("[keys]: {0}")]
    KeyStore(#[from] crate::keys::KeyError),
    /// A key for consent tokens is of no use.
    #[error(transparent)]
    TokenKeys(#[from] TokenKeyError),
    /// The catalog does not open.
    #[error(transparent)]
    Catalog(#[from] catalog::OpenError),
    /// The do-not-record list cannot be read.
    #[error("the do-not-record list: {0}")]
    DoNotRecord(#[from] catalog::QueryError),
    /// The recordings folder is of no use.
    #[error("[storage] url: {0}")]
    Storage(#[from] StoreError),
    /// A prompt is of no use.
    #[error("prompts: {0}")]
    Prompts(#[from] PromptError),
    /// The media threads do not start.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The certificates for SIP over TLS are of no use.
    #[error("[sip.tls]: {0}")]
    Tls(#[from] sip::TlsError),
    /// A SIP listener cannot be opened.
    #[error(transparent)]
    Sip(#[from] sip::BindError),
    /// The HTTP listener cannot be opened.
    #[error(transparent)]
    Http(#[from] http::BindError),
    /// The control socket cannot be opened.
    #[error(transparent)]
    Control(#[from] control::BindError),
    /// `[nats]` is of no use.
    #[error(transparent)]
    Bus(#[from] bus::BusError),
    /// What a crash left cannot be put in order.
    #[error(transparent)]
    Recovery(#[from] recovery::RecoveryError),
    /// The thread that erases does not start.
    #[error("a thread cannot be started ({0}): raise the limit of threads")]
    Erasure(#[source] std::io::Error),
    /// The data folder cannot be written.
    #[error("{} cannot be written ({why}); set `data` to a folder that assent may write to", path.display())]
    Ready {
        /// What was to be written.
        path: PathBuf,
        /// Why it was not.
        why: std::io::Error,
    },
}

/// What has to change before an agent starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The configuration, or what it names.
    Configuration,
    /// Something else that runs on this machine, or the machine.
    Surroundings,
}

impl StartError {
    /// What has to change.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            StartError::Keys(_)
            | StartError::KeyStore(_)
            | StartError::TokenKeys(_)
            | StartError::Prompts(_)
            | StartError::Tls(_) => Blame::Configuration,
            _ => Blame::Surroundings,
        }
    }
}

/// A running agent.
pub struct Agent {
    pub(super) config: Arc<Config>,
    pub(super) sip: Sip,
    pub(super) media: Media,
    pub(super) prompts: PromptBook,
    pub(super) prior: Arc<PriorBook>,
    pub(super) reference: Arc<ReferenceKey>,
    pub(super) catalog: Catalog,
    pub(super) scribe: Scribe,
    pub(super) clerk: Clerk,
    pub(super) eraser: Eraser,
    pub(super) health: Arc<Health>,
    pub(super) inward: mpsc::UnboundedSender<Inward>,
    pub(super) control: mpsc::Receiver<ControlRequest>,
    pub(super) observer: Observer,
    pub(super) locator: Locator,
    /// The configuration in force, for those who look at it from time to time.
    pub(super) in_force: watch::Sender<Arc<Config>>,
    pub(super) bus: Option<Bus>,
    pub(super) core: JoinHandle<()>,
    pub(super) helpers: Vec<JoinHandle<()>>,
    pub(super) ready: Option<ReadyFile>,
    /// Unlocked last of all.
    pub(super) _data: DataFolder,
}

impl Agent {
    /// Starts an agent on the current tokio runtime. When this returns, it takes calls.
    ///
    /// # Errors
    /// [`StartError`]: nothing runs.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let started = clock::wall();
        let data = DataFolder::claim(&config.data)?;
        let keys: Arc<dyn KeyStore> = Arc::new(FileKeyStore::open(&config.keys.path)?);
        let signing = Arc::new(SigningKey::open(&config.keys.path)?);
        let reference = Arc::new(ReferenceKey::open(&config.keys.path)?);
        let token_rules = TokenRules::load(&config)?;
        let origin = Origin { tenant: config.tenant.clone(), node: config.node.clone() };
        let catalog = Catalog::open(catalog::Settings {
            data: config.data.clone(),
            origin: origin.clone(),
            signing: SigningKey::open(&config.keys.path)?,
            reference: ReferenceKey::open(&config.keys.path)?,
            queue: catalog::QUEUE,
        })?;
        let prior = Arc::new(PriorBook::open(&catalog, token_rules).await?);
        let prompts = PromptBook::load(config.prompts.as_deref(), &Codec::ALL)?;
        warm(&prompts, &config)?;

        let (inward, inbox) = mpsc::unbounded_channel();
        let to_core = inward.clone();
        let store = Arc::new(SegmentStore::start(
            &config.storage.recordings,
            Arc::clone(&signing),
            StoreOptions::default(),
            move |report| {
                let _ = to_core.send(Inward::Stored(report));
            },
        )?);
        // First what is to be gone: nothing of it is sealed, or told of, any more.
        erasure::finish_all(&catalog, &config.storage.recordings).await;
        recovery::recover(&catalog, &*keys, &signing, &config.storage.recordings).await?;

        let to_core = inward.clone();
        let media = Media::start(media_config(&config), prompts.clone(), move |call, report| {
            let _ = to_core.send(Inward::Media(call, report));
        })?;
        let (sip, events) =
            Endpoint::bind(SipConfig { tls: tls(&config)?, ..sip_config(&config) })?;
        let book = Arc::new(TargetBook::new(config.sip.next_hop));
        let locator = Locator::new(&config, sip.clone(), Arc::clone(&book));
        let http = match &config.http {
            Some(http) => Some(http::bind(http).await?),
            None => None,
        };
        let control_server = control::Server::bind(&data)?;

        let health = Arc::new(Health::new(&config.data, &config.storage.recordings));
        let counters = Arc::new(Counters::default());
        let eraser = Eraser::start(catalog.clone(), &config.storage.recordings)
            .map_err(StartError::Erasure)?;
        let unclaimed = {
            let to_core = inward.clone();
            move |call, recording| {
                let _ = to_core.send(Inward::Unclaimed { call, recording });
            }
        };
        let scribe = Scribe::start(catalog.clone(), unclaimed, {
            let eraser = eraser.clone();
            move || eraser.look()
        });
        let clerk = Clerk::new(inward.clone(), scribe.clone());
        let bus = match &config.nats {
            Some(nats) => Some(bus::start(nats, origin, catalog.clone(), clerk.clone())?),
            None => None,
        };
        let http_addr = http.as_ref().map(|bound| bound.addr().to_string());
        let observer = Observer {
            node: config.node.to_string(),
            started,
            health: Arc::clone(&health),
            counters: Arc::clone(&counters),
            sip: sip.clone(),
            media: media.clone(),
            store: Arc::clone(&store),
            catalog: catalog.clone(),
            scribe: scribe.clone(),
            book: Arc::clone(&book),
            eraser: eraser.clone(),
            bus: bus.as_ref().map(Bus::status),
            http: http_addr.clone(),
        };
        let mut helpers = Vec::new();
        if let Some(bound) = http {
            let source = Arc::new(observer.clone());
            helpers.push(tokio::spawn(async move {
                if let Err(why) = bound.serve(source, std::future::pending()).await {
                    tracing::error!(%why, "HTTP has ended");
                }
            }));
        }
        let (requests, control) = mpsc::channel(16);
        helpers.push(tokio::spawn(control_server.serve(requests)));
        helpers.push(tokio::spawn({
            let (health, catalog) = (Arc::clone(&health), catalog.clone());
            async move { health.watch(&catalog).await }
        }));

        let keeper = Keeper::new(
            store,
            keys,
            scribe.clone(),
            eraser.clone(),
            Arc::clone(&counters),
            config.storage.segment,
        );
        let (in_force, current) = watch::channel(Arc::clone(&config));
        let probes = Arc::new(Probes::new(Arc::clone(&book)));
        if let Some(interval) = config.sip.next_hop.probe {
            let (locator, probes) = (locator.clone(), Arc::clone(&probes));
            helpers.push(tokio::spawn(probe::ask_from_time_to_time(
                interval,
                current,
                locator,
                probes,
                sip.clone(),
            )));
        }
        let core = Core {
            config: Arc::clone(&config),
            sip: sip.clone(),
            media: media.clone(),
            scribe: scribe.clone(),
            keeper,
            counters,
            health: Arc::clone(&health),
            reference: Arc::clone(&reference),
            prior: Arc::clone(&prior),
            prompts: prompts.clone(),
            locator: locator.clone(),
            book,
            probes,
            inward: inward.clone(),
            table: Table::default(),
        };
        let core = tokio::spawn(core.run(events, inbox));
        scribe.tell(Told::event(AgentReady { version: Word::new(env!("CARGO_PKG_VERSION")) }));
        helpers.push(tokio::spawn(chain::publish_from_time_to_time(catalog.clone())));

        let listeners: Vec<String> = sip.listeners().iter().map(ToString::to_string).collect();
        if config.sip.timers.least < session_timer::LEAST {
            tracing::warn!(
                "sip.min_se is below the 90s of RFC 4028: write min_se = \"90s\" outside of tests"
            );
        }
        tracing::info!(
            node = %config.node,
            sip = listeners.join(" "),
            http = http_addr.as_deref().unwrap_or("off"),
            data = %config.data.display(),
            "ready: takes calls"
        );
        let ready = Ready { pid: std::process::id(), sip: listeners, http: http_addr };
        let ready = ReadyFile::write(&config.data, &ready)
            .map_err(|why| StartError::Ready { path: config.data.clone(), why })?;
        locator.look_up_all(&config);
        Ok(Self {
            config,
            sip,
            media,
            prompts,
            prior,
            reference,
            catalog,
            scribe,
            clerk,
            eraser,
            health,
            inward,
            control,
            observer,
            locator,
            in_force,
            bus,
            core,
            helpers,
            ready: Some(ready),
            _data: data,
        })
    }

    /// Where it takes SIP, as bound.
    #[must_use]
    pub fn listeners(&self) -> &[sip::Listen] {
        self.sip.listeners()
    }

    /// Where it takes HTTP, as bound.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        self.observer.http.as_deref().and_then(|addr| addr.parse().ok())
    }

    /// Its catalog, for whoever runs it within the same program.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }
}

fn media_config(config: &Config) -> MediaConfig {
    let media = &config.media;
    MediaConfig {
        ports: media.ports.first..=media.ports.last,
        threads: media.workers.get(),
        latch: media.latch,
        silent_after: media.silence_after,
        keep_keys: media.keep_keys,
        ..MediaConfig::default()
    }
}

/// How much longer than the next hop may ring an INVITE is kept: for looking up its name, and for
/// the ends that its call comes to by itself.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Finds every prompt that a call under a policy may say, and has what its locales hear encoded.
pub(super) fn warm(prompts: &PromptBook, config: &Config) -> Result<(), PromptError> {
    let mut locales = BTreeSet::new();
    for route in &config.routes {
        locales.extend([&route.locale.caller, &route.locale.callee].into_iter().flatten());
    }
    for policy in config.policies.values() {
        for locale in policy.locale.values() {
            prompts.check(&policy.notice, locale)?;
            locales.insert(locale);
        }
    }
    locales.into_iter().for_each(|locale| prompts.warm(locale));
    Ok(())
}

/// Who may send requests.
pub(super) fn peers(config: &Config) -> sip::Peers {
    let peers: sip::Peers = config.sip.peers.iter().copied().collect();
    peers.and_next_hops(next_hops(config))
}

fn sip_config(config: &Config) -> SipConfig {
    let sip = &config.sip;
    SipConfig {
        listen: sip
            .listen
            .iter()
            .map(|hop| sip::Listen { transport: hop.transport, addr: hop.addr })
            .collect(),
        advertise: sip.advertise.iter().next().map(sip::Advertise::Address),
        peers: peers(config),
        limits: sip::Limits {
            unanswered: sip.ring_within + FORGOTTEN_AFTER,
            ..sip::Limits::default()
        },
        large_requests: match sip.large_requests {
            config::LargeRequests::Tcp => sip::LargeRequests::OverTcp,
            config::LargeRequests::Udp => sip::LargeRequests::OverUdp,
        },
        ..SipConfig::default()
    }
}

/// The certificates of `[sip.tls]`, where anything speaks TLS.
pub(super) fn tls(config: &Config) -> Result<Option<sip::Tls>, sip::TlsError> {
    let next_hops = inline(config).flat_map(|hops| &hops.each);
    let next_hops = next_hops.map(config::NextHop::transport_or_default);
    let listeners = config.sip.listen.iter().map(|hop| hop.transport);
    let files = config.sip.tls.clone();
    if !files.is_set() && listeners.chain(next_hops).all(|transport| transport != Transport::Tls) {
        return Ok(None);
    }
    let SipTls { identity, client_ca, ca } = files;
    sip::Tls::load(&sip::TlsFiles { identity, client_ca, ca }).map(Some)
}

/// What a next hop sends within a call's dialog has to be heard too.
fn next_hops(config: &Config) -> impl Iterator<Item = Network> {
    inline(config).flat_map(|hops| &hops.each).filter_map(|next_hop| match &next_hop.host {
        Host::Address(ip) => Some(Network::of(*ip)),
        Host::Name(_) => None,
    })
}
