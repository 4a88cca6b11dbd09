//! Noting who exports what and why, before it is done: with the running agent, or in the catalog
//! where none runs.

use crate::catalog::{Catalog, Change, QUEUE, QueryError, Reader, Settings};
use crate::cli::context;
use crate::cli::failure::Failure;
use crate::cli::status::PATIENCE;
use crate::config::Config;
use crate::control::{self, AskError, Command, DataFolder, ExportNote, Reply};
use crate::event::{Draft, Origin};
use crate::ids::EventId;
use crate::keys::{ReferenceKey, SigningKey};

/// Stores the event of an export. Without it there is no export.
pub(super) fn export(config: &Config, note: ExportNote) -> Result<EventId, Failure> {
    match control::ask(&config.control_socket(), Command::NoteExport(note.clone()), PATIENCE) {
        Ok(Reply::Noted { event }) => Ok(event),
        Ok(Reply::Refused { message, .. }) => Err(Failure::Unavailable(message)),
        Ok(_) => Err(Failure::Failed("the agent answers something else".to_owned())),
        Err(AskError::NoAgent { .. }) => {
            let ((), events) = store(config, Vec::new(), vec![note.draft()], |_| Ok(()))?;
            let event = events.first().copied();
            event.ok_or_else(|| Failure::Failed("the export was not noted".to_owned()))
        }
        Err(why) => Err(why.into()),
    }
}

/// Stores changes and events where no agent runs, after a look at what was there before.
pub(super) fn store<T>(
    config: &Config,
    changes: Vec<Change>,
    events: Vec<Draft>,
    look: impl FnOnce(&Reader) -> Result<T, QueryError>,
) -> Result<(T, Vec<EventId>), Failure> {
    for key in ["reference-key", "signing-key"] {
        context::refuse_missing(&config.keys.path.join(key), &config.keys.path)?;
    }
    let folder = DataFolder::claim(&config.data).map_err(Failure::unavailable)?;
    let settings = Settings {
        data: folder.path().to_owned(),
        origin: Origin { tenant: config.tenant.clone(), node: config.node.clone() },
        signing: SigningKey::open(&config.keys.path).map_err(Failure::unavailable)?,
        reference: ReferenceKey::open(&config.keys.path).map_err(Failure::unavailable)?,
        queue: QUEUE,
    };
    let catalog = Catalog::open(settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|why| Failure::Failed(format!("no runtime: {why}")))?;
    let before = look(&Reader::open(folder.path())?)?;
    let stored = runtime.block_on(async {
        let events = catalog.record(changes, events).await;
        // What is stored is stored; closing only frees the file early.
        let _ = catalog.close().await;
        events
    });
    Ok((before, stored.map_err(Failure::unavailable)?))
}

/// Who runs this: the login name, through `sudo` too, and the user that the system knows.
pub(super) fn actor() -> String {
    let uid = rustix::process::getuid().as_raw();
    let name = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_default();
    match name.is_empty() {
        true => format!("uid {uid}"),
        false => format!("{name} (uid {uid})"),
    }
}
