//! Would break "a grant dies the moment permission ends": a grant that is stored, and comes back
//! after a restart.

use assent::consent::Grant;

fn store<T: serde::Serialize>(_: &T) {}

fn restore<T: serde::de::DeserializeOwned>() {}

fn both(grant: &Grant) {
    store(grant);
    restore::<Grant>();
}

fn main() {
    let _ = both;
}
