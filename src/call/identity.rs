//! Who speaks on a leg, as far as its peer says: somebody else after a transfer.

use crate::call::machine::{Call, Output, Phase};
use crate::call::message::Headers;
use crate::call::setup::Recorder;
use crate::ids::Leg;
use crate::number::PartyNumber;

/// The numbers by which each leg's party is known: one person may have several.
#[derive(Debug, Default)]
pub(super) struct Identities {
    caller: Vec<PartyNumber>,
    callee: Vec<PartyNumber>,
}

impl Identities {
    fn of(&mut self, leg: Leg) -> &mut Vec<PartyNumber> {
        match leg {
            Leg::Caller => &mut self.caller,
            Leg::Callee => &mut self.callee,
        }
    }

    /// Another number of the same party.
    pub(super) fn note(&mut self, leg: Leg, number: Option<PartyNumber>) {
        let known = self.of(leg);
        known.extend(number.filter(|number| !known.contains(number)));
    }
}

impl Call {
    /// Somebody else may be on a leg, as another dialog is in the place of the one before: a name
    /// that is known there proves nothing, as a group of telephones may share it.
    pub(super) fn identify_as(
        &mut self,
        leg: Leg,
        number: Option<PartyNumber>,
        out: &mut Vec<Output>,
    ) {
        if self.phase == Phase::Over {
            return;
        }
        let number = number.unwrap_or_else(|| PartyNumber::unnamed(self.id, leg));
        *self.identities.of(leg) = vec![number.clone()];
        if self.recorder == Recorder::Ready && self.permission.covers() {
            out.push(Output::Identify { leg, number });
        }
    }

    /// A peer may name somebody else within the dialog, as PBXs do after a transfer. Who was
    /// permitted before is not who speaks now.
    pub(super) fn identify(&mut self, leg: Leg, headers: &Headers, out: &mut Vec<Output>) {
        let Some(number) = asserted(headers) else { return };
        let known = self.identities.of(leg);
        if self.phase == Phase::Over || known.contains(&number) {
            return;
        }
        *known = vec![number.clone()];
        if self.recorder == Recorder::Ready && self.permission.covers() {
            out.push(Output::Identify { leg, number });
        }
    }
}

/// The identity that a peer asserts (RFC 3325), or, from older ones, `Remote-Party-ID`.
pub(crate) fn asserted(headers: &Headers) -> Option<PartyNumber> {
    let named = ["P-Asserted-Identity", "Remote-Party-ID"];
    let value = named.into_iter().find_map(|name| headers.first(name))?;
    let value = std::str::from_utf8(value).ok()?;
    let uri = match value.split_once('<') {
        Some((_, rest)) => rest.split_once('>')?.0,
        None => value.split([';', ',']).next()?.trim(),
    };
    PartyNumber::parse(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_with_and_without_brackets() {
        let of = |name: &str, value: &str| {
            asserted(&Headers::new().with(name, value.to_owned())).map(|n| n.expose().to_owned())
        };
        let number = PartyNumber::parse("sip:+4930123@pbx.example").map(|n| n.expose().to_owned());
        assert!(number.is_some());
        for value in [
            "<sip:+4930123@pbx.example>",
            "\"Somebody\" <sip:+4930123@pbx.example;user=phone>, <tel:+4930999>",
            "sip:+4930123@pbx.example",
        ] {
            assert_eq!(of("P-Asserted-Identity", value), number, "{value}");
        }
        assert_eq!(of("Remote-Party-ID", "<sip:+4930123@x>;party=calling"), number);
        assert_eq!(of("P-Asserted-Identity", "<"), None);
        assert_eq!(of("From", "<sip:+4930123@x>"), None);
    }
}
