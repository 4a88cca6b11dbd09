//! One request and several places that it may go to (RFC 3263, 4.3): which comes next, and when.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::call::message::{Answered, Headers, Hop, Reached, Request};
use crate::sip::uri;

/// A place that an INVITE may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub hop: Hop,
    /// The Request-URI there.
    pub uri: String,
    /// Our `Contact` URI there.
    pub contact: String,
    /// The name that it must show a certificate for; its address where there is none. For TLS.
    pub name: Option<Arc<str>>,
}

/// Why a target was passed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// It said nothing for as long as it may.
    Silent,
    /// Nothing could be sent there.
    Unreachable,
    /// It said 503, and how long to leave it alone if it did (RFC 3261, 21.5.4).
    Unavailable(Option<Duration>),
}

/// How often a call is sent elsewhere by 3xx.
const REDIRECTS: u8 = 4;

/// The most targets of one request.
const TARGETS: usize = 32;

/// A request on its way through its targets.
#[derive(Debug)]
pub(super) struct Plan {
    request: Request,
    /// The target in use; none where the request goes to its own hop and nowhere else.
    current: Option<Target>,
    waiting: VecDeque<Target>,
    all: Vec<Target>,
    redirects: u8,
    /// How long a target may say nothing while others wait.
    pub(super) patience: Duration,
    pub(super) heard: Heard,
    pub(super) size: Size,
}

/// What the target in use has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Heard {
    Nothing,
    /// 100: it is alive, and the call may still go elsewhere.
    Trying,
    /// More than that: the call is where it belongs.
    Progress,
}

/// What the size of a request means for its transport (RFC 3261, 18.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// It may leave by TCP, where it is large.
    Counts,
    /// It left by TCP because it is large.
    Switched,
    /// It leaves as its hop says.
    Ignored,
}

impl Plan {
    /// To the request's own hop.
    pub(super) fn direct(request: Request) -> Self {
        Self {
            request,
            current: None,
            waiting: VecDeque::new(),
            all: Vec::new(),
            redirects: 0,
            patience: Duration::ZERO,
            heard: Heard::Nothing,
            size: Size::Counts,
        }
    }

    /// To the first of `targets` that takes it.
    pub(super) fn to_any(request: Request, mut targets: Vec<Target>, patience: Duration) -> Self {
        targets.truncate(TARGETS);
        let mut waiting = VecDeque::from(targets.clone());
        let current = waiting.pop_front();
        Self { current, waiting, all: targets, patience, ..Self::direct(request) }
    }

    /// The request as it leaves for the target in use.
    pub(super) fn request(&self) -> Request {
        let Some(target) = &self.current else { return self.request.clone() };
        let mut headers = Headers::new();
        for (name, value) in self.request.headers.iter() {
            if name.eq_ignore_ascii_case("Contact") {
                headers.push(name, format!("<{}>", target.contact));
            } else {
                headers.push(name, value.clone());
            }
        }
        Request {
            uri: target.uri.clone(),
            hop: target.hop,
            headers,
            method: self.request.method.clone(),
            body: self.request.body.clone(),
        }
    }

    pub(super) fn target(&self) -> Option<&Target> {
        self.current.as_ref()
    }

    /// Whether another target waits.
    pub(super) fn has_more(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes the next way: the same target by UDP, where TCP was for the size alone, else the next
    /// target. `false` when there is none.
    pub(super) fn advance(&mut self) -> bool {
        self.heard = Heard::Nothing;
        if self.size == Size::Switched {
            self.size = Size::Ignored;
            return true;
        }
        self.next_target()
    }

    /// Takes the next target. `false` when there is none.
    pub(super) fn next_target(&mut self) -> bool {
        let Some(next) = self.waiting.pop_front() else { return false };
        self.current = Some(next);
        self.heard = Heard::Nothing;
        self.size = Size::Counts;
        true
    }

    /// Takes the target that a 3xx names, if it is one of the configured ones: an answer never
    /// decides where else a call goes. `false` when it is not.
    pub(super) fn redirect(&mut self, answer: &Answered) -> bool {
        if self.redirects >= REDIRECTS {
            return false;
        }
        let contacts: Vec<String> = answer
            .headers
            .all("Contact")
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(uri::each_bare)
            // Who says this itself has been asked.
            .filter(|contact| self.current.as_ref().is_none_or(|asked| asked.uri != *contact))
            .collect();
        let mut named = VecDeque::new();
        for contact in contacts.into_iter().take(TARGETS) {
            let of_contact = self.all.iter().filter(|target| {
                uri::leads_to(&contact, target.hop.addr) || uri::same_place(&contact, &target.uri)
            });
            named
                .extend(of_contact.map(|target| Target { uri: contact.clone(), ..target.clone() }));
        }
        named.truncate(TARGETS);
        if named.is_empty() {
            return false;
        }
        self.redirects += 1;
        self.waiting = named;
        self.next_target()
    }

    /// What the dialog is made with.
    pub(super) fn reached(&self) -> Option<Reached> {
        let target = self.current.as_ref()?;
        Some(Reached { hop: target.hop, contact: target.contact.clone() })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::call::message::{Method, Transport};

    fn hop(n: u8) -> Hop {
        Hop { transport: Transport::Udp, addr: ([192, 0, 2, n], 5060).into() }
    }

    fn target(n: u8) -> Target {
        Target {
            hop: hop(n),
            uri: format!("sip:bob@192.0.2.{n}"),
            contact: format!("sip:assent@198.51.100.{n}"),
            name: None,
        }
    }

    fn plan() -> Plan {
        let request = Request {
            method: Method::Invite,
            uri: "sip:x".to_owned(),
            headers: Headers::new().with("Contact", "<sip:x>").with("Subject", "a"),
            body: Bytes::new(),
            hop: hop(9),
        };
        Plan::to_any(request, vec![target(1), target(2)], Duration::from_secs(1))
    }

    fn moved(contacts: &[&'static str]) -> Answered {
        let mut headers = Headers::new();
        for contact in contacts {
            headers.push("Contact", *contact);
        }
        Answered {
            status: 302,
            reason: String::new(),
            to_tag: None,
            cseq: 1,
            contact: None,
            record_route: Vec::new(),
            headers,
            body: Bytes::new(),
            reached: None,
        }
    }

    #[test]
    fn each_target_gets_its_own_uri_and_contact() {
        let mut plan = plan();
        for n in [1, 2] {
            let request = plan.request();
            assert_eq!((request.hop, request.uri), (hop(n), format!("sip:bob@192.0.2.{n}")));
            let contact = format!("<sip:assent@198.51.100.{n}>");
            assert_eq!(request.headers.first("Contact").unwrap(), contact.as_bytes());
            assert_eq!(request.headers.first("Subject").unwrap(), &b"a"[..]);
            assert_eq!(plan.advance(), n == 1);
        }
    }

    #[test]
    fn what_left_by_tcp_for_its_size_goes_by_udp_before_the_next_target_is_tried() {
        let mut plan = plan();
        plan.size = Size::Switched;
        assert!(plan.advance());
        assert_eq!((plan.request().hop, plan.size), (hop(1), Size::Ignored));
        assert!(plan.advance());
        assert_eq!((plan.request().hop, plan.size), (hop(2), Size::Counts));
    }

    #[test]
    fn a_3xx_is_followed_to_configured_targets_and_nowhere_else() {
        let mut plan = plan();
        assert!(!plan.redirect(&moved(&["<sip:evil@203.0.113.1>"])));
        assert!(!plan.redirect(&moved(&["<sip:evil@192.0.2.2:7000>"])));
        assert!(!plan.redirect(&moved(&["<tel:+1900>", "*", "nonsense <"])));
        assert_eq!(plan.request().hop, hop(1));
        let followed =
            moved(&["<sip:evil@203.0.113.1>, \"V, M\" <sip:vm@192.0.2.2;x=y?Route=z>;q=1"]);
        assert!(plan.redirect(&followed));
        let request = plan.request();
        assert_eq!((request.hop, request.uri.as_str()), (hop(2), "sip:vm@192.0.2.2;x=y"));
        assert!(!plan.has_more());
    }

    #[test]
    fn redirects_come_to_an_end() {
        let mut plan = plan();
        assert!(!plan.redirect(&moved(&["<sip:bob@192.0.2.1>"])), "that is where it went");
        let rounds = [moved(&["<sip:a@192.0.2.1>"]), moved(&["<sip:b@192.0.2.1>"])];
        let followed = rounds.iter().cycle().take(99).filter(|to| plan.redirect(to)).count();
        assert_eq!(followed, usize::from(REDIRECTS));
    }
}
