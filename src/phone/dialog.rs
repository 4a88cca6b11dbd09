//! A dialog (RFC 3261, 12): who the two sides are, and the messages between them.

use std::net::SocketAddr;

use bytes::Bytes;
use sipx_sip::headers::{ContactValue, From as FromHeader, RecordRoute, To};
use sipx_sip::{
    HeaderName, Method, Request, RequestBuilder, Response, ResponseBuilder, StatusCode, Uri,
};

use super::PhoneError;
use crate::call::message::reason_phrase;

/// What a phone can do, for `Allow`.
const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE";

/// One side of a dialog, possibly before it is established.
#[derive(Clone, Debug)]
pub(super) struct Dialog {
    call_id: Bytes,
    /// `From` of our requests.
    local: Bytes,
    /// `To` of our requests: with the peer's tag once there is one.
    remote: Bytes,
    /// Where our requests go: the peer's `Contact`, or the URI that was dialled.
    target: Uri,
    /// `Route` of our requests.
    routes: Vec<Bytes>,
    cseq: u32,
    contact: Bytes,
    via: SocketAddr,
    /// The tag that we put into answers to the request that made the dialog.
    local_tag: String,
}

impl Dialog {
    /// The dialog that an INVITE of ours may make.
    pub(super) fn calling(target: &Uri, user: &str, at: SocketAddr) -> Self {
        let local_tag = token();
        let user = escaped(user);
        let to = String::from_utf8_lossy(&target.to_bytes()).into_owned();
        Self {
            call_id: Bytes::from(format!("{}@{}", token(), at.ip())),
            local: Bytes::from(format!("<sip:{user}@{at}>;tag={local_tag}")),
            remote: Bytes::from(format!("<{to}>")),
            target: target.clone(),
            routes: Vec::new(),
            cseq: 1,
            contact: Bytes::from(format!("<sip:{user}@{at}>")),
            via: at,
            local_tag,
        }
    }

    /// The dialog that an INVITE to us may make. `None` when it lacks what a dialog needs.
    pub(super) fn called(invite: &Request, user: &str, at: SocketAddr) -> Option<Self> {
        let local_tag = token();
        let value = |name| invite.headers.value(&name).map(std::borrow::Cow::into_owned);
        let mut local = value(HeaderName::To)?;
        local.extend_from_slice(format!(";tag={local_tag}").as_bytes());
        Some(Self {
            call_id: value(HeaderName::CallId)?.into(),
            local: local.into(),
            remote: value(HeaderName::From)?.into(),
            target: contact_of(&invite.headers)?,
            routes: routes_of(&invite.headers),
            cseq: 0,
            contact: Bytes::from(format!("<sip:{}@{at}>", escaped(user))),
            via: at,
            local_tag,
        })
    }

    /// Whether a message belongs to this dialog, or to the call that may become it.
    pub(super) fn owns(&self, headers: &sipx_sip::Headers) -> bool {
        headers.value(&HeaderName::CallId).is_some_and(|id| *id == self.call_id[..])
    }

    /// Takes over what a 2xx to our INVITE says about the peer (RFC 3261, 12.1.2).
    pub(super) fn established(&mut self, response: &Response) {
        if let Some(to) = response.headers.value(&HeaderName::To) {
            self.remote = Bytes::from(to.into_owned());
        }
        if let Some(target) = contact_of(&response.headers) {
            self.target = target;
        }
        self.routes = routes_of(&response.headers);
        self.routes.reverse();
    }

    /// A target refresh (RFC 3261, 12.2.2).
    pub(super) fn refreshed(&mut self, headers: &sipx_sip::Headers) {
        if let Some(target) = contact_of(headers) {
            self.target = target;
        }
    }

    /// The URI that requests within the dialog are sent to: the first route, else the target.
    pub(super) fn next_hop(&self) -> Uri {
        let first = self.routes.first();
        let route = first.and_then(|r| sipx_sip::Address::parse(r, "Route").ok());
        route.map_or_else(|| self.target.clone(), |address| address.uri)
    }

    /// A request of ours; each but ACK and CANCEL has a number of its own.
    pub(super) fn request(
        &mut self,
        method: Method,
        body: Option<String>,
    ) -> Result<Request, PhoneError> {
        if !matches!(method, Method::Invite | Method::Ack) {
            self.cseq += 1;
        }
        let branch = format!("SIP/2.0/UDP {};branch=z9hG4bK{};rport", self.via, token());
        let build = || -> Result<Request, sipx_sip::BuildError> {
            let mut builder = RequestBuilder::new(method.clone(), self.target.clone())
                .header(HeaderName::Via, branch)?
                .max_forwards(70)
                .header(HeaderName::From, self.local.clone())?
                .header(HeaderName::To, self.remote.clone())?
                .header(HeaderName::CallId, self.call_id.clone())?
                .cseq(self.cseq, &method)?;
            for route in &self.routes {
                builder = builder.header(HeaderName::Route, route.clone())?;
            }
            if method == Method::Invite {
                builder = builder
                    .header(HeaderName::Contact, self.contact.clone())?
                    .header(HeaderName::Allow, ALLOW)?;
            }
            builder = builder.header(HeaderName::UserAgent, user_agent())?;
            if let Some(body) = body {
                builder = builder.header(HeaderName::ContentType, "application/sdp")?.body(body);
            }
            Ok(builder.build())
        };
        build().map_err(|e| PhoneError::Build(e.to_string()))
    }

    /// The CANCEL of an INVITE of ours (RFC 3261, 9.1).
    pub(super) fn cancel(invite: &Request) -> Result<Request, PhoneError> {
        let build = || -> Result<Request, sipx_sip::BuildError> {
            let mut builder = RequestBuilder::new(Method::Cancel, invite.uri.clone());
            for name in [HeaderName::Via, HeaderName::From, HeaderName::To, HeaderName::CallId] {
                if let Some(value) = invite.headers.value(&name) {
                    builder = builder.header(name, value.into_owned())?;
                }
            }
            Ok(builder.max_forwards(70).cseq(1, &Method::Cancel)?.build())
        };
        build().map_err(|e| PhoneError::Build(e.to_string()))
    }

    /// An answer to a request, with our tag where it has none yet.
    pub(super) fn response(
        &self,
        request: &Request,
        status: u16,
        body: Option<String>,
    ) -> Result<Response, PhoneError> {
        respond(request, status, &self.local_tag, Some(&self.contact), body)
    }
}

/// An answer to a request outside of any dialog.
pub(super) fn stray(request: &Request, status: u16) -> Result<Response, PhoneError> {
    respond(request, status, &token(), None, None)
}

fn respond(
    request: &Request,
    status: u16,
    tag: &str,
    contact: Option<&Bytes>,
    body: Option<String>,
) -> Result<Response, PhoneError> {
    let code = StatusCode::new(status)
        .ok_or_else(|| PhoneError::Build(format!("{status} is no status code")))?;
    let build = || -> Result<Response, sipx_sip::BuildError> {
        let mut builder = ResponseBuilder::to_request(request, code, reason_phrase(status))?;
        let untagged = matches!(request.headers.typed::<To>(), Some(Ok(to)) if to.tag().is_none());
        if untagged && status > 100 {
            let mut to = request.headers.value(&HeaderName::To).unwrap_or_default().into_owned();
            to.extend_from_slice(format!(";tag={tag}").as_bytes());
            builder = builder.set_header(&HeaderName::To, to)?;
        }
        for route in request.headers.get_all(&HeaderName::RecordRoute) {
            builder = builder.header(HeaderName::RecordRoute, route.value().into_owned())?;
        }
        if let Some(contact) = contact {
            builder = builder.header(HeaderName::Contact, contact.clone())?;
        }
        builder = builder.header(HeaderName::Allow, ALLOW)?;
        if let Some(body) = body {
            builder = builder.header(HeaderName::ContentType, "application/sdp")?.body(body);
        }
        Ok(builder.build())
    };
    build().map_err(|e| PhoneError::Build(e.to_string()))
}

/// The user part of whoever a request comes from, for the timeline.
pub(super) fn caller_of(request: &Request) -> Option<String> {
    let Some(Ok(from)) = request.headers.typed::<FromHeader>() else { return None };
    let user = from.uri.decoded_user()?;
    Some(printable(&user))
}

/// Text of a peer without control characters, at most 80 of them.
pub(super) fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn contact_of(headers: &sipx_sip::Headers) -> Option<Uri> {
    match headers.typed::<ContactValue>()? {
        Ok(ContactValue::Address(address)) => Some(address.uri),
        _ => None,
    }
}

fn routes_of(headers: &sipx_sip::Headers) -> Vec<Bytes> {
    let all = headers.typed_all::<RecordRoute>().filter_map(Result::ok);
    all.map(|r| Bytes::from(format!("<{}>", r.uri))).take(16).collect()
}

fn user_agent() -> String {
    format!("Assent/{} phone", env!("CARGO_PKG_VERSION"))
}

/// Everything that RFC 3261 does not let stand in a user part is escaped.
fn escaped(user: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&b);
    user.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// A word that nobody else has: 96 random bits.
fn token() -> String {
    let mut bytes = [0; 12];
    // Without randomness a token is still a token; it only fails to be unguessable.
    let _ = getrandom::fill(&mut bytes);
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_part_cannot_break_out() {
        assert_eq!(escaped("+4930123"), "+4930123");
        assert_eq!(escaped("a b>\r\n@x"), "a%20b%3E%0D%0A%40x");
    }

    #[test]
    fn text_of_a_peer_has_no_control_characters() {
        assert_eq!(printable(b"Busy\x1b[31m\r\nHere"), "Busy[31mHere");
    }

    #[test]
    fn each_request_has_a_number_of_its_own() {
        let uri = Uri::parse(Bytes::from_static(b"sip:100@127.0.0.1")).unwrap();
        let mut dialog = Dialog::calling(&uri, "200", "127.0.0.1:5060".parse().unwrap());
        let cseq = |request: Request| {
            String::from_utf8(request.headers.value(&HeaderName::CSeq).unwrap().into_owned())
                .unwrap()
        };
        let invite = dialog.request(Method::Invite, Some("v=0\r\n".to_owned())).unwrap();
        assert_eq!(cseq(Dialog::cancel(&invite).unwrap()), "1 CANCEL");
        assert_eq!(cseq(invite), "1 INVITE");
        assert_eq!(cseq(dialog.request(Method::Ack, None).unwrap()), "1 ACK");
        assert_eq!(cseq(dialog.request(Method::Bye, None).unwrap()), "2 BYE");
    }
}
