//! The fuzz targets: one for each parser that takes bytes from outside, each a function of bytes
//! that panics where a promise is broken.
//!
//! They are built for tests, which run them over their seeds and a few thousand changes of those,
//! and for `fuzz/`, where libFuzzer runs them for as long as it is let (`make fuzz`). They are no
//! part of the product.

// A target fails by panicking.
#![allow(clippy::indexing_slicing, clippy::expect_used, clippy::unwrap_used, clippy::panic)]

pub mod media;
pub mod orders;
pub mod signalling;
pub mod storage;

#[cfg(test)]
mod tests;

/// A target by its name, which is also that of its seeds (`fuzz/seeds`) and of its program
/// (`fuzz/fuzz_targets`).
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// What it does with an input.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 17] = [
    Target { name: "sip_framing", run: signalling::sip_framing },
    Target { name: "sip_message", run: signalling::sip_message },
    Target { name: "sip_headers", run: signalling::sip_headers },
    Target { name: "sip_multipart", run: signalling::sip_multipart },
    Target { name: "identity", run: signalling::identity },
    Target { name: "number", run: signalling::number },
    Target { name: "consent_token", run: signalling::consent_token },
    Target { name: "sdp_offer", run: media::sdp_offer },
    Target { name: "sdp_answer", run: media::sdp_answer },
    Target { name: "rtp", run: media::rtp },
    Target { name: "telephone_event", run: media::telephone_event },
    Target { name: "rtcp", run: media::rtcp },
    Target { name: "segment_file", run: storage::segment_file },
    Target { name: "segment_records", run: storage::segment_records },
    Target { name: "manifest", run: storage::manifest },
    Target { name: "control_socket", run: orders::control_socket },
    Target { name: "nats_command", run: orders::nats_command },
];
