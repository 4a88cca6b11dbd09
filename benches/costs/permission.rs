//! Decisions and grants, earned as a call earns them: from the permission machine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use assent::catalog::{
    Catalog, DecisionEntry, Erase, NewRecording, Permitted, QUEUE, Receipt, Settings,
};
use assent::clock;
use assent::consent::machine::{Input, Output, PartyFacts, Permission};
use assent::consent::policy::{
    AcceptAgain, Ask, Basis, ByLeg, Gate, OnRefusal, OnUnavailable, OnWithdrawal, Policy, Scope,
};
use assent::consent::{Decision, Grant, MediaTransport, Prior};
use assent::event::Origin;
use assent::ids::Leg;
use assent::keys::{Epoch, ReferenceKey, SigningKey, WrappedKey};
use assent::number::PartyNumber;

const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// A catalog in `folder`.
pub(crate) fn catalog(folder: &Path) -> Catalog {
    Catalog::open(Settings {
        data: folder.to_owned(),
        origin: Origin { tenant: "default".parse().unwrap(), node: "bench".parse().unwrap() },
        signing: SigningKey::from_seed(&[3; 32]),
        reference: reference(),
        queue: QUEUE,
    })
    .unwrap()
}

pub(crate) fn reference() -> ReferenceKey {
    ReferenceKey::from_bytes(&[4; 32])
}

pub(crate) fn number(n: u64) -> PartyNumber {
    PartyNumber::parse(&format!("+49301{:09}", n % 1_000_000_000)).unwrap()
}

/// A fresh call whose caller has an agreement on file, and the decision that follows from it.
pub(crate) fn decided(policy: &Arc<Policy>, n: u64) -> (Permission, Decision) {
    let party_ref = reference().party_ref(number(n).expose());
    let caller = PartyFacts {
        leg: Leg::Caller,
        party_ref,
        locale: "en-US".into(),
        transport: MediaTransport::Rtp,
        prior: Prior::Nothing,
    };
    let parties = vec![caller];
    let mut permission =
        Permission::new(Arc::clone(policy), policy.digest(), clock::mint(), clock::mint(), parties);
    let outputs = permission.handle(clock::moment(), Input::Present { leg: Leg::Caller });
    let decision = outputs.into_iter().find_map(|output| match output {
        Output::Commit(decision) => Some(decision),
        _ => None,
    });
    (permission, decision.expect("an agreement on file is a decision at once"))
}

/// What is stored of a decision.
pub(crate) fn entry(decision: Decision, n: u64) -> DecisionEntry {
    let began = decision.facts().time;
    let recording = NewRecording { began, scope: Scope::All, retention: RETENTION };
    let key = WrappedKey { epoch: Epoch(1), bytes: [7; WrappedKey::LENGTH] };
    DecisionEntry {
        decision,
        number: Some(number(n)),
        permitted: Some(Permitted { recording, key, codecs: "{}".to_owned() }),
        erase: Erase::Nothing,
        events: Vec::new(),
    }
}

/// The grant that a durable decision brings. It lives as long as the machine.
pub(crate) fn granted(permission: &mut Permission, receipt: Receipt<Decision>) -> Grant {
    let outputs = permission.handle(clock::moment(), Input::Durable(receipt));
    let grant = outputs.into_iter().find_map(|output| match output {
        Output::Grant(grant) => Some(grant),
        _ => None,
    });
    grant.expect("the only party is permitted")
}

pub(crate) fn policy() -> Arc<Policy> {
    Arc::new(Policy {
        name: "bench".into(),
        basis: Basis::Contract,
        purposes: vec!["quality".into()],
        controller: "Example GmbH".into(),
        gate: Gate::Standing,
        fallback: Gate::OptIn,
        on_file: ByLeg::default(),
        caller: Ask::Standing("agreement-2026".into()),
        callee: Ask::Nobody,
        scope: Scope::All,
        notice: "notice-opt-in".into(),
        locale: [("*".to_owned(), "en-US".to_owned())].into(),
        locale_header: ByLeg::default(),
        accept: '1',
        refuse: '2',
        withdraw: "*9".into(),
        pause: "*7".into(),
        pause_by: Vec::new(),
        pause_limit: Duration::from_secs(300),
        accept_again: AcceptAgain::Never,
        loss_limit: 20,
        attempts: 1,
        answer_within: Duration::from_secs(8),
        on_refusal: OnRefusal::Continue,
        acknowledge: None,
        on_withdrawal: OnWithdrawal::Erase,
        on_unavailable: OnUnavailable::Proceed,
        beep: None,
        retention: RETENTION,
    })
}
