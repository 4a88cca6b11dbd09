//! What the call machine asks of the media threads, and what they tell it.

use std::time::{Duration, Instant};

use crate::consent::{NoticePlayed, Stops};
use crate::ids::Leg;
use crate::rtp::LegMedia;

/// One playing of one sound, so that its end can be told from the end of another. Chosen by the
/// call machine, unique within a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlaybackId(pub u32);

/// What is played into a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sound {
    /// A recorded prompt: played once, reported when it ends.
    Prompt {
        /// Its name, such as `notice-opt-in`.
        name: String,
        /// The locale that is wanted; the nearest that exists is played.
        locale: String,
    },
    /// For a party who has answered and waits for the other: a soft tone now and then, until it is
    /// stopped or replaced. Their time is not dead air.
    Waiting,
    /// Ringback in the cadence of the locale's country: until it is stopped or replaced.
    Ringback {
        /// The locale.
        locale: String,
    },
}

/// An order to the media threads about one call. Orders of one call are carried out in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaCommand {
    /// The leg's stream is negotiated, or negotiated anew.
    Connect {
        /// Which leg.
        leg: Leg,
        /// What was agreed.
        media: LegMedia,
    },
    /// Play a sound into a leg, in place of whatever it hears now.
    Play {
        /// Into which leg.
        leg: Leg,
        /// The playing's number.
        playback: PlaybackId,
        /// What.
        sound: Sound,
    },
    /// Cut what is playing into a leg. A prompt reports its end as cut.
    Silence {
        /// Which leg.
        leg: Leg,
    },
    /// Relay what `from` says to the other leg, or stop doing so. A leg that hears the other one
    /// hears no sound: relaying ends what was playing into it.
    Relay {
        /// Whose voice.
        from: Leg,
        /// Start, or stop.
        on: bool,
    },
    /// Stop the captures of `suspends` with the packet that completes one of `sequences` on `leg`,
    /// before the call machine has heard of it; also those whose writers are still to come.
    /// Replaces what was watched for on this leg.
    Watch {
        /// Whose keys.
        leg: Leg,
        /// What to watch for.
        sequences: Vec<Watched>,
    },
    /// A short tone now and then into both legs, while the call is recorded.
    Beep {
        /// How often; `None` ends it.
        every: Option<Duration>,
    },
}

/// Keys that stop captures at once. The stop is not the decision: the call machine hears the keys
/// as well, and ends or lifts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The keys, in order.
    pub keys: String,
    /// Whose captures stop.
    pub suspends: Vec<Leg>,
}

/// What the media threads tell about one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaEvent {
    /// A key was pressed: once for each telephone-event, however often its packets repeat.
    Key {
        /// On which leg.
        leg: Leg,
        /// When its packet arrived.
        at: Instant,
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        key: char,
        /// The RTP timestamp of the event.
        rtp_timestamp: u32,
        /// Whose captures stopped with its packet, where it completed what was watched for.
        stops: Stops,
    },
    /// A prompt ended, by itself or cut.
    Played {
        /// On which leg.
        leg: Leg,
        /// Which playing.
        playback: PlaybackId,
        /// How much of it was sent, and how. For the evidence.
        notice: NoticePlayed,
    },
    /// Nothing has arrived on a leg for the configured time, neither RTP nor RTCP, although it is
    /// not on hold.
    Silent {
        /// On which leg.
        leg: Leg,
    },
    /// Something arrives again on a leg that was reported silent, or its session has changed.
    Heard {
        /// On which leg.
        leg: Leg,
    },
}
