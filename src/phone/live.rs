//! A call that goes on: from its answer to its BYE, with whatever the peer asks in between.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sipx_sip::{HeaderName, Method, Request, Response, TransactionKey};
use tokio::sync::mpsc;

use super::dialog::{self, Dialog};
use super::target::resolve;
use super::voice::{Tally, Voice};
use super::wire::{Heard, Wire};
use super::{Happening, Order, Outcome, PhoneError, Plan, Report, Side, Teller};
use crate::clock;
use crate::rtp::{Codec, LegMedia};
use crate::sdp::{Accepted, LocalDescription, LocalOffer, Offer, SrtpUse, reanswer};

/// How long a phone waits for the answer to its BYE or CANCEL.
pub(super) const LAST_WORD: Duration = Duration::from_secs(4);
/// RFC 3261, T1 and T2: how a 2xx is repeated until its ACK comes.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

/// A call that goes on.
pub(super) struct Live {
    pub(super) wire: Wire,
    pub(super) dialog: Dialog,
    /// Where requests go while no dialog says otherwise.
    pub(super) to: SocketAddr,
    pub(super) voice: Option<Voice>,
    pub(super) orders: Orders,
    pub(super) teller: Teller,
    pub(super) began: Instant,
    pub(super) local: LocalDescription,
    /// Our description as last sent.
    pub(super) sdp: String,
    /// An offer of ours in a 2xx; its answer comes with the ACK.
    pub(super) ours: Option<LocalOffer>,
    pub(super) unacknowledged: Option<Unacknowledged>,
    /// Our ACK, for when the 2xx is repeated.
    pub(super) ack: Option<Request>,
    pub(super) codec: Option<Codec>,
    pub(super) answered: Option<Instant>,
}

impl Live {
    /// An answered call until it is over.
    pub(super) async fn talk(mut self, plan: &Plan) -> Result<Report, PhoneError> {
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
    pub(super) async fn request(
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
            let offer = Offer::parse(request.body(), SrtpUse::Off);
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

    pub(super) fn connected(&mut self, media: LegMedia, plan: &Plan) {
        self.answered.get_or_insert_with(clock::now);
        self.codec = Some(media.codec);
        self.tell(Happening::Answered { codec: media.codec, media: media.remote_rtp });
        if let Some(voice) = &self.voice {
            voice.talk(media, plan.presses.clone());
        }
    }

    /// Sends a 2xx to an INVITE and repeats it until its ACK comes (RFC 3261, 13.3.1.4).
    pub(super) async fn accept(&mut self, key: &TransactionKey, response: Response) {
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
            && let Ok(Accepted { media, .. }) = ours.accept(ack.body())
        {
            if self.codec.is_none() {
                self.connected(media, plan);
            } else {
                self.renegotiated(media);
            }
        }
    }

    pub(super) async fn acknowledge(&mut self, body: Option<String>) -> Result<(), PhoneError> {
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
    pub(super) async fn bye(&mut self) -> Result<(), PhoneError> {
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

    pub(super) async fn over(mut self, outcome: Outcome) -> Result<Report, PhoneError> {
        self.report(outcome).await
    }

    async fn report(&mut self, outcome: Outcome) -> Result<Report, PhoneError> {
        let talked = self.answered.map(|at| clock::now().saturating_duration_since(at));
        let tally = match self.voice.take() {
            Some(voice) => voice.stop().await?,
            None => Tally::default(),
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

    pub(super) fn tell(&self, what: Happening) {
        self.teller.tell(clock::now().saturating_duration_since(self.began), what);
    }

    pub(super) fn socket_error(&self, source: std::io::Error) -> PhoneError {
        PhoneError::Socket { address: self.local.rtp, source }
    }
}

/// Orders that may have ended.
#[derive(Debug)]
pub(super) struct Orders(pub(super) Option<mpsc::Receiver<Order>>);

impl Orders {
    pub(super) async fn next(&mut self) -> Order {
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
pub(super) struct Unacknowledged {
    key: TransactionKey,
    response: Response,
    again: Instant,
    interval: Duration,
    give_up: Instant,
}

/// Whether a call goes on after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Still {
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
