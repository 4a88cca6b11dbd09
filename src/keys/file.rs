//! Key-encryption keys in files of a folder: the provider for one machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use aes_kw::{KeyInit as _, KwAes256};
use zeroize::Zeroizing;

use crate::keys::folder::{KEY_LENGTH, KeyFolder, KeyFolderError};
use crate::keys::{DataKey, Epoch, KeyError, KeyStore, WrappedKey};

/// Keeps the key-encryption key of each epoch in a file of its own: `kek-000001` and so on, 32
/// bytes each, mode 0600, in a folder of mode 0700.
pub struct FileKeyStore {
    folder: KeyFolder,
    /// Never empty: the last is the current epoch's.
    epochs: RwLock<BTreeMap<Epoch, Box<Zeroizing<[u8; KEY_LENGTH]>>>>,
}

impl FileKeyStore {
    /// Opens the folder; makes it and the first key where they are missing.
    ///
    /// # Errors
    ///
    /// [`KeyFolderError`], which names the path, what is wrong with it, and the remedy.
    pub fn open(path: &Path) -> Result<Self, KeyFolderError> {
        let folder = KeyFolder::open(path)?;
        let mut epochs = BTreeMap::new();
        for name in folder.names()? {
            let Some(epoch) = epoch_of(&name) else { continue };
            match folder.read(&name)? {
                // A destruction that a crash cut short: the key is gone, its file is not.
                Some(key) if *key == [0; KEY_LENGTH] => folder.destroy(&name)?,
                Some(key) => {
                    epochs.insert(epoch, boxed(&key));
                }
                None => {}
            }
        }
        if epochs.is_empty() {
            let first = Epoch(1);
            epochs.insert(first, boxed(&*folder.make(&file_name(first))?));
        }
        Ok(Self { folder, epochs: RwLock::new(epochs) })
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Epoch, Box<Zeroizing<[u8; KEY_LENGTH]>>>> {
        // A panic elsewhere cannot leave the map half-changed: each change is one call.
        self.epochs.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Epoch, Box<Zeroizing<[u8; KEY_LENGTH]>>>> {
        self.epochs.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyStore for FileKeyStore {
    fn wrap(&self, key: &DataKey) -> Result<WrappedKey, KeyError> {
        let epochs = self.read();
        let (&epoch, kek) = epochs.last_key_value().ok_or(KeyError::Destroyed(Epoch(0)))?;
        let mut bytes = [0; WrappedKey::LENGTH];
        KwAes256::new((&***kek).into())
            .wrap_key(key.expose(), &mut bytes)
            .map_err(|_| KeyError::Forged(epoch))?;
        Ok(WrappedKey { epoch, bytes })
    }

    fn unwrap(&self, wrapped: &WrappedKey) -> Result<DataKey, KeyError> {
        let epoch = wrapped.epoch;
        let epochs = self.read();
        let kek = epochs.get(&epoch).ok_or(KeyError::Destroyed(epoch))?;
        let mut key = Zeroizing::new([0; DataKey::LENGTH]);
        KwAes256::new((&***kek).into())
            .unwrap_key(&wrapped.bytes, key.as_mut_slice())
            .map_err(|_| KeyError::Forged(epoch))?;
        Ok(DataKey::from_bytes(&key))
    }

    fn current(&self) -> Epoch {
        self.read().last_key_value().map_or(Epoch(0), |(&epoch, _)| epoch)
    }

    fn epochs(&self) -> Vec<Epoch> {
        self.read().keys().copied().collect()
    }

    fn rotate(&self) -> Result<Epoch, KeyError> {
        let mut epochs = self.write();
        let current = epochs.last_key_value().map_or(Epoch(0), |(&epoch, _)| epoch);
        let next = Epoch(current.0.checked_add(1).ok_or(KeyError::LastEpoch(current))?);
        let key = self.folder.make(&file_name(next))?;
        epochs.insert(next, boxed(&key));
        Ok(next)
    }

    fn destroy(&self, epoch: Epoch) -> Result<(), KeyError> {
        let mut epochs = self.write();
        if epochs.last_key_value().is_some_and(|(&current, _)| current == epoch) {
            return Err(KeyError::InUse(epoch));
        }
        // First out of memory: nothing is unwrapped any more while its file goes.
        epochs.remove(&epoch);
        Ok(self.folder.destroy(&file_name(epoch))?)
    }
}

fn file_name(epoch: Epoch) -> String {
    format!("kek-{:06}", epoch.0)
}

fn epoch_of(name: &str) -> Option<Epoch> {
    let epoch = Epoch(name.strip_prefix("kek-")?.parse().ok()?);
    (file_name(epoch) == name).then_some(epoch)
}

fn boxed(key: &[u8; KEY_LENGTH]) -> Box<Zeroizing<[u8; KEY_LENGTH]>> {
    Box::new(Zeroizing::new(*key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("keys");
        (parent, path)
    }

    /// RFC 3394, 4.6: 256 bits of key data with a 256-bit KEK.
    #[test]
    fn wraps_as_rfc_3394_says() {
        let (_parent, path) = folder();
        KeyFolder::open(&path).unwrap();
        let kek: Vec<u8> = (0..32).collect();
        fs::write(path.join("kek-000007"), kek).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(path.join("kek-000007"), mode).unwrap();

        let keys = FileKeyStore::open(&path).unwrap();
        let mut key = [0; 32];
        hex::decode_to_slice(
            "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f",
            &mut key,
        )
        .unwrap();
        let wrapped = keys.wrap(&DataKey::from_bytes(&key)).unwrap();
        assert_eq!(
            wrapped.to_string(),
            "7:28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"
        );
        assert_eq!(keys.unwrap(&wrapped).unwrap().expose(), &key);
    }

    #[test]
    fn a_wrapped_key_survives_a_restart_and_a_rotation() {
        let (_parent, path) = folder();
        let key = DataKey::generate().unwrap();
        let wrapped = FileKeyStore::open(&path).unwrap().wrap(&key).unwrap();
        let keys = FileKeyStore::open(&path).unwrap();
        assert_eq!(keys.rotate().unwrap(), Epoch(2));
        assert_eq!(keys.wrap(&key).unwrap().epoch, Epoch(2));
        assert_eq!(keys.unwrap(&wrapped).unwrap().expose(), key.expose());
        let keys = FileKeyStore::open(&path).unwrap();
        assert_eq!((keys.current(), keys.epochs()), (Epoch(2), vec![Epoch(1), Epoch(2)]));
        assert_eq!(keys.unwrap(&wrapped).unwrap().expose(), key.expose());
    }

    #[test]
    fn nothing_unwraps_once_its_epoch_is_destroyed() {
        let (_parent, path) = folder();
        let keys = FileKeyStore::open(&path).unwrap();
        let wrapped = keys.wrap(&DataKey::generate().unwrap()).unwrap();
        assert!(matches!(keys.destroy(Epoch(1)), Err(KeyError::InUse(Epoch(1)))));
        keys.rotate().unwrap();
        keys.destroy(Epoch(1)).unwrap();
        keys.destroy(Epoch(1)).unwrap();
        assert!(!path.join("kek-000001").exists());
        assert!(matches!(keys.unwrap(&wrapped), Err(KeyError::Destroyed(Epoch(1)))));
        let keys = FileKeyStore::open(&path).unwrap();
        assert!(matches!(keys.unwrap(&wrapped), Err(KeyError::Destroyed(Epoch(1)))));
        assert_eq!(keys.rotate().unwrap(), Epoch(3), "an epoch's number is never used again");
    }

    #[test]
    fn a_destruction_that_was_cut_short_is_finished_at_the_next_start() {
        let (_parent, path) = folder();
        FileKeyStore::open(&path).unwrap().rotate().unwrap();
        fs::write(path.join("kek-000001"), [0; 32]).unwrap();
        assert_eq!(FileKeyStore::open(&path).unwrap().epochs(), [Epoch(2)]);
        assert!(!path.join("kek-000001").exists());
    }

    #[test]
    fn a_forged_or_foreign_wrapped_key_does_not_unwrap() {
        let (_parent, path) = folder();
        let keys = FileKeyStore::open(&path).unwrap();
        let wrapped = keys.wrap(&DataKey::generate().unwrap()).unwrap();
        for at in 0..WrappedKey::LENGTH {
            let mut forged = wrapped.clone();
            forged.bytes[at] ^= 0x80;
            assert!(matches!(keys.unwrap(&forged), Err(KeyError::Forged(_))), "byte {at}");
        }
        let (_other_parent, other) = folder();
        let other = FileKeyStore::open(&other).unwrap();
        assert!(matches!(other.unwrap(&wrapped), Err(KeyError::Forged(_))));
    }
}
