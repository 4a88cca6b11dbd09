//! Would break "evidence before bytes": a receipt for something that is on no disk.

use assent::catalog::Receipt;
use assent::consent::Decision;
use assent::ids::{Digest, EvidenceId};

fn forge(value: Decision, id: EvidenceId, evidence: Digest) -> Receipt<Decision> {
    Receipt { value, id, evidence }
}

fn main() {
    let _ = forge;
}
