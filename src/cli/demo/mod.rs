//! `assent demo`: two calls on loopback, told as they happen.
//!
//! An agent with a throw-away data folder, a caller and a callee, all over real sockets. The first
//! call is permitted and recorded; in the second the permission is taken back. What the agent does
//! is read from its events, as any other program would; what came of it is then verified and
//! exported with the very commands that an administrator types.

mod commands;
mod events;
mod folder;
mod left;
mod permitted;
mod proof;
mod screen;
mod setting;
mod stage;
mod taken_back;
mod words;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::config::Config;
use crate::phone::{Identity, Phone, PhoneError};

use commands::Commands;
use events::Events;
use folder::Folder;
use permitted::Permitted;
use proof::Proof;
use screen::Screen;
use stage::Stage;
use taken_back::TakenBack;

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
    let prompt = |name| setting::prompt_text(&arguments.locale, name);
    screen.begin(&prompt("notice-opt-in"))?;
    let callee = Phone::open(Identity::local(setting::CALLEE)).await.map_err(failed)?;
    let next_callee = callee.successor().await.map_err(failed)?;
    let caller = Phone::open(Identity::local(setting::CALLER)).await.map_err(failed)?;
    let next_caller = caller.successor().await.map_err(failed)?;
    let config = setting::write(folder.path(), callee.address(), &arguments.locale)?;
    let agent = start(config.clone()).await?;
    let mut events = Events::open(&config)?;
    let mut permitted = Permitted::new(prompt("accepted"));
    let mut taken_back = TakenBack::new(&config, [prompt("withdrawn"), prompt("stopped")]);
    let told = async {
        let nowhere = || Failure::Failed("the agent takes no SIP over UDP".to_owned());
        let sip = agent.sip().ok_or_else(nowhere)?;
        screen.heading("First call: the caller agrees")?;
        screen.begin_timeline();
        events.show_first(screen).await?;
        let mut stage = Stage { screen, events: &mut events, agent: sip };
        let recording = stage.play(caller, callee, &mut permitted).await?;
        let sealed = stage.sealed(recording).await?;
        stage.screen.heading("Second call: the caller agrees again, and takes it back with *9")?;
        let withdrawn = stage.play(next_caller, next_callee, &mut taken_back).await?;
        stage.sealed(withdrawn).await?;
        Ok::<_, Failure>((recording, sealed, withdrawn))
    }
    .await;
    agent.stop().await;
    events.show(screen)?;
    let (recording, sealed, withdrawn) = told?;

    let commands = Commands::with(folder.config());
    let proof = Proof {
        commands: &commands,
        recording,
        wav: folder.wav(),
        before_permission: permitted.before_permission(),
    };
    let left = taken_back.left(withdrawn);
    proof.show(screen, &mut events, &sealed)?;
    left.show(&commands, screen, &events)?;
    screen.end(folder, &proof, &left)
}

fn failed(why: PhoneError) -> Failure {
    Failure::Failed(format!("a phone of the demonstration: {why}"))
}
