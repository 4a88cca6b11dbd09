//! Would break "no audio before permission": the relay lends packets to a writer, and a writer has
//! a grant. Nothing else is let in.

use assent::ids::{CallId, Leg};
use assent::media::Media;

struct Tap;

fn listen(media: &Media, call: CallId) {
    media.record(call, Leg::Caller, Tap);
}

fn main() {
    let _ = listen;
}
