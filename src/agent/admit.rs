//! From an INVITE to a call: which route, which policy, which ports, who the parties are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use zeroize::Zeroizing;

use crate::agent::core::{Core, DialogKey, Inward, Standing};
use crate::agent::next_hop::Place;
use crate::agent::tell::{Known, Party};
use crate::call::machine::Call;
use crate::call::message::{
    Answered, ClientTxn, Headers, Hop, Incoming, Method, Request, Response, Scheme, ServerTxn,
};
use crate::call::replaces::with_user;
use crate::call::session_timer;
use crate::call::setup::{InfoKeys, Inline, Plan, Recorder, Setup, Side};
use crate::clock;
use crate::config::{self, Mode, NextHops, Offered, Route};
use crate::consent::locale::Hints;
use crate::consent::machine::PartyFacts;
use crate::consent::policy::Policy;
use crate::consent::token::Found;
use crate::consent::{MediaTransport, Prior};
use crate::event::CallMode;
use crate::ids::{CallId, Leg, RecordingId};
use crate::media::LocalPorts;
use crate::number::PartyNumber;
use crate::rtp::Codec;
use crate::sdp::{Keying, Offer, SrtpUse};
use crate::sip::Target;

/// What a caller is told to wait, in seconds, when there is no room for the call.
const RETRY_AFTER: &str = "5";

impl Core {
    pub(super) fn on_invite(&mut self, txn: ServerTxn, request: Incoming) {
        if self.table.taken() >= self.config.sip.max_calls {
            tracing::warn!(
                limit = self.config.sip.max_calls,
                "a call is turned away: sip.max_calls is reached"
            );
            return self.turn_away(txn);
        }
        if self.scribe.is_full() {
            tracing::error!("a call is turned away: too much waits for the catalog");
            return self.turn_away(txn);
        }
        let Some(route) = self.route(&request) else {
            tracing::info!("a call is turned away: no [[route]] matches it");
            return self.sip.respond(txn, Response::new(404, Some(tag())));
        };
        if let Err(too_short) = session_timer::check(self.config.sip.timers, &request.headers) {
            return self.sip.respond(txn, too_short.response(Some(tag())));
        }
        match next_hops_of(&route) {
            None => self.admit(txn, request, &route, Vec::new()),
            Some(next_hops) => match self.locator.given(next_hops) {
                Some(places) => self.admit(txn, request, &route, places),
                None => {
                    tracing::debug!(route = route.number, "looking up the next hop");
                    self.locate(txn, request, next_hops.clone());
                }
            },
        }
    }

    pub(super) fn on_resolved(&mut self, txn: ServerTxn, request: Incoming, places: Vec<Place>) {
        if self.table.resolving.remove(&txn) == Some(Standing::Cancelled) {
            return self.sip.respond(txn, Response::new(487, Some(tag())));
        }
        if self.health.is_draining() {
            return self.turn_away(txn);
        }
        let Some(route) = self.route(&request) else {
            return self.sip.respond(txn, Response::new(404, Some(tag())));
        };
        self.admit(txn, request, &route, places);
    }

    fn locate(&mut self, txn: ServerTxn, request: Incoming, next_hops: NextHops) {
        self.table.resolving.insert(txn, Standing::Wanted);
        let (inward, locator) = (self.inward.clone(), self.locator.clone());
        tokio::spawn(async move {
            let places = locator.locate(&next_hops).await;
            let request = Box::new(request);
            let _ = inward.send(Inward::Resolved { txn, request, places });
        });
    }

    /// The places that a call may be sent to, the best first: those that have failed lately come
    /// last. All of them are of the family of the first, which the media of this leg has too.
    fn eligible(&self, mut places: Vec<Place>) -> Vec<Place> {
        let advertise = self.config.sip.advertise;
        places.retain(|place| advertise.to(place.hop.addr.ip()).is_some());
        self.book.sort(&mut places);
        if let Some(first) = places.first() {
            let is_ipv4 = first.hop.addr.is_ipv4();
            places.retain(|place| place.hop.addr.is_ipv4() == is_ipv4);
        }
        places
    }

    /// Sends a request of a call's: an INVITE for another leg to the first of its places that
    /// takes it, everything else where it says.
    pub(super) fn send(&mut self, call: CallId, txn: ClientTxn, request: Request) {
        let dials = request.method == Method::Invite
            && request.headers.first("To").is_some_and(|to| !names_tag(to));
        let targets = if dials { self.table.targets.get(&call) } else { None };
        let Some(targets) = targets else { return self.sip.request(txn, request) };
        // Somebody else than at first, where the call is transferred.
        let user = user_of(&request.uri);
        let of_user = |target: &Target| match user.is_empty() || user_of(&target.uri) == user {
            true => target.clone(),
            false => Target { uri: with_user(&target.uri, user), ..target.clone() },
        };
        let targets = targets.iter().map(of_user).collect();
        let patience = self.config.sip.next_hop.answer_within;
        self.sip.request_any(txn, request, targets, patience);
    }

    /// A place has answered a call: whatever else the call dials is tried there first, where the
    /// dialogs are that a transfer may name.
    pub(super) fn settle(&mut self, call: CallId, answer: &Answered) {
        if let Some(reached) = &answer.reached
            && (200..300).contains(&answer.status)
            && let Some(targets) = self.table.targets.get_mut(&call)
        {
            targets.sort_by_key(|target| target.hop != reached.hop);
        }
    }

    fn route(&self, request: &Incoming) -> Option<Route> {
        config::select(&self.config.routes, &offered(request)).cloned()
    }

    /// The locale that a party is spoken to in: the first that there is a notice for.
    fn locale(&self, policy: &Policy, route: &Route, party: &Party, headers: &Headers) -> String {
        let header = policy.locale_header(party.leg).and_then(|name| headers.first(name));
        let hints =
            Hints { header: header.map(|value| &value[..]), route: route.locale.of(party.leg) };
        let (wanted, _) = policy.locale_of(party.number.expose(), hints);
        self.prompts.settle(&policy.notice, wanted, policy.locale_for("*"))
    }

    /// What is known of the parties before anybody asks them.
    fn known_of(&self, call: CallId, policy: &Policy, request: &Incoming) -> Found {
        let found = self.prior.tokens(policy, request);
        for fault in &found.faults {
            self.counters.token(fault.as_str());
            tracing::info!(%call, why = fault.as_str(), "a consent token does not count");
        }
        for _ in [&found.caller, &found.callee].into_iter().flatten() {
            self.counters.token("valid");
        }
        found
    }

    fn admit(&mut self, txn: ServerTxn, request: Incoming, route: &Route, places: Vec<Place>) {
        let source = request.source;
        let places = self.eligible(places);
        let place = match (next_hops_of(route), places.first()) {
            (Some(next_hops), None) => {
                tracing::warn!(
                    route = route.number,
                    %next_hops,
                    "next_hop has no address of a family that we listen on: check its name, the \
                     name servers and sip.advertise"
                );
                return self.sip.respond(txn, Response::new(502, Some(tag())));
            }
            (_, place) => place.cloned(),
        };
        let ports = self.ports(source).and_then(|caller| match &place {
            Some(place) => Some((caller, Some(self.ports(place.hop)?))),
            None => Some((caller, None)),
        });
        let Some((caller_ports, callee_ports)) = ports else {
            tracing::error!("a call is turned away: no media ports are free (media.ports)");
            return self.turn_away(txn);
        };
        let (id, recording): (CallId, RecordingId) = (clock::mint(), clock::mint());
        let policy = self.config.choose(route, &offered(&request)).policy;
        let caller_number = PartyNumber::parse(request.from.uri.expose())
            .unwrap_or_else(|| PartyNumber::unnamed(id, Leg::Caller));
        let callee_number = PartyNumber::parse(request.uri.expose())
            .unwrap_or_else(|| PartyNumber::unnamed(id, Leg::Callee));
        let caller = self.party(Leg::Caller, caller_number);
        let callee = self.party(Leg::Callee, callee_number);
        let locale = |party: &Party| self.locale(&policy, route, party, &request.headers);
        let tokens = self.known_of(id, &policy, &request);
        let prior = |party: &Party| match tokens.of(party.leg) {
            _ if self.prior.lists(party.party_ref) => Prior::Listed,
            Some(stated) => Prior::Token(stated.clone()),
            None => Prior::Nothing,
        };
        let facts = |party: &Party| PartyFacts {
            leg: party.leg,
            party_ref: party.party_ref,
            locale: locale(party),
            transport: self.transport(party.leg, &request.body),
            prior: prior(party),
        };

        let scheme = Scheme::of(request.uri.expose());
        let caller_side = self.side(source, scheme, &caller_ports, locale(&caller));
        let Some(caller_side) = caller_side else {
            return self.turn_away(txn);
        };
        let mut dialogs = vec![(key(&request.call_id, &caller_side), Leg::Caller)];
        let plan = match (&place, &callee_ports) {
            (Some(Place { next, hop }), Some(ports)) => {
                let hop = *hop;
                let Some(callee_side) = self.side(hop, next.scheme, ports, locale(&callee)) else {
                    return self.turn_away(txn);
                };
                let call_id = tag();
                dialogs.push((key(&call_id, &callee_side), Leg::Callee));
                Plan::Inline(Box::new(Inline {
                    callee: callee_side,
                    callee_party: facts(&callee),
                    uri: next.uri(request.user.expose()),
                    call_id,
                    hop,
                    ring_for: self.config.sip.ring_within,
                    transfers: self.config.sip.transfers,
                }))
            }
            _ => Plan::Endpoint,
        };
        let inline = matches!(plan, Plan::Inline(_));
        let user = request.user.expose();
        let targets: Vec<_> = places.iter().map(|place| place.target(user, &self.sip)).collect();
        let caller_party = facts(&caller);
        let known = Known {
            call: id,
            recording,
            mode: if inline { CallMode::Inline } else { CallMode::Endpoint },
            direction: direction(&request),
            route: u32::try_from(route.number).unwrap_or(u32::MAX),
            policy: policy.name.clone(),
            policy_digest: policy.digest(),
            parties: if inline { vec![caller, callee] } else { vec![caller] },
        };
        tracing::info!(
            call = %id,
            route = route.number,
            policy = policy.name,
            mode = route.mode.as_str(),
            "call arrives"
        );
        self.keeper.expect(&known, &policy);
        self.media.open(id, caller_ports, callee_ports);
        self.scribe.tell(known.started(clock::wall()));

        let first_txn = self.table.next_first_txn();
        let info_keys =
            if self.config.sip.info_keys { InfoKeys::Counted } else { InfoKeys::Ignored };
        let recorder = match self.health.can_record() && !self.scribe.is_stuck() {
            true => Recorder::Ready,
            false => Recorder::OutOfOrder,
        };
        let setup = Setup {
            call: id,
            recording,
            invite: request,
            txn,
            policy_digest: known.policy_digest,
            policy,
            plan,
            caller: caller_side,
            caller_party,
            codecs: Codec::ALL.to_vec(),
            info_keys,
            timers: self.config.sip.timers,
            first_txn,
            recorder,
        };
        self.table.targets.insert(id, targets);
        let (call, outputs) = Call::start(clock::moment(), setup);
        self.enter(call, known, dialogs, txn, first_txn, outputs);
        self.health.calls(self.table.len());
    }

    fn turn_away(&self, txn: ServerTxn) {
        let mut response = Response::new(503, Some(tag()));
        response.headers.push("Retry-After", RETRY_AFTER);
        self.sip.respond(txn, response);
    }

    /// Ports on the address that signalling with this peer uses.
    fn ports(&self, peer: Hop) -> Option<LocalPorts> {
        self.media
            .reserve(self.local_address(peer))
            .inspect_err(|why| tracing::error!(%why, "cannot reserve media ports"))
            .ok()
    }

    fn local_address(&self, peer: Hop) -> IpAddr {
        let same = |addr: IpAddr| addr.is_ipv4() == peer.addr.is_ipv4();
        let unspecified = match peer.addr {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        self.sip
            .listeners()
            .iter()
            .map(|listen| (listen.transport, listen.addr.ip()))
            .find(|(transport, ip)| *transport == peer.transport && same(*ip))
            .map_or(unspecified, |(_, ip)| ip)
    }

    fn side(&self, peer: Hop, scheme: Scheme, ports: &LocalPorts, locale: String) -> Option<Side> {
        let advertised = self.config.sip.advertise.to(peer.addr.ip()).or_else(|| {
            tracing::error!(
                "no address to name to this peer: set sip.advertise for its address family"
            );
            None
        })?;
        Some(Side {
            tag: tag(),
            contact: self.sip.contact(peer.transport, peer.addr, scheme),
            rtp: SocketAddr::new(advertised, ports.rtp().port()),
            rtcp: SocketAddr::new(advertised, ports.rtcp().port()),
            locale,
            record: None,
            keying: self.keying()?,
        })
    }

    /// Fresh key material for a leg. Without randomness there is none, and so no SRTP.
    fn keying(&self) -> Option<Keying> {
        let wanted = self.config.media.srtp;
        let mut secret = Zeroizing::new([0; Keying::SECRET]);
        match (getrandom::fill(secret.as_mut_slice()), wanted) {
            (Ok(()), wanted) => {
                let keying = Keying::new(wanted, secret);
                Some(match self.media.fingerprint() {
                    Some(fingerprint) => keying.with_certificate(fingerprint),
                    None => keying,
                })
            }
            (Err(_), SrtpUse::Off | SrtpUse::Offer) => Some(Keying::off()),
            (Err(error), SrtpUse::Require) => {
                tracing::error!(%error, "no random bytes for the keys of SRTP, which is required");
                None
            }
        }
    }

    /// How a party's voice will travel, as far as that is known before their leg is answered.
    fn transport(&self, leg: Leg, offer: &[u8]) -> MediaTransport {
        let offered = match leg {
            Leg::Caller => Offer::parse(offer, self.config.media.srtp).ok(),
            Leg::Callee => None,
        };
        match (self.config.media.srtp, offered) {
            (SrtpUse::Off, _) => MediaTransport::Rtp,
            (SrtpUse::Require, _) => MediaTransport::Srtp,
            (SrtpUse::Offer, Some(offer)) if offer.is_srtp() => MediaTransport::Srtp,
            (SrtpUse::Offer, Some(_)) => MediaTransport::Rtp,
            (SrtpUse::Offer, None) => MediaTransport::Undecided,
        }
    }

    pub(super) fn party(&self, leg: Leg, number: PartyNumber) -> Party {
        let party_ref = self.reference.party_ref(number.expose());
        Party { leg, party_ref, number }
    }
}

fn offered(request: &Incoming) -> Offered<'_> {
    Offered {
        from: request.from.user.expose(),
        to: request.user.expose(),
        peer: request.source.addr.ip(),
        headers: &request.headers,
    }
}

fn next_hops_of(route: &Route) -> Option<&NextHops> {
    match &route.mode {
        Mode::Inline { next_hops } => Some(next_hops),
        Mode::Endpoint => None,
    }
}

/// The user part of a SIP URI, as it stands there; empty where there is none.
fn user_of(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    rest.rsplit_once('@').map_or("", |(user, _)| user)
}

/// Whether a `To` has a tag: then a request belongs to a dialog. Parameters come behind the
/// brackets, which a request of ours always has.
fn names_tag(to: &[u8]) -> bool {
    let text = String::from_utf8_lossy(to);
    let parameters = text.rsplit_once('>').map_or(&*text, |(_, parameters)| parameters);
    parameters.to_ascii_lowercase().contains(";tag=")
}

fn key(call_id: &str, side: &Side) -> DialogKey {
    DialogKey { call_id: call_id.to_owned(), local_tag: side.tag.clone() }
}

fn direction(request: &Incoming) -> crate::event::CallDirection {
    match config::CallDirection::of(&request.headers) {
        config::CallDirection::Inbound => crate::event::CallDirection::Inbound,
        config::CallDirection::Outbound => crate::event::CallDirection::Outbound,
    }
}

/// 128 random bits in hex: a tag or Call-ID that nobody guesses.
pub(super) fn tag() -> String {
    let mut bits = [0; 16];
    if getrandom::fill(&mut bits).is_err() {
        // Without the system's randomness a time-ordered identifier still does not repeat.
        bits = *clock::mint::<CallId>().0.as_bytes();
    }
    hex::encode(bits)
}
