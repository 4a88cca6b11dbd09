//! `notice`: what was played to a party, and how much of it.

use serde::Serialize;

use crate::call::media::PlaybackId;
use crate::consent::NoticePlayed;
use crate::event::Word;
use crate::ids::{CallId, Digest, Leg, PartyRef};

/// `notice.started`: the first packet of a prompt is about to leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoticeStarted {
    /// The call.
    pub call: CallId,
    /// Into which leg.
    pub role: Leg,
    /// To whom.
    pub party_ref: PartyRef,
    /// Which playing of this call.
    pub playback: u32,
    /// The prompt's name.
    pub prompt: Word,
    /// SHA-256 of the WAV file; `null` where only the media threads know which file the locale
    /// leads to.
    pub sha256: Option<Digest>,
    /// The locale that was asked for.
    pub locale: Word,
}

/// `notice.completed` or `notice.interrupted`, as the playing itself says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NoticeEnded {
    /// The call.
    pub call: CallId,
    /// Into which leg.
    pub role: Leg,
    /// To whom.
    pub party_ref: PartyRef,
    /// Which playing of this call.
    pub playback: u32,
    /// The prompt's name.
    pub prompt: Word,
    /// SHA-256 of the WAV file.
    pub sha256: Digest,
    /// The locale it was played in.
    pub locale: Word,
    /// Milliseconds of it that were sent.
    pub played_ms: u64,
    /// Milliseconds that it has.
    pub total_ms: u64,
    /// RTP packets sent for it.
    pub packets: u64,
    /// Loss that the peer's receiver reports named, in percent; `null` when it sent none.
    pub loss_percent: Option<u8>,
    /// Whether the peer was on hold at any time while it played.
    pub held: bool,
    /// Why it was cut; `null` when it was not.
    pub reason: Option<CutReason>,
}

impl NoticeEnded {
    /// From what the media threads reported. `reason` counts only for a playing that did not
    /// complete, and is [`CutReason::Stopped`] where none is given.
    #[must_use]
    pub fn of(
        call: CallId,
        role: Leg,
        party_ref: PartyRef,
        playback: PlaybackId,
        played: &NoticePlayed,
        reason: Option<CutReason>,
    ) -> Self {
        Self {
            call,
            role,
            party_ref,
            playback: playback.0,
            prompt: Word::new(&played.prompt),
            sha256: played.sha256,
            locale: Word::new(&played.locale),
            played_ms: played.played_ms,
            total_ms: played.total_ms,
            packets: played.packets,
            loss_percent: played.loss_percent,
            held: played.held,
            reason: (!played.completed).then_some(reason.unwrap_or(CutReason::Stopped)),
        }
    }
}

/// Why a notice was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CutReason {
    /// The party pressed a key.
    Key,
    /// The party hung up.
    HungUp,
    /// The party's side went on hold.
    Held,
    /// The agent stopped it for another reason.
    Stopped,
}
