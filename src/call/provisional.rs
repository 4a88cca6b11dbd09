//! Provisional responses that the caller acknowledges with PRACK (RFC 3262, 3).

use std::time::Instant;

use crate::call::message::{Headers, Response};
use crate::call::session_timer::lists;
use crate::call::timer::{Backoff, Due};

/// Which provisional responses go out reliably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// None: the caller does not know how.
    Never,
    /// Those with a description: the caller can.
    Descriptions,
    /// All: the caller insists.
    Always,
}

/// Whether a response bears a description of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carries {
    Description,
    Nothing,
}

/// Where the description that went out reliably stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Described {
    NotYet,
    Acknowledged,
}

/// Whether the final answer waits for an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Final {
    NotYet,
    Waits,
}

/// The provisional responses to one INVITE.
#[derive(Clone, Debug)]
pub(super) struct Provisional {
    demand: Demand,
    /// The `CSeq` of the INVITE.
    cseq: u32,
    /// The last `RSeq`.
    rseq: u32,
    open: Option<Open>,
    /// The newest that has to wait until the open one is acknowledged.
    next: Option<(Response, Carries)>,
    described: Described,
    answer: Final,
}

/// One that is not acknowledged yet.
#[derive(Clone, Debug)]
struct Open {
    rseq: u32,
    response: Response,
    carries: Carries,
    again: Backoff,
}

/// What is due of the open one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    Nothing,
    Again(Response),
    /// The caller does not acknowledge it: 504.
    GiveUp,
}

impl Provisional {
    /// For an INVITE with these headers and this `CSeq`. `tag`, of ours, is random.
    pub(super) fn to(invite: &Headers, cseq: u32, tag: &str) -> Self {
        let demand = match () {
            () if lists(invite, "Require", "100rel") => Demand::Always,
            () if lists(invite, "Supported", "100rel") => Demand::Descriptions,
            () => Demand::Never,
        };
        // RFC 3262, 3: the first is drawn below 2^31, so that it does not run over.
        let drawn = tag.get(..7).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let rseq = drawn.unwrap_or_default();
        let (described, answer) = (Described::NotYet, Final::NotYet);
        Self { demand, cseq, rseq, open: None, next: None, described, answer }
    }

    /// Whether a description can go out before the final answer and be relied on.
    pub(super) fn is_reliable(&self) -> bool {
        self.demand != Demand::Never
    }

    /// Whether every response is acknowledged, so that the first bears our offer where the INVITE
    /// had none.
    pub(super) fn is_always_reliable(&self) -> bool {
        self.demand == Demand::Always
    }

    /// Whether a description is out, or waits to be sent, and need not be said again.
    pub(super) fn has_description(&self) -> bool {
        let bears = |carries| carries == Carries::Description;
        self.is_described()
            || self.open.as_ref().is_some_and(|open| bears(open.carries))
            || self.next.as_ref().is_some_and(|(_, carries)| bears(*carries))
    }

    /// Whether the caller has acknowledged a description: no other response bears one.
    pub(super) fn is_described(&self) -> bool {
        self.described == Described::Acknowledged
    }

    /// What goes out now for this response: it, made reliable if it is to be; `None` while another
    /// is not acknowledged.
    pub(super) fn send(
        &mut self,
        now: Instant,
        response: Response,
        carries: Carries,
    ) -> Option<Response> {
        let reliably = match self.demand {
            Demand::Never => false,
            Demand::Descriptions => carries == Carries::Description,
            Demand::Always => true,
        };
        if !reliably {
            return Some(response);
        }
        if self.open.is_some() {
            let kept = self.next.as_ref().is_some_and(|(_, waits)| *waits == Carries::Description);
            if carries == Carries::Description || !kept {
                self.next = Some((response, carries));
            }
            return None;
        }
        Some(self.open(now, response, carries))
    }

    fn open(&mut self, now: Instant, mut response: Response, carries: Carries) -> Response {
        self.rseq = self.rseq.saturating_add(1);
        response.headers.push("Require", "100rel");
        response.headers.push("RSeq", self.rseq.to_string());
        self.open = Some(Open {
            rseq: self.rseq,
            response: response.clone(),
            carries,
            again: Backoff::doubling(now),
        });
        response
    }

    /// Takes a PRACK; `None` when it acknowledges nothing that is open: 481.
    pub(super) fn acknowledge(&mut self, prack: &Headers) -> Option<Carries> {
        let text = std::str::from_utf8(prack.first("RAck")?).ok()?;
        let mut parts = text.split_ascii_whitespace();
        let rseq: u32 = parts.next()?.parse().ok()?;
        let cseq: u32 = parts.next()?.parse().ok()?;
        let invite = parts.next()? == "INVITE" && parts.next().is_none();
        let open = self.open.take_if(|open| invite && cseq == self.cseq && open.rseq == rseq)?;
        if open.carries == Carries::Description {
            self.described = Described::Acknowledged;
        }
        Some(open.carries)
    }

    /// The one that waited, once nothing is open.
    pub(super) fn next(&mut self, now: Instant) -> Option<Response> {
        if self.open.is_some() || self.answer == Final::Waits {
            return None;
        }
        let (response, carries) = self.next.take()?;
        Some(self.open(now, response, carries))
    }

    /// Whether a 2xx has to wait, and if so takes note that one does (RFC 3262, 3).
    pub(super) fn delays_answer(&mut self) -> bool {
        let delays = self.open.as_ref().is_some_and(|open| open.carries == Carries::Description);
        if delays {
            self.answer = Final::Waits;
        }
        delays
    }

    /// Whether a 2xx has waited and may go now.
    pub(super) fn releases_answer(&self) -> bool {
        self.answer == Final::Waits && self.open.is_none()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.again.deadline())
    }

    pub(super) fn due(&mut self, now: Instant) -> Overdue {
        let Some(open) = &mut self.open else { return Overdue::Nothing };
        match open.again.due(now) {
            Due::NotYet => Overdue::Nothing,
            Due::Again => Overdue::Again(open.response.clone()),
            Due::GiveUp => Overdue::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(name: &str) -> Provisional {
        Provisional::to(&Headers::new().with(name.to_owned(), "timer, 100REL"), 7, "00000ff0")
    }

    fn rack(value: &'static str) -> Headers {
        Headers::new().with("RAck", value)
    }

    fn rseq(response: &Response) -> Option<&[u8]> {
        response.headers.first("RSeq").map(|value| &value[..])
    }

    #[test]
    fn what_goes_out_reliably_is_what_the_caller_asks_for() {
        let now = Instant::now();
        let ringing = || Response::new(180, None);
        for (name, carries, reliable) in [
            ("Subject", Carries::Description, false),
            ("Supported", Carries::Nothing, false),
            ("Supported", Carries::Description, true),
            ("Require", Carries::Nothing, true),
        ] {
            let sent = to(name).send(now, ringing(), carries).unwrap();
            assert_eq!(rseq(&sent).is_some(), reliable, "{name} {carries:?}");
        }
    }

    #[test]
    fn one_at_a_time_and_the_newest_next_but_never_without_its_description() {
        let now = Instant::now();
        let mut responses = to("Require");
        let first = responses.send(now, Response::new(180, None), Carries::Nothing).unwrap();
        assert_eq!(rseq(&first), Some(&b"256"[..]));
        assert_eq!(responses.send(now, Response::new(181, None), Carries::Nothing), None);
        assert_eq!(responses.send(now, Response::new(183, None), Carries::Description), None);
        assert_eq!(responses.send(now, Response::new(182, None), Carries::Nothing), None);
        for wrong in ["255 7 INVITE", "256 8 INVITE", "256 7 BYE", "256 7", "x", "256 7 INVITE 1"] {
            assert_eq!(responses.acknowledge(&rack(wrong)), None, "{wrong}");
        }
        assert!(!responses.delays_answer(), "it bears no description");
        assert_eq!(responses.acknowledge(&rack("256 7 INVITE")), Some(Carries::Nothing));
        assert_eq!(responses.acknowledge(&rack("256 7 INVITE")), None, "once");
        let second = responses.next(now).unwrap();
        assert_eq!((second.status, rseq(&second)), (183, Some(&b"257"[..])));
        assert!(responses.delays_answer() && !responses.releases_answer());
        assert_eq!(responses.acknowledge(&rack("257 7 INVITE")), Some(Carries::Description));
        assert!(responses.is_described() && responses.releases_answer());
        assert_eq!(responses.next(now), None);
    }

    #[test]
    fn it_is_repeated_at_doubled_intervals_and_given_up_after_64_t1() {
        let now = Instant::now();
        let mut responses = to("Require");
        responses.send(now, Response::new(180, None), Carries::Nothing);
        let mut times = Vec::new();
        while let Some(at) = responses.deadline() {
            match responses.due(at) {
                Overdue::Again(_) => times.push((at - now).as_millis()),
                Overdue::GiveUp => break,
                Overdue::Nothing => unreachable!("asked at its own deadline"),
            }
        }
        assert_eq!(times, [500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    }
}
