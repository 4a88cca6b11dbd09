//! Running to the end: signals, draining, the last event.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::agent::chain;
use crate::agent::core::Inward;
use crate::agent::fault::{Fault, fault};
use crate::agent::scribe::Told;
use crate::agent::start::{Agent, StartError};
use crate::clock;
use crate::config::{Loaded, Source};
use crate::control::{CallList, Command, ControlRequest, Draining, ListChange, Reply};
use crate::event::{AgentDraining, AgentStopped};
use crate::keys;
use crate::time::Timestamp;

/// How often a draining agent looks whether it is done.
const LOOK: Duration = Duration::from_millis(50);

/// How long calls that were ended may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// How long a slow disk may take for what is still to be written. What it does not take within it
/// is put in order at the next start.
const WRITTEN: Duration = Duration::from_secs(30);

/// How long the last events may take to reach NATS; what does not stays in the outbox.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// What callers are told to wait while the agent stops.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Why an agent did not run to the end that somebody asked for.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A part of it broke, and it stopped.
    #[error(
        "{0} has ended by itself, and nothing works without it: the agent has stopped. The log \
         above tells more; start it again, or have a service manager do it"
    )]
    Broke(#[from] Fault),
}

/// Runs an agent until SIGTERM, SIGINT or `assent drain`, and then until its calls have ended.
/// SIGHUP has it read its configuration again.
///
/// # Errors
/// [`RunError`] when it does not start, or breaks.
pub fn run(loaded: Loaded) -> Result<(), RunError> {
    let Loaded { config, source, .. } = loaded;
    lock_memory();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|why| StartError::Ready { path: config.data.clone(), why })?;
    let outcome = runtime.block_on(async {
        let agent = Agent::start(config).await?;
        Ok(agent.until_told(&source).await?)
    });
    // A task that still waits for somebody is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Where it is not to be had, the agent runs all the same, and says what to do about it.
fn lock_memory() {
    match keys::lock() {
        Ok(()) => tracing::debug!("memory is locked: nothing of it is swapped out"),
        Err(why) if keys::swaps() => tracing::warn!(
            "keys and voices in memory may be swapped out ({why}): set LimitMEMLOCK=infinity in \
             the service, give it CAP_IPC_LOCK, or use no swap space that is not encrypted"
        ),
        Err(why) => tracing::debug!(%why, "memory is not locked, and there is no swap space"),
    }
}

impl Agent {
    /// Runs until a signal or a command says to stop, drains, and stops. A second signal ends
    /// the program at once. Stops without draining when a part of it breaks.
    async fn until_told(mut self, source: &Source) -> Result<(), Fault> {
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hang_up)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::hangup()),
        ) else {
            tracing::error!("signals cannot be waited for: the agent stops");
            return self.stop(Duration::ZERO).await;
        };
        let store = Arc::clone(&self.observer.store);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => self.reload(source),
                fault = fault(&mut self.core, &self.scribe, &self.catalog, &self.media, &store) => {
                    tracing::error!("{fault} has ended by itself: the agent stops");
                    let _ = self.stop(Duration::ZERO).await;
                    return Err(fault);
                }
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
            stopped = self.stop(limit) => stopped,
            () = at_once => {
                tracing::warn!("told twice: ends at once");
                Ok(())
            }
        }
    }

    /// Takes no new calls, lets those there are end within `limit`, ends the rest, and stores and
    /// publishes what there is to tell.
    ///
    /// # Errors
    /// [`Fault`]: the calls' task had ended before. What could be written is written.
    pub async fn stop(mut self, limit: Duration) -> Result<(), Fault> {
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
        self.write_all(began).await;
        // Every decision is in the chain now: its last head goes out with the last events.
        let _ =
            tokio::time::timeout(GOODBYE, chain::publish_last(&self.scribe, &self.catalog)).await;
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
        let broke = self.core.is_finished();
        if !broke {
            self.core.abort();
            let _ = (&mut self.core).await;
        }
        if let Err(why) = self.catalog.close().await {
            tracing::warn!(%why, "the catalog did not close");
        }
        tracing::info!("stopped");
        if broke { Err(Fault::Core) } else { Ok(()) }
    }

    /// Ends the media threads, which finish their writers, then the store, which writes and syncs
    /// what it was given. The core is still there to tell the catalog of it.
    async fn write_all(&mut self, began: Timestamp) {
        let (media, store) = (self.media.clone(), Arc::clone(&self.observer.store));
        let written = tokio::task::spawn_blocking(move || {
            media.shutdown();
            store.close();
        });
        let deadline = clock::now() + WRITTEN;
        while !written.is_finished() && clock::now() < deadline {
            self.answer_within(LOOK, began).await;
        }
        // The store's last reports came to the core before this question does.
        let keeping = self.look().await.keeping;
        if keeping > 0 {
            tracing::error!(
                recordings = keeping,
                "not everything could be written in time: the next start puts it in order"
            );
        }
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
            Command::Calls {} => Reply::Calls(self.list().await),
            Command::CarryOut { verb, body } => {
                // A withdrawal waits for the disk, and others should not wait for it.
                let (clerk, reply) = (self.clerk.clone(), request.reply);
                tokio::spawn(async move {
                    let _ = reply.send(clerk.by_socket(&verb, &body).await);
                });
                return;
            }
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
            Command::DoNotRecord(change) => self.change_list(change).await,
        };
        let _ = request.reply.send(reply);
    }

    async fn change_list(&self, change: ListChange) -> Reply {
        match self.prior.change(&self.catalog, &self.reference, change).await {
            Ok(list) => {
                tracing::info!(listed = list.listed, "the do-not-record list was changed");
                Reply::Listed(list)
            }
            Err(why) => Reply::Refused {
                code: "not-stored".to_owned(),
                message: format!("{why}; the do-not-record list is as it was"),
            },
        }
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

    async fn list(&self) -> CallList {
        let (answer, list) = oneshot::channel();
        let _ = self.inward.send(Inward::Calls(answer));
        list.await.unwrap_or_default()
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
