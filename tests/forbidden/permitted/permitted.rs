//! What the forbidden programs come close to, and what every one of them could have been: this
//! builds, so that the others fail for their own reason alone.

use assent::catalog::Receipt;
use assent::consent::machine::{Input, Output, Permission};
use assent::consent::{Decision, Grant};
use assent::keys::DataKey;
use assent::rtp::RtpPacket;
use assent::segment::{Appended, SegmentSink, SegmentWriter, StreamStart};
use assent::time::{Moment, Timestamp};

fn earn(machine: &mut Permission, at: Moment, receipt: Receipt<Decision>) -> Option<Grant> {
    machine.handle(at, Input::Durable(receipt)).into_iter().find_map(|output| match output {
        Output::Grant(grant) => Some(grant),
        _ => None,
    })
}

fn write<S: SegmentSink>(
    grant: Grant,
    key: DataKey,
    start: StreamStart,
    sink: S,
    bytes: &[u8],
    at: Timestamp,
) -> Option<Appended> {
    let packet = RtpPacket::parse(bytes).ok()?;
    let mut writer = SegmentWriter::open(grant, key, start, sink);
    Some(writer.append(&packet, at))
}

fn store<T: serde::Serialize>(_: &T) {}

fn main() {
    store(&1);
    let _ = earn;
}
