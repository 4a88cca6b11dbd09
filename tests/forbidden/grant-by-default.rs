//! Would break "no audio before permission": a grant out of nothing.

use assent::consent::Grant;

fn main() {
    let _ = Grant::default();
}
