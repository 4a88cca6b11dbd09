//! A call from its INVITE to its BYE, from either side.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sipx_sip::{HeaderName, Method, Request, Response, TransactionKey};
use tokio::sync::mpsc;

use super::dialog::{self, Dialog, printable};
use super::target::{Target, resolve};
use super::voice::{Sockets, Voice};
use super::wire::{Heard, Wire};
use super::{Happening, Identity, Order, Outcome, PhoneError, Plan, Report, Side, Teller};
use crate::clock;
use crate::rtp::{Codec, Direction, LegMedia};
use crate::sdp::{LocalDescription, LocalOffer, Offer, answer, reanswer};

/// How long a phone waits for the answer to its BYE or CANCEL.
const LAST_WORD: Duration = Duration::from_secs(4);
/// RFC 3261, T1 and T2: how a 2xx is repeated until its ACK comes.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

/// A phone on the hook.
#[derive(Debug)]
pub struct Phone {
    identity: Identity,
    wire: Wire,
    sockets: Sockets,
    address: SocketAddr,
}

/// What a phone is handed for one call.
#[derive(Debug)]
pub struct Call {
    /// What to do in it.
    pub plan: Plan,
    /// Orders while it goes on. Dropping the sender orders nothing.
    pub orders: mpsc::Receiver<Order>,
    /// Where to tell what happens.
    pub teller: Teller,
}

impl Phone {
    /// Binds the sockets.
    ///
    /// # Errors
    /// [`PhoneError::Socket`].
    pub async fn open(identity: Identity) -> Result<Self, PhoneError> {
        let at = identity.bind;
        let socket = |source| PhoneError::Socket { address: at, source };
        let wire = Wire::bind(at).await.map_err(socket)?;
        let address = wire.local_addr().map_err(socket)?;
        let sockets = Sockets::bind(address).await.map_err(socket)?;
        Ok(Self { identity, wire, sockets, address })
    }

    /// Where it takes SIP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Calls somebody, and returns when the call is over.
    ///
    /// # Errors
    /// [`PhoneError`]: only for what is wrong on this side.
    pub async fn call(
        self,
        target: &Target,
        to: SocketAddr,
        call: Call,
    ) -> Result<Report, PhoneError> {
        let local = self.local_description();
        let offer = LocalOffer::new(local, true);
        let mut dialog = Dialog::calling(target.uri(), &self.identity.user, self.address);
        let invite = dialog.request(Method::Invite, Some(offer.to_sdp()))?;
        let began = clock::now();
        let Call { plan, orders, teller } = call;
        teller.tell(Duration::ZERO, Happening::Dialled);
        let voice = start_voice(self.sockets, &plan, &teller, began);
        let mut live = Live {
            wire: self.wire,
            dialog,
            to,
            voice: Some(voice),
            orders: Orders(Some(orders)),
            teller,
            began,
            local: offer.local().clone(),
            sdp: offer.to_sdp(),
            ours: None,
            unacknowledged: None,
            ack: None,
            codec: None,
            answered: None,
        };
        let sent = live.wire.request(invite.clone(), to).await;
        let Some(key) = sent else {
            return Err(PhoneError::Build("the INVITE has no branch".to_owned()));
        };
        match live.ring(&invite, &key, &offer, &plan).await? {
            Some(outcome) => live.over(outcome).await,
            None => live.talk(&plan).await,
        }
    }

    /// Waits for a call, rings for as long as the plan says, answers, and returns when the call
    /// is over.
    ///
    /// # Errors
    /// [`PhoneError`]: only for what is wrong on this side.
    pub async fn answer(mut self, call: Call) -> Result<Report, PhoneError> {
        let Call { plan, orders, teller } = call;
        let mut orders = Orders(Some(orders));
        let (key, invite, dialog, offer) = loop {
            let heard = tokio::select! {
                heard = self.wire.listen() => heard.map_err(|e| self.socket_error(e))?,
                order = orders.next() => match order {
                    Order::HangUp => return Ok(Report::of(Outcome::Cancelled)),
                    _ => continue,
                },
            };
            let Heard::Request(key, request) = heard else { continue };
            if request.method != Method::Invite {
                let status = if request.method == Method::Options { 200 } else { 481 };
                self.wire.respond(&key, dialog::stray(&request, status)?).await;
                continue;
            }
            let dialog = Dialog::called(&request, &self.identity.user, self.address);
            let offer = match request.body().is_empty() {
                true => Ok(None),
                false => Offer::parse(request.body()).map(Some),
            };
            match (dialog, offer) {
                (Some(dialog), Ok(offer)) => break (key, request, dialog, offer),
                (None, _) => self.wire.respond(&key, dialog::stray(&request, 400)?).await,
                (_, Err(_)) => self.wire.respond(&key, dialog::stray(&request, 488)?).await,
            }
        };
        let began = clock::now();
        let from = dialog::caller_of(&invite).unwrap_or_default();
        teller.tell(Duration::ZERO, Happening::Invited { from });
        let local = self.local_description();
        let voice = start_voice(self.sockets, &plan, &teller, began);
        let mut live = Live {
            wire: self.wire,
            dialog,
            to: self.address,
            voice: Some(voice),
            orders,
            teller,
            began,
            local,
            sdp: String::new(),
            ours: None,
            unacknowledged: None,
            ack: None,
            codec: None,
            answered: None,
        };
        match live.pick_up(&key, &invite, offer.as_ref(), &plan).await? {
            Some(outcome) => live.over(outcome).await,
            None => live.talk(&plan).await,
        }
    }

    fn local_description(&self) -> LocalDescription {
        LocalDescription {
            rtp: self.sockets.rtp_addr,
            rtcp_port: self.sockets.rtcp_port,
            session: u64::from(self.sockets.rtp_addr.port()),
            version: 1,
            codecs: self.identity.codecs.clone(),
            direction: Direction::SendRecv,
        }
    }

    fn socket_error(&self, source: std::io::Error) -> PhoneError {
        PhoneError::Socket { address: self.address, source }
    }
}

fn start_voice(sockets: Sockets, plan: &Plan, teller: &Teller, began: Instant) -> Voice {
    Voice::start(sockets, plan.says.clone(), plan.hears.clone(), teller.clone(), began)
}

/// Orders that may have ended.
#[derive(Debug)]
struct Orders(Option<mpsc::Receiver<Order>>);

impl Orders {
    async fn next(&mut self) -> Order {
        if let Some(orders) = &mut self.0 {
            if let Some(order) = orders.recv().await {
                return order;
            }
            self.0 = None;
        }
        std::future::pending().await
    }
}

/// A 2xx of ours that waits for its ACK.
#[derive(Debug)]
struct Unacknowledged {
    key: TransactionKey,
    response: Response,
    again: Instant,
    interval: Duration,
    give_up: Instant,
}

/// A call that goes on.
struct Live {
    wire: Wire,
    dialog: Dialog,
    /// Where requests go while no dialog says otherwise.
    to: SocketAddr,
    voice: Option<Voice>,
    orders: Orders,
    teller: Teller,
    began: Instant,
    local: LocalDescription,
    /// Our description as last sent.
    sdp: String,
    /// An offer of ours in a 2xx; its answer comes with the ACK.
    ours: Option<LocalOffer>,
    unacknowledged: Option<Unacknowledged>,
    /// Our ACK, for when the 2xx is repeated.
    ack: Option<Request>,
    codec: Option<Codec>,
    answered: Option<Instant>,
}

impl Live {
    /// The caller's side until the call is answered (`None`) or over.
    async fn ring(
        &mut self,
        invite: &Request,
        key: &TransactionKey,
        offer: &LocalOffer,
        plan: &Plan,
    ) -> Result<Option<Outcome>, PhoneError> {
        let mut patience = self.began + plan.rings;
        let mut alive = false;
        // RFC 3261, 9.1: no CANCEL before a provisional answer.
        let mut cancel = Cancel::NotWanted;
        loop {
            if cancel == Cancel::Wanted && alive {
                cancel = Cancel::Sent;
                self.wire.request(Dialog::cancel(invite)?, self.to).await;
            }
            let heard = tokio::select! {
                heard = self.wire.listen() => heard.map_err(|e| self.socket_error(e))?,
                () = tokio::time::sleep_until(patience.into()) => {
                    if cancel != Cancel::NotWanted {
                        return Ok(Some(match alive {
                            true => Outcome::Cancelled,
                            false => Outcome::Unreachable,
                        }));
                    }
                    cancel = Cancel::Wanted;
                    patience = clock::now() + LAST_WORD;
                    continue;
                }
                order = self.orders.next() => {
                    if matches!(order, Order::HangUp) && cancel == Cancel::NotWanted {
                        cancel = Cancel::Wanted;
                        patience = clock::now() + LAST_WORD;
                    }
                    continue;
                }
            };
            let (from, response) = match heard {
                Heard::Response(from, response) => (from, response),
                Heard::Unanswered(of) if of == *key => return Ok(Some(Outcome::Unreachable)),
                Heard::Request(of, request) => {
                    self.request(&of, &request).await?;
                    continue;
                }
                _ => continue,
            };
            if from != *key {
                continue;
            }
            alive = true;
            let (status, reason) = (response.status.code(), printable(&response.reason));
            match status {
                100 => {}
                101..=199 => {
                    if let Ok(media) = offer.accept(response.body())
                        && let Some(voice) = &self.voice
                    {
                        voice.listen(media);
                    }
                    self.tell(Happening::Progress { status, reason });
                }
                200..=299 => {
                    self.dialog.established(&response);
                    self.acknowledge(None).await?;
                    if cancel != Cancel::NotWanted {
                        self.bye().await?;
                        return Ok(Some(Outcome::Cancelled));
                    }
                    let Ok(media) = offer.accept(response.body()) else {
                        self.bye().await?;
                        let reason = "the answer's media cannot be used".to_owned();
                        return Ok(Some(Outcome::Refused { status: 488, reason }));
                    };
                    self.connected(media, plan);
                    return Ok(None);
                }
                487 if cancel != Cancel::NotWanted => return Ok(Some(Outcome::Cancelled)),
                _ => {
                    self.tell(Happening::Refused { status, reason: reason.clone() });
                    return Ok(Some(Outcome::Refused { status, reason }));
                }
            }
        }
    }

    /// The callee's side until it has answered (`None`) or the call is over.
    async fn pick_up(
        &mut self,
        key: &TransactionKey,
        invite: &Request,
        offer: Option<&Offer>,
        plan: &Plan,
    ) -> Result<Option<Outcome>, PhoneError> {
        let agreed = match offer {
            None => None,
            Some(offer) => match answer(offer, &self.local) {
                Ok(agreed) => Some(agreed),
                Err(_) => {
                    self.wire.respond(key, self.dialog.response(invite, 488, None)?).await;
                    let reason = "no codec in common".to_owned();
                    return Ok(Some(Outcome::Refused { status: 488, reason }));
                }
            },
        };
        if !plan.rings.is_zero() {
            self.wire.respond(key, self.dialog.response(invite, 180, None)?).await;
            self.tell(Happening::Progress { status: 180, reason: "Ringing".to_owned() });
        }
        let answers_at = clock::now() + plan.rings;
        loop {
            let heard = tokio::select! {
                heard = self.wire.listen() => heard.map_err(|e| self.socket_error(e))?,
                () = tokio::time::sleep_until(answers_at.into()) => break,
                order = self.orders.next() => {
                    if matches!(order, Order::HangUp) {
                        self.wire.respond(key, self.dialog.response(invite, 486, None)?).await;
                        return Ok(Some(Outcome::Cancelled));
                    }
                    continue;
                }
            };
            let Heard::Request(of, request) = heard else { continue };
            if TransactionKey::for_cancelled_invite(&request).as_ref() == Some(key) {
                self.wire.respond(&of, self.dialog.response(&request, 200, None)?).await;
                self.wire.respond(key, self.dialog.response(invite, 487, None)?).await;
                return Ok(Some(Outcome::Cancelled));
            }
            self.request(&of, &request).await?;
        }
        match agreed {
            Some(agreed) => {
                self.sdp = agreed.sdp;
                self.connected(agreed.media, plan);
            }
            None => {
                let ours = LocalOffer::new(self.local.clone(), true);
                self.sdp = ours.to_sdp();
                self.ours = Some(ours);
                self.answered = Some(clock::now());
            }
        }
        let response = self.dialog.response(invite, 200, Some(self.sdp.clone()))?;
        self.accept(key, response).await;
        Ok(None)
    }

    /// An answered call until it is over.
    async fn talk(mut self, plan: &Plan) -> Result<Report, PhoneError> {
        let ends = self.answered.zip(plan.lasts).map(|(answered, lasts)| answered + lasts);
        let by = loop {
            let again = self.unacknowledged.as_ref().map(|u| u.again);
            let heard = tokio::select! {
                heard = self.wire.listen() => heard.map_err(|e| self.socket_error(e))?,
                () = until(ends) => break Side::Us,
                () = until(again) => {
                    if !self.repeat().await { break Side::Us }
                    continue;
                }
                order = self.orders.next() => {
                    match (order, &self.voice) {
                        (Order::HangUp, _) => break Side::Us,
                        (Order::Press(key), Some(voice)) => voice.press(key),
                        (Order::Say(sound), Some(voice)) => voice.say(sound),
                        (_, None) => {}
                    }
                    continue;
                }
            };
            match heard {
                Heard::Request(key, request) => {
                    let still = self.request(&key, &request).await?;
                    if still == Still::Over {
                        break Side::Peer;
                    }
                }
                Heard::Ack(ack) if self.dialog.owns(&ack.headers) => self.acknowledged(&ack, plan),
                Heard::Response(_, response)
                    if response.status.is_success() && is_invite(&response) =>
                {
                    self.acknowledge_again().await?;
                }
                _ => {}
            }
        };
        if by == Side::Us {
            // First the voice falls silent, then the other side is told.
            let outcome = Outcome::Completed { by };
            let report = self.report(outcome).await?;
            self.bye().await?;
            return Ok(report);
        }
        self.over(Outcome::Completed { by }).await
    }

    /// Answers a request of the peer's.
    async fn request(
        &mut self,
        key: &TransactionKey,
        request: &Request,
    ) -> Result<Still, PhoneError> {
        if !self.dialog.owns(&request.headers) {
            let status = match request.method {
                Method::Invite => 486,
                Method::Options => 200,
                _ => 481,
            };
            self.wire.respond(key, dialog::stray(request, status)?).await;
            return Ok(Still::Going);
        }
        match request.method {
            Method::Bye => {
                self.wire.respond(key, self.dialog.response(request, 200, None)?).await;
                return Ok(Still::Over);
            }
            Method::Invite | Method::Update => self.renegotiate(key, request).await?,
            Method::Info | Method::Options => {
                self.wire.respond(key, self.dialog.response(request, 200, None)?).await;
            }
            Method::Cancel => {
                self.wire.respond(key, self.dialog.response(request, 481, None)?).await;
            }
            _ => self.wire.respond(key, self.dialog.response(request, 405, None)?).await,
        }
        Ok(Still::Going)
    }

    async fn renegotiate(
        &mut self,
        key: &TransactionKey,
        request: &Request,
    ) -> Result<(), PhoneError> {
        self.dialog.refreshed(&request.headers);
        let is_invite = request.method == Method::Invite;
        let body = if request.body().is_empty() {
            if is_invite {
                let ours = LocalOffer::new(self.local.clone(), true);
                self.sdp = ours.to_sdp();
                self.ours = Some(ours);
                Some(self.sdp.clone())
            } else {
                None
            }
        } else {
            let offer = Offer::parse(request.body());
            let agreed = offer.and_then(|offer| reanswer(&offer, &mut self.local, &self.sdp));
            let Ok(agreed) = agreed else {
                self.wire.respond(key, self.dialog.response(request, 488, None)?).await;
                return Ok(());
            };
            self.sdp = agreed.sdp;
            self.renegotiated(agreed.media);
            Some(self.sdp.clone())
        };
        let response = self.dialog.response(request, 200, body)?;
        if is_invite {
            self.accept(key, response).await;
        } else {
            self.wire.respond(key, response).await;
        }
        Ok(())
    }

    fn renegotiated(&mut self, media: LegMedia) {
        let held = !media.direction.receives();
        self.codec = Some(media.codec);
        self.tell(Happening::Renegotiated { codec: media.codec, held });
        if let Some(voice) = &self.voice {
            voice.renegotiated(media);
        }
    }

    fn connected(&mut self, media: LegMedia, plan: &Plan) {
        self.answered.get_or_insert_with(clock::now);
        self.codec = Some(media.codec);
        self.tell(Happening::Answered { codec: media.codec, media: media.remote_rtp });
        if let Some(voice) = &self.voice {
            voice.talk(media, plan.presses.clone());
        }
    }

    /// Sends a 2xx to an INVITE and repeats it until its ACK comes (RFC 3261, 13.3.1.4).
    async fn accept(&mut self, key: &TransactionKey, response: Response) {
        let now = clock::now();
        self.wire.respond(key, response.clone()).await;
        self.unacknowledged = Some(Unacknowledged {
            key: key.clone(),
            response,
            again: now + T1,
            interval: T1,
            give_up: now + 64 * T1,
        });
    }

    /// Repeats the 2xx that waits for its ACK; false when it has waited for too long.
    async fn repeat(&mut self) -> bool {
        let Some(mut waiting) = self.unacknowledged.take() else { return true };
        let now = clock::now();
        if now >= waiting.give_up {
            return false;
        }
        self.wire.respond(&waiting.key, waiting.response.clone()).await;
        waiting.interval = (waiting.interval * 2).min(T2);
        waiting.again = now + waiting.interval;
        self.unacknowledged = Some(waiting);
        true
    }

    fn acknowledged(&mut self, ack: &Request, plan: &Plan) {
        self.unacknowledged = None;
        if let Some(ours) = self.ours.take()
            && let Ok(media) = ours.accept(ack.body())
        {
            if self.codec.is_none() {
                self.connected(media, plan);
            } else {
                self.renegotiated(media);
            }
        }
    }

    async fn acknowledge(&mut self, body: Option<String>) -> Result<(), PhoneError> {
        let ack = self.dialog.request(Method::Ack, body)?;
        self.ack = Some(ack);
        self.acknowledge_again().await
    }

    async fn acknowledge_again(&mut self) -> Result<(), PhoneError> {
        if let Some(ack) = &self.ack {
            let to = resolve(&self.dialog.next_hop()).await.unwrap_or(self.to);
            self.wire.ack(ack.clone(), to).await;
        }
        Ok(())
    }

    /// Hangs up, and waits a moment for the answer.
    async fn bye(&mut self) -> Result<(), PhoneError> {
        let bye = self.dialog.request(Method::Bye, None)?;
        let to = resolve(&self.dialog.next_hop()).await.unwrap_or(self.to);
        let Some(key) = self.wire.request(bye, to).await else { return Ok(()) };
        let patience = clock::now() + LAST_WORD;
        loop {
            let heard = tokio::select! {
                heard = self.wire.listen() => heard.map_err(|e| self.socket_error(e))?,
                () = tokio::time::sleep_until(patience.into()) => return Ok(()),
            };
            match heard {
                Heard::Response(of, response) if of == key && response.status.is_final() => {
                    return Ok(());
                }
                Heard::Unanswered(of) if of == key => return Ok(()),
                Heard::Request(of, request) => {
                    // Both hang up at once: the other BYE is answered too.
                    self.request(&of, &request).await?;
                }
                Heard::Response(_, response)
                    if response.status.is_success() && is_invite(&response) =>
                {
                    self.acknowledge_again().await?;
                }
                _ => {}
            }
        }
    }

    async fn over(mut self, outcome: Outcome) -> Result<Report, PhoneError> {
        self.report(outcome).await
    }

    async fn report(&mut self, outcome: Outcome) -> Result<Report, PhoneError> {
        let talked = self.answered.map(|at| clock::now().saturating_duration_since(at));
        let tally = match self.voice.take() {
            Some(voice) => voice.stop().await?,
            None => super::voice::Tally::default(),
        };
        if let Outcome::Completed { by } = outcome {
            self.tell(Happening::HungUp { by });
        }
        Ok(Report {
            outcome,
            talked: talked.unwrap_or_default(),
            heard: tally.heard,
            sent: tally.sent,
            received: tally.received,
            lost: tally.lost,
            codec: self.codec,
        })
    }

    fn tell(&self, what: Happening) {
        self.teller.tell(clock::now().saturating_duration_since(self.began), what);
    }

    fn socket_error(&self, source: std::io::Error) -> PhoneError {
        PhoneError::Socket { address: self.local.rtp, source }
    }
}

impl Report {
    /// A call that never got anywhere.
    fn of(outcome: Outcome) -> Self {
        let zero = Duration::ZERO;
        Self { outcome, talked: zero, heard: zero, sent: 0, received: 0, lost: 0, codec: None }
    }
}

/// Whether a CANCEL is wanted, and has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cancel {
    NotWanted,
    Wanted,
    Sent,
}

/// Whether a call goes on after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Still {
    Going,
    Over,
}

fn is_invite(response: &Response) -> bool {
    let cseq = response.headers.value(&HeaderName::CSeq).unwrap_or_default();
    cseq.ends_with(b"INVITE")
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phone::{PhoneEvent, Press, Sound};

    fn plan(says: Sound) -> Plan {
        Plan { says, rings: Duration::from_millis(200), ..Plan::default() }
    }

    fn call(plan: Plan) -> (Call, mpsc::Sender<Order>, mpsc::UnboundedReceiver<PhoneEvent>) {
        let (sender, orders) = mpsc::channel(4);
        let (teller, events) = Teller::new();
        (Call { plan, orders, teller }, sender, events)
    }

    fn kinds(mut events: mpsc::UnboundedReceiver<PhoneEvent>) -> Vec<String> {
        let mut kinds = Vec::new();
        while let Ok(event) = events.try_recv() {
            let json = serde_json::to_value(&event).unwrap();
            kinds.push(json["event"].as_str().unwrap().to_owned());
        }
        kinds
    }

    async fn two(codec: Codec) -> (Phone, Phone) {
        let mut callee = Identity::local("callee");
        callee.codecs = vec![codec];
        let caller = Phone::open(Identity::local("caller")).await.unwrap();
        (caller, Phone::open(callee).await.unwrap())
    }

    #[tokio::test]
    async fn two_phones_talk_and_hear_each_other() {
        let folder = tempfile::tempdir().unwrap();
        for codec in Codec::ALL {
            let (caller, callee) = two(codec).await;
            let to = callee.address();
            let target: Target = format!("sip:callee@{to}").parse().unwrap();
            let (here, _orders, caller_events) = call(Plan {
                presses: vec!["1@300ms".parse::<Press>().unwrap()],
                lasts: Some(Duration::from_millis(900)),
                hears: Some(folder.path().join("caller.wav")),
                rings: Duration::from_secs(5),
                ..plan(Sound::Tone { hz: 440.0 })
            });
            let (there, _orders, callee_events) = call(Plan {
                hears: Some(folder.path().join("callee.wav")),
                ..plan(Sound::Tone { hz: 1000.0 })
            });
            let (caller, callee) =
                tokio::join!(caller.call(&target, to, here), callee.answer(there));
            let (caller, callee) = (caller.unwrap(), callee.unwrap());
            assert_eq!(caller.outcome, Outcome::Completed { by: Side::Us });
            assert_eq!(callee.outcome, Outcome::Completed { by: Side::Peer });
            assert_eq!((caller.codec, callee.codec), (Some(codec), Some(codec)));
            assert!(caller.received > 20 && callee.received > 20, "{caller:?} {callee:?}");
            assert!(kinds(caller_events).starts_with(&["dialled".into(), "progress".into()]));
            assert!(kinds(callee_events).contains(&"heard-key".to_owned()));
            for (file, own, other) in [("caller.wav", 440.0, 1000.0), ("callee.wav", 1000.0, 440.0)]
            {
                let mut wav = hound::WavReader::open(folder.path().join(file)).unwrap();
                assert_eq!(wav.spec().sample_rate, codec.sample_rate());
                let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
                let rate = f64::from(codec.sample_rate());
                assert!(level(&samples, rate, other) > 0.08, "{codec:?} {file}");
                assert!(level(&samples, rate, own) < 0.01, "{codec:?} {file}");
            }
        }
    }

    #[tokio::test]
    async fn a_caller_who_gives_up_cancels() {
        let (caller, callee) = two(Codec::Pcmu).await;
        let to = callee.address();
        let target: Target = format!("sip:callee@{to}").parse().unwrap();
        let (here, orders, _events) = call(plan(Sound::Silence));
        let (there, _orders, _events) =
            call(Plan { rings: Duration::from_secs(60), ..plan(Sound::Silence) });
        orders.send(Order::HangUp).await.unwrap();
        let (caller, callee) = tokio::join!(caller.call(&target, to, here), callee.answer(there));
        assert_eq!(caller.unwrap().outcome, Outcome::Cancelled);
        assert_eq!(callee.unwrap().outcome, Outcome::Cancelled);
    }

    #[tokio::test]
    async fn a_callee_without_a_common_codec_refuses() {
        let mut identity = Identity::local("caller");
        identity.codecs = vec![Codec::Pcma];
        let caller = Phone::open(identity).await.unwrap();
        let (_, callee) = two(Codec::Opus).await;
        let to = callee.address();
        let target: Target = format!("sip:callee@{to}").parse().unwrap();
        let (here, _orders, _events) = call(plan(Sound::Silence));
        let (there, _orders, _events) = call(plan(Sound::Silence));
        let callee = tokio::spawn(callee.answer(there));
        let report = caller.call(&target, to, here).await.unwrap();
        assert!(matches!(report.outcome, Outcome::Refused { status: 488, .. }), "{report:?}");
        let callee = callee.await.unwrap().unwrap();
        assert!(matches!(callee.outcome, Outcome::Refused { status: 488, .. }));
    }

    fn level(samples: &[i16], rate: f64, hz: f64) -> f64 {
        let step = std::f64::consts::TAU * hz / rate;
        let (mut re, mut im) = (0.0, 0.0);
        for (n, sample) in samples.iter().enumerate() {
            re += f64::from(*sample) * (step * n as f64).cos();
            im += f64::from(*sample) * (step * n as f64).sin();
        }
        2.0 * f64::hypot(re, im) / samples.len() as f64 / 32_768.0
    }
}
