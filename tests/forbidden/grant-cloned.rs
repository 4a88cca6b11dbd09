//! Would break "a permission is for one media stream, once": a grant that outlives its use.

use assent::consent::Grant;

fn keep(grant: &Grant) -> Grant {
    grant.clone()
}

fn copy(grant: Grant) -> [Grant; 2] {
    [grant, grant]
}

fn main() {
    let _ = (keep, copy);
}
