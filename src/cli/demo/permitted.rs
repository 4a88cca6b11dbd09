//! The first call: the caller listens to the question, agrees, talks, hangs up.

use std::time::{Duration, Instant};

use super::events::Events;
use super::screen::Who;
use super::stage::{Phones, Script};
use super::{setting, words};
use crate::clock;
use crate::phone::{Happening, Order, Plan, Sound};

/// How long the two talk.
const TALK: Duration = Duration::from_secs(6);
/// How long the callee rings.
const RINGS: Duration = Duration::from_secs(4);

/// Who does what in it.
#[derive(Debug)]
pub(super) struct Permitted {
    scene: Scene,
    /// What the caller hears after agreeing.
    accepted: String,
    answered: Option<Instant>,
    pressed: Option<Instant>,
}

/// Where the call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    Asked,
    Agreed,
    Talking { until: Instant },
    Over,
}

impl Permitted {
    pub(super) fn new(accepted: String) -> Self {
        Self { scene: Scene::Asked, accepted, answered: None, pressed: None }
    }

    /// How long the caller talked before the permission was given.
    pub(super) fn before_permission(&self) -> Duration {
        let asked = self.answered.zip(self.pressed);
        asked.map(|(from, to)| to.saturating_duration_since(from)).unwrap_or_default()
    }
}

impl Script for Permitted {
    fn plan(&self, who: Who) -> Plan {
        match who {
            Who::Callee => Plan { says: setting::callee_says(), rings: RINGS, ..Plan::default() },
            // The caller is not silent while being asked: the recording must have none of it.
            _ => Plan { says: setting::before_permission(), ..Plan::default() },
        }
    }

    fn happened(&mut self, who: Who, what: &Happening, phones: &Phones) -> Option<String> {
        match (who, what, self.scene) {
            (Who::Caller, Happening::Dialled, _) => Some(
                "dials the agent, and talks without waiting for the question: none of it may be \
                 recorded"
                    .to_owned(),
            ),
            (Who::Caller, Happening::Answered { .. }, _) => {
                self.answered = Some(clock::now());
                words::of_phone(who, what)
            }
            (Who::Caller, Happening::Quiet { .. }, Scene::Asked) => {
                self.scene = Scene::Agreed;
                self.pressed = Some(clock::now());
                phones.order(who, Order::Press('1'));
                phones.order(who, Order::Say(Sound::Silence));
                words::of_phone(who, what)
            }
            (Who::Caller, Happening::Sound, Scene::Agreed) => {
                Some(format!("hears \"{}\"", self.accepted))
            }
            // What a caller hears once the two talk is the callee.
            (Who::Caller, Happening::Sound | Happening::Quiet { .. }, scene)
                if scene != Scene::Asked =>
            {
                None
            }
            (Who::Callee, Happening::Answered { .. }, _) => {
                self.scene = Scene::Talking { until: clock::now() + TALK };
                phones.order(Who::Caller, Order::Say(setting::caller_says()));
                words::of_phone(who, what)
            }
            _ => words::of_phone(who, what),
        }
    }

    fn look(&mut self, now: Instant, _: &Events, phones: &Phones) {
        if let Scene::Talking { until } = self.scene
            && now >= until
        {
            self.scene = Scene::Over;
            phones.order(Who::Caller, Order::HangUp);
        }
    }

    fn unfinished(&self) -> Option<&'static str> {
        match self.scene {
            Scene::Asked => Some("before the notice had ended"),
            Scene::Agreed => Some("before the callee had answered"),
            Scene::Talking { .. } => Some("while the two were talking"),
            Scene::Over => None,
        }
    }
}
