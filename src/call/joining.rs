//! From questions to a conversation: who waits for whom, what they hear meanwhile, and when both
//! hear each other.

use crate::call::leg::{CalleeLeg, CallerLeg, Progress};
use crate::call::machine::{Call, Output, Phase, Purpose};
use crate::call::media::Sound;
use crate::call::setup::Recorder;
use crate::ids::Leg;
use crate::time::Moment;

impl Call {
    /// Whether the two are kept apart because a question is still open.
    pub(super) fn is_undecided(&self) -> bool {
        let asks = Leg::BOTH.into_iter().any(|leg| self.permission.asks(leg));
        self.recorder == Recorder::Ready
            && self.permission.covers()
            && self.permission.settled().is_none()
            && (asks || !self.permission.possible())
    }

    /// The questions are answered: on with what is next.
    pub(super) fn proceed(&mut self, at: Moment, out: &mut Vec<Output>) {
        match (&self.inline, &self.callee) {
            (None, _) => {
                self.phase = Phase::Talking;
                self.answer_caller(at, out);
            }
            (Some(_), CalleeLeg::Idle) => self.dial(at, out),
            (Some(_), CalleeLeg::Calling(_)) => self.phase = Phase::Dialling,
            (Some(_), CalleeLeg::Established(_)) => self.talk(at, out),
            (Some(_), CalleeLeg::Cancelling(_) | CalleeLeg::Leaving(_) | CalleeLeg::Gone) => {}
        }
    }

    /// Brings both together once nothing stands between them: no question, and no word that a
    /// party who was asked is still to hear.
    pub(super) fn talk(&mut self, at: Moment, out: &mut Vec<Output>) {
        let apart = matches!(self.phase, Phase::Asking | Phase::Dialling);
        let answered = matches!(self.callee, CalleeLeg::Established(_));
        if !apart || !answered || self.is_undecided() {
            return;
        }
        // A callee who was not asked speaks at once: those words are worth more than ours.
        let told = |(_, purpose): &(_, Purpose)| *purpose == Purpose::Courtesy;
        if self.permission.asks(Leg::Callee) && self.playing.values().any(told) {
            return;
        }
        if matches!(self.caller, CallerLeg::Invited(_)) {
            self.answer_caller(at, out);
            if self.phase == Phase::Over {
                return;
            }
        }
        self.playing.clear();
        self.phase = Phase::Talking;
        self.meet(at, out);
    }

    /// Nobody waits in dead air: ringback for a caller whose callee rings or is being asked, a soft
    /// tone for a callee who waits for the caller.
    pub(super) fn comfort(&mut self, out: &mut Vec<Output>) {
        if !matches!(self.phase, Phase::Asking | Phase::Dialling) {
            return;
        }
        for leg in Leg::BOTH {
            let waits = self.joined.contains(&leg)
                && !self.playing.contains_key(&leg)
                && !self.permission.is_asking(leg);
            if !waits {
                continue;
            }
            let sound = match (leg, &self.callee) {
                (Leg::Caller, CalleeLeg::Calling(calling))
                    if calling.progress == Progress::Ringing =>
                {
                    Some(Sound::Ringback { locale: self.side.locale.clone() })
                }
                (Leg::Caller, CalleeLeg::Established(_)) if self.is_undecided() => {
                    Some(Sound::Ringback { locale: self.side.locale.clone() })
                }
                (Leg::Callee, _) if self.is_undecided() => Some(Sound::Waiting),
                _ => None,
            };
            if let Some(sound) = sound {
                self.play(leg, sound, Purpose::Comfort, out);
            }
        }
    }
}
