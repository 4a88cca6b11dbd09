//! TOML → [`Config`]: parsed, not validated. A `Config` that exists is complete, lawful on its
//! face and within the limits; everything else is refused with a line that names the remedy.

mod address;
mod choice;
mod dialled;
mod document;
mod file;
mod language;
mod lawful;
mod matching;
mod next_hop;
mod parties;
mod policy;
mod problem;
mod route;
mod route_table;
mod sections;
mod settings;
mod signalling;
mod token;
mod units;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::consent::policy::Policy;
use crate::ids::Token;

pub use address::{Advertise, PortRange};
pub use choice::{Candidate, Chosen, Fits};
pub use file::{Loaded, Origin, Origins, Source, load, locate, parse};
pub use next_hop::{Host, NextHop, NextHops, Order, by_weight};
pub use policy::EXAMPLE_CONTROLLER;
pub use problem::{Problem, Problems, Wrong};
pub use route::{
    CallDirection, HeaderMatch, Match, Mode, Offered, Pattern, PolicyMatch, Route, Streams, select,
};
pub use settings::{
    Http, Keys, LargeRequests, Media, Nats, NatsAuth, NatsTls, NextHopCare, Secret, Shutdown, Sip,
    SipTls, Storage,
};
pub use token::{BadKeyFile, KeySource, TokenSource};
pub use units::{duration, span_text};

/// The whole configuration of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Goes into every subject.
    pub tenant: Token,
    /// This agent's name: `source` of its events is `/assent/<node>`.
    pub node: Token,
    /// The data folder: catalog, outbox, control socket.
    pub data: PathBuf,
    /// A folder of prompts that goes before the built-in ones.
    pub prompts: Option<PathBuf>,
    /// Signalling.
    pub sip: Sip,
    /// Media.
    pub media: Media,
    /// Where keys live.
    pub keys: Keys,
    /// Where segments live.
    pub storage: Storage,
    /// The event bus; without it events stay in the outbox.
    pub nats: Option<Nats>,
    /// Health, metrics and API; `None` when `listen = "off"`.
    pub http: Option<Http>,
    /// How the agent ends.
    pub shutdown: Shutdown,
    /// Routes in order: the first match wins. Never empty.
    pub routes: Vec<Route>,
    /// Policies by name. Every route names one of them.
    pub policies: BTreeMap<String, Arc<Policy>>,
    /// Those that say themselves which calls they fit, in the order of the file.
    pub matching: Vec<PolicyMatch>,
    /// Whose tokens count, by the name of the policy.
    pub tokens: BTreeMap<String, TokenSource>,
}

impl Config {
    /// The control socket of the agent on this data folder.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.data.join("control.sock")
    }
}

impl Default for Config {
    /// What an agent does without a file: loopback, `./assent-data`, one inline route.
    fn default() -> Self {
        file::built_in()
    }
}
