//! One agent on a data folder: the folder, and a lock that ends with the process.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The data folder, while this process is the one agent on it.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Locked (flock) until it is closed, by whatever end the process comes to.
    _lock: File,
}

/// Why a data folder cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another agent has it.
    #[error(
        "another agent{} runs on this data folder, {}; stop it (assent drain), or set `data` to \
         another folder",
        named(*pid), path.display()
    )]
    Taken {
        /// The folder.
        path: PathBuf,
        /// Its process, where it says so.
        pid: Option<u32>,
    },
    /// The folder cannot be made or written.
    #[error(
        "the data folder {} cannot be used ({why}); give the user who runs assent the right to \
         write to it, or set `data` to another folder",
        path.display()
    )]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
}

fn named(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl DataFolder {
    /// Makes the folder (mode 0700) where it is missing, and locks it for this process.
    ///
    /// # Errors
    ///
    /// When another agent has it, or it cannot be written.
    pub fn claim(path: &Path) -> Result<Self, ClaimError> {
        let unusable = |why| ClaimError::Unusable { path: path.to_owned(), why };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("agent.lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Only for the message: whoever has the lock writes its process into it.
                let _ = Read::take(&lock, 16).read_to_string(&mut text);
                let pid = text.trim().parse().ok();
                return Err(ClaimError::Taken { path: path.to_owned(), pid });
            }
            Err(TryLockError::Error(why)) => return Err(unusable(why)),
        }
        note_process(&mut lock).map_err(unusable)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its control socket is.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }
}

fn note_process(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    writeln!(lock, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_agent_has_a_data_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = DataFolder::claim(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let said = DataFolder::claim(&path).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(said.starts_with(&format!("another agent (process {pid}) runs on")), "{said}");
        drop(first);
        assert!(DataFolder::claim(&path).is_ok());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let said = DataFolder::claim(&file).unwrap_err().to_string();
        assert!(said.contains("file") && said.contains("set `data`"), "{said}");
    }
}
