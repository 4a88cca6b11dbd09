//! The folder of a demonstration: made for it, and gone with it unless it is to be kept.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::cli::failure::Failure;
use crate::clock;

/// A folder that only its owner may read.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    /// `./assent-demo-…` to be kept, else one among the temporary files.
    pub(super) fn create(keep: bool) -> Result<Self, Failure> {
        let id = clock::mint::<Uuid>().simple().to_string();
        // The end of a UUIDv7 is random, its beginning the time.
        let name = format!("assent-demo-{}", id.get(24..).unwrap_or(&id));
        let within = if keep { std::env::current_dir() } else { Ok(std::env::temp_dir()) };
        let cannot = |why| Failure::Unavailable(format!("no folder can be made: {why}"));
        let path = within.map_err(cannot)?.join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(cannot)?;
        Ok(Self { path, keep })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its configuration file.
    pub(super) fn config(&self) -> PathBuf {
        self.path.join("assent.toml")
    }

    /// Where the export goes: beside the rest if that is kept, else into the current folder,
    /// since a recording is there to be heard.
    pub(super) fn wav(&self) -> PathBuf {
        if self.keep { self.path.join("recording.wav") } else { PathBuf::from("assent-demo.wav") }
    }

    /// A path as short as it can be said: relative to the current folder if it is within.
    pub(super) fn said(path: &Path) -> String {
        let current = std::env::current_dir().unwrap_or_default();
        path.strip_prefix(current).unwrap_or(path).display().to_string()
    }

    /// Whether it stays.
    pub(super) fn is_kept(&self) -> bool {
        self.keep
    }

    /// Leaves it where it is.
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is among the temporary files, for their owner alone.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
