//! What comes from one leg, on its way to the other one and into a capture.

use super::MediaReport;
use super::bridge::Turn;
use super::inbound::Admitted;
use super::io::{BATCH, Outbound};
use super::leg::LegStream;
use super::watch::LastStops;
use crate::call::media::MediaEvent;
use crate::consent::Stop;
use crate::ids::{CallId, Leg};
use crate::rtp::RtpPacket;
use crate::time::Timestamp;

/// From a leg to the other.
pub(super) struct Passage<'a> {
    pub(super) call: CallId,
    pub(super) leg: Leg,
    pub(super) from: &'a mut LegStream,
    pub(super) to: Option<&'a mut LegStream>,
    pub(super) stops: &'a mut LastStops,
    pub(super) wall: Timestamp,
}

/// What is on its way: read and admitted, not sent or recorded yet.
struct Batch<'p> {
    audio: [Option<RtpPacket<'p>>; BATCH],
    outbound: [Outbound<'p>; BATCH],
    count: usize,
}

impl Passage<'_> {
    /// Datagrams have come to the leg's RTP port. They are sent on first, and recorded after.
    pub(super) fn receive(mut self, turn: &mut Turn<'_>) {
        let mut batch = Batch {
            audio: [const { None }; BATCH],
            outbound: [Outbound::default(); BATCH],
            count: 0,
        };
        let mut spaces = std::mem::take(&mut turn.spaces).iter_mut();
        let mut clear = std::mem::take(&mut turn.clear).iter_mut();
        let inbox = turn.inbox;
        for ((datagram, source), audio) in inbox.datagrams().zip(0..) {
            let Some((datagram, packet, admitted)) =
                self.from.receive(datagram, source, &mut clear, turn.now, turn.tally)
            else {
                continue;
            };
            if self.from.is_heard_again() {
                self.report(MediaEvent::Heard { leg: self.leg }, turn);
            }
            if let (Some(to), Some(media)) = (self.to.as_deref_mut(), self.from.media())
                && let Some(header) =
                    to.relay_header(&packet, admitted, media, turn.now, turn.tally)
                && let Some(payload) = datagram.get(packet.payload_range())
                && let Some(free) = batch.outbound.get_mut(batch.count)
            {
                let mixed = match admitted {
                    Admitted::Audio => to.beep_into(payload, &mut spaces, turn),
                    _ => None,
                };
                *free = Outbound { header, payload: mixed.unwrap_or(payload) };
                batch.count += 1;
            }
            match admitted {
                // Neither keys nor comfort noise are anybody's voice: they are not recorded.
                Admitted::Event(None) | Admitted::ComfortNoise => {}
                Admitted::Event(Some(press)) => {
                    let stops = self.stops.count(self.from.watch.press(turn.now, press.key));
                    if !stops.is_empty() {
                        // What came before the key has its place; nothing after it has. And the
                        // captures stop before anybody hears of the key, who may let them go on.
                        self.pass_on(&mut batch, turn);
                        stops.iter().for_each(|(leg, stop)| self.suspend(leg, stop));
                    }
                    let (leg, at, key) = (self.leg, turn.now, press.key);
                    let rtp_timestamp = press.rtp_timestamp;
                    self.report(MediaEvent::Key { leg, at, key, rtp_timestamp, stops }, turn);
                }
                Admitted::Audio => {
                    if let Some(free) = batch.audio.get_mut(audio) {
                        *free = Some(packet);
                    }
                }
            }
        }
        self.pass_on(&mut batch, turn);
    }

    /// Sends and records what is on its way.
    fn pass_on(&mut self, batch: &mut Batch<'_>, turn: &mut Turn<'_>) {
        let count = std::mem::take(&mut batch.count);
        if let Some(to) = &mut self.to {
            let ready = batch.outbound.get(..count).unwrap_or_default();
            turn.tally.relayed += to.send(turn.config.io, ready, turn.tally);
        }
        for packet in batch.audio.iter_mut().filter_map(Option::take) {
            if let Some((why, finished)) = self.from.append(&packet, self.wall, turn.tally) {
                let leg = self.leg;
                (turn.report)(self.call, MediaReport::CaptureEnded { leg, why, finished });
            }
        }
    }

    fn suspend(&mut self, leg: Leg, stop: Stop) {
        if leg == self.leg {
            self.from.suspend(stop, self.wall);
        } else if let Some(to) = &mut self.to {
            to.suspend(stop, self.wall);
        }
    }

    fn report(&self, event: MediaEvent, turn: &Turn<'_>) {
        (turn.report)(self.call, MediaReport::Event(event));
    }
}
