//! SIP messages as the call machine sees them: parsed where it decides on something, bytes where
//! it only passes something on. The SIP edge converts to and from the wire.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::ids::Pii;

/// The methods that we serve, as `Allow` says them.
pub const ALLOW: &str =
    "INVITE, ACK, CANCEL, BYE, PRACK, OPTIONS, INFO, UPDATE, REFER, NOTIFY, MESSAGE";

/// The option tags that we support within a dialog, as `Supported` says them.
pub const SUPPORTED: &str = "replaces, timer";

/// A SIP method.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Info,
    Update,
    Prack,
    Refer,
    Notify,
    Subscribe,
    Message,
    Register,
    Publish,
    /// A method this agent does not know.
    Other(String),
}

impl Method {
    /// As on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Options => "OPTIONS",
            Method::Info => "INFO",
            Method::Update => "UPDATE",
            Method::Prack => "PRACK",
            Method::Refer => "REFER",
            Method::Notify => "NOTIFY",
            Method::Subscribe => "SUBSCRIBE",
            Method::Message => "MESSAGE",
            Method::Register => "REGISTER",
            Method::Publish => "PUBLISH",
            Method::Other(name) => name,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Header fields in order. Names are in their canonical, long form (`Via`, not `v`); values are
/// unfolded and otherwise as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Bytes)>);

impl Headers {
    /// No header at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The first value of a header, whatever the case of its name.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    /// Every value of a header, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Bytes> {
        self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    /// Every header, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v))
    }

    /// Adds a header at the end.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<Bytes>) {
        self.0.push((name.into(), value.into()));
    }

    /// Adds these at the end.
    pub fn extend(&mut self, further: Headers) {
        self.0.extend(further.0);
    }

    /// The same as [`Headers::push`], for building in one expression.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.push(name, value);
        self
    }
}

/// A `From`, `To` or `Contact`: as it came, and the parts that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The whole value without its `tag` parameter, ready to be sent on.
    pub value: Pii<Bytes>,
    /// The URI between the angle brackets.
    pub uri: Pii<String>,
    /// The user part of the URI, unescaped; empty when there is none.
    pub user: Pii<String>,
    /// The `tag` parameter.
    pub tag: Option<String>,
}

/// A request that arrived, checked: the mandatory headers are there and well-formed.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The method.
    pub method: Method,
    /// The Request-URI.
    pub uri: Pii<String>,
    /// The user part of the Request-URI, unescaped; empty when there is none.
    pub user: Pii<String>,
    /// `From`.
    pub from: Address,
    /// `To`.
    pub to: Address,
    /// `Call-ID`.
    pub call_id: String,
    /// The number in `CSeq`.
    pub cseq: u32,
    /// `Max-Forwards`; 70 where it is missing.
    pub max_forwards: u8,
    /// The URI in `Contact`: the remote target of a dialog.
    pub contact: Option<String>,
    /// `Record-Route` values, in order, one per element.
    pub record_route: Vec<String>,
    /// Every header, those above included.
    pub headers: Headers,
    /// The body; empty when there is none.
    pub body: Bytes,
    /// Where it came from.
    pub source: Hop,
}

impl Incoming {
    /// The body's media type in lower case without parameters, such as `application/sdp`.
    #[must_use]
    pub fn content_type(&self) -> Option<String> {
        media_type(&self.headers)
    }
}

/// A response that arrived, checked as [`Incoming`] is.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The status code, 100 to 699.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// The `tag` of `To`.
    pub to_tag: Option<String>,
    /// The number in `CSeq`.
    pub cseq: u32,
    /// The URI in `Contact`.
    pub contact: Option<String>,
    /// `Record-Route` values, in order, one per element.
    pub record_route: Vec<String>,
    /// Every header, those above included.
    pub headers: Headers,
    /// The body; empty when there is none.
    pub body: Bytes,
    /// Where the request went, when it could have gone to several.
    pub reached: Option<Reached>,
}

/// The one of several places that a request went to, and what we are called there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Where.
    pub hop: Hop,
    /// Our `Contact` URI in the request.
    pub contact: String,
}

impl Answered {
    /// The body's media type in lower case without parameters.
    #[must_use]
    pub fn content_type(&self) -> Option<String> {
        media_type(&self.headers)
    }
}

fn media_type(headers: &Headers) -> Option<String> {
    let value = headers.first("Content-Type")?;
    let text = std::str::from_utf8(value).ok()?;
    Some(text.split(';').next()?.trim().to_ascii_lowercase())
}

/// A request to send. The SIP edge adds `Via` and `Content-Length`; everything else is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The Request-URI.
    pub uri: String,
    /// Every header but `Via` and `Content-Length`.
    pub headers: Headers,
    /// The body; empty for none.
    pub body: Bytes,
    /// Where to send it.
    pub hop: Hop,
}

/// A response to send. The SIP edge copies `Via`, `From`, `To`, `Call-ID` and `CSeq` of the
/// request and adds `Content-Length`; the rest is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// The tag for `To`, where the request had none. 100 takes none.
    pub to_tag: Option<String>,
    /// Further headers.
    pub headers: Headers,
    /// The body; empty for none.
    pub body: Bytes,
}

impl Response {
    /// A response without a body.
    #[must_use]
    pub fn new(status: u16, to_tag: Option<String>) -> Self {
        Self {
            status,
            reason: reason_phrase(status).to_owned(),
            to_tag,
            headers: Headers::new(),
            body: Bytes::new(),
        }
    }
}

/// How the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// RFC 3261, 18.
    Udp,
    /// RFC 3261, 18.
    Tcp,
    /// RFC 3261, 26.2.1.
    Tls,
}

impl Transport {
    /// As the `Via` writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        }
    }
}

/// What a URI asks of the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `sip:`, any transport.
    Sip,
    /// `sips:`, TLS and nothing else (RFC 5630).
    Sips,
}

impl Scheme {
    /// The scheme of a URI; `sip` where it has another one.
    #[must_use]
    pub fn of(uri: &str) -> Self {
        match uri.get(..5) {
            Some(start) if start.eq_ignore_ascii_case("sips:") => Scheme::Sips,
            _ => Scheme::Sip,
        }
    }
}

/// The next element on the way: a transport and an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// How.
    pub transport: Transport,
    /// Where.
    pub addr: SocketAddr,
}

/// A server transaction: a request that waits for our answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerTxn(pub u64);

/// A client transaction: a request of ours that waits for the peer's answer. Numbers are chosen
/// by whoever sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientTxn(pub u64);

/// Why a request of ours got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// 64·T1 passed (RFC 3261, timers B and F).
    Timeout,
    /// The transport could not deliver.
    Transport,
}

impl Unanswered {
    /// How it reads as a response (RFC 3261, 8.1.3.1).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Unanswered::Timeout => 408,
            Unanswered::Transport => 503,
        }
    }
}

/// The reason phrase of RFC 3261, section 21, for a status.
#[must_use]
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        422 => "Session Interval Too Small",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        _ => "Unknown",
    }
}
