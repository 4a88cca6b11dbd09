//! Would break "evidence before bytes": the proof that something is durable, given for something
//! that is not.

use assent::catalog::Receipt;
use assent::consent::Decision;
use assent::consent::machine::Input;

fn pass(decision: Decision, another: Receipt<String>) -> [Input; 2] {
    [Input::Durable(decision), Input::Durable(another)]
}

fn main() {
    let _ = pass;
}
