//! What a call's policy says: on which basis, for which purposes, whom to ask, what silence means.
//!
//! A [`Policy`] that exists is lawful on its face and complete: [`crate::config`] parses one from
//! TOML and refuses the rest with a reason.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, Leg};

/// The lawful basis: the six of GDPR Art. 6(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Art. 6(1)(a): the person said yes.
    Consent,
    /// Art. 6(1)(b).
    Contract,
    /// Art. 6(1)(c).
    LegalObligation,
    /// Art. 6(1)(d).
    VitalInterests,
    /// Art. 6(1)(e).
    PublicTask,
    /// Art. 6(1)(f), with the right to object of Art. 21.
    LegitimateInterests,
}

/// How a party's permission comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// The party presses the accept key. Silence is a refusal.
    OptIn,
    /// The notice was heard to its end and the window passed without the objection key.
    NoObjection,
    /// An agreement on file, named in the policy. Not asked on the call.
    Standing,
    /// The PBX states it in a header that only a trusted peer may send.
    Token,
}

/// Who may be recorded while somebody on the call is not permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Nobody.
    All,
    /// The permitted party's own stream, and no other.
    PerParty,
}

/// What a refusal does to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRefusal {
    /// The call goes on, unrecorded, with the same service.
    Continue,
    /// The call ends after a goodbye.
    HangUp,
}

/// What a withdrawal does to what was recorded of that party in this call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnWithdrawal {
    /// It is destroyed.
    Erase,
    /// It is kept.
    Keep,
}

/// Whether a permission that was withdrawn can be given again in the same call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AcceptAgain {
    /// It cannot.
    Never,
    /// By the accept key, at any time.
    ByKey,
}

/// What happens to a call that cannot be recorded because something is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnavailable {
    /// It goes on, unrecorded.
    Proceed,
    /// It is refused or ended. With 603: a PBX takes a 503 for an agent that is down, and sends
    /// the call around it.
    Refuse,
}

/// What an administrator takes responsibility for in so many words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acknowledgement {
    /// Who refuses is not served: the call ends, although the basis is consent.
    NoAlternativeService,
}

/// A text for the party on each leg, where there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ByLeg {
    /// For the caller.
    pub caller: Option<String>,
    /// For the callee.
    pub callee: Option<String>,
}

impl ByLeg {
    /// The same text for both.
    #[must_use]
    pub fn both(text: String) -> Self {
        Self { caller: Some(text.clone()), callee: Some(text) }
    }

    /// The text for the party on `leg`.
    #[must_use]
    pub fn of(&self, leg: Leg) -> Option<&str> {
        match leg {
            Leg::Caller => self.caller.as_deref(),
            Leg::Callee => self.callee.as_deref(),
        }
    }
}

/// A party is asked on the call, or has an agreement on file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Asked through the policy's gate.
    OnCall,
    /// Not asked: the agreement of this identifier stands.
    Standing(String),
    /// Neither asked nor covered by an agreement: never recorded.
    Nobody,
}

/// A recording policy.
///
/// Serialised (canonical JSON) it is the policy text whose digest the evidence names, so every
/// field that changes what a party was told or what is done belongs in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Its name in the configuration.
    pub name: String,
    /// The lawful basis.
    pub basis: Basis,
    /// What the recording is for; at least one.
    pub purposes: Vec<String>,
    /// Who is responsible; named in receipts.
    pub controller: String,
    /// How an asked party's permission comes about.
    pub gate: Gate,
    /// The gate of a party for whom no valid token came; read where `gate` is `token` alone.
    pub fallback: Gate,
    /// The agreements on file of parties who are asked; read where `fallback` is `standing` alone.
    pub on_file: ByLeg,
    /// What holds for the caller.
    pub caller: Ask,
    /// What holds for the callee.
    pub callee: Ask,
    /// Who may be recorded while somebody is not permitted.
    pub scope: Scope,
    /// The notice's name: `prompts/<locale>/<notice>.wav`.
    pub notice: String,
    /// Locale by number prefix; `*` is the default and always there.
    pub locale: BTreeMap<String, String>,
    /// The header of the INVITE that names a party's locale, where there is one.
    pub locale_header: ByLeg,
    /// The key that accepts.
    pub accept: char,
    /// The key that refuses or objects.
    pub refuse: char,
    /// The keys that withdraw, at any time.
    pub withdraw: String,
    /// The keys that pause and resume.
    pub pause: String,
    /// Who may pause.
    pub pause_by: Vec<Leg>,
    /// A pause that nobody ends is ended after this.
    #[serde(serialize_with = "as_millis")]
    pub pause_limit: Duration,
    /// Whether the accept key gives a permission again that was withdrawn.
    pub accept_again: AcceptAgain,
    /// How often the question is put: the notice once, then re-prompts.
    pub attempts: u8,
    /// A notice of which the peer reports more than this lost was not heard, in percent.
    pub loss_limit: u8,
    /// Opt-in: time for a key after the notice. No-objection: the window after the notice.
    #[serde(serialize_with = "as_millis")]
    pub answer_within: Duration,
    /// What a refusal does to the call.
    pub on_refusal: OnRefusal,
    /// What the administrator states about a refusal that ends the call.
    pub acknowledge: Option<Acknowledgement>,
    /// What a withdrawal does to the recording.
    pub on_withdrawal: OnWithdrawal,
    /// What happens to a call that cannot be recorded.
    pub on_unavailable: OnUnavailable,
    /// The interval of the 1400 Hz beep while recording, if any.
    #[serde(serialize_with = "as_optional_millis")]
    pub beep: Option<Duration>,
    /// How long the recording is kept.
    #[serde(serialize_with = "as_millis")]
    pub retention: Duration,
}

impl Policy {
    /// What holds for the party on `leg`.
    #[must_use]
    pub fn ask(&self, leg: Leg) -> &Ask {
        match leg {
            Leg::Caller => &self.caller,
            Leg::Callee => &self.callee,
        }
    }

    /// The locale for a party of this number: the longest prefix that fits, else `*`.
    #[must_use]
    pub fn locale_for(&self, number: &str) -> &str {
        self.locale
            .iter()
            .filter(|(prefix, _)| number.starts_with(prefix.as_str()))
            .max_by_key(|(prefix, _)| prefix.len())
            .or_else(|| self.locale.get_key_value("*"))
            .map_or("en-US", |(_, locale)| locale)
    }

    /// SHA-256 of the policy's canonical JSON (RFC 8785).
    #[must_use]
    pub fn digest(&self) -> Digest {
        let text = serde_jcs::to_vec(self).unwrap_or_default();
        Digest::of(&text)
    }
}

fn as_millis<S: serde::Serializer>(span: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

fn as_optional_millis<S: serde::Serializer>(
    span: &Option<Duration>,
    s: S,
) -> Result<S::Ok, S::Error> {
    match span {
        Some(span) => as_millis(span, s),
        None => s.serialize_none(),
    }
}
