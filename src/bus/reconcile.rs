//! After each connection: does the stream still have what it acknowledged?
//!
//! A server that syncs now and then loses the end of a stream in a power cut; one that loses its
//! disk, or whose stream is deleted, loses all of it. Rows whose message is gone become unsent
//! again before anything new is published, so that they go out in their old order.

use async_nats::jetstream::stream::{Info, RawMessageErrorKind, Stream};

use crate::bus::streams::incarnation;
use crate::bus::trouble::Trouble;
use crate::bus::{Acknowledged, Outbox};
use crate::ids::EventId;

/// How many messages in a row have to be there before the older ones are believed to be.
const BELIEVED: usize = 16;
/// Rows looked at in one go.
const PAGE: usize = 512;

/// Puts back what the stream has lost. Says how many events that were.
pub(super) async fn reconcile(outbox: &impl Outbox, stream: &Stream) -> Result<u64, Trouble> {
    let info = stream.cached_info();
    let here = incarnation(info);
    let mut recovered: u64 = 0;
    loop {
        let page = outbox.acknowledged_elsewhere(&here, PAGE).await?;
        if page.is_empty() {
            break;
        }
        recovered = recovered.saturating_add(page.len() as u64);
        outbox.unsend(page.iter().map(|row| row.position).collect()).await?;
    }

    let mut below = u64::MAX;
    let mut present_in_a_row = 0;
    loop {
        let page = outbox.acknowledged(&here, below, PAGE).await?;
        let Some(last) = page.last() else { break };
        below = last.sequence;
        let mut missing = Vec::new();
        for row in page {
            match find(stream, info, row).await? {
                Found::Present => present_in_a_row += 1,
                Found::Gone => {
                    present_in_a_row = 0;
                    missing.push(row.position);
                }
                // The stream's own limits, or a person, took it and all before it.
                Found::Passed => present_in_a_row = BELIEVED,
            }
            if present_in_a_row >= BELIEVED {
                break;
            }
        }
        recovered = recovered.saturating_add(missing.len() as u64);
        if !missing.is_empty() {
            outbox.unsend(missing).await?;
        }
        if present_in_a_row >= BELIEVED {
            break;
        }
    }
    Ok(recovered)
}

enum Found {
    Present,
    Gone,
    Passed,
}

async fn find(stream: &Stream, info: &Info, row: Acknowledged) -> Result<Found, Trouble> {
    if row.sequence > info.state.last_sequence {
        return Ok(Found::Gone);
    }
    if row.sequence < info.state.first_sequence {
        return Ok(Found::Passed);
    }
    match stream.get_raw_message(row.sequence).await {
        Ok(message) => {
            let id = message.headers.get(async_nats::header::NATS_MESSAGE_ID);
            let same = id.and_then(|id| id.as_str().parse::<EventId>().ok()) == Some(row.id);
            Ok(if same { Found::Present } else { Found::Gone })
        }
        Err(why) => match why.kind() {
            // Inside the stream's range, so it was deleted there on purpose, or replaced by a
            // limit for each subject. It is not brought back.
            RawMessageErrorKind::NoMessageFound => Ok(Found::Present),
            _ => Err(Trouble::refused("to read a message back", why)),
        },
    }
}
