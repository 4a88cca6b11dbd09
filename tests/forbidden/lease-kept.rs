//! Would break "a grant dies the moment permission ends": a second lease on the same grant.

use assent::consent::Lease;

fn keep(lease: Lease) -> [Lease; 2] {
    [lease.clone(), lease]
}

fn main() {
    let _ = keep;
}
