//! A dialog (RFC 3261, section 12): what both sides call it, where its requests go, and which
//! sequence numbers have been used.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::call::message::{
    Answered, ClientTxn, Headers, Hop, Incoming, Method, Request, Response, Transport,
};
use crate::call::negotiate::Session;
use crate::ids::Pii;

/// One confirmed or early dialog, from our side.
#[derive(Clone, Debug)]
pub struct Dialog {
    call_id: String,
    local: Pii<Bytes>,
    remote: Pii<Bytes>,
    /// `remote` without its tag: other forks of our INVITE have other tags.
    peer: Pii<Bytes>,
    local_tag: String,
    remote_tag: Option<String>,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    remote_target: String,
    route_set: Vec<String>,
    contact: String,
    /// Where requests went or came from when the dialog was made; used where the route set and
    /// the remote target name no address.
    hop: Hop,
}

/// Why a request does not belong into a dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// Its tags or Call-ID are those of another dialog: 481.
    Unknown,
    /// Its `CSeq` is not higher than the last one (RFC 3261, 12.2.2): 500.
    OutOfOrder,
}

impl Dialog {
    /// The dialog that answering `invite` with `local_tag` makes (RFC 3261, 12.1.1).
    #[must_use]
    pub fn uas(invite: &Incoming, local_tag: &str, contact: String) -> Self {
        Self {
            call_id: invite.call_id.clone(),
            local: tagged(&invite.to.value, local_tag),
            remote: match &invite.from.tag {
                Some(tag) => tagged(&invite.from.value, tag),
                None => invite.from.value.clone(),
            },
            peer: invite.from.value.clone(),
            local_tag: local_tag.to_owned(),
            remote_tag: invite.from.tag.clone(),
            local_cseq: 0,
            remote_cseq: Some(invite.cseq),
            remote_target: invite
                .contact
                .clone()
                .unwrap_or_else(|| invite.from.uri.expose().clone()),
            route_set: invite.record_route.clone(),
            contact,
            hop: invite.source,
        }
    }

    /// The dialog to be that a request of ours starts: the parts that the answer fills in are
    /// still open.
    #[must_use]
    pub fn uac(outgoing: Outgoing) -> Self {
        Self {
            call_id: outgoing.call_id,
            local: tagged(&outgoing.from, &outgoing.local_tag),
            remote: outgoing.to.clone(),
            peer: outgoing.to,
            local_tag: outgoing.local_tag,
            remote_tag: None,
            local_cseq: 0,
            remote_cseq: None,
            remote_target: outgoing.uri,
            route_set: Vec::new(),
            contact: outgoing.contact,
            hop: outgoing.hop,
        }
    }

    /// This dialog as `answer` establishes it (RFC 3261, 12.1.2). `None` when the answer has no
    /// tag, which makes no dialog.
    #[must_use]
    pub fn established(&self, answer: &Answered) -> Option<Self> {
        let tag = answer.to_tag.as_deref()?;
        let mut dialog = self.clone();
        dialog.remote = tagged(&self.peer, tag);
        dialog.remote_tag = Some(tag.to_owned());
        if let Some(contact) = &answer.contact {
            dialog.remote_target.clone_from(contact);
        }
        dialog.route_set = answer.record_route.iter().rev().cloned().collect();
        if let Some(reached) = &answer.reached {
            dialog.hop = reached.hop;
            dialog.contact.clone_from(&reached.contact);
        }
        Some(dialog)
    }

    /// The tag of the peer, once there is one.
    #[must_use]
    pub fn remote_tag(&self) -> Option<&str> {
        self.remote_tag.as_deref()
    }

    /// Our tag.
    #[must_use]
    pub fn local_tag(&self) -> &str {
        &self.local_tag
    }

    /// Whether the peer has this tag.
    #[must_use]
    pub fn is_with(&self, tag: &str) -> bool {
        self.remote_tag.as_deref() == Some(tag)
    }

    /// `Call-ID`, our tag and the peer's, once the dialog has one.
    #[must_use]
    pub fn names(&self) -> Option<(&str, &str, &str)> {
        Some((&self.call_id, &self.local_tag, self.remote_tag.as_deref()?))
    }

    /// Our `Contact`, in angle brackets.
    #[must_use]
    pub fn contact_value(&self) -> String {
        format!("<{}>", self.contact)
    }

    /// Checks that a request of the peer belongs here, and takes note of its `CSeq`.
    ///
    /// # Errors
    /// [`Stray`] when it does not.
    pub fn admit(&mut self, request: &Incoming) -> Result<(), Stray> {
        let ours = request.to.tag.as_deref() == Some(self.local_tag.as_str());
        if request.call_id != self.call_id || !ours || request.from.tag != self.remote_tag {
            return Err(Stray::Unknown);
        }
        if request.method == Method::Ack {
            return Ok(());
        }
        if self.remote_cseq.is_some_and(|last| request.cseq <= last) {
            return Err(Stray::OutOfOrder);
        }
        self.remote_cseq = Some(request.cseq);
        Ok(())
    }

    /// Takes over the remote target of a target-refresh request (RFC 3261, 12.2.2).
    pub fn refresh_target(&mut self, contact: Option<&String>) {
        if let Some(contact) = contact {
            self.remote_target.clone_from(contact);
        }
    }

    /// A request in this dialog with the next `CSeq`.
    #[must_use]
    pub fn request(&mut self, method: Method) -> Request {
        self.local_cseq = self.local_cseq.saturating_add(1);
        self.build(method, self.local_cseq)
    }

    /// The ACK for a 2xx to our INVITE of this `CSeq` (RFC 3261, 13.2.2.4).
    #[must_use]
    pub fn ack(&self, cseq: u32) -> Request {
        self.build(Method::Ack, cseq)
    }

    /// The `CSeq` of our last request.
    #[must_use]
    pub fn last_cseq(&self) -> u32 {
        self.local_cseq
    }

    /// Has the next request follow at least this `CSeq`.
    pub fn skip_to(&mut self, cseq: u32) {
        self.local_cseq = self.local_cseq.max(cseq);
    }

    fn build(&self, method: Method, cseq: u32) -> Request {
        let mut headers = Headers::new()
            .with("Max-Forwards", "70")
            .with("From", self.local.expose().clone())
            .with("To", self.remote.expose().clone())
            .with("Call-ID", self.call_id.clone())
            .with("CSeq", format!("{cseq} {method}"));
        // A strict router (no `lr`) is not rewritten for: RFC 2543 elements are gone.
        for route in &self.route_set {
            headers.push("Route", route.clone());
        }
        if matches!(
            method,
            Method::Invite | Method::Update | Method::Subscribe | Method::Notify | Method::Refer
        ) {
            headers.push("Contact", self.contact_value());
        }
        Request {
            method,
            uri: self.remote_target.clone(),
            headers,
            body: Bytes::new(),
            hop: self.next_hop(),
        }
    }

    /// The first route, else the remote target, where it names an address that datagrams can be
    /// sent to; else where the dialog was made. A connection is kept to (RFC 5923).
    fn next_hop(&self) -> Hop {
        if self.hop.transport != Transport::Udp {
            return self.hop;
        }
        let uri = self.route_set.first().map_or(self.remote_target.as_str(), String::as_str);
        match literal_hop(uri) {
            Some(hop) if hop.addr.is_ipv4() == self.hop.addr.is_ipv4() => hop,
            _ => self.hop,
        }
    }
}

/// What starts a dialog in which we are the UAC.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// `Call-ID`.
    pub call_id: String,
    /// `From` without a tag.
    pub from: Pii<Bytes>,
    /// `To` without a tag.
    pub to: Pii<Bytes>,
    /// Our tag.
    pub local_tag: String,
    /// The Request-URI.
    pub uri: String,
    /// Our `Contact` URI.
    pub contact: String,
    /// Where the request goes.
    pub hop: Hop,
}

/// A 2xx of ours to an INVITE, sent again until its ACK comes (RFC 3261, 13.3.1.4).
#[derive(Clone, Debug)]
pub struct Unacknowledged {
    /// The transaction that it answers.
    pub txn: crate::call::message::ServerTxn,
    /// What is sent.
    pub response: Response,
    /// The `CSeq` that the ACK will have.
    pub cseq: u32,
    /// Our offer in it, where the INVITE had none: the ACK answers it.
    pub offered: Option<Session>,
    /// When it is sent next, and when we give up.
    pub again: super::timer::Backoff,
}

/// A BYE of ours that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub struct Leaving {
    /// Its transaction.
    pub txn: ClientTxn,
}

fn tagged(value: &Pii<Bytes>, tag: &str) -> Pii<Bytes> {
    let mut bytes = value.expose().to_vec();
    bytes.extend_from_slice(b";tag=");
    bytes.extend_from_slice(tag.as_bytes());
    Pii::new(Bytes::from(bytes))
}

/// The transport and address in a URI such as `<sip:alice@192.0.2.1:5070;transport=tcp;lr>`, where
/// the address is a literal one. The port is 5060 where there is none.
fn literal_hop(uri: &str) -> Option<Hop> {
    let inner = uri.split('<').nth(1).map_or(uri, |rest| rest.split('>').next().unwrap_or(rest));
    let (scheme, rest) = inner.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("sip") {
        return None;
    }
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let mut parts = host.split([';', '?']);
    let host = parts.next().unwrap_or(host);
    let transport = match parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.eq_ignore_ascii_case("transport").then(|| value.to_ascii_lowercase())
    }) {
        None => Transport::Udp,
        Some(value) if value == "udp" => Transport::Udp,
        Some(value) if value == "tcp" => Transport::Tcp,
        Some(_) => return None,
    };
    let addr = host.parse::<SocketAddr>().ok().or_else(|| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 5060))
    })?;
    Some(Hop { transport, addr })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_literal_addresses_and_nothing_else() {
        let cases = [
            ("sip:a@192.0.2.1:5070", Some("UDP 192.0.2.1:5070")),
            ("<sip:192.0.2.1;lr>", Some("UDP 192.0.2.1:5060")),
            ("<SIP:192.0.2.1;Transport=TCP;lr>", Some("TCP 192.0.2.1:5060")),
            ("sip:a@[2001:db8::1]:5070;transport=udp", Some("UDP [2001:db8::1]:5070")),
            ("sip:a@[2001:db8::1]", Some("UDP [2001:db8::1]:5060")),
            ("sip:a@192.0.2.1;transport=sctp", None),
            ("sip:a@example.com", None),
            ("sips:a@192.0.2.1", None),
            ("tel:+49", None),
            ("", None),
        ];
        for (uri, expected) in cases {
            let found =
                literal_hop(uri).map(|hop| format!("{} {}", hop.transport.as_str(), hop.addr));
            assert_eq!(found.as_deref(), expected, "{uri}");
        }
    }
}
