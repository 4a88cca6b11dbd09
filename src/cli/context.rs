//! What commands share: the configuration, and what it leads to.

use std::path::{Path, PathBuf};

use crate::catalog::Reader;
use crate::cli::failure::Failure;
use crate::config::{self, Config, Loaded};
use crate::ids::{PartyRef, Pii};
use crate::keys::ReferenceKey;
use crate::number::PartyNumber;

/// The configuration that a command works with, read when it is needed.
#[derive(Debug)]
pub struct Context {
    flag: Option<PathBuf>,
}

impl Context {
    pub(super) fn new(flag: Option<PathBuf>) -> Self {
        Self { flag }
    }

    /// The configuration with its provenance.
    ///
    /// # Errors
    ///
    /// [`Failure::Config`].
    pub fn loaded(&self) -> Result<Loaded, Failure> {
        let environment = std::env::var_os("ASSENT_CONFIG").map(PathBuf::from);
        let source = config::locate(self.flag.as_deref(), environment.as_deref());
        Ok(config::load(source)?)
    }

    /// The configuration.
    ///
    /// # Errors
    ///
    /// [`Failure::Config`].
    pub fn config(&self) -> Result<Config, Failure> {
        Ok(self.loaded()?.config)
    }
}

/// The catalog, to be read.
pub(super) fn catalog(config: &Config) -> Result<Reader, Failure> {
    Ok(Reader::open(&config.data)?)
}

/// The reference key; only where there is one: a command that reads makes no keys.
pub(super) fn reference_key(config: &Config) -> Result<ReferenceKey, Failure> {
    let path = &config.keys.path;
    refuse_missing(&path.join("reference-key"), path)?;
    ReferenceKey::open(path).map_err(Failure::unavailable)
}

/// Refuses to go on where a key is not there.
pub(super) fn refuse_missing(key: &Path, folder: &Path) -> Result<(), Failure> {
    if key.exists() {
        return Ok(());
    }
    Err(Failure::Unavailable(format!(
        "there are no keys in {}, or they are not yours to read; start `assent serve` once, set \
         keys.path, or run this as the user who runs the agent",
        folder.display()
    )))
}

/// The reference of a number that somebody typed, or that reference itself.
pub(super) fn party(config: &Config, text: &str) -> Result<PartyRef, Failure> {
    if let Ok(party) = text.parse::<PartyRef>() {
        return Ok(party);
    }
    let number = PartyNumber::parse(text).ok_or_else(|| {
        Failure::Usage("--party names nobody; write a number such as +4930123456, an extension, a SIP URI, or a party_ref".to_owned())
    })?;
    Ok(reference_key(config)?.party_ref(number.expose()))
}

/// Numbers in clear, for a person who asked for them.
pub(super) struct Numbers {
    key: Option<ReferenceKey>,
}

impl Numbers {
    /// With the key only if numbers are asked for.
    pub(super) fn new(config: &Config, wanted: bool) -> Result<Self, Failure> {
        let key = if wanted { Some(reference_key(config)?) } else { None };
        Ok(Self { key })
    }

    /// The number of a party where it is asked for and known; else the beginning of the
    /// reference.
    pub(super) fn name(&self, reader: &Reader, party: PartyRef) -> Result<String, Failure> {
        if let Some(key) = &self.key
            && let Some(number) = reader.number(party, key)?
        {
            return Ok(Pii::into_exposed(number));
        }
        Ok(party.to_string().chars().take(12).collect())
    }
}
