//! The second call: the caller agrees, talks for a while, and takes the permission back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::events::Events;
use super::left::{self, File, Left};
use super::screen::Who;
use super::stage::{Phones, Script};
use super::{setting, words};
use crate::clock;
use crate::config::Config;
use crate::ids::RecordingId;
use crate::phone::{Happening, Order, Plan, Sound};

/// How much of the question somebody hears who knows it from the call before.
const LISTENS: Duration = Duration::from_millis(1200);
/// How long the two talk.
const TALK: Duration = Duration::from_millis(2000);
/// How long the callee rings.
const RINGS: Duration = Duration::from_millis(400);

/// Who does what in it.
#[derive(Debug)]
pub(super) struct TakenBack {
    scene: Scene,
    /// What the caller hears who takes it back.
    withdrawn: String,
    /// What the callee hears.
    stopped: String,
    recordings: PathBuf,
    /// The recording's files when the permission was taken back.
    files: Vec<File>,
}

/// Where the call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    Dialled,
    Asked {
        until: Instant,
    },
    Agreed,
    Talking {
        until: Instant,
    },
    /// Both pause, so that each can be heard to hear something.
    Pausing {
        caller: Ear,
        callee: Ear,
    },
    TakingBack {
        caller: Ear,
        callee: Ear,
    },
    Over,
}

/// What somebody has heard in a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ear {
    Nothing,
    Done,
}

impl TakenBack {
    pub(super) fn new(config: &Config, [withdrawn, stopped]: [String; 2]) -> Self {
        let recordings = config.storage.recordings.clone();
        Self { scene: Scene::Dialled, withdrawn, stopped, recordings, files: Vec::new() }
    }

    /// What there was to be erased, for the proof that it was.
    pub(super) fn left(self, recording: RecordingId) -> Left {
        Left { recording, folder: left::folder(&self.recordings, recording), before: self.files }
    }

    /// Somebody has heard the other out.
    fn heard_out(&mut self, who: Who) {
        if let Scene::Pausing { caller, callee } | Scene::TakingBack { caller, callee } =
            &mut self.scene
        {
            let ear = if who == Who::Callee { callee } else { caller };
            *ear = Ear::Done;
        }
    }
}

impl Script for TakenBack {
    fn plan(&self, who: Who) -> Plan {
        match who {
            Who::Callee => Plan { says: setting::callee_says(), rings: RINGS, ..Plan::default() },
            _ => Plan::default(),
        }
    }

    fn happened(&mut self, who: Who, what: &Happening, phones: &Phones) -> Option<String> {
        match (who, what, self.scene) {
            (Who::Caller, Happening::Dialled, _) => Some("dials the agent again".to_owned()),
            (Who::Caller, Happening::Sound, Scene::Dialled) => {
                self.scene = Scene::Asked { until: clock::now() + LISTENS };
                Some("hears the same question, and need not wait for its end".to_owned())
            }
            (Who::Callee, Happening::Answered { .. }, _) => {
                self.scene = Scene::Talking { until: clock::now() + TALK };
                phones.order(Who::Caller, Order::Say(setting::caller_says()));
                words::of_phone(who, what)
            }
            (_, Happening::Sound, Scene::TakingBack { .. }) => {
                let said = if who == Who::Callee { &self.stopped } else { &self.withdrawn };
                Some(format!("hears \"{said}\""))
            }
            (_, Happening::Quiet { .. }, scene) => {
                self.heard_out(who);
                let last = matches!(scene, Scene::TakingBack { .. });
                (last && who == Who::Caller)
                    .then(|| "is still in the call, which is no longer recorded".to_owned())
            }
            // The keys that take it back are one thing to a person.
            (Who::Caller, Happening::Pressed { key: '*' }, _) => None,
            (Who::Caller, Happening::Pressed { key: '9' }, _) => {
                Some("presses *9 to take the permission back".to_owned())
            }
            (_, Happening::Sound | Happening::HeardKey { .. }, _) => None,
            _ => words::of_phone(who, what),
        }
    }

    fn look(&mut self, now: Instant, events: &Events, phones: &Phones) {
        use Ear::{Done, Nothing};
        match self.scene {
            Scene::Asked { until } if now >= until => {
                self.scene = Scene::Agreed;
                phones.order(Who::Caller, Order::Press('1'));
            }
            Scene::Talking { until } if now >= until => {
                self.scene = Scene::Pausing { caller: Nothing, callee: Nothing };
                phones.order(Who::Caller, Order::Say(Sound::Silence));
                phones.order(Who::Callee, Order::Say(Sound::Silence));
            }
            Scene::Pausing { caller: Done, callee: Done } => {
                self.scene = Scene::TakingBack { caller: Nothing, callee: Nothing };
                if let Some(recording) = events.recording() {
                    self.files = left::files(&left::folder(&self.recordings, recording));
                }
                phones.order(Who::Caller, Order::Press('*'));
                phones.order(Who::Caller, Order::Press('9'));
            }
            Scene::TakingBack { caller: Done, callee: Done } => {
                self.scene = Scene::Over;
                phones.order(Who::Caller, Order::HangUp);
            }
            _ => {}
        }
    }

    fn unfinished(&self) -> Option<&'static str> {
        match self.scene {
            Scene::Dialled | Scene::Asked { .. } => Some("before the caller had agreed"),
            Scene::Agreed => Some("before the callee had answered"),
            Scene::Talking { .. } | Scene::Pausing { .. } => Some("while the two were talking"),
            Scene::TakingBack { .. } => Some("before the two heard that the recording is over"),
            Scene::Over => None,
        }
    }
}
