//! The steps: a struct a state, each consumed by the step that follows.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::catalog::{Catalog, Change, CommitError, QueryError, Remains, Tombstone};
use crate::clock;
use crate::erasure::files;
use crate::event::{Draft, ErasureCompleted, ErasureFailed, ErasureStep, Word};
use crate::ids::StreamId;

/// How often the log is tried to be emptied before that counts as a failure: somebody who reads
/// the catalog is done soon.
const LOG_TRIES: u32 = 20;
const LOG_AGAIN: Duration = Duration::from_millis(50);

/// Why a step is not done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The catalog cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The catalog cannot be read.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A file cannot be removed, or looked for.
    #[error("{} cannot be erased: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something is there that was removed before.
    #[error("{files} files of stream {stream} are there again, and {rows} rows and keys")]
    Remains {
        /// Of which stream.
        stream: StreamId,
        /// How many files.
        files: usize,
        /// How many rows and keys.
        rows: u64,
    },
}

impl StepError {
    /// As events name it: nothing of where it happened.
    fn word(&self) -> Word {
        match self {
            StepError::Commit(_) => Word::new("the catalog cannot be written"),
            StepError::Query(_) => Word::new("the catalog cannot be read"),
            StepError::Io { source, .. } => Word::new(&source.kind().to_string()),
            StepError::Remains { .. } => Word::new("something of it is there again"),
        }
    }
}

/// Where the steps are taken.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    pub(super) catalog: Catalog,
    /// The recordings folder.
    pub(super) root: PathBuf,
}

/// It is durable that the stream is to be erased, and its wrapped key is taken out.
pub(super) struct Tombstoned(Tombstone);

/// The wrapped key is in no file of the catalog.
pub(super) struct KeyDestroyed(Tombstone);

/// Files and rows are removed.
pub(super) struct FilesRemoved(Tombstone);

/// Nothing was found any more, and that was told.
pub(super) struct Verified(());

/// Where an erasure stands, as it was stored.
pub(super) enum Stage {
    Tombstoned(Tombstoned),
    KeyDestroyed(KeyDestroyed),
    FilesRemoved(FilesRemoved),
    Verified(Verified),
}

impl Stage {
    pub(super) fn of(tombstone: Tombstone) -> Self {
        match tombstone.done {
            ErasureStep::Tombstoned => Stage::Tombstoned(Tombstoned(tombstone)),
            ErasureStep::KeyDestroyed => Stage::KeyDestroyed(KeyDestroyed(tombstone)),
            ErasureStep::FilesRemoved => Stage::FilesRemoved(FilesRemoved(tombstone)),
            ErasureStep::Verified => Stage::Verified(Verified(())),
        }
    }

    /// Takes the next step; the same stage again can be had from the catalog where it fails.
    pub(super) async fn next(self, ground: &Ground) -> Result<Stage, StepError> {
        Ok(match self {
            Stage::Tombstoned(stage) => Stage::KeyDestroyed(stage.destroy_key(ground).await?),
            Stage::KeyDestroyed(stage) => Stage::FilesRemoved(stage.remove_files(ground).await?),
            Stage::FilesRemoved(stage) => Stage::Verified(stage.verify(ground).await?),
            done @ Stage::Verified(_) => done,
        })
    }
}

impl Tombstoned {
    async fn destroy_key(self, ground: &Ground) -> Result<KeyDestroyed, StepError> {
        let mut tries = 1;
        while let Err(why) = ground.catalog.empty_log().await {
            if why != CommitError::Busy || tries == LOG_TRIES {
                return Err(why.into());
            }
            tries += 1;
            tokio::time::sleep(LOG_AGAIN).await;
        }
        note(ground, self.0.stream, ErasureStep::KeyDestroyed).await?;
        Ok(KeyDestroyed(self.0))
    }
}

impl KeyDestroyed {
    async fn remove_files(self, ground: &Ground) -> Result<FilesRemoved, StepError> {
        let stream = self.0.stream;
        let failed = |source| StepError::Io { path: files::folder(&ground.root, stream), source };
        let found = files::of_stream(&ground.root, stream).map_err(failed)?;
        let digests = files::manifests(&found).map_err(failed)?;
        if !digests.is_empty() {
            let link = |digest| Change::ErasedManifest { stream, digest };
            ground.catalog.record(digests.into_iter().map(link).collect(), Vec::new()).await?;
        }
        files::remove(&ground.root, stream, &found).map_err(failed)?;
        note(ground, stream, ErasureStep::FilesRemoved).await?;
        Ok(FilesRemoved(self.0))
    }
}

impl FilesRemoved {
    async fn verify(self, ground: &Ground) -> Result<Verified, StepError> {
        let Self(tombstone) = self;
        let stream = tombstone.stream;
        look_again(ground, stream).await?;
        let at = clock::wall();
        let completed = ErasureCompleted {
            erasure: tombstone.erasure(),
            steps: ErasureStep::Verified.and_before(),
            requested: tombstone.requested,
            completed: at,
        };
        let done = ErasureStep::Verified;
        ground
            .catalog
            .record(
                vec![Change::ErasureStep { stream, done, at }],
                vec![Draft::new(completed).caused_by(tombstone.event)],
            )
            .await?;
        tracing::info!(%stream, "erased: no file, row or key of it is left");
        Ok(Verified(()))
    }
}

/// Whether anything of a stream is left, read back from the disk and the catalog.
async fn look_again(ground: &Ground, stream: StreamId) -> Result<(), StepError> {
    let source = |source| StepError::Io { path: files::folder(&ground.root, stream), source };
    let files = files::of_stream(&ground.root, stream).map_err(source)?.len();
    let remains = ground.catalog.read(move |reader| reader.remains_of(stream)).await?;
    if files == 0 && remains == Remains::NONE {
        return Ok(());
    }
    let rows = remains.keys + remains.segments + remains.gaps;
    Err(StepError::Remains { stream, files, rows })
}

async fn note(ground: &Ground, stream: StreamId, done: ErasureStep) -> Result<(), StepError> {
    let change = Change::ErasureStep { stream, done, at: clock::wall() };
    ground.catalog.record(vec![change], Vec::new()).await?;
    Ok(())
}

/// Says that a step failed, once for each erasure. What cannot be stored now is said later.
pub(super) async fn note_failure(
    ground: &Ground,
    tombstone: &Tombstone,
    why: &StepError,
) -> Result<(), StepError> {
    let stream = tombstone.stream;
    let erasures = ground.catalog.read(move |reader| reader.erasures_of(stream.recording)).await?;
    // Steps may have been done since it was read.
    let Some(now) = erasures.into_iter().find(|now| now.stream == stream) else { return Ok(()) };
    if now.failing.is_some() || now.verified.is_some() {
        return Ok(());
    }
    let next = ErasureStep::ALL.into_iter().find(|step| *step > now.done);
    let failed = ErasureFailed {
        erasure: now.erasure(),
        steps: now.done.and_before(),
        failed: next.unwrap_or(ErasureStep::Verified),
        error: why.word(),
    };
    let change = Change::ErasureFailing { stream, at: clock::wall() };
    let event = Draft::new(failed).caused_by(now.event);
    ground.catalog.record(vec![change], vec![event]).await?;
    Ok(())
}
