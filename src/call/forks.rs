//! Early dialogs towards the callee: one for each telephone that a forked INVITE has reached (RFC
//! 3261, 12.1), each with provisional responses of its own to acknowledge (RFC 3262, 4).

use crate::call::dialog::Dialog;
use crate::call::message::{Answered, Headers, Method, Request};
use crate::call::negotiate::{self, Session};
use crate::call::session_timer::lists;

/// The most that are kept of one INVITE. What others say is heard, and not acknowledged.
const MOST: usize = 16;

/// How many provisional responses of one are acknowledged.
const ACKNOWLEDGED: u8 = 64;

/// One early dialog.
#[derive(Debug)]
pub(super) struct Fork {
    pub(super) dialog: Dialog,
    /// The `RSeq` of the last that was acknowledged, and how many were.
    last: Option<u32>,
    acknowledged: u8,
    /// What was agreed by a reliable answer.
    pub(super) agreed: Option<Session>,
}

/// The early dialogs of one INVITE.
#[derive(Debug, Default)]
pub(super) struct Forks(Vec<Fork>);

/// Whether a provisional response says anything new.
#[derive(Debug)]
pub(super) enum Heard {
    New,
    /// And is to be acknowledged with this PRACK.
    Reliable(Request),
    /// It came before, or too early: what is missing comes again.
    Nothing,
}

impl Forks {
    /// Takes a provisional response to the INVITE that `whole` began and in which `offer` was
    /// made. The `CSeq`s of all dialogs stay below that of `whole`, so that a dialog made from it
    /// can follow any of them.
    pub(super) fn hear(
        &mut self,
        whole: &mut Dialog,
        offer: &Session,
        response: &Answered,
    ) -> Heard {
        let reliable = number(&response.headers);
        let Some(fork) = self.of(whole, response) else {
            return if reliable.is_some() { Heard::Nothing } else { Heard::New };
        };
        let Some(rseq) = reliable else { return Heard::New };
        let next = fork.last.is_none_or(|last| last.checked_add(1) == Some(rseq));
        if !next || fork.acknowledged >= ACKNOWLEDGED {
            return Heard::Nothing;
        }
        fork.last = Some(rseq);
        fork.acknowledged += 1;
        if fork.agreed.is_none() && !response.body.is_empty() {
            fork.agreed = negotiate::accept(offer, &response.body).ok();
        }
        fork.dialog.skip_to(whole.last_cseq());
        let mut prack = fork.dialog.request(Method::Prack);
        whole.skip_to(fork.dialog.last_cseq());
        prack.headers.push("RAck", format!("{rseq} {} INVITE", response.cseq));
        Heard::Reliable(prack)
    }

    fn of(&mut self, whole: &Dialog, response: &Answered) -> Option<&mut Fork> {
        let tag = response.to_tag.as_deref()?;
        if self.with(Some(tag)).is_none() && self.0.len() < MOST {
            let dialog = whole.established(response)?;
            self.0.push(Fork { dialog, last: None, acknowledged: 0, agreed: None });
        }
        self.with(Some(tag))
    }

    /// The one whose peer has this tag.
    pub(super) fn with(&mut self, tag: Option<&str>) -> Option<&mut Fork> {
        self.0.iter_mut().find(|fork| tag.is_some() && fork.dialog.remote_tag() == tag)
    }

    /// The dialog that a 2xx confirms, and what was agreed in it already.
    pub(super) fn confirm(
        mut self,
        whole: &Dialog,
        answer: &Answered,
    ) -> Option<(Dialog, Option<Session>)> {
        let Some(fork) = self.with(answer.to_tag.as_deref()) else {
            return whole.established(answer).map(|dialog| (dialog, None));
        };
        fork.dialog.skip_to(whole.last_cseq());
        Some((fork.dialog.established(answer)?, fork.agreed.take()))
    }
}

/// The `RSeq` of a response that is to be acknowledged.
fn number(headers: &Headers) -> Option<u32> {
    if !lists(headers, "Require", "100rel") {
        return None;
    }
    std::str::from_utf8(headers.first("RSeq")?).ok()?.trim().parse().ok()
}
