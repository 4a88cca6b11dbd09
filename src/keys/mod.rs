//! Data keys and the keys that wrap them.
