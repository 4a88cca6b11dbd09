//! What every provider of key-encryption keys does.

use crate::keys::{DataKey, Epoch, KeyFolderError, NoRandomness, WrappedKey};

/// Wraps data keys under a key-encryption key that never leaves it, and forgets such keys.
///
/// Deleting a wrapped key does not remove its bytes from logs, free pages and backups. Destroying
/// the key-encryption key of its epoch does: the survivors are wrapped anew under the epoch that
/// [`rotate`](Self::rotate) opens, then the old epoch is [destroyed](Self::destroy).
pub trait KeyStore: Send + Sync {
    /// Wraps a data key under the current epoch's key.
    ///
    /// # Errors
    ///
    /// [`KeyError`] when the provider cannot; there is no recording then.
    fn wrap(&self, key: &DataKey) -> Result<WrappedKey, KeyError>;

    /// Unwraps a data key.
    ///
    /// # Errors
    ///
    /// [`KeyError::Destroyed`] when its epoch is gone for good or was never here,
    /// [`KeyError::Forged`] when the bytes are not what was wrapped.
    fn unwrap(&self, wrapped: &WrappedKey) -> Result<DataKey, KeyError>;

    /// The epoch that [`wrap`](Self::wrap) uses.
    fn current(&self) -> Epoch;

    /// Every epoch whose key still exists, oldest first.
    fn epochs(&self) -> Vec<Epoch>;

    /// Makes a new key-encryption key, durable before this returns, and wraps with it from now
    /// on. Older epochs unwrap until they are destroyed.
    ///
    /// # Errors
    ///
    /// [`KeyError`]; the current epoch stays as it was.
    fn rotate(&self) -> Result<Epoch, KeyError>;

    /// Destroys the key-encryption key of an epoch: everything still wrapped under it is lost for
    /// good. Idempotent. Durable before this returns.
    ///
    /// # Errors
    ///
    /// [`KeyError::InUse`] for the current epoch; another [`KeyError`] when it is not certain that
    /// the key is gone, and this must be called again.
    fn destroy(&self, epoch: Epoch) -> Result<(), KeyError>;
}

/// Why a key could not be wrapped, unwrapped, rotated or destroyed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key-encryption key of this epoch does not exist (any more).
    #[error("the key-encryption key of epoch {0} is destroyed")]
    Destroyed(Epoch),
    /// The wrapped bytes do not pass RFC 3394's integrity check.
    #[error("this is not a key that was wrapped under epoch {0}")]
    Forged(Epoch),
    /// The current epoch cannot be destroyed.
    #[error("epoch {0} is the current one: rotate the keys first (assent keys rotate)")]
    InUse(Epoch),
    /// There is no further epoch number.
    #[error("no epoch can follow {0}")]
    LastEpoch(Epoch),
    /// No random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The key folder does not do what is asked of it.
    #[error(transparent)]
    Folder(#[from] KeyFolderError),
}
