//! See `catalog.rs`.

pub struct Epoch(pub u32);

pub struct WrappedKey {
    pub epoch: Epoch,
    pub bytes: [u8; WrappedKey::LENGTH],
}

impl WrappedKey {
    pub const LENGTH: usize = 40;
}

pub struct ReferenceKey;

impl ReferenceKey {
    pub fn from_bytes(_: &[u8; 32]) -> Self {
        Self
    }
}

pub struct SigningKey;

impl SigningKey {
    pub fn from_seed(_: &[u8; 32]) -> Self {
        Self
    }
}
