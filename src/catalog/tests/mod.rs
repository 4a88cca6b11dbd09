//! The catalog as its callers see it.
