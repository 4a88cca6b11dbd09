//! Somebody else is on a leg: who they are, what is known of them, and how they come there by REFER
//! and by INVITE with Replaces (RFC 3515, RFC 3891).

use crate::agent::admit::tag;
use crate::agent::core::{Core, DialogKey};
use crate::call::machine::{Call, Input, Names};
use crate::call::message::{Incoming, Response, ServerTxn};
use crate::call::replaces::Replaces;
use crate::clock;
use crate::consent::locale::Hints;
use crate::consent::machine::PartyFacts;
use crate::consent::{MediaTransport, Prior};
use crate::ids::{CallId, Leg};
use crate::number::PartyNumber;

impl Core {
    /// A leg's peer names another party than before: nothing that was permitted there holds.
    pub(super) fn identify(&mut self, call: CallId, leg: Leg, number: PartyNumber) {
        let party = self.party(leg, number);
        let Some(policy) = self.table.call(call).map(Call::policy) else { return };
        let hints = Hints { header: None, route: None };
        let (wanted, _) = policy.locale_of(party.number.expose(), hints);
        let locale = self.prompts.settle(&policy.notice, wanted, policy.locale_for("*"));
        let listed = self.prior.lists(party.party_ref);
        let media = self.table.call(call).and_then(|call| call.media(leg));
        let transport = media.map(|media| MediaTransport::from(&media.security));
        let facts = PartyFacts {
            leg,
            party_ref: party.party_ref,
            locale,
            transport: transport.unwrap_or(MediaTransport::Undecided),
            prior: if listed { Prior::Listed } else { Prior::Nothing },
        };
        tracing::info!(%call, %leg, "another party is on the line");
        self.keeper.replaced(call, leg, party.party_ref);
        if let Some(told) = self.table.replace(call, clock::wall(), party) {
            self.scribe.tell(told);
        }
        self.feed(call, Input::Replaced { party: facts });
    }

    /// Names a new dialog in the place of a leg's. A dialog that is to be replaced at the new
    /// party's side is named as that side knows it, where it is one of a call here.
    pub(super) fn refer(&mut self, call: CallId, leg: Leg, replaces: Option<Replaces>) {
        let names = Names { call_id: tag(), tag: tag() };
        let key = DialogKey { call_id: names.call_id.clone(), local_tag: names.tag.clone() };
        self.table.add_dialog(call, key, leg);
        let replaces = replaces.map(|named| {
            let ours = self.replaced(&named);
            let there = ours.and_then(|(call, leg)| {
                self.table.call(call).and_then(|call| call.other_side_of(leg, &named))
            });
            there.unwrap_or(named)
        });
        tracing::info!(%call, %leg, attended = replaces.is_some(), "a party hands the other one over");
        self.feed(call, Input::Referable { names, replaces });
    }

    /// An INVITE that takes the place of a party of a call here; `None` gives it back, to be routed
    /// as any other.
    pub(super) fn replacement(&mut self, txn: ServerTxn, request: Incoming) -> Option<Incoming> {
        let named: Vec<_> = request.headers.all("Replaces").collect();
        let named = match named[..] {
            [] => return Some(request),
            [value] => std::str::from_utf8(value).ok().and_then(Replaces::parse),
            _ => None,
        };
        let Some(named) = named else {
            self.sip.respond(txn, Response::new(400, Some(tag())));
            return None;
        };
        // A dialog that is none of ours is the next hop's affair.
        let Some((call, leg)) = self.replaced(&named) else { return Some(request) };
        let may = self.table.call(call).map_or(Err(481), |call| call.replaceable(leg, &named));
        if let Err(status) = may {
            self.sip.respond(txn, Response::new(status, Some(tag())));
            return None;
        }
        let tag = tag();
        let key = DialogKey { call_id: request.call_id.clone(), local_tag: tag.clone() };
        self.table.add_dialog(call, key, leg);
        tracing::info!(%call, %leg, "somebody takes the place of a party");
        self.feed(call, Input::Replacement { leg, txn, tag, request });
        None
    }

    fn replaced(&self, named: &Replaces) -> Option<(CallId, Leg)> {
        let (call_id, local_tag) = (named.call_id.clone(), named.to_tag.clone());
        self.table.dialog(&DialogKey { call_id, local_tag })
    }
}
