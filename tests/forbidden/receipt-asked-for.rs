//! Would break "evidence before bytes": a receipt without a commit.

use assent::catalog::Receipt;
use assent::consent::Decision;
use assent::ids::{Digest, EvidenceId};

fn forge(value: Decision, id: EvidenceId, evidence: Digest) -> Receipt<Decision> {
    Receipt::new(value, id, evidence)
}

fn main() {
    let _ = forge;
}
