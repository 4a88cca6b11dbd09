//! Would break "no audio before permission": a yes that no permission machine has heard.

use assent::consent::{Decision, DecisionFacts};

fn forge(facts: DecisionFacts) -> Decision {
    Decision { facts: Box::new(facts) }
}

fn main() {
    let _ = forge;
}
