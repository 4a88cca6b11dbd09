//! The publisher's task: connect, compare, publish, and after any trouble the same again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Stream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::bus::commands::{self, Commands};
use crate::bus::link::{Link, printable};
use crate::bus::publish::{Outcome, SetAside, publish};
use crate::bus::reconcile::reconcile;
use crate::bus::settings::BusConfig;
use crate::bus::status::{Board, BusStatus, LinkStatus};
use crate::bus::streams::{self, incarnation};
use crate::bus::trouble::Trouble;
use crate::bus::{Backlog, Outbox, OutboxError, OutboxRow};
use crate::clock;

/// Rows read and published in one go.
const BATCH: usize = 256;
/// How often the outbox is looked at even when it did not say that there is something.
const LOOK: Duration = Duration::from_secs(5);
/// How often the backlog is counted while there is one.
const BACKLOG_EVERY: Duration = Duration::from_secs(1);
/// A session that lasted so long starts again with the shortest pause.
const STEADY: Duration = Duration::from_secs(30);

/// The connection to NATS. Nothing waits for it: events wait in the outbox.
#[derive(Debug)]
pub struct Bus {
    status: watch::Receiver<BusStatus>,
    stop: watch::Sender<Option<Instant>>,
    task: JoinHandle<()>,
}

impl Bus {
    /// Starts publishing in the background, on the current tokio runtime. Returns at once, whether
    /// there is a server or not.
    pub fn start(config: BusConfig, outbox: impl Outbox, commands: impl Commands) -> Self {
        let (board, status) = Board::new();
        let (stop, stopping) = watch::channel(None);
        let worker = Worker { config, outbox: Arc::new(outbox), commands, board, stopping };
        let task = tokio::spawn(worker.run());
        Self { status, stop, task }
    }

    /// The state now, and its changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<BusStatus> {
        self.status.clone()
    }

    /// Publishes what waits, for at most this long and only if there is a server, and ends.
    pub async fn stop(self, within: Duration) {
        let deadline = clock::now() + within;
        self.stop.send_replace(Some(deadline));
        let end = tokio::time::Instant::from_std(deadline);
        let abort = self.task.abort_handle();
        if tokio::time::timeout_at(end, self.task).await.is_err() {
            abort.abort();
        }
    }
}

struct Worker<O, C> {
    config: BusConfig,
    outbox: Arc<O>,
    commands: C,
    board: Board,
    stopping: watch::Receiver<Option<Instant>>,
}

/// Why a session ended without trouble.
struct Stopped;

impl<O: Outbox, C: Commands> Worker<O, C> {
    async fn run(self) {
        let mut pause = self.config.shortest_pause;
        loop {
            // One more attempt after the wish to stop: what waits should go out.
            let last = self.is_stopping();
            self.board.note(|status| status.link = LinkStatus::Connecting);
            let began = clock::now();
            let Err(trouble) = self.session().await else { break };
            self.report(&trouble).await;
            if last {
                break;
            }
            if clock::now().saturating_duration_since(began) >= STEADY {
                pause = self.config.shortest_pause;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stopped() => {}
            }
            pause = pause.saturating_mul(2).min(self.config.longest_pause);
        }
        self.board.note(|status| status.link = LinkStatus::Stopped);
    }

    async fn session(&self) -> Result<Stopped, Trouble> {
        let link = Link::connect(&self.config).await?;
        let streams = streams::ensure(&link, &self.config).await?;
        let recovered = reconcile(&*self.outbox, &streams.events).await?;
        let info = link.client.server_info();
        tracing::info!(
            server = %self.config.servers,
            version = %printable(&info.version),
            recovered,
            "connected to NATS"
        );
        if recovered > 0 {
            tracing::warn!(
                recovered,
                "the NATS server has lost events that it had acknowledged; they are sent again. \
                 With sync_interval: always it keeps them"
            );
        }
        self.board.note(|status| {
            for warning in streams.warnings.iter().filter(|text| !status.warnings.contains(text)) {
                tracing::warn!("{warning}");
            }
            status.warnings = streams.warnings;
            status.recovered = status.recovered.saturating_add(recovered);
            status.link = LinkStatus::Up {
                server: printable(&info.server_name),
                version: printable(&info.version),
            };
        });
        let here = incarnation(streams.events.cached_info());
        tokio::select! {
            result = self.publish_all(&link, &here) => result,
            never = self.serve(&link, streams.commands) => match never {},
        }
    }

    /// Carries out commands for as long as that works. Events go on without them.
    async fn serve(&self, link: &Link, stream: Option<Stream>) -> Infallible {
        let Some(stream) = stream else { std::future::pending().await };
        let origin = &self.config.origin;
        loop {
            let end = commands::serve(link, &stream, origin, &self.commands).await;
            if let Err(trouble @ Trouble::Refused { .. }) = end {
                let warning = format!("no commands over NATS: {trouble}");
                self.board.note(|status| {
                    if !status.warnings.contains(&warning) {
                        tracing::warn!("{warning}");
                        status.warnings.push(warning);
                    }
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn publish_all(&self, link: &Link, here: &str) -> Result<Stopped, Trouble> {
        let mut looked = None;
        loop {
            let stopping = self.is_stopping();
            let rows = self.outbox.unsent(BATCH).await?;
            if !rows.is_empty() {
                self.publish_batch(link, here, rows).await?;
                let now = clock::now();
                if looked.is_none_or(|at| now.saturating_duration_since(at) >= BACKLOG_EVERY) {
                    looked = Some(now);
                    self.look().await?;
                }
                continue;
            }
            // Counted after the rows were read: a row that came in between shows in the count.
            let backlog = self.look().await?;
            if backlog.unsent > 0 {
                continue;
            }
            if stopping {
                return Ok(Stopped);
            }
            tokio::select! {
                () = self.outbox.beyond(backlog.last) => {}
                () = tokio::time::sleep(LOOK) => {}
                () = self.stopped() => {}
                () = link.lost() => return Err(Trouble::Lost),
            }
        }
    }

    async fn look(&self) -> Result<Backlog, OutboxError> {
        let backlog = self.outbox.backlog().await?;
        self.board.note(|status| status.backlog = backlog);
        Ok(backlog)
    }

    async fn publish_batch(
        &self,
        link: &Link,
        here: &str,
        rows: Vec<OutboxRow>,
    ) -> Result<(), Trouble> {
        let mut outcome = Outcome::default();
        let result = publish(link, here, rows, &mut outcome).await;
        self.keep(outcome).await?;
        result
    }

    async fn keep(&self, outcome: Outcome) -> Result<(), OutboxError> {
        let Outcome { placed, set_aside } = outcome;
        let published = placed.len() as u64;
        if published > 0 {
            self.outbox.placed(placed).await?;
        }
        let aside = set_aside.len() as u64;
        for SetAside { position, id, reason } in set_aside {
            tracing::error!(event = %id, "an event cannot be published and is set aside: {reason}");
            self.outbox.set_aside(position, reason).await?;
        }
        self.board.note(|status| {
            status.published = status.published.saturating_add(published);
            status.set_aside = status.set_aside.saturating_add(aside);
        });
        Ok(())
    }

    /// Says what is wrong once, not at every attempt.
    async fn report(&self, trouble: &Trouble) {
        let text = trouble.to_string();
        let backlog = self.outbox.backlog().await.ok();
        self.board.note(|status| {
            if status.last_error.as_ref() != Some(&text) || status.is_connected() {
                tracing::warn!("events stay in the outbox: {text}");
            }
            status.last_error = Some(text);
            status.backlog = backlog.unwrap_or(status.backlog);
            status.link = LinkStatus::Down;
        });
    }

    fn is_stopping(&self) -> bool {
        self.stopping.borrow().is_some()
    }

    async fn stopped(&self) {
        // An error means that the handle was dropped, which is no wish to stop.
        if self.stopping.clone().wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
