//! Would break "no audio before permission": a refusal that is made a permission on its way to
//! the disk.

use assent::consent::{Decision, Outcome};

fn turn(decision: &mut Decision) {
    decision.facts().outcome = Outcome::Granted;
}

fn main() {
    let _ = turn;
}
