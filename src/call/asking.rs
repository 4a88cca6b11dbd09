//! Sounds and permission: what the permission machine wants, as the call can do it.

use std::time::Duration;

use crate::call::leg::{CalleeLeg, CallerLeg, Progress};
use crate::call::machine::{Call, Cause, Cut, Fact, Output, Phase, Purpose};
use crate::call::media::{MediaCommand, MediaEvent, PlaybackId, Sound};
use crate::consent::machine::{Denial, Input, Output as Wanted, Verdict};
use crate::consent::policy::{OnRefusal, OnUnavailable};
use crate::consent::{KeyVia, NoticePlayed};
use crate::ids::Leg;
use crate::rtp::Direction;
use crate::time::Moment;

/// How long a goodbye may take to be played.
const FAREWELL_WITHIN: Duration = Duration::from_secs(60);

impl Call {
    /// Tells the permission machine what happened and does what it wants.
    pub(super) fn permit(&mut self, at: Moment, input: Input, out: &mut Vec<Output>) {
        for wanted in self.permission.handle(at, input) {
            match wanted {
                Wanted::Play { leg, prompt, locale } => {
                    let sound = Sound::Prompt { name: prompt.clone(), locale: locale.clone() };
                    let playback = self.play(leg, sound, Purpose::Question, out);
                    out.push(Output::Tell(Fact::NoticeStarted { leg, playback, prompt, locale }));
                }
                Wanted::Silence { leg } => {
                    out.push(Output::Media(MediaCommand::Silence { leg }));
                }
                Wanted::Commit(decision) => out.push(Output::Commit(decision)),
                Wanted::Grant(grant) => {
                    if let Some(leg) =
                        Leg::BOTH.into_iter().find(|leg| leg.stream() == grant.stream().index)
                    {
                        self.grants.push((leg, grant));
                    }
                }
                Wanted::Settled(verdict) => self.settled(at, verdict, out),
            }
        }
        self.capture_who_is_present(out);
    }

    /// Grants of parties who are on the line take effect.
    pub(super) fn capture_who_is_present(&mut self, out: &mut Vec<Output>) {
        if self.phase == Phase::Over {
            return self.grants.clear();
        }
        for (leg, grant) in std::mem::take(&mut self.grants) {
            if self.joined.contains(&leg) {
                out.push(Output::Capture { leg, grant });
            } else {
                self.grants.push((leg, grant));
            }
        }
    }

    pub(super) fn join(&mut self, at: Moment, leg: Leg, out: &mut Vec<Output>) {
        if self.joined.contains(&leg) {
            return;
        }
        self.joined.push(leg);
        out.push(Output::Tell(Fact::Joined { leg }));
        if self.recorder == crate::call::setup::Recorder::Ready {
            self.permit(at, Input::Present { leg }, out);
        }
        self.capture_who_is_present(out);
    }

    /// Every question is answered: on with the call.
    pub(super) fn go_on(&mut self, at: Moment, verdict: Verdict, out: &mut Vec<Output>) {
        let asked = self.permission.asks(Leg::Caller);
        match verdict {
            Verdict::Unrecorded { then: OnRefusal::HangUp, .. } => {
                return self.say_farewell(at, "refused-goodbye", Cause::RefusalEndsCall, out);
            }
            Verdict::Unrecorded { why: Denial::Unavailable, .. }
                if self.policy.on_unavailable == OnUnavailable::Refuse =>
            {
                return self.say_farewell(at, "unavailable", Cause::Unavailable, out);
            }
            // The caller is gone; `end` follows.
            Verdict::Unrecorded { why: Denial::Left, .. } => return,
            Verdict::Recorded if asked => {
                self.say(Leg::Caller, "accepted", Purpose::Courtesy, out);
            }
            Verdict::Unrecorded { why: Denial::Refused | Denial::Objected, .. } if asked => {
                self.say(Leg::Caller, "declined", Purpose::Courtesy, out);
            }
            Verdict::Unrecorded { .. } if asked => {
                self.say(Leg::Caller, "unavailable", Purpose::Courtesy, out);
            }
            _ => {}
        }
        if self.inline.is_some() {
            self.dial(at, out);
        } else {
            self.phase = Phase::Talking;
        }
    }

    pub(super) fn on_media(&mut self, at: Moment, event: MediaEvent, out: &mut Vec<Output>) {
        match event {
            // The evidence of a hang-up names how much of the notice was played.
            MediaEvent::Played { .. } => {}
            _ if self.phase == Phase::Over => return,
            _ => {}
        }
        match event {
            MediaEvent::Key { leg, key, rtp_timestamp, .. } => {
                self.pressed(at, leg, key, KeyVia::TelephoneEvent, Some(rtp_timestamp), out);
            }
            MediaEvent::Played { leg, playback, notice } => {
                let Some((current, purpose)) = self.playing.get(&leg).copied() else { return };
                if current != playback {
                    return;
                }
                self.playing.remove(&leg);
                match purpose {
                    Purpose::Question => {
                        let cut = self.cut(&notice);
                        let told = notice.clone();
                        out.push(Output::Tell(Fact::NoticeEnded {
                            leg,
                            playback,
                            notice: told,
                            cut,
                        }));
                        self.permit(at, Input::Played { leg, notice }, out);
                    }
                    Purpose::Farewell(cause) => self.end(at, cause, out),
                    Purpose::Courtesy => self.comfort(out),
                    Purpose::Comfort => {}
                }
            }
            MediaEvent::Silent { leg } => {
                self.silent.insert(leg);
                self.end_if_dead(at, out);
            }
            MediaEvent::Heard { leg } => {
                self.silent.remove(&leg);
            }
        }
    }

    pub(super) fn pressed(
        &mut self,
        at: Moment,
        leg: Leg,
        key: char,
        via: KeyVia,
        rtp_timestamp: Option<u32>,
        out: &mut Vec<Output>,
    ) {
        self.permit(at, Input::Key { leg, key, via, rtp_timestamp }, out);
    }

    /// Ringback for a caller who is on the line while the callee rings and nothing else is heard.
    pub(super) fn comfort(&mut self, out: &mut Vec<Output>) {
        let ringing = matches!(
            &self.callee,
            CalleeLeg::Calling(calling) if calling.progress == Progress::Ringing
        );
        let on_the_line = matches!(self.caller, CallerLeg::Established(_));
        if ringing && on_the_line && !self.playing.contains_key(&Leg::Caller) {
            let sound = Sound::Ringback { locale: self.side.locale.clone() };
            self.play(Leg::Caller, sound, Purpose::Comfort, out);
        }
    }

    /// The call ends with these words, or without them if they take too long.
    pub(super) fn say_farewell(
        &mut self,
        at: Moment,
        prompt: &str,
        cause: Cause,
        out: &mut Vec<Output>,
    ) {
        self.phase = Phase::Farewell;
        self.farewell = Some((at.instant + FAREWELL_WITHIN, cause));
        self.say(Leg::Caller, prompt, Purpose::Farewell(cause), out);
    }

    /// Ends a call in which nothing is heard of anybody. A call on hold may be silent on both
    /// sides, and for long: who holds need not play music, and who is held need not talk.
    fn end_if_dead(&mut self, at: Moment, out: &mut Vec<Output>) {
        let dead = |leg: Leg| {
            let media = self.media(leg)?;
            Some(media.direction == Direction::SendRecv && self.silent.contains(&leg))
        };
        let mut legs = Leg::BOTH.into_iter().filter_map(dead).peekable();
        if legs.peek().is_some() && legs.all(|dead| dead) {
            self.end(at, Cause::Dead, out);
        }
    }

    /// Why a notice was cut, for those who read the events.
    fn cut(&self, notice: &NoticePlayed) -> Option<Cut> {
        if notice.completed {
            None
        } else if self.phase == Phase::Over {
            Some(Cut::HungUp)
        } else if notice.held {
            Some(Cut::Held)
        } else if self.permission.owes_decision() {
            Some(Cut::Key)
        } else {
            Some(Cut::Stopped)
        }
    }

    fn say(&mut self, leg: Leg, prompt: &str, purpose: Purpose, out: &mut Vec<Output>) {
        let locale = match (leg, &self.inline) {
            (Leg::Callee, Some(inline)) => inline.callee.locale.clone(),
            _ => self.side.locale.clone(),
        };
        let sound = Sound::Prompt { name: prompt.to_owned(), locale };
        self.play(leg, sound, purpose, out);
    }

    fn play(
        &mut self,
        leg: Leg,
        sound: Sound,
        purpose: Purpose,
        out: &mut Vec<Output>,
    ) -> PlaybackId {
        let playback = self.next_playback();
        self.playing.insert(leg, (playback, purpose));
        out.push(Output::Media(MediaCommand::Play { leg, playback, sound }));
        playback
    }
}
