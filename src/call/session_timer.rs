//! Session timers (RFC 4028): what is agreed with a peer, when we refresh, and when a session that
//! nobody refreshes is given up.

use std::time::{Duration, Instant};

use crate::call::message::{ClientTxn, Headers, Response, SUPPORTED};

/// The shortest interval that a peer may be given who names no `Min-SE` (RFC 4028, 9).
pub const LEAST: Duration = Duration::from_secs(90);

/// The longest interval that is asked for when a peer says that ours is too short.
const LONGEST: Duration = Duration::from_secs(86_400);

/// How often a request is repeated with a longer interval.
const RAISES: u8 = 3;

/// How long before its end a session is given up that the peer has not refreshed, or a third of
/// the interval (RFC 4028, 10).
const MARGIN: Duration = Duration::from_secs(32);

/// What we want of session timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a session lasts without a refresh. `None`: only where the peer asks for a timer.
    pub expires: Option<Duration>,
    /// The shortest interval that we agree to.
    pub least: Duration,
}

/// The peer's interval is shorter than we agree to: 422.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooShort {
    least: Duration,
}

impl TooShort {
    /// The response that says so.
    #[must_use]
    pub fn response(self, to_tag: Option<String>) -> Response {
        let mut response = Response::new(422, to_tag);
        response.headers.push("Min-SE", seconds(self.least).to_string());
        response
    }
}

/// Who of the two sends the refreshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refresher {
    We,
    Peer,
}

/// What a peer's message says of session timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    support: Option<Supported>,
    expires: Option<(Duration, Option<Party>)>,
    least: Option<Duration>,
}

/// `Supported: timer` was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Supported;

/// The `refresher` parameter: an end of the transaction, not of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    Uac,
    Uas,
}

impl Said {
    fn by(headers: &Headers) -> Self {
        let names = |name| lists(headers, name, "timer");
        Self {
            support: (names("Supported") || names("Require")).then_some(Supported),
            expires: headers.first("Session-Expires").and_then(|value| {
                let text = std::str::from_utf8(value).ok()?;
                let mut parts = text.split(';').map(str::trim);
                let interval = delta(parts.next()?)?;
                let party = parts.find_map(|part| {
                    let (name, value) = part.split_once('=')?;
                    let named = name.trim().eq_ignore_ascii_case("refresher");
                    match value.trim().to_ascii_lowercase().as_str() {
                        "uac" if named => Some(Party::Uac),
                        "uas" if named => Some(Party::Uas),
                        _ => None,
                    }
                });
                Some((interval, party))
            }),
            least: least_in(headers),
        }
    }
}

/// Whether a header that lists tokens names this one.
pub(super) fn lists(headers: &Headers, name: &str, token: &str) -> bool {
    let values = headers.all(name).filter_map(|value| std::str::from_utf8(value).ok());
    values.flat_map(|list| list.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

fn least_in(headers: &Headers) -> Option<Duration> {
    let text = std::str::from_utf8(headers.first("Min-SE")?).ok()?;
    delta(text.split(';').next()?.trim())
}

/// delta-seconds; what is more than anybody waits counts as the longest.
fn delta(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = text.parse::<u32>().unwrap_or(u32::MAX);
    Some(Duration::from_secs(u64::from(seconds)))
}

/// Whole seconds, never less than was meant.
fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

/// What the 2xx to a peer's INVITE or UPDATE says of the timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Granted {
    agreed: Option<(Duration, Refresher)>,
    support: Option<Supported>,
}

impl Granted {
    /// Adds the timer to the response.
    pub(super) fn write(self, headers: &mut Headers) {
        headers.push("Supported", SUPPORTED);
        let Some((interval, refresher)) = self.agreed else { return };
        if self.support.is_some() {
            headers.push("Require", "timer");
        }
        let party = match refresher {
            Refresher::We => "uas",
            Refresher::Peer => "uac",
        };
        let value = format!("{};refresher={party}", seconds(interval));
        headers.push("Session-Expires", value);
    }
}

/// What is granted to an INVITE that begins a session (RFC 4028, 9).
///
/// # Errors
/// When the peer wants an interval that is shorter than we agree to.
pub(super) fn grant(terms: Terms, invite: &Headers) -> Result<Granted, TooShort> {
    grant_within(terms, None, invite)
}

/// Whether the interval of an INVITE is one that we agree to.
///
/// # Errors
/// When it is shorter.
pub fn check(terms: Terms, invite: &Headers) -> Result<(), TooShort> {
    grant(terms, invite).map(|_| ())
}

fn grant_within(
    terms: Terms,
    current: Option<(Duration, Refresher)>,
    request: &Headers,
) -> Result<Granted, TooShort> {
    let said = Said::by(request);
    let support = said.support;
    let agreed = match (said.expires, support) {
        (Some((theirs, _)), Some(_)) if theirs < terms.least => {
            return Err(TooShort { least: terms.least });
        }
        // A proxy on the way wants more refreshes than we make; a 422 would not be understood.
        (Some((theirs, _)), None) if theirs < terms.least => None,
        (Some((theirs, party)), _) => {
            let floor = said.least.unwrap_or(LEAST);
            let ours = terms.expires.unwrap_or(LONGEST).max(floor);
            // RFC 4028, table 2. Who supports the timer and leaves the choice to us refreshes.
            let refresher = match (support, party) {
                (None, _) | (_, Some(Party::Uas)) => Refresher::We,
                (Some(_), Some(Party::Uac) | None) => Refresher::Peer,
            };
            Some((theirs.min(ours), refresher))
        }
        (None, Some(_)) => current.or_else(|| {
            let ours = terms.expires?.max(said.least.unwrap_or_default());
            Some((ours, Refresher::We))
        }),
        (None, None) => current.filter(|(_, refresher)| *refresher == Refresher::We),
    };
    Ok(Granted { agreed, support })
}

/// Adds what an INVITE of ours that begins a session asks for; `least` is what a 422 has named.
pub(super) fn propose(terms: Terms, least: Option<Duration>, headers: &mut Headers) {
    let Some(expires) = terms.expires else { return };
    let least = least.unwrap_or_default().max(terms.least);
    headers.push("Session-Expires", seconds(expires.max(least)).to_string());
    headers.push("Min-SE", seconds(least).to_string());
}

/// How an INVITE of ours is repeated that was answered with a 422.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Raised {
    /// The longest `Min-SE` so far.
    pub(super) least: Option<Duration>,
    times: u8,
}

impl Raised {
    /// With what a 422 says; `None` when it says nothing of use, or too often.
    pub(super) fn by(self, refusal: &Headers) -> Option<Self> {
        let least = least_in(refusal)?;
        let more = self.least.is_none_or(|known| least > known) && least <= LONGEST;
        (more && self.times < RAISES).then_some(Self { least: Some(least), times: self.times + 1 })
    }
}

/// The timer of one dialog.
#[derive(Clone, Debug)]
pub(super) struct SessionTimer {
    terms: Terms,
    raised: Raised,
    way: Way,
    state: State,
}

/// How we refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By UPDATE, which the peer allows.
    Update,
    /// By re-INVITE.
    Invite,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The session lasts until somebody hangs up.
    Endless,
    Running {
        interval: Duration,
        refresher: Refresher,
        due: Instant,
        end: Instant,
    },
    /// Our refresh is under way.
    Refreshing {
        interval: Duration,
        by: By,
        end: Instant,
    },
}

/// The request that refreshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Update(ClientTxn),
    Offer,
}

/// What a [`SessionTimer`] says at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    NotYet,
    /// We refresh.
    Refresh(Way),
    /// Nobody has refreshed in time.
    Expired,
}

/// What becomes of a session whose refresh was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is tried again.
    TryAgain,
    /// The peer knows nothing of it any more.
    Gone,
}

impl SessionTimer {
    /// Of a dialog whose peer has said `headers` in its INVITE.
    pub(super) fn granted_to(
        terms: Terms,
        invite: &Headers,
        granted: Granted,
        now: Instant,
    ) -> Self {
        let mut timer = Self::endless(terms, Raised::default(), invite);
        timer.grant(granted, now);
        timer
    }

    /// Of a dialog whose peer has answered our INVITE.
    pub(super) fn answered_by(
        terms: Terms,
        raised: Raised,
        answer: &Headers,
        now: Instant,
    ) -> Self {
        let mut timer = Self::endless(terms, raised, answer);
        timer.answered(answer, now);
        timer
    }

    fn endless(terms: Terms, raised: Raised, peer: &Headers) -> Self {
        let way = if lists(peer, "Allow", "UPDATE") { Way::Update } else { Way::Invite };
        Self { terms, raised, way, state: State::Endless }
    }

    /// What the peer's re-INVITE or UPDATE is granted.
    ///
    /// # Errors
    /// When it wants an interval that is shorter than we agree to.
    pub(super) fn consider(&self, request: &Headers) -> Result<Granted, TooShort> {
        let current = match self.state {
            State::Endless => None,
            State::Running { interval, refresher, .. } => Some((interval, refresher)),
            State::Refreshing { interval, .. } => Some((interval, Refresher::We)),
        };
        grant_within(self.terms, current, request)
    }

    /// The 2xx with it is sent: the session is refreshed.
    pub(super) fn grant(&mut self, granted: Granted, now: Instant) {
        self.state = match granted.agreed {
            Some((interval, refresher)) => running(interval, refresher, now),
            None => State::Endless,
        };
    }

    /// Adds the timer to a re-INVITE or UPDATE of ours.
    pub(super) fn write(&self, headers: &mut Headers) {
        headers.push("Supported", SUPPORTED);
        let (interval, party) = match self.state {
            State::Endless => return,
            State::Running { interval, refresher: Refresher::Peer, .. } => (interval, "uas"),
            State::Running { interval, .. } | State::Refreshing { interval, .. } => {
                (interval, "uac")
            }
        };
        let least = self.least();
        let value = format!("{};refresher={party}", seconds(interval.max(least)));
        headers.push("Session-Expires", value);
        headers.push("Min-SE", seconds(least).to_string());
    }

    /// A 2xx to a re-INVITE or UPDATE of ours: the session is refreshed (RFC 4028, 7.2).
    pub(super) fn answered(&mut self, answer: &Headers, now: Instant) {
        self.state = match Said::by(answer).expires {
            Some((interval, party)) => {
                let refresher = match party {
                    Some(Party::Uas) => Refresher::Peer,
                    Some(Party::Uac) | None => Refresher::We,
                };
                running(interval.max(self.least()), refresher, now)
            }
            None => State::Endless,
        };
    }

    /// Another final answer to a re-INVITE or UPDATE of ours.
    pub(super) fn refused(&mut self, status: u16, answer: &Headers, now: Instant) -> Refusal {
        let State::Refreshing { interval, by, end } = self.state else {
            return Refusal::TryAgain;
        };
        if matches!(status, 408 | 481) {
            return Refusal::Gone;
        }
        let raised = if status == 422 { self.raised.by(answer) } else { None };
        let (interval, due) = match (status, by, raised) {
            (_, _, Some(raised)) => {
                self.raised = raised;
                (interval.max(self.least()), now)
            }
            // It does not speak UPDATE after all.
            (405 | 420 | 501, By::Update(_), _) => {
                self.way = Way::Invite;
                (interval, now)
            }
            // As often as makes sense in the time that is left.
            _ => {
                let left = end.saturating_duration_since(now);
                (interval, now + (left / 2).max(Duration::from_secs(1)))
            }
        };
        let refresher = Refresher::We;
        self.state = State::Running { interval, refresher, due: due.min(end), end };
        Refusal::TryAgain
    }

    /// Our UPDATE is under way.
    pub(super) fn updating(&mut self, txn: ClientTxn) {
        self.refreshing(By::Update(txn));
    }

    /// Our re-INVITE is under way, or wanted.
    pub(super) fn offering(&mut self) {
        self.refreshing(By::Offer);
    }

    fn refreshing(&mut self, by: By) {
        if let State::Running { interval, end, refresher: Refresher::We, .. } = self.state {
            self.state = State::Refreshing { interval, by, end };
        }
    }

    /// Whether an UPDATE of ours that refreshes has this transaction.
    pub(super) fn updates_by(&self, txn: ClientTxn) -> bool {
        matches!(self.state, State::Refreshing { by: By::Update(sent), .. } if sent == txn)
    }

    /// When [`SessionTimer::due`] is to be asked.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Endless => None,
            State::Running { due, .. } => Some(due),
            State::Refreshing { end, .. } => Some(end),
        }
    }

    /// What is due.
    pub(super) fn due(&self, now: Instant) -> Due {
        match self.state {
            State::Running { end, .. } | State::Refreshing { end, .. } if end <= now => {
                Due::Expired
            }
            State::Running { refresher, due, .. } if due <= now => match refresher {
                Refresher::We => Due::Refresh(self.way),
                Refresher::Peer => Due::Expired,
            },
            _ => Due::NotYet,
        }
    }

    fn least(&self) -> Duration {
        self.raised.least.unwrap_or_default().max(self.terms.least)
    }
}

fn running(interval: Duration, refresher: Refresher, now: Instant) -> State {
    let end = now + interval;
    let due = match refresher {
        Refresher::We => now + interval / 2,
        Refresher::Peer => end - MARGIN.min(interval / 3),
    };
    State::Running { interval, refresher, due, end }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERMS: Terms = Terms { expires: Some(Duration::from_secs(1800)), least: LEAST };

    fn headers(lines: &[(&'static str, &'static str)]) -> Headers {
        lines.iter().fold(Headers::new(), |headers, (name, value)| headers.with(*name, *value))
    }

    fn written(granted: Granted) -> (Option<String>, bool) {
        let mut headers = Headers::new();
        granted.write(&mut headers);
        let text = |value: &bytes::Bytes| String::from_utf8_lossy(value).into_owned();
        (headers.first("Session-Expires").map(text), lists(&headers, "Require", "timer"))
    }

    fn granted(terms: Terms, lines: &[(&'static str, &'static str)]) -> (Option<String>, bool) {
        written(grant(terms, &headers(lines)).unwrap())
    }

    fn own(expires: &str) -> (Option<String>, bool) {
        (Some(expires.to_owned()), true)
    }

    #[test]
    fn the_refresher_is_chosen_as_the_table_of_the_rfc_says() {
        let timer = ("Supported", "100rel, Timer");
        let asks = |value| ("Session-Expires", value);
        assert_eq!(granted(TERMS, &[timer, asks("600")]), own("600;refresher=uac"));
        assert_eq!(granted(TERMS, &[timer, asks("600;refresher=uac")]), own("600;refresher=uac"));
        assert_eq!(granted(TERMS, &[timer, asks("600 ; Refresher=UAS")]), own("600;refresher=uas"));
        assert_eq!(granted(TERMS, &[timer]), own("1800;refresher=uas"));
        let alone = granted(TERMS, &[asks("600")]);
        assert_eq!(alone, (Some("600;refresher=uas".into()), false), "it would not understand");
        assert_eq!(granted(TERMS, &[]), (None, false));
        let off = Terms { expires: None, ..TERMS };
        assert_eq!(granted(off, &[timer]), (None, false));
        assert_eq!(granted(off, &[timer, asks("600")]), own("600;refresher=uac"));
    }

    #[test]
    fn an_interval_is_shortened_to_ours_and_never_below_what_the_peer_takes() {
        let short = Terms { expires: Some(Duration::from_secs(120)), ..TERMS };
        let timer = ("Supported", "timer");
        let asked = [timer, ("Session-Expires", "3600")];
        assert_eq!(granted(short, &asked), own("120;refresher=uac"));
        let floor = [timer, ("Session-Expires", "3600"), ("Min-SE", "300")];
        assert_eq!(granted(short, &floor), own("300;refresher=uac"));
        assert_eq!(granted(short, &[timer, ("Min-SE", "300")]), own("300;refresher=uas"));
    }

    #[test]
    fn too_short_an_interval_is_422_for_who_understands_it() {
        let timer = ("Supported", "timer");
        let refusal = grant(TERMS, &headers(&[timer, ("Session-Expires", "89")])).unwrap_err();
        let response = refusal.response(None);
        assert_eq!(response.status, 422);
        assert_eq!(response.headers.first("Min-SE").map(|v| &v[..]), Some(&b"90"[..]));
        assert_eq!(granted(TERMS, &[("Session-Expires", "89")]), (None, false));
    }

    #[test]
    fn a_422_raises_the_interval_and_not_for_ever() {
        let says = |value| Headers::new().with("Min-SE", value);
        let raised = Raised::default().by(&says("7200")).unwrap();
        let mut headers = Headers::new();
        propose(TERMS, raised.least, &mut headers);
        assert_eq!(headers.first("Session-Expires").map(|v| &v[..]), Some(&b"7200"[..]));
        assert_eq!(headers.first("Min-SE").map(|v| &v[..]), Some(&b"7200"[..]));
        assert_eq!(raised.by(&says("7200")), None, "it is what we said");
        assert_eq!(raised.by(&says("99999999999")), None);
        assert_eq!(raised.by(&Headers::new()), None);
        let mut raised = Some(Raised::default());
        let mut times = 0;
        for least in 100..200_u32 {
            raised = raised.and_then(|r| r.by(&Headers::new().with("Min-SE", least.to_string())));
            times += u8::from(raised.is_some());
        }
        assert_eq!(times, RAISES);
    }

    fn answered(lines: &[(&'static str, &'static str)], now: Instant) -> SessionTimer {
        SessionTimer::answered_by(TERMS, Raised::default(), &headers(lines), now)
    }

    #[test]
    fn we_refresh_at_half_of_the_interval_and_give_up_at_its_end() {
        let now = Instant::now();
        let allow = ("Allow", "INVITE, UPDATE");
        let mut timer = answered(&[("Session-Expires", "600;refresher=uac"), allow], now);
        let half = now + Duration::from_secs(300);
        assert_eq!(timer.deadline(), Some(half));
        assert_eq!(timer.due(half), Due::Refresh(Way::Update));
        timer.updating(ClientTxn(7));
        assert!(timer.updates_by(ClientTxn(7)) && !timer.updates_by(ClientTxn(8)));
        assert_eq!(timer.due(half), Due::NotYet);
        assert_eq!(timer.refused(405, &Headers::new(), half), Refusal::TryAgain);
        assert_eq!(timer.due(half), Due::Refresh(Way::Invite));
        timer.offering();
        assert_eq!(timer.refused(500, &Headers::new(), half), Refusal::TryAgain);
        assert_eq!(timer.deadline(), Some(half + Duration::from_secs(150)));
        timer.offering();
        assert_eq!(timer.due(now + Duration::from_secs(600)), Due::Expired);
        assert_eq!(timer.refused(481, &Headers::new(), half), Refusal::Gone);
        timer.answered(&headers(&[("Session-Expires", "600;refresher=uac")]), half);
        assert_eq!(timer.deadline(), Some(half + Duration::from_secs(300)));
        timer.answered(&Headers::new(), half);
        assert_eq!(timer.deadline(), None, "the peer has ended the timer");
    }

    #[test]
    fn who_does_not_refresh_is_given_up_before_the_interval_ends() {
        let now = Instant::now();
        for (interval, due) in [("600", 568), ("90", 60)] {
            let value = format!("{interval};refresher=uas");
            let answer = Headers::new().with("Session-Expires", value);
            let timer = SessionTimer::answered_by(TERMS, Raised::default(), &answer, now);
            let due = now + Duration::from_secs(due);
            assert_eq!(timer.deadline(), Some(due));
            assert_eq!(timer.due(due), Due::Expired);
        }
    }

    #[test]
    fn a_hold_without_a_word_of_the_timer_takes_nothing_from_who_counts_on_us() {
        let now = Instant::now();
        let ours = answered(&[("Session-Expires", "600;refresher=uac")], now);
        let kept = written(ours.consider(&Headers::new()).unwrap());
        assert_eq!(kept, (Some("600;refresher=uas".into()), false));
        let theirs = answered(&[("Session-Expires", "600;refresher=uas")], now);
        assert_eq!(written(theirs.consider(&Headers::new()).unwrap()), (None, false));
        let kept = theirs.consider(&headers(&[("Supported", "timer")])).unwrap();
        assert_eq!(written(kept), own("600;refresher=uac"));
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-9]{0,12}",
            "[0-9]{1,6};refresher=(uac|uas|x)",
            "[ -~]{0,20}",
            Just("timer".to_owned()),
        ]
    }

    proptest! {
        /// Whatever a peer says: what is granted is no longer than asked and no shorter than we
        /// agree to, the timer is asked in time, and what is due is due at its deadline.
        #[test]
        fn no_header_makes_a_timer_that_hurries_or_hangs(
            lines in proptest::collection::vec((0..4_usize, value()), 0..6),
            elapsed in 0..10_000_u64,
        ) {
            let names = ["Supported", "Session-Expires", "Min-SE", "Require"];
            let said = lines.iter().fold(Headers::new(), |headers, (name, value)| {
                headers.with(names[*name], value.clone())
            });
            let now = Instant::now();
            let mut timers = vec![SessionTimer::answered_by(TERMS, Raised::default(), &said, now)];
            if let Ok(granted) = grant(TERMS, &said) {
                let asked = Said::by(&said).expires.map(|(interval, _)| interval);
                if let (Some((interval, _)), Some(asked)) = (granted.agreed, asked) {
                    prop_assert!(interval <= asked && interval >= TERMS.least);
                }
                timers.push(SessionTimer::granted_to(TERMS, &said, granted, now));
            }
            for mut timer in timers {
                let Some(deadline) = timer.deadline() else { continue };
                prop_assert!(deadline >= now + TERMS.least / 2);
                prop_assert!(timer.due(deadline) != Due::NotYet);
                timer.offering();
                let later = now + Duration::from_secs(elapsed);
                let _ = timer.refused(422, &said, later);
                if let Some(deadline) = timer.deadline() {
                    prop_assert!(timer.due(deadline) != Due::NotYet);
                }
            }
        }
    }
}
