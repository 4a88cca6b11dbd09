//! See `catalog.rs`.

pub struct Security;

impl Security {
    pub fn is_srtp(&self) -> bool {
        false
    }
}
