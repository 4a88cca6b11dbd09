//! A phone on the hook, and the one call that it makes or takes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sipx_sip::Method;
use tokio::sync::mpsc;

use super::dialog::{self, Dialog};
use super::live::{Live, Orders};
use super::target::Target;
use super::voice::{Sockets, Voice};
use super::wire::{Heard, Wire};
use super::{Happening, Identity, Order, Outcome, PhoneError, Plan, Report, Teller};
use crate::clock;
use crate::rtp::Direction;
use crate::sdp::{Keying, LocalDescription, LocalOffer, Offer, SrtpUse};

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

    /// The phone for the call after this one's, reachable at the same address: its port is nobody
    /// else's in between. Until this one's call is over, it is not to be used.
    ///
    /// # Errors
    /// [`PhoneError::Socket`].
    pub async fn successor(&self) -> Result<Self, PhoneError> {
        let at = self.address;
        let socket = |source| PhoneError::Socket { address: at, source };
        let wire = self.wire.successor().map_err(socket)?;
        let sockets = Sockets::bind(at).await.map_err(socket)?;
        Ok(Self { identity: self.identity.clone(), wire, sockets, address: at })
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
                false => Offer::parse(request.body(), SrtpUse::Off).map(Some),
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
            record: None,
            keying: Keying::off(),
        }
    }

    fn socket_error(&self, source: std::io::Error) -> PhoneError {
        PhoneError::Socket { address: self.address, source }
    }
}

fn start_voice(sockets: Sockets, plan: &Plan, teller: &Teller, began: Instant) -> Voice {
    Voice::start(sockets, plan.says.clone(), plan.hears.clone(), teller.clone(), began)
}

impl Report {
    /// A call that never got anywhere.
    fn of(outcome: Outcome) -> Self {
        let zero = Duration::ZERO;
        Self { outcome, talked: zero, heard: zero, sent: 0, received: 0, lost: 0, codec: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phone::{PhoneEvent, Press, Side, Sound};
    use crate::rtp::Codec;

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
                assert!(loudest(&samples, rate, other) > 0.08, "{codec:?} {file}");
                assert!(level(&samples, rate, own) < 0.01, "{codec:?} {file}");
            }
        }
    }

    #[tokio::test]
    async fn a_successor_takes_the_next_call_at_the_same_address() {
        let (caller, callee) = two(Codec::Pcmu).await;
        let (next_caller, next_callee) =
            (caller.successor().await.unwrap(), callee.successor().await.unwrap());
        let to = callee.address();
        assert_eq!(next_callee.address(), to);
        let target: Target = format!("sip:callee@{to}").parse().unwrap();
        for (caller, callee) in [(caller, callee), (next_caller, next_callee)] {
            let lasts = Some(Duration::from_millis(200));
            let (here, _orders, _events) =
                call(Plan { lasts, rings: Duration::from_secs(5), ..plan(Sound::Silence) });
            let (there, _orders, _events) = call(plan(Sound::Silence));
            let (caller, callee) =
                tokio::join!(caller.call(&target, to, here), callee.answer(there));
            assert_eq!(caller.unwrap().outcome, Outcome::Completed { by: Side::Us });
            assert_eq!(callee.unwrap().outcome, Outcome::Completed { by: Side::Peer });
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

    /// The level in the best tenth of a second: packets that a busy machine sent late put the rest
    /// of the tone out of step.
    fn loudest(samples: &[i16], rate: f64, hz: f64) -> f64 {
        let tenth = (rate / 10.0) as usize;
        samples.chunks_exact(tenth).map(|part| level(part, rate, hz)).fold(0.0, f64::max)
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
