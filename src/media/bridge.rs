//! One call's media: two legs, what is relayed between them and what is played into them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::beep::Beeps;
use super::capture::{Capture, CaptureEnd};
use super::counters::Tally;
use super::dtls::{self, Identity};
use super::io::{Inbox, LONGEST, Outbound};
use super::leg::{FrameTimer, Hears, LegStream, Silence};
use super::passage::Passage;
use super::player::{Frame, Playback, Shape, Step};
use super::prompt::Readiness;
use super::timers::{Due, Timer, Timers};
use super::watch::LastStops;
use super::worker::Report;
use super::{MediaConfig, MediaReport, PromptBook};
use crate::call::media::{MediaCommand, MediaEvent, PlaybackId, Sound};
use crate::consent::NoticePlayed;
use crate::ids::{CallId, Digest, Leg};
use crate::rtp::rtcp::Leaving;
use crate::segment::Finished;
use crate::time::Timestamp;

/// One call's media.
pub(super) struct Bridge {
    call: CallId,
    slot: usize,
    /// One moment on both clocks. Times of a call are told from here, so that a wall clock that is
    /// set in between tears no recording.
    anchor: (Instant, Timestamp),
    cname: String,
    caller: LegStream,
    callee: Option<LegStream>,
    beeps: Option<Beeps>,
    beep_timer: FrameTimer,
    /// Outlives the legs: a writer may come to a leg that was not there when the keys were pressed.
    stops: LastStops,
}

/// What one wake-up of a media thread lends to the call in hand.
pub(super) struct Turn<'a> {
    pub(super) now: Instant,
    pub(super) config: &'a MediaConfig,
    pub(super) prompts: &'a PromptBook,
    /// Who legs are in handshakes.
    pub(super) identity: Option<&'a Identity>,
    pub(super) timers: &'a mut Timers,
    pub(super) tally: &'a mut Tally,
    pub(super) report: &'a Report,
    /// What was just read from one socket.
    pub(super) inbox: &'a Inbox,
    /// Room for as many payloads that are changed on their way.
    pub(super) spaces: &'a mut [[u8; LONGEST]],
    /// Room for as many packets that came protected.
    pub(super) clear: &'a mut [[u8; LONGEST]],
    /// Anything: it spreads reports over time (RFC 3550, 6.3.1) and is no secret.
    pub(super) dice: u32,
}

impl Bridge {
    pub(super) fn new(
        call: CallId,
        slot: usize,
        anchor: (Instant, Timestamp),
        cname: String,
        caller: LegStream,
    ) -> Self {
        Self {
            call,
            slot,
            anchor,
            cname,
            caller,
            callee: None,
            beeps: None,
            beep_timer: FrameTimer::Idle,
            stops: LastStops::default(),
        }
    }

    /// Which call this is.
    pub(super) fn call(&self) -> CallId {
        self.call
    }

    /// The leg, if there is one.
    pub(super) fn leg(&mut self, leg: Leg) -> Option<&mut LegStream> {
        match leg {
            Leg::Caller => Some(&mut self.caller),
            Leg::Callee => self.callee.as_mut(),
        }
    }

    /// Puts a callee's leg in its place, and gives back the one that was there.
    pub(super) fn set_callee(&mut self, callee: LegStream) -> Option<LegStream> {
        self.callee.replace(callee)
    }

    /// Which leg has this number.
    pub(super) fn leg_numbered(&self, number: u64) -> Option<Leg> {
        if self.caller.number == number {
            return Some(Leg::Caller);
        }
        self.callee.as_ref().filter(|leg| leg.number == number).map(|_| Leg::Callee)
    }

    /// Datagrams have come to a leg's RTP port.
    pub(super) fn receive(&mut self, leg: Leg, turn: &mut Turn<'_>) {
        let (call, wall) = (self.call, self.wall(turn.now));
        let (from, to) = match leg {
            Leg::Caller => (&mut self.caller, self.callee.as_mut()),
            Leg::Callee => match self.callee.as_mut() {
                Some(callee) => (callee, Some(&mut self.caller)),
                None => return,
            },
        };
        let stops = &mut self.stops;
        Passage { call, leg, from, to, stops, wall }.receive(turn);
    }

    /// Datagrams have come to a leg's RTCP port.
    pub(super) fn receive_reports(&mut self, leg: Leg, turn: &mut Turn<'_>) {
        let Some(stream) = self.leg(leg) else { return };
        let mut heard = false;
        for (datagram, from) in turn.inbox.datagrams() {
            if !stream.receive_report(datagram, from, turn.now) {
                turn.tally.bad_rtcp += 1;
            } else if stream.is_heard_again() {
                heard = true;
            }
        }
        if heard {
            (turn.report)(self.call, MediaReport::Event(MediaEvent::Heard { leg }));
        }
    }

    /// Carries out an order of the call machine.
    pub(super) fn command(&mut self, command: MediaCommand, turn: &mut Turn<'_>) {
        match command {
            MediaCommand::Connect { leg, media } => {
                let wall = self.wall(turn.now);
                let Some(stream) = self.leg(leg) else { return };
                // What was silent under the old session may talk under the new one.
                let heard = stream.is_heard_again();
                let first = stream.connect(media, turn, wall);
                if first {
                    // The first report comes after half the time (RFC 3550, 6.2).
                    stream.next_report = turn.now + spread(turn.config.report_every / 2, turn.dice);
                    self.set_report_timer(leg, turn);
                }
                self.shake_hands(leg, turn);
                if heard {
                    (turn.report)(self.call, MediaReport::Event(MediaEvent::Heard { leg }));
                }
            }
            MediaCommand::Play { leg, playback, sound } => self.play(leg, playback, sound, turn),
            MediaCommand::Silence { leg } => self.silence(leg, turn),
            MediaCommand::Watch { leg, sequences } => {
                if let Some(stream) = self.leg(leg) {
                    stream.watch.replace(sequences);
                }
            }
            MediaCommand::Beep { every } => self.set_beeps(every, turn),
            MediaCommand::Relay { from, on } => {
                if on {
                    self.silence(from.other(), turn);
                }
                if let Some(stream) = self.leg(from.other()) {
                    stream.hears = if on { Hears::OtherLeg } else { Hears::Nothing };
                    stream.outgoing.interrupt();
                }
            }
        }
    }

    /// Hands a leg's audio to a capture. Without the leg there is nothing to capture.
    pub(super) fn record(&mut self, leg: Leg, capture: Box<dyn Capture>, turn: &mut Turn<'_>) {
        let (wall, stop) = (self.wall(turn.now), self.stops.of(leg));
        let finished = match self.leg(leg) {
            Some(stream) => stream.record(capture, stop, wall),
            None => Some(capture.finish(wall)),
        };
        self.capture_ended(leg, finished, turn);
    }

    /// Finishes a leg's capture.
    pub(super) fn stop_recording(&mut self, leg: Leg, turn: &mut Turn<'_>) {
        let wall = self.wall(turn.now);
        let finished = self.leg(leg).and_then(|stream| stream.stop_recording(wall));
        self.capture_ended(leg, finished, turn);
    }

    fn capture_ended(&self, leg: Leg, finished: Option<Finished>, turn: &Turn<'_>) {
        if let Some(finished) = finished {
            let why = CaptureEnd::Ordered;
            (turn.report)(self.call, MediaReport::CaptureEnded { leg, why, finished });
        }
    }

    /// A timer of a leg has gone off.
    pub(super) fn on_timer(&mut self, leg: Leg, due: Due, turn: &mut Turn<'_>) {
        match due {
            Due::Frame => {
                if let Some(stream) = self.leg(leg) {
                    stream.frame_timer = FrameTimer::Idle;
                }
                self.play_on(leg, turn);
            }
            Due::Report => self.report_and_listen(leg, turn),
            Due::Handshake => {
                if let Some(stream) = self.leg(leg) {
                    stream.handshake_timer = FrameTimer::Idle;
                }
                self.shake_hands(leg, turn);
            }
            Due::Beep => {
                self.beep_timer = FrameTimer::Idle;
                if self.beeps.as_mut().is_some_and(|beeps| beeps.ring(turn.now)) {
                    Leg::BOTH.into_iter().for_each(|leg| self.beep(leg, turn));
                }
                self.set_beep_timer(turn);
            }
        }
    }

    /// Ends the call's media: the last reports, and what the captures still hold.
    pub(super) fn close(mut self, turn: &mut Turn<'_>) {
        for leg in Leg::BOTH {
            self.silence(leg, turn);
            self.stop_recording(leg, turn);
        }
        let wall = self.wall(turn.now);
        let (cname, call) = (self.cname, self.call);
        let mut end = |mut stream: LegStream| {
            stream.send_report(&cname, Leaving::Yes, turn.now, wall);
            let statistics = stream.statistics();
            turn.tally.lost += statistics.lost;
            statistics
        };
        let caller = end(self.caller);
        let callee = self.callee.map(&mut end);
        (turn.report)(call, MediaReport::Closed { caller, callee });
    }

    fn play(&mut self, leg: Leg, id: PlaybackId, sound: Sound, turn: &mut Turn<'_>) {
        self.silence(leg, turn);
        let wall = self.wall(turn.now);
        let (clip, shape) = match &sound {
            Sound::Prompt { name, locale } => match turn.prompts.prompt(name, locale) {
                Ok(clip) => (Arc::clone(clip), Shape::Once),
                Err(error) => {
                    tracing::error!(call = %self.call, %error, "nothing to play");
                    let notice = unplayed(name, locale, wall);
                    let event = MediaEvent::Played { leg, playback: id, notice };
                    (turn.report)(self.call, MediaReport::Event(event));
                    return;
                }
            },
            Sound::Waiting => (Arc::clone(turn.prompts.waiting()), Shape::Endless),
            Sound::Ringback { locale } => match turn.prompts.ringback(locale) {
                Some(clip) => (Arc::clone(clip), Shape::Endless),
                None => return,
            },
        };
        let Some(stream) = self.leg(leg) else {
            let playback = Playback::new(id, clip, shape, turn.now, wall);
            self.played(leg, &playback, turn);
            return;
        };
        let begin = stream.free_at(turn.now);
        stream.playback = Some(Playback::new(id, clip, shape, begin, wall));
        if begin <= turn.now && stream.frame_timer == FrameTimer::Idle {
            self.play_on(leg, turn);
        } else {
            self.set_frame_timer(leg, begin, turn);
        }
    }

    /// The tone of a recording, now and then, or no more.
    fn set_beeps(&mut self, every: Option<Duration>, turn: &mut Turn<'_>) {
        let beeps = every.map(|every| Beeps::new(every, turn.now));
        // To be told the same again does not put off what is due.
        if beeps.map(|beeps| beeps.every()) != self.beeps.map(|beeps| beeps.every()) {
            self.beeps = beeps;
            self.set_beep_timer(turn);
        }
    }

    fn set_beep_timer(&mut self, turn: &mut Turn<'_>) {
        if let (Some(beeps), FrameTimer::Idle) = (&self.beeps, self.beep_timer) {
            self.beep_timer = FrameTimer::Set;
            let (at, slot, leg) = (beeps.due(), self.slot, self.caller.number);
            turn.timers.set(Timer { at, slot, leg, due: Due::Beep });
        }
    }

    /// Lets a leg hear the tone, unless it hears a prompt.
    fn beep(&mut self, leg: Leg, turn: &mut Turn<'_>) {
        let wall = self.wall(turn.now);
        let Some(stream) = self.leg(leg) else { return };
        if stream.playback.is_some() || stream.sendable().is_none() || stream.mix_beep(turn.now) {
            return;
        }
        let begin = stream.free_at(turn.now);
        let clip = Arc::clone(turn.prompts.beep());
        stream.playback = Some(Playback::new(NOBODYS, clip, Shape::Aside, begin, wall));
        stream.outgoing.interrupt();
        self.set_frame_timer(leg, begin, turn);
    }

    /// Cuts what is played into a leg.
    fn silence(&mut self, leg: Leg, turn: &mut Turn<'_>) {
        let Some(stream) = self.leg(leg) else { return };
        if let Some(playback) = stream.playback.take() {
            stream.next_slot = playback.due();
            stream.outgoing.interrupt();
            self.played(leg, &playback, turn);
        }
    }

    /// Sends the frames that are due, and sees to the next ones.
    fn play_on(&mut self, leg: Leg, turn: &mut Turn<'_>) {
        let wall = self.wall(turn.now);
        let Some(stream) = self.leg(leg) else { return };
        let Some(mut playback) = stream.playback.take() else { return };
        if playback.due() > turn.now {
            let due = playback.due();
            stream.playback = Some(playback);
            self.set_frame_timer(leg, due, turn);
            return;
        }
        let goes_on = send_frames(stream, &mut playback, wall, turn);
        if playback.is_over() || !goes_on {
            stream.next_slot = playback.due();
            stream.outgoing.interrupt();
            self.played(leg, &playback, turn);
            return;
        }
        let due = playback.due();
        stream.playback = Some(playback);
        self.set_frame_timer(leg, due, turn);
    }

    fn played(&self, leg: Leg, playback: &Playback, turn: &Turn<'_>) {
        if playback.shape() == Shape::Once {
            let notice = playback.outcome(self.wall(turn.now));
            let event = MediaEvent::Played { leg, playback: playback.id(), notice };
            (turn.report)(self.call, MediaReport::Event(event));
        }
    }

    fn report_and_listen(&mut self, leg: Leg, turn: &mut Turn<'_>) {
        let wall = self.wall(turn.now);
        let stream = match leg {
            Leg::Caller => &mut self.caller,
            Leg::Callee => match self.callee.as_mut() {
                Some(callee) => callee,
                None => return,
            },
        };
        if stream.next_report <= turn.now {
            stream.send_report(&self.cname, Leaving::No, turn.now, wall);
            stream.next_report = turn.now + spread(turn.config.report_every, turn.dice);
        }
        if stream.silent_at(turn.config.silent_after, turn.now).is_some_and(|at| at <= turn.now) {
            stream.silence = Silence::Reported;
            (turn.report)(self.call, MediaReport::Event(MediaEvent::Silent { leg }));
        }
        self.set_report_timer(leg, turn);
    }

    /// Goes on with a leg's handshake, if there is one.
    fn shake_hands(&mut self, leg: Leg, turn: &mut Turn<'_>) {
        let slot = self.slot;
        if let Some(stream) = self.leg(leg)
            && stream.shake_hands(turn.now)
            && stream.handshake_timer == FrameTimer::Idle
        {
            stream.handshake_timer = FrameTimer::Set;
            let at = turn.now + dtls::TICK;
            turn.timers.set(Timer { at, slot, leg: stream.number, due: Due::Handshake });
        }
    }

    fn set_frame_timer(&mut self, leg: Leg, at: Instant, turn: &mut Turn<'_>) {
        let slot = self.slot;
        if let Some(stream) = self.leg(leg)
            && stream.frame_timer == FrameTimer::Idle
        {
            stream.frame_timer = FrameTimer::Set;
            turn.timers.set(Timer { at, slot, leg: stream.number, due: Due::Frame });
        }
    }

    fn set_report_timer(&mut self, leg: Leg, turn: &mut Turn<'_>) {
        let slot = self.slot;
        if let Some(stream) = self.leg(leg) {
            let silent_at = stream.silent_at(turn.config.silent_after, turn.now);
            let at = silent_at.map_or(stream.next_report, |at| at.min(stream.next_report));
            turn.timers.set(Timer { at, slot, leg: stream.number, due: Due::Report });
        }
    }

    fn wall(&self, now: Instant) -> Timestamp {
        let (then, wall) = self.anchor;
        wall.plus(now.saturating_duration_since(then))
    }
}

/// The number of what the call machine did not ask for, and is not told of.
const NOBODYS: PlaybackId = PlaybackId(u32::MAX);

/// Sends the frames that are due. `false` when the sound cannot be played at all.
fn send_frames(
    stream: &mut LegStream,
    playback: &mut Playback,
    wall: Timestamp,
    turn: &mut Turn<'_>,
) -> bool {
    let Some(media) = stream.sendable() else {
        // A sound that nobody hears takes its time all the same, or a call would wait for ever.
        let frames = match playback.step(turn.now) {
            Step::Frames(frames) => frames,
            Step::Resume => 1,
        };
        (0..frames).for_each(|_| playback.passed(Frame::Held, wall));
        stream.outgoing.interrupt();
        return true;
    };
    let (codec, payload_type) = (media.codec, media.payload_type.send);
    if stream.is_shaking_hands() {
        // What is said before the keys are there is heard by nobody.
        return playback.wait(turn.now);
    }
    let clip = Arc::clone(playback.clip());
    let frames = match turn.prompts.frames(&clip, codec) {
        Readiness::Ready(frames) => frames,
        Readiness::Soon => return playback.wait(turn.now),
        Readiness::Never => return false,
    };
    let count = match playback.step(turn.now) {
        Step::Frames(count) => count,
        Step::Resume => {
            stream.outgoing.interrupt();
            1
        }
    };
    for _ in 0..count {
        let header = stream.outgoing.local(payload_type, codec.clock_rate() / 50, turn.now);
        let sent = match frames.get(playback.position()) {
            Some(payload) => {
                stream.send(turn.config.io, &[Outbound { header, payload }], turn.tally)
            }
            None => 0,
        };
        turn.tally.played += sent;
        playback.passed(if sent == 1 { Frame::Sent } else { Frame::Failed }, wall);
    }
    true
}

/// Between half of `every` and one and a half of it (RFC 3550, 6.3.1).
fn spread(every: Duration, dice: u32) -> Duration {
    every / 2 + every.mul_f64(f64::from(dice) / f64::from(u32::MAX))
}

/// What came of a prompt that does not exist.
fn unplayed(name: &str, locale: &str, wall: Timestamp) -> NoticePlayed {
    NoticePlayed {
        prompt: name.to_owned(),
        locale: locale.to_owned(),
        sha256: Digest([0; 32]),
        played_ms: 0,
        total_ms: 0,
        packets: 0,
        received: 0,
        started: wall,
        ended: wall,
        held: false,
        loss_percent: None,
        completed: false,
    }
}
