//! TOML → Config: parse, don't validate.
