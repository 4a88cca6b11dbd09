//! Parts without which no call can be served, and how it is noticed that one of them has ended by
//! itself. Such an agent is better started again than left alive and deaf.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::agent::scribe::Scribe;
use crate::catalog::Catalog;
use crate::media::Media;
use crate::segment::SegmentStore;

/// How often threads, which cannot be waited for, are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A part of the agent that has ended, which only a defect makes it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The task that owns the calls.
    #[error("the task that owns the calls")]
    Core,
    /// The task that tells the catalog what happens.
    #[error("the task that writes to the catalog")]
    Scribe,
    /// The catalog's thread.
    #[error("the catalog's thread")]
    Catalog,
    /// A media thread.
    #[error("a media thread")]
    Media,
    /// The thread that writes recordings.
    #[error("the thread that writes recordings")]
    Store,
}

/// Waits until one of them ends.
pub(super) async fn fault(
    core: &mut JoinHandle<()>,
    scribe: &Scribe,
    catalog: &Catalog,
    media: &Media,
    store: &SegmentStore,
) -> Fault {
    tokio::select! {
        _ = core => Fault::Core,
        () = scribe.ended() => Fault::Scribe,
        () = catalog.ended() => Fault::Catalog,
        fault = threads(media, store) => fault,
    }
}

async fn threads(media: &Media, store: &SegmentStore) -> Fault {
    loop {
        if !media.is_running() {
            return Fault::Media;
        }
        if !store.is_running() {
            return Fault::Store;
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalog::{QUEUE, Settings};
    use crate::event::Origin;
    use crate::keys::{ReferenceKey, SigningKey};
    use crate::media::{MediaConfig, PromptBook};
    use crate::rtp::Codec;
    use crate::segment::StoreOptions;

    struct Parts {
        core: JoinHandle<()>,
        scribe: Scribe,
        catalog: Catalog,
        media: Media,
        store: SegmentStore,
        _folder: tempfile::TempDir,
    }

    impl Parts {
        fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let keys = folder.path().join("keys");
            let catalog = Catalog::open(Settings {
                data: folder.path().join("data"),
                origin: Origin { tenant: "t".parse().unwrap(), node: "n".parse().unwrap() },
                signing: SigningKey::open(&keys).unwrap(),
                reference: ReferenceKey::open(&keys).unwrap(),
                queue: QUEUE,
            })
            .unwrap();
            let signing = Arc::new(SigningKey::open(&keys).unwrap());
            let recordings = folder.path().join("recordings");
            let options = StoreOptions::default();
            let prompts = PromptBook::load(None, &[Codec::Pcmu]).unwrap();
            let config = MediaConfig { threads: 1, ..MediaConfig::default() };
            Self {
                core: tokio::spawn(std::future::pending()),
                scribe: Scribe::start(catalog.clone(), |_, _| {}, || {}),
                media: Media::start(config, prompts, |_, _| {}).unwrap(),
                store: SegmentStore::start(&recordings, signing, options, drop).unwrap(),
                catalog,
                _folder: folder,
            }
        }

        async fn fault(&mut self) -> Option<Fault> {
            let Self { core, scribe, catalog, media, store, .. } = self;
            let fault = fault(core, scribe, catalog, media, store);
            tokio::time::timeout(Duration::from_secs(20), fault).await.ok()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_core_that_panics_is_noticed() {
        let mut parts = Parts::start();
        parts.core = tokio::spawn(async { panic!("this test's own") });
        assert_eq!(parts.fault().await, Some(Fault::Core));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_core_that_returns_is_noticed() {
        let mut parts = Parts::start();
        parts.core = tokio::spawn(async {});
        assert_eq!(parts.fault().await, Some(Fault::Core));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_thread_that_ends_is_noticed_while_nothing_else_happens() {
        let mut parts = Parts::start();
        let media = parts.media.clone();
        let ended = tokio::task::spawn_blocking(move || media.shutdown());
        assert_eq!(parts.fault().await, Some(Fault::Media));
        ended.await.unwrap();
        let mut parts = Parts::start();
        parts.store.close();
        assert_eq!(parts.fault().await, Some(Fault::Store));
        let mut parts = Parts::start();
        parts.catalog.close().await.unwrap();
        assert_eq!(parts.fault().await, Some(Fault::Catalog));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn parts_that_run_are_no_fault() {
        let mut parts = Parts::start();
        let Parts { core, scribe, catalog, media, store, .. } = &mut parts;
        let fault = fault(core, scribe, catalog, media, store);
        let quiet = tokio::time::timeout(Duration::from_millis(1), fault).await;
        assert!(quiet.is_err(), "{quiet:?}");
    }
}
