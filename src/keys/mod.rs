//! Data keys, the keys that wrap them, and the two long-lived keys beside them: one that signs,
//! one that turns numbers into references.
//!
//! No secret in here has `Debug`, `Clone` or serde, and each is zeroised when it is dropped.

mod data_key;
mod file;
mod folder;
mod memory;
mod reference;
mod signing;
mod store;
mod wrapped;

pub use data_key::{DataKey, NoRandomness};
pub use file::FileKeyStore;
pub use folder::{KeyFolderError, read_secret};
pub use memory::{NotLocked, forbid_dumps, lock, swaps};
pub use reference::{NotSealedByUs, ReferenceKey, SealError};
pub use signing::{BadSignature, BadVerifyingKey, SigningKey, VerifyingKey};
pub use store::{KeyError, KeyStore};
pub use wrapped::{BadWrappedKey, Epoch, WrappedKey};
