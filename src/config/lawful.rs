//! What makes a policy unlawful on its face: refused with the reason, and what to do instead.

use std::time::Duration;

use crate::config::document::{Field, Section, one_of, span_within};
use crate::config::problem::Wrong;
use crate::consent::policy::{Acknowledgement, Basis, Gate, OnRefusal};

const DAY: Duration = Duration::from_secs(86_400);

/// Refuses the gate, or the gate that follows a missing token, where the basis forbids it.
pub(super) fn gate(section: &Section<'_>, key: &str, basis: Basis, gate: Gate) {
    match (basis, gate) {
        (Basis::Consent, Gate::NoObjection) => section.report(
            key,
            Wrong::new(
                format!(
                    "silence is not consent (GDPR Art. 4(11)): basis = \"consent\" cannot go with \
                     {key} = \"no-objection\""
                ),
                format!(
                    "write {key} = \"opt-in\", or a basis that people may object to, such as \
                     \"legitimate_interests\""
                ),
            ),
        ),
        (Basis::VitalInterests, Gate::NoObjection) => section.report(
            key,
            Wrong::new(
                format!(
                    "whoever acts in vital interests does not wait for an objection: basis = \
                     \"vital_interests\" cannot go with {key} = \"no-objection\""
                ),
                format!("write {key} = \"opt-in\" or \"standing\", or another basis"),
            ),
        ),
        _ => {}
    }
}

/// Reads `acknowledge`, and refuses a consent that is paid for with the call where nobody takes
/// responsibility for it.
pub(super) fn acknowledgement(
    section: &mut Section<'_>,
    basis: Basis,
    refusal: OnRefusal,
) -> Option<Acknowledgement> {
    let field = section.field("acknowledge");
    let acknowledged = field.optional(|text| {
        one_of(text, &[("no-alternative-service", Acknowledgement::NoAlternativeService)])
    });
    let paid_for = basis == Basis::Consent && refusal == OnRefusal::HangUp;
    if paid_for && !field.is_set() {
        section.report(
            "on_refusal",
            Wrong::new(
                "a choice that ends the call is not free (GDPR Art. 7(4)): basis = \"consent\" \
                 cannot go with on_refusal = \"hang-up\"",
                "write on_refusal = \"continue\", or another basis; or, if you answer for it that \
                 nobody who refuses can be served, acknowledge = \"no-alternative-service\"",
            ),
        );
    }
    if acknowledged.is_some() && !paid_for {
        field.report(Wrong::new(
            "acknowledges what this policy does not do",
            "remove it: it belongs to basis = \"consent\" with on_refusal = \"hang-up\"",
        ));
    }
    acknowledged
}

/// Reads `purposes`: at least one.
pub(super) fn purposes(field: &Field<'_>) -> Vec<String> {
    let purposes = field.each(|text| match text.trim() {
        "" => Err(Wrong::new("holds an empty purpose", "name what the recording is for")),
        text => Ok(text.to_owned()),
    });
    if !field.is_set() || field.texts().is_some_and(|texts| texts.is_empty()) {
        field.report(Wrong::new(
            "names no purpose, and nothing may be recorded without one (GDPR Art. 5(1)(b))",
            "write purposes = [\"quality\"], or whatever the recording is for",
        ));
    }
    purposes.unwrap_or_default()
}

/// Reads `controller`.
pub(super) fn controller(field: &Field<'_>) -> String {
    let controller = field.text().unwrap_or_default().trim();
    if controller.is_empty() && (!field.is_set() || field.text().is_some()) {
        field.report(Wrong::new(
            "names nobody, and a receipt has to say who is responsible (GDPR Art. 13(1)(a))",
            "write controller = \"the name of your organisation\"",
        ));
    }
    controller.to_owned()
}

/// Reads `retention`: how long, never for ever, and never left unsaid.
pub(super) fn retention(field: &Field<'_>) -> Duration {
    field.read(90 * DAY, |text| {
        let endless = ["forever", "never", "unlimited", "infinite", "none", "off", ""];
        if endless.contains(&text) {
            return Err(Wrong::new(
                format!(
                    "{text:?} has no end, and nothing may be kept without one (GDPR Art. 5(1)(e))"
                ),
                "write how long the purpose needs it, such as \"90d\"",
            ));
        }
        span_within(text, Duration::from_secs(60), 36_500 * DAY)
    })
}
