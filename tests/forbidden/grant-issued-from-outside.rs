//! Would break "no audio before permission": a grant that the permission machine, which holds the
//! lease and asks the other parties, knows nothing of.

use assent::catalog::Receipt;
use assent::consent::{Decision, Grant, Lease, Stop};

fn issue(receipt: Receipt<Decision>) -> Option<(Lease, Grant)> {
    assent::consent::grant::issue(receipt, Stop::default())
}

fn main() {
    let _ = issue;
}
