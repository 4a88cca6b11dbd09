//! Would break "no audio before permission": what the relay lends packets to is not for others to
//! implement.

use assent::media::capture::Capture;

struct Tap;

impl Capture for Tap {}

fn main() {}
