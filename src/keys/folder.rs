//! The folder that the file provider keeps its keys in: its permissions, and files that are
//! either there whole or not at all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Why the key folder cannot be used. Each message names the path and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum KeyFolderError {
    /// Others than the owner may look into the folder or read a key.
    #[error(
        "{} is open to others than its owner (mode {found:04o}): run `chmod {wanted:o} {}`",
        path.display(),
        path.display()
    )]
    Mode {
        /// The folder or file.
        path: PathBuf,
        /// Its permission bits.
        found: u32,
        /// What they must be.
        wanted: u32,
    },
    /// It belongs to somebody else.
    #[error(
        "{} belongs to user {found}, but this process runs as user {wanted}: run `chown {wanted} {}`",
        path.display(),
        path.display()
    )]
    Owner {
        /// The folder or file.
        path: PathBuf,
        /// The numeric id of its owner.
        found: u32,
        /// Ours.
        wanted: u32,
    },
    /// Something else is where the folder or a key should be.
    #[error("{} is not a {wanted}: move it away, or name another path", path.display())]
    Kind {
        /// The path.
        path: PathBuf,
        /// `folder` or `regular file`.
        wanted: &'static str,
    },
    /// A key file has not the length of a key.
    #[error(
        "{} holds {found} bytes instead of {wanted}: restore it from a backup; \
         what it protects cannot be read without it",
        path.display()
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// How many bytes it holds.
        found: u64,
        /// How many it must hold.
        wanted: u64,
    },
    /// Reading or writing failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `create`, …
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There were no random bytes for a new key.
    #[error("cannot make a key in {}: {source}", path.display())]
    NoRandomness {
        /// The file that was to be made.
        path: PathBuf,
        /// Why not.
        source: crate::keys::NoRandomness,
    },
}

pub(super) const KEY_LENGTH: usize = 32;
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// A file that a crash left half-made; never a key.
const UNFINISHED: &str = ".new";

/// A key folder that was found to be ours alone.
pub(super) struct KeyFolder {
    path: PathBuf,
}

impl KeyFolder {
    /// Makes the folder where it is missing, and checks it where it is not.
    pub(super) fn open(path: &Path) -> Result<Self, KeyFolderError> {
        match DirBuilder::new().mode(FOLDER_MODE).recursive(true).create(path) {
            // Where a file is in the way, the check below says so.
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("create", path)(source));
            }
            _ => {}
        }
        let folder = Self { path: path.to_owned() };
        let opened = File::open(path).map_err(failed("open", path))?;
        check(&opened, path, FOLDER_MODE)?;
        Ok(folder)
    }

    /// Reads a key; makes it where it is missing.
    pub(super) fn read_or_make(
        &self,
        name: &str,
    ) -> Result<Zeroizing<[u8; KEY_LENGTH]>, KeyFolderError> {
        if let Some(key) = self.read(name)? {
            return Ok(key);
        }
        match self.make(name) {
            // Somebody else made it in between: theirs is the key.
            Err(KeyFolderError::Io { source, .. })
                if source.kind() == io::ErrorKind::AlreadyExists =>
            {
                self.read(name)?.ok_or_else(|| {
                    failed("read", &self.path.join(name))(io::ErrorKind::NotFound.into())
                })
            }
            made => made,
        }
    }

    /// Reads a key; `None` where there is none.
    pub(super) fn read(
        &self,
        name: &str,
    ) -> Result<Option<Zeroizing<[u8; KEY_LENGTH]>>, KeyFolderError> {
        let path = self.path.join(name);
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(KeyFolderError::Kind { path, wanted: "regular file" });
            }
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let found = check(&file, &path, FILE_MODE)?;
        let wanted = KEY_LENGTH as u64;
        if found != wanted {
            return Err(KeyFolderError::Length { path, found, wanted });
        }
        let mut key = Zeroizing::new([0; KEY_LENGTH]);
        file.read_exact(key.as_mut_slice()).map_err(failed("read", &path))?;
        Ok(Some(key))
    }

    /// Makes a new random key, durable when this returns. Fails where there is one already.
    pub(super) fn make(&self, name: &str) -> Result<Zeroizing<[u8; KEY_LENGTH]>, KeyFolderError> {
        let path = self.path.join(name);
        let mut key = Zeroizing::new([0; KEY_LENGTH]);
        getrandom::fill(key.as_mut_slice()).map_err(|source| KeyFolderError::NoRandomness {
            path: path.clone(),
            source: source.into(),
        })?;
        let unfinished = self.path.join(format!("{name}{UNFINISHED}"));
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &unfinished)(error));
            }
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&unfinished)
            .map_err(failed("create", &unfinished))?;
        file.write_all(key.as_slice()).map_err(failed("write", &unfinished))?;
        file.sync_all().map_err(failed("sync", &unfinished))?;
        rustix::fs::renameat_with(
            rustix::fs::CWD,
            &unfinished,
            rustix::fs::CWD,
            &path,
            rustix::fs::RenameFlags::NOREPLACE,
        )
        .map_err(|errno| failed("create", &path)(errno.into()))?;
        self.sync()?;
        Ok(key)
    }

    /// Overwrites a key, syncs, unlinks it, and syncs the folder. Nothing to do where there is
    /// none.
    ///
    /// On a disk that writes elsewhere than where it was told (flash, copy-on-write), the old
    /// bytes may outlive this in cells or blocks that no file names.
    pub(super) fn destroy(&self, name: &str) -> Result<(), KeyFolderError> {
        let path = self.path.join(name);
        let opened = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(&path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.sync(),
            Err(error) => return Err(failed("overwrite", &path)(error)),
        };
        file.write_all(&[0; KEY_LENGTH]).map_err(failed("overwrite", &path))?;
        file.sync_all().map_err(failed("sync", &path))?;
        std::fs::remove_file(&path).map_err(failed("remove", &path))?;
        self.sync()
    }

    /// The names in the folder, in no order, without those that a crash left half-made.
    pub(super) fn names(&self) -> Result<Vec<String>, KeyFolderError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed("read", &self.path))? {
            let entry = entry.map_err(failed("read", &self.path))?;
            if let Ok(name) = entry.file_name().into_string()
                && !name.ends_with(UNFINISHED)
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn sync(&self) -> Result<(), KeyFolderError> {
        let folder = File::open(&self.path).map_err(failed("open", &self.path))?;
        folder.sync_all().map_err(failed("sync", &self.path))
    }
}

/// The most that a file with a secret may hold.
const SECRET_BYTES: u64 = 16 * 1024;

/// Reads a file with a secret that somebody else made: ours alone, as a key is.
///
/// # Errors
///
/// [`KeyFolderError`], which names the path and the remedy.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFolderError> {
    let file = File::open(path).map_err(failed("read", path))?;
    check(&file, path, FILE_MODE)?;
    let mut secret = Zeroizing::new(Vec::new());
    file.take(SECRET_BYTES).read_to_end(&mut secret).map_err(failed("read", path))?;
    Ok(secret)
}

/// Checks kind, owner and mode of what is open, so that nothing can be swapped in between; tells
/// its length.
fn check(opened: &File, path: &Path, wanted: u32) -> Result<u64, KeyFolderError> {
    let found = opened.metadata().map_err(failed("look at", path))?;
    if wanted == FOLDER_MODE && !found.is_dir() {
        return Err(KeyFolderError::Kind { path: path.to_owned(), wanted: "folder" });
    }
    if wanted == FILE_MODE && !found.is_file() {
        return Err(KeyFolderError::Kind { path: path.to_owned(), wanted: "regular file" });
    }
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != us {
        let (path, found) = (path.to_owned(), found.uid());
        return Err(KeyFolderError::Owner { path, found, wanted: us });
    }
    let mode = found.mode() & 0o7777;
    if mode != wanted {
        return Err(KeyFolderError::Mode { path: path.to_owned(), found: mode, wanted });
    }
    Ok(found.len())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyFolderError {
    let path = path.to_owned();
    move |source| KeyFolderError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_missing_folder_and_key_are_made_for_the_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("deep/keys");
        let made = KeyFolder::open(&path).unwrap().read_or_make("key").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(path.join("key")).unwrap().mode() & 0o777, 0o600);
        let again = KeyFolder::open(&path).unwrap().read_or_make("key").unwrap();
        assert_eq!(*made, *again);
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1, "nothing half-made is left");
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused_with_the_remedy() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("keys");
        KeyFolder::open(&path).unwrap();
        for mode in [0o755, 0o750, 0o701, 0o777, 0o500] {
            set_mode(&path, mode);
            let message = KeyFolder::open(&path).err().unwrap().to_string();
            assert!(message.contains(&format!("mode {mode:04o}")), "{message}");
            assert!(message.contains(&format!("chmod 700 {}", path.display())), "{message}");
        }
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o700);
        let keys = KeyFolder::open(folder.path()).unwrap();
        keys.make("key").unwrap();
        set_mode(&folder.path().join("key"), 0o640);
        let message = keys.read("key").err().unwrap().to_string();
        assert!(message.contains("mode 0640") && message.contains("chmod 600"), "{message}");
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused_with_the_remedy() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("pbx.key");
        std::fs::write(&path, "secret").unwrap();
        set_mode(&path, 0o640);
        let said = read_secret(&path).unwrap_err().to_string();
        assert!(said.contains("pbx.key") && said.contains("chmod 600"), "{said}");
        set_mode(&path, 0o600);
        assert_eq!(&**read_secret(&path).unwrap(), b"secret");
        assert!(read_secret(&scratch.path().join("none")).is_err());
        assert!(matches!(read_secret(scratch.path()), Err(KeyFolderError::Kind { .. })));
    }

    #[test]
    fn what_is_no_key_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o700);
        let keys = KeyFolder::open(folder.path()).unwrap();

        std::fs::write(folder.path().join("short"), [0; 31]).unwrap();
        set_mode(&folder.path().join("short"), 0o600);
        let found = keys.read("short").err().unwrap();
        assert!(matches!(found, KeyFolderError::Length { found: 31, wanted: 32, .. }), "{found}");

        std::os::unix::fs::symlink("short", folder.path().join("link")).unwrap();
        let found = keys.read("link").err().unwrap();
        assert!(matches!(found, KeyFolderError::Kind { .. }), "{found}");

        std::fs::write(folder.path().join("file"), []).unwrap();
        let found = KeyFolder::open(&folder.path().join("file")).err().unwrap();
        assert!(matches!(found, KeyFolderError::Kind { wanted: "folder", .. }), "{found}");
    }

    #[test]
    fn a_key_that_a_crash_left_half_made_is_none() {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o700);
        std::fs::write(folder.path().join("key.new"), [1; 32]).unwrap();
        let keys = KeyFolder::open(folder.path()).unwrap();
        assert!(keys.read("key").unwrap().is_none());
        assert!(keys.names().unwrap().is_empty());
        assert_ne!(*keys.read_or_make("key").unwrap(), [1; 32]);
    }

    #[test]
    fn a_key_is_never_made_over_another() {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o700);
        let keys = KeyFolder::open(folder.path()).unwrap();
        let first = keys.make("key").unwrap();
        assert!(keys.make("key").is_err());
        assert_eq!(*keys.read("key").unwrap().unwrap(), *first);
    }
}
