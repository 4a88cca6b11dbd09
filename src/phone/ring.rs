//! A call before its answer, from either side.

use sipx_sip::{Request, TransactionKey};

use super::dialog::{Dialog, printable};
use super::live::{LAST_WORD, Live};
use super::wire::Heard;
use super::{Happening, Order, Outcome, PhoneError, Plan};
use crate::clock;
use crate::sdp::{Accepted, LocalOffer, Offer, answer};

impl Live {
    /// The caller's side until the call is answered (`None`) or over.
    pub(super) async fn ring(
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
                    if let Ok(Accepted { media, .. }) = offer.accept(response.body())
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
                    let Ok(Accepted { media, .. }) = offer.accept(response.body()) else {
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
    pub(super) async fn pick_up(
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
}

/// Whether a CANCEL is wanted, and has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cancel {
    NotWanted,
    Wanted,
    Sent,
}
