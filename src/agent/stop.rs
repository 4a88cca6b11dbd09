//! Running to the end: signals, draining, the last event.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::agent::core::Inward;
use crate::agent::scribe::Told;
use crate::agent::start::{Agent, StartError};
use crate::clock;
use crate::config::{Loaded, Source};
use crate::control::{Command, ControlRequest, Draining, Reply};
use crate::event::{AgentDraining, AgentStopped};
use crate::time::Timestamp;

/// How often a draining agent looks whether it is done.
const LOOK: Duration = Duration::from_millis(50);

/// How long calls that were ended may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// How long the last events may take to reach NATS; what does not stays in the outbox.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// What callers are told to wait while the agent stops.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Runs an agent until SIGTERM, SIGINT or `assent drain`, and then until its calls have ended.
/// SIGHUP has it read its configuration again.
///
/// # Errors
/// [`StartError`] when it does not start.
pub fn run(loaded: Loaded) -> Result<(), StartError> {
    let Loaded { config, source, .. } = loaded;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|why| StartError::Ready { path: config.data.clone(), why })?;
    let outcome = runtime.block_on(async {
        let agent = Agent::start(config).await?;
        agent.until_told(&source).await;
        Ok(())
    });
    // A task that still waits for somebody is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

impl Agent {
    /// Runs until a signal or a command says to stop, drains, and stops. A second signal ends
    /// the program at once.
    async fn until_told(mut self, source: &Source) {
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hang_up)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::hangup()),
        ) else {
            tracing::error!("signals cannot be waited for: the agent stops");
            return self.stop(Duration::ZERO).await;
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => self.reload(source),
                request = self.control.recv() => match request {
                    Some(request) => {
                        let drains = request.command == Command::Drain {};
                        self.answer(request, clock::wall()).await;
                        if drains {
                            break;
                        }
                    }
                    None => break,
                },
            }
        }
        let at_once = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let limit = self.config.shutdown.drain_within;
        tokio::select! {
            () = self.stop(limit) => {}
            () = at_once => tracing::warn!("told twice: ends at once"),
        }
    }

    /// Takes no new calls, lets those there are end within `limit`, ends the rest, and stores and
    /// publishes what there is to tell.
    pub async fn stop(mut self, limit: Duration) {
        let began = clock::wall();
        let deadline = clock::now() + limit;
        self.health.drain();
        self.sip.set_draining(Some(RETRY_AFTER));
        let calls = self.calls().await;
        if calls > 0 {
            let seconds = limit.as_secs();
            tracing::info!(calls, "draining: calls in progress may end within {seconds} s");
        }
        self.scribe.tell(Told::event(AgentDraining {
            calls: u32::try_from(calls).unwrap_or(u32::MAX),
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        }));
        while self.calls().await > 0 && clock::now() < deadline {
            self.answer_within(LOOK, began).await;
        }
        let ended = self.calls().await;
        if ended > 0 {
            tracing::warn!(calls = ended, "the time to drain has passed: calls are ended");
            let _ = self.inward.send(Inward::HangUp);
        }
        let deadline = clock::now() + GOODBYE;
        while self.busy().await && clock::now() < deadline {
            self.answer_within(LOOK, began).await;
        }
        let calls_ended = u32::try_from(ended).unwrap_or(u32::MAX);
        self.scribe.tell(Told::event(AgentStopped { calls_ended }));
        let _ = tokio::time::timeout(GOODBYE, self.scribe.flush()).await;
        // What is left of it then is finished at the next start.
        let _ = tokio::time::timeout(GOODBYE, self.eraser.rest()).await;
        if let Some(bus) = self.bus.take() {
            bus.stop(LAST_EVENTS).await;
        }
        drop(self.ready.take());
        for helper in &self.helpers {
            helper.abort();
        }
        let media = self.media.clone();
        let _ = tokio::task::spawn_blocking(move || media.shutdown()).await;
        self.core.abort();
        // The core owns the segment store, which writes and syncs what it still has.
        let _ = (&mut self.core).await;
        if let Err(why) = self.catalog.close().await {
            tracing::warn!(%why, "the catalog did not close");
        }
        tracing::info!("stopped");
    }

    fn draining(&self, from: Timestamp) -> Draining {
        Draining {
            calls: self.health.calls_now() as u64,
            until: from.plus(self.config.shutdown.drain_within),
        }
    }

    async fn answer(&self, request: ControlRequest, drains_since: Timestamp) {
        let reply = match request.command {
            Command::Status {} => Reply::Status(Box::new(self.observer.status())),
            Command::Drain {} => Reply::Draining(self.draining(drains_since)),
            Command::NoteExport(note) => {
                match self
                    .catalog
                    .record(Vec::new(), vec![note.draft()])
                    .await
                    .map(|ids| ids.first().copied())
                {
                    Ok(Some(event)) => Reply::Noted { event },
                    Ok(None) => refused("the event was not stored"),
                    Err(why) => refused(&why.to_string()),
                }
            }
        };
        let _ = request.reply.send(reply);
    }

    /// Answers the control socket for a while.
    async fn answer_within(&mut self, span: Duration, began: Timestamp) {
        let until = tokio::time::Instant::from_std(clock::now() + span);
        while let Ok(Some(request)) = tokio::time::timeout_at(until, self.control.recv()).await {
            self.answer(request, began).await;
        }
        tokio::time::sleep_until(until).await;
    }

    async fn calls(&self) -> usize {
        self.look().await.calls
    }

    /// Whether a call or a recording is not finished.
    async fn busy(&self) -> bool {
        let status = self.look().await;
        status.calls > 0 || status.keeping > 0
    }

    async fn look(&self) -> crate::agent::core::Status {
        let (answer, status) = oneshot::channel();
        let _ = self.inward.send(Inward::Status(answer));
        status.await.unwrap_or_default()
    }
}

fn refused(why: &str) -> Reply {
    Reply::Refused {
        code: "not-stored".to_owned(),
        message: format!("{why}; nothing is exported without a note of it"),
    }
}
