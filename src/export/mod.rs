//! Decode, align, mix, encode.
