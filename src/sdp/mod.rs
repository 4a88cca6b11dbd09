//! Offer and answer (RFC 3264) over a parsed SDP.
