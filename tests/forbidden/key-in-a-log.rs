//! Would break "encrypted, or not at all": a data key in a log, a file or a second place.

use assent::keys::DataKey;

fn show(key: &DataKey) -> String {
    format!("{key:?} {key}")
}

fn keep(key: &DataKey) -> DataKey {
    key.clone()
}

fn main() {
    let _ = (show, keep);
}
