//! Somebody else is on a leg: who they are, and what is known of them.

use crate::agent::core::Core;
use crate::call::machine::{Call, Input};
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
}
