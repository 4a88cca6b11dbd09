//! `assent demo`: a whole call on loopback, told as it happens.
//!
//! An agent with a throw-away data folder, a caller and a callee, all over real sockets. What the
//! agent does is read from its events, as any other program would; the recording is then verified
//! and exported with the very commands that an administrator types.

mod folder;
mod proof;
mod screen;
mod setting;
mod words;

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::catalog::Reader;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::clock;
use crate::config::Config;
use crate::phone::{
    Call, Happening, Identity, Order, Phone, PhoneError, PhoneEvent, Plan, Report, Sound, Target,
    Teller,
};

use folder::Folder;
use screen::{Screen, Who};

/// How long the two talk.
const TALK: Duration = Duration::from_secs(6);
/// How long the callee rings.
const RINGS: Duration = Duration::from_secs(4);
/// How long the whole call may take before something must be wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a recording may take to be sealed once the call is over.
const SEALED_WITHIN: Duration = Duration::from_secs(10);
/// How often the events are read.
const LOOK: Duration = Duration::from_millis(40);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  assent demo                            tells the story, and leaves assent-demo.wav to listen to
  assent demo --keep                     leaves everything, to look at with the other commands
  assent demo --locale de-DE             asks in German
  assent demo --json                     one object a line, for programs")]
pub(super) struct Arguments {
    /// Keep the folder with the configuration, the catalog and the recording
    #[arg(long)]
    keep: bool,
    /// The language of the notice: en-US, de-DE, fr-FR, it-IT or es-ES
    #[arg(long, value_name = "LOCALE", default_value = "en-US", value_parser = setting::locale)]
    locale: String,
}

/// A running agent, as the demonstration needs it.
pub trait Running {
    /// Where it takes SIP over UDP, if it does.
    fn sip(&self) -> Option<SocketAddr>;
    /// Ends it: calls are over, what is open is sealed, the data folder is free.
    fn stop(self) -> impl Future<Output = ()>;
}

/// Runs the demonstration; `start` starts an agent that takes calls when it returns.
pub(super) fn run<A, F>(
    arguments: &Arguments,
    output: &mut Output,
    start: impl FnOnce(Config) -> F,
) -> Result<(), Failure>
where
    A: Running,
    F: Future<Output = Result<A, Failure>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::unavailable)?;
    let mut folder = Folder::create(arguments.keep)?;
    let mut screen = Screen::new(output);
    let told = runtime.block_on(async {
        tokio::select! {
            told = tell(arguments, &folder, &mut screen, start) => told,
            Ok(()) = tokio::signal::ctrl_c() => Err(Failure::Failed("interrupted".to_owned())),
        }
    });
    // A task that still waits for somebody is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    if told.is_err() {
        // Whoever wants to know why needs what there is.
        folder.keep();
        screen.note(&format!("Everything is left in {}.", folder.path().display()))?;
    }
    told
}

async fn tell<A, F>(
    arguments: &Arguments,
    folder: &Folder,
    screen: &mut Screen<'_>,
    start: impl FnOnce(Config) -> F,
) -> Result<(), Failure>
where
    A: Running,
    F: Future<Output = Result<A, Failure>>,
{
    screen.begin(&setting::notice_text(&arguments.locale))?;
    let callee = Phone::open(Identity::local(setting::CALLEE)).await.map_err(failed)?;
    let caller = Phone::open(Identity::local(setting::CALLER)).await.map_err(failed)?;
    let config = setting::write(folder.path(), callee.address(), &arguments.locale)?;
    let agent = start(config.clone()).await?;
    let mut events = Events::open(&config)?;
    screen.begin_timeline();
    events.show_first(screen).await?;

    let story = Story { screen, events: &mut events };
    let outcome = match agent.sip() {
        Some(sip) => story.call(caller, callee, sip).await,
        None => Err(Failure::Failed("the agent takes no SIP over UDP".to_owned())),
    };
    let sealed = match &outcome {
        Ok(call) => wait_sealed(screen, &mut events, call.recording.clone()).await,
        Err(_) => Ok(Value::Null),
    };
    agent.stop().await;
    events.show(screen)?;
    let (call, sealed) = (outcome?, sealed?);
    let recording = call.recording.unwrap_or_default();
    let proof = proof::Proof {
        config: folder.config(),
        recording,
        wav: folder.wav(),
        before_permission: call.before_permission,
    };
    proof.show(screen, &mut events, &sealed)?;
    screen.end(folder, &proof)
}

/// What came of the call.
struct CallOutcome {
    recording: Option<String>,
    /// How long the caller talked before the permission was given.
    before_permission: Duration,
}

struct Story<'a, 'b> {
    screen: &'a mut Screen<'b>,
    events: &'a mut Events,
}

impl Story<'_, '_> {
    /// The call itself: the caller listens to the question, agrees, talks, hangs up.
    async fn call(
        mut self,
        caller: Phone,
        callee: Phone,
        agent: SocketAddr,
    ) -> Result<CallOutcome, Failure> {
        let target: Target = format!("sip:{}@{agent}", setting::CALLEE)
            .parse()
            .map_err(|why| Failure::Failed(format!("the agent's address: {why}")))?;
        let (to_caller, orders) = mpsc::channel(4);
        let (caller_tells, mut from_caller) = Teller::new();
        // The caller is not silent while being asked: the recording must have none of it.
        let plan = Plan { says: setting::before_permission(), ..Plan::default() };
        let calling = caller.call(&target, agent, Call { plan, orders, teller: caller_tells });
        let (_to_callee, orders) = mpsc::channel(4);
        let (callee_tells, mut from_callee) = Teller::new();
        let plan = Plan { says: setting::callee_says(), rings: RINGS, ..Plan::default() };
        let answering = callee.answer(Call { plan, orders, teller: callee_tells });
        tokio::pin!(calling, answering);

        let mut look = tokio::time::interval(LOOK);
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        let mut scene = Scene::Asked;
        let mut pressed: Option<Instant> = None;
        let mut answered: Option<Instant> = None;
        let mut callee_done = false;
        let report = loop {
            tokio::select! {
                report = &mut calling => break report.map_err(failed)?,
                report = &mut answering, if !callee_done => {
                    report.map_err(failed)?;
                    callee_done = true;
                }
                Some(event) = from_caller.recv() => {
                    if matches!(event.what, Happening::Answered { .. }) {
                        answered = Some(clock::now());
                    }
                    if matches!(event.what, Happening::Quiet { .. }) && scene == Scene::Asked {
                        scene = Scene::Agreed;
                        pressed = Some(clock::now());
                        let _ = to_caller.send(Order::Press('1')).await;
                        let _ = to_caller.send(Order::Say(Sound::Silence)).await;
                    }
                    // What a caller hears once the two talk is the callee.
                    let heard = matches!(event.what, Happening::Sound | Happening::Quiet { .. });
                    if !(heard && matches!(scene, Scene::Talking { .. } | Scene::Over)) {
                        self.phone(Who::Caller, &event)?;
                    }
                }
                Some(event) = from_callee.recv() => {
                    if matches!(event.what, Happening::Answered { .. }) {
                        scene = Scene::Talking { until: clock::now() + TALK };
                        let _ = to_caller.send(Order::Say(setting::caller_says())).await;
                    }
                    self.phone(Who::Callee, &event)?;
                }
                _ = look.tick() => {
                    self.events.show(self.screen)?;
                    if let Scene::Talking { until } = scene && clock::now() >= until {
                        scene = Scene::Over;
                        let _ = to_caller.send(Order::HangUp).await;
                    }
                }
                () = &mut patience => {
                    let _ = to_caller.send(Order::HangUp).await;
                    return Err(Failure::Failed(format!(
                        "the call did not come to its end within {} s",
                        PATIENCE.as_secs()
                    )));
                }
            }
        };
        // The callee's own end of the call.
        let _ = tokio::time::timeout(Duration::from_secs(2), async {
            while !callee_done {
                tokio::select! {
                    _ = &mut answering => callee_done = true,
                    Some(event) = from_callee.recv() => { let _ = self.phone(Who::Callee, &event); }
                }
            }
        })
        .await;
        while let Ok(event) = from_caller.try_recv() {
            if !matches!(event.what, Happening::Quiet { .. }) {
                self.phone(Who::Caller, &event)?;
            }
        }
        while let Ok(event) = from_callee.try_recv() {
            self.phone(Who::Callee, &event)?;
        }
        self.judge(&report, scene)?;
        let asked = answered.zip(pressed).map(|(from, to)| to.saturating_duration_since(from));
        let before_permission = asked.unwrap_or_default();
        self.events.show(self.screen)?;
        Ok(CallOutcome { recording: self.events.recording.clone(), before_permission })
    }

    fn judge(&self, report: &Report, scene: Scene) -> Result<(), Failure> {
        if scene == Scene::Over {
            return Ok(());
        }
        let outcome = serde_json::to_value(&report.outcome).unwrap_or_default();
        let stage = match scene {
            Scene::Asked => "before the notice had ended",
            Scene::Agreed => "before the callee had answered",
            _ => "while the two were talking",
        };
        Err(Failure::Failed(format!("the call ended {stage}: {outcome}")))
    }

    /// What a phone does often follows from what the agent has done: that comes first.
    fn phone(&mut self, who: Who, event: &PhoneEvent) -> Result<(), Failure> {
        self.events.show(self.screen)?;
        if self.screen.is_json() {
            let mut value = serde_json::to_value(event).unwrap_or_default();
            if let Value::Object(members) = &mut value {
                members.insert("who".to_owned(), json!(who.name()));
            }
            return self.screen.value(&value);
        }
        match words::of_phone(who, &event.what) {
            Some(text) => self.screen.line(who, &text, ""),
            None => Ok(()),
        }
    }
}

/// Where the call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    Asked,
    Agreed,
    Talking { until: Instant },
    Over,
}

/// The agent's events, read as they are stored.
struct Events {
    reader: Reader,
    cursor: u64,
    recording: Option<String>,
    sealed: Option<Value>,
}

impl Events {
    fn open(config: &Config) -> Result<Self, Failure> {
        let reader = Reader::open(&config.data)?;
        Ok(Self { reader, cursor: 0, recording: None, sealed: None })
    }

    /// The catalog that they are in.
    fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Shows that the agent is ready, before anybody calls: the event is stored soon after it is.
    async fn show_first(&mut self, screen: &mut Screen<'_>) -> Result<(), Failure> {
        for _ in 0..25 {
            self.show(screen)?;
            if self.cursor > 0 {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Shows what has been stored since the last time.
    fn show(&mut self, screen: &mut Screen<'_>) -> Result<(), Failure> {
        for row in self.reader.outbox_after(self.cursor, 200)? {
            self.cursor = row.sequence;
            let envelope: Value = serde_json::from_str(&row.json).unwrap_or_default();
            let kind = envelope["type"].as_str().unwrap_or_default();
            let kind = kind.trim_start_matches("io.assent.").trim_end_matches(".v1").to_owned();
            let data = &envelope["data"];
            if let Some(recording) = data["recording"].as_str() {
                self.recording = Some(recording.to_owned());
            }
            if kind == "recording.sealed" {
                self.sealed = Some(data.clone());
            }
            if screen.is_json() {
                screen.value(&json!({ "who": "assent", "event": envelope }))?;
            } else {
                screen.line(Who::Assent, &words::of_event(&kind, data), &kind)?;
            }
        }
        Ok(())
    }
}

async fn wait_sealed(
    screen: &mut Screen<'_>,
    events: &mut Events,
    recording: Option<String>,
) -> Result<Value, Failure> {
    if recording.is_none() {
        return Err(Failure::Failed("the call was not recorded".to_owned()));
    }
    let deadline = clock::now() + SEALED_WITHIN;
    loop {
        events.show(screen)?;
        if let Some(sealed) = &events.sealed {
            return Ok(sealed.clone());
        }
        if clock::now() >= deadline {
            return Err(Failure::Failed("the recording was not sealed".to_owned()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn failed(why: PhoneError) -> Failure {
    Failure::Failed(format!("a phone of the demonstration: {why}"))
}
