//! Would break "evidence before bytes": one piece of evidence as the proof of two permissions.

use assent::catalog::Receipt;
use assent::consent::Decision;

fn again(receipt: Receipt<Decision>) -> [Receipt<Decision>; 2] {
    [receipt.clone(), receipt]
}

fn main() {
    let _ = again;
}
