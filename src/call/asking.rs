//! Sounds and permission: what the permission machine wants, as the call can do it.

use std::time::{Duration, Instant};

use crate::call::leg::CallerLeg;
use crate::call::machine::{Beeping, Call, Cause, Cut, Fact, Output, Phase, Purpose};
use crate::call::media::{MediaCommand, MediaEvent, PlaybackId, Sound, Watched};
use crate::call::setup::Recorder;
use crate::consent::machine::{Denial, Input, Output as Wanted, Verdict};
use crate::consent::policy::{OnRefusal, OnUnavailable};
use crate::consent::{KeyVia, NoticePlayed, Standing, Stops};
use crate::ids::Leg;
use crate::rtp::Direction;
use crate::time::Moment;

/// How long a goodbye may take to be played.
const FAREWELL_WITHIN: Duration = Duration::from_secs(60);

impl Call {
    /// Tells the permission machine what happened and does what it wants.
    pub(super) fn permit(&mut self, at: Moment, input: Input, out: &mut Vec<Output>) {
        for leg in Leg::BOTH {
            if let Some(transport) = self.media(leg).map(|media| (&media.security).into()) {
                self.permission.travels(leg, transport);
            }
        }
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
                Wanted::Say { leg, prompt } => self.tell_party(leg, prompt, out),
                Wanted::Commit(decision) => out.push(Output::Commit(decision)),
                Wanted::Grant(grant) => {
                    if let Some(leg) =
                        Leg::BOTH.into_iter().find(|leg| leg.stream() == grant.stream().index)
                    {
                        self.grants.push((leg, grant));
                    }
                }
                Wanted::Release { leg } => {
                    self.grants.retain(|(_, grant)| grant.standing() != Standing::Ended);
                    out.push(Output::Release { leg });
                }
                Wanted::Over { recording } => out.push(Output::EndRecording { recording }),
                Wanted::Paused { recording, by } => {
                    out.push(Output::Tell(Fact::Paused { recording, by }));
                }
                Wanted::Resumed { recording, by } => {
                    // Taken before the lease was lifted: no packet is older than this.
                    let at = at.wall;
                    out.push(Output::Tell(Fact::Resumed { recording, by, at }));
                }
                Wanted::Farewell => {
                    self.say_farewell(at, "refused-goodbye", Cause::RefusalEndsCall, out);
                }
                Wanted::Settled(verdict) => self.settled(at, verdict, out),
            }
        }
        self.capture_who_is_present(out);
        self.beep(out);
        self.comfort(out);
        self.indicate(out);
    }

    /// Grants of parties who are on the line take effect.
    pub(super) fn capture_who_is_present(&mut self, out: &mut Vec<Output>) {
        if self.phase == Phase::Over {
            return self.grants.clear();
        }
        for (leg, grant) in std::mem::take(&mut self.grants) {
            // Who has left by a transfer has joined, and is gone all the same.
            if self.joined.contains(&leg) && self.dialog(leg).is_some() {
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
        if self.recorder == Recorder::Ready {
            self.watch(leg, out);
            self.permit(at, Input::Present { leg }, out);
        }
        self.capture_who_is_present(out);
    }

    /// Has capture stop with the packet of the last key, wherever keys may stop it.
    fn watch(&self, leg: Leg, out: &mut Vec<Output>) {
        let sequences: Vec<Watched> = self
            .permission
            .sequences(leg)
            .into_iter()
            .map(|sequence| Watched {
                keys: sequence.keys,
                suspends: self.permission.stopped_by(leg, sequence.meaning),
            })
            .collect();
        if !sequences.is_empty() {
            out.push(Output::Media(MediaCommand::Watch { leg, sequences }));
        }
    }

    /// A beep now and then is heard exactly while somebody is recorded.
    fn beep(&mut self, out: &mut Vec<Output>) {
        let Some(every) = self.policy.beep else { return };
        let wanted = match self.permission.is_writing() && self.phase != Phase::Over {
            true => Beeping::On,
            false => Beeping::Off,
        };
        if wanted != self.beeping {
            self.beeping = wanted;
            let every = (wanted == Beeping::On).then_some(every);
            out.push(Output::Media(MediaCommand::Beep { every }));
        }
    }

    /// Every question is answered: on with the call.
    pub(super) fn go_on(&mut self, at: Moment, verdict: Verdict, out: &mut Vec<Output>) {
        match verdict {
            Verdict::Unrecorded { then: OnRefusal::HangUp, .. } => {
                return self.say_farewell(at, "refused-goodbye", Cause::RefusalEndsCall, out);
            }
            Verdict::Unrecorded { why: Denial::Unavailable, .. }
                if self.policy.on_unavailable == OnUnavailable::Refuse =>
            {
                return self.say_farewell(at, "unavailable", Cause::Unavailable, out);
            }
            // The party is gone; `end` follows.
            Verdict::Unrecorded { why: Denial::Left, .. } => return,
            _ => {}
        }
        for leg in Leg::BOTH {
            if self.permission.asks(leg) && self.joined.contains(&leg) {
                let prompt = match self.permission.denial(leg) {
                    None => "accepted",
                    Some(Denial::Refused | Denial::Objected | Denial::Withdrawn) => "declined",
                    Some(_) => "unavailable",
                };
                self.say(leg, prompt, Purpose::Courtesy, out);
            }
        }
        self.proceed(at, out);
    }

    pub(super) fn on_media(&mut self, at: Moment, event: MediaEvent, out: &mut Vec<Output>) {
        match event {
            // The evidence of a hang-up names how much of the notice was played.
            MediaEvent::Played { .. } => {}
            _ if self.phase == Phase::Over => return,
            _ => {}
        }
        match event {
            MediaEvent::Key { leg, at: pressed, key, rtp_timestamp, stops } => {
                let (via, rtp_timestamp) = (KeyVia::TelephoneEvent, Some(rtp_timestamp));
                let input = Input::Key { leg, pressed, key, via, rtp_timestamp, stops };
                self.permit(at, input, out);
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
                    Purpose::Farewell(cause) => {
                        if self.playing.is_empty() {
                            self.end(at, cause, out);
                        }
                    }
                    Purpose::Courtesy => {
                        self.comfort(out);
                        self.talk(at, out);
                    }
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

    /// A key that came by SIP INFO.
    pub(super) fn pressed(&mut self, at: Moment, leg: Leg, key: char, out: &mut Vec<Output>) {
        let (via, pressed): (_, Instant) = (KeyVia::Info, at.instant);
        let (rtp_timestamp, stops) = (None, Stops::NONE);
        self.permit(at, Input::Key { leg, pressed, key, via, rtp_timestamp, stops }, out);
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
        if self.joined.is_empty() && matches!(self.caller, CallerLeg::Invited(_)) {
            self.answer_caller(at, out);
        }
        let mut legs = self.joined.clone();
        if legs.is_empty() {
            legs.push(Leg::Caller);
        }
        self.playing.clear();
        for leg in legs {
            self.say(leg, prompt, Purpose::Farewell(cause), out);
        }
    }

    /// Tells a party in the middle of the call.
    fn tell_party(&mut self, leg: Leg, prompt: &str, out: &mut Vec<Output>) {
        let asked =
            matches!(self.playing.get(&leg), Some((_, Purpose::Question | Purpose::Farewell(_))));
        if self.phase != Phase::Over && self.joined.contains(&leg) && !asked {
            self.say(leg, prompt, Purpose::Courtesy, out);
        }
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

    pub(super) fn play(
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
