//! One playing of one sound into one leg: which frame is due, and what came of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::prompt::Clip;
use crate::call::media::PlaybackId;
use crate::consent::NoticePlayed;
use crate::time::Timestamp;

/// The length of a frame.
pub(super) const FRAME: Duration = Duration::from_millis(20);

/// A thread that is late by more than this does not catch up: the sound goes on later instead.
const CATCH_UP: Duration = Duration::from_millis(60);

/// How long a sound that is still being encoded is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// A sound being played.
pub(super) struct Playback {
    id: PlaybackId,
    clip: Arc<Clip>,
    shape: Shape,
    next: usize,
    due: Instant,
    asked_at: Instant,
    sent: u64,
    started: Option<Timestamp>,
    ended: Timestamp,
    held: Held,
    worst_loss: Option<u8>,
    /// Packets admitted from the peer meanwhile.
    received: u64,
}

/// Whether a sound ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Once, and its end is reported.
    Once,
    /// Once, and nobody asks.
    Aside,
    /// Over and over, and nobody asks.
    Endless,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Never,
    AtTimes,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Sent,
    /// The peer takes no audio now.
    Held,
    /// The socket did not take it.
    Failed,
}

/// What to do at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send so many frames now, one after the other.
    Frames(usize),
    /// As `Frames(1)`, after a pause that the listener's clock has to be told of.
    Resume,
}

impl Playback {
    /// Begins at `due`, which is `now` or when the sound before has had its time.
    pub(super) fn new(
        id: PlaybackId,
        clip: Arc<Clip>,
        shape: Shape,
        due: Instant,
        wall: Timestamp,
    ) -> Self {
        Self {
            id,
            clip,
            shape,
            next: 0,
            due,
            asked_at: due,
            sent: 0,
            started: None,
            ended: wall,
            held: Held::Never,
            worst_loss: None,
            received: 0,
        }
    }

    /// Which playing this is.
    pub(super) fn id(&self) -> PlaybackId {
        self.id
    }

    /// What is played.
    pub(super) fn clip(&self) -> &Arc<Clip> {
        &self.clip
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// When the next frame is due.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// The place of the next frame in the sound.
    pub(super) fn position(&self) -> usize {
        self.next
    }

    /// Whether there is nothing left to send.
    pub(super) fn is_over(&self) -> bool {
        self.shape != Shape::Endless && self.next >= self.clip.frame_count
    }

    /// What is due at `now`: one frame as a rule, two when the thread was late, and never more, so
    /// that no burst overruns the listener's buffer.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        let late = now.saturating_duration_since(self.due);
        if late > CATCH_UP {
            self.due = now + FRAME;
            return Step::Resume;
        }
        let frames = if late >= FRAME { 2 } else { 1 };
        let left = match self.shape {
            Shape::Once | Shape::Aside => self.clip.frame_count.saturating_sub(self.next),
            Shape::Endless => frames,
        };
        let frames = frames.min(left);
        self.due += FRAME * if frames == 2 { 2 } else { 1 };
        Step::Frames(frames)
    }

    /// The sound is not encoded yet. `false` when it has been waited for long enough.
    pub(super) fn wait(&mut self, now: Instant) -> bool {
        self.due = now + FRAME;
        now.saturating_duration_since(self.asked_at) < PATIENCE
    }

    /// Takes note of the next frame's fate.
    pub(super) fn passed(&mut self, frame: Frame, wall: Timestamp) {
        self.next += 1;
        if self.shape == Shape::Endless && self.next >= self.clip.frame_count {
            self.next = 0;
        }
        match frame {
            Frame::Sent => {
                self.sent += 1;
                self.started.get_or_insert(wall);
                self.ended = wall;
            }
            Frame::Held => self.held = Held::AtTimes,
            Frame::Failed => {}
        }
    }

    /// A packet of the peer came while this played: the line is alive.
    pub(super) fn heard_peer(&mut self) {
        self.received += 1;
    }

    /// The peer's report says that it lost so much of what we sent, in 1/256.
    pub(super) fn peer_lost(&mut self, fraction: u8) {
        let percent = (u32::from(fraction) * 100).div_ceil(256);
        let percent = u8::try_from(percent).unwrap_or(100);
        self.worst_loss = Some(self.worst_loss.unwrap_or(0).max(percent));
    }

    /// What came of it; `wall` is when it was cut, if it was.
    pub(super) fn outcome(&self, wall: Timestamp) -> NoticePlayed {
        let frames = u64::try_from(self.clip.frame_count).unwrap_or(u64::MAX);
        let completed = self.is_over() && self.sent == frames;
        NoticePlayed {
            prompt: self.clip.name.clone(),
            locale: self.clip.locale.clone(),
            sha256: self.clip.sha256,
            played_ms: (self.sent * 20).min(self.clip.total_ms),
            total_ms: self.clip.total_ms,
            packets: self.sent,
            received: self.received,
            started: self.started.unwrap_or(wall),
            ended: if completed { self.ended } else { wall },
            held: self.held == Held::AtTimes,
            loss_percent: self.worst_loss,
            completed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::PromptBook;
    use crate::rtp::Codec;

    fn playback(shape: Shape, now: Instant) -> Playback {
        let book = PromptBook::load(None, &Codec::ALL).unwrap();
        let clip = Arc::clone(book.prompt("paused", "en-US").unwrap());
        Playback::new(PlaybackId(1), clip, shape, now, Timestamp::EPOCH)
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::EPOCH.plus(Duration::from_millis(millis))
    }

    #[test]
    fn a_prompt_takes_as_long_as_it_is_and_ends_with_its_last_frame() {
        let start = Instant::now();
        let mut playback = playback(Shape::Once, start);
        let mut millis = 0;
        while !playback.is_over() {
            let now = playback.due();
            assert_eq!(now, start + Duration::from_millis(millis));
            assert_eq!(playback.step(now), Step::Frames(1));
            playback.passed(Frame::Sent, at(millis));
            millis += 20;
        }
        let outcome = playback.outcome(at(99_999));
        assert!(outcome.completed && !outcome.held);
        assert_eq!(outcome.played_ms, outcome.total_ms);
        assert_eq!(outcome.packets, outcome.total_ms.div_ceil(20));
        assert_eq!((outcome.started, outcome.ended), (at(0), at(millis - 20)));
        assert_eq!(outcome.loss_percent, None);
    }

    #[test]
    fn what_was_held_or_cut_is_not_played() {
        let start = Instant::now();
        let mut playback = playback(Shape::Once, start);
        (0..5).for_each(|n| playback.passed(Frame::Sent, at(n * 20)));
        playback.passed(Frame::Held, at(100));
        playback.passed(Frame::Failed, at(120));
        playback.peer_lost(64);
        playback.peer_lost(1);
        let outcome = playback.outcome(at(140));
        assert!(outcome.held && !outcome.completed);
        assert_eq!((outcome.played_ms, outcome.packets, outcome.ended), (100, 5, at(140)));
        assert_eq!(outcome.loss_percent, Some(25));
        while !playback.is_over() {
            playback.passed(Frame::Held, at(200));
        }
        assert!(!playback.outcome(at(220)).completed, "its last sample was not sent");
    }

    #[test]
    fn a_late_thread_catches_up_by_one_frame_at_a_time_or_not_at_all() {
        let start = Instant::now();
        let mut playback = playback(Shape::Endless, start);
        let ms = |millis| start + Duration::from_millis(millis);
        assert_eq!(playback.step(ms(0)), Step::Frames(1));
        assert_eq!(playback.step(ms(45)), Step::Frames(2));
        assert_eq!(playback.due(), ms(60));
        assert_eq!(playback.step(ms(500)), Step::Resume);
        assert_eq!(playback.due(), ms(520));
    }

    #[test]
    fn ringback_never_ends() {
        let mut playback = playback(Shape::Endless, Instant::now());
        let frames = playback.clip().frame_count;
        (0..frames * 3 + 1).for_each(|_| playback.passed(Frame::Sent, at(0)));
        assert!(!playback.is_over());
        assert_eq!(playback.position(), 1);
    }
}
