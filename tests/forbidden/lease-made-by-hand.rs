//! Would break "a grant dies the moment permission ends": a lease that nobody ends.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use assent::consent::Lease;

fn forge(live: Arc<AtomicBool>) -> Lease {
    Lease { live }
}

fn main() {
    let _ = forge;
}
