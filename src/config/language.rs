//! Reads locales: of a policy, by the beginning of the number or by a header; of a route.

use std::collections::BTreeMap;

use crate::config::document::Field;
use crate::config::matching::header_name;
use crate::config::problem::Wrong;
use crate::consent::locale::normalised;
use crate::consent::policy::ByLeg;

/// Reads `locale` of a policy: one, or by the beginning of the number.
pub(super) fn by_number(field: &Field<'_>) -> BTreeMap<String, String> {
    let default = || BTreeMap::from([("*".to_owned(), "en-US".to_owned())]);
    if !field.is_table() {
        let Some(locale) = field.optional(locale_name) else { return default() };
        return BTreeMap::from([("*".to_owned(), locale)]);
    }
    let mut locales = BTreeMap::new();
    for (prefix, locale, _) in field.table().unwrap_or_default() {
        let number = prefix.strip_prefix('+').unwrap_or(prefix);
        if prefix != "*" && (number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit())) {
            field.report(Wrong::new(
                format!("{prefix:?} is not the beginning of a number"),
                "write { \"+49\" = \"de-DE\", \"*\" = \"en-US\" }",
            ));
            continue;
        }
        match locale_name(locale) {
            Ok(locale) => {
                locales.insert(prefix.to_owned(), locale);
            }
            Err(wrong) => field.report(wrong),
        }
    }
    if !locales.contains_key("*") {
        field.report(Wrong::new(
            "says nothing about the other numbers",
            "add \"*\" = \"en-US\", or another locale",
        ));
    }
    locales
}

/// Reads a locale for both parties, or `{ caller = …, callee = … }`.
pub(super) fn by_party(field: &Field<'_>) -> ByLeg {
    texts(field, locale_name)
}

/// Reads the header that names the locale, for both parties or `{ caller = …, callee = … }`.
pub(super) fn header(field: &Field<'_>) -> ByLeg {
    texts(field, |text| header_name(text).map(str::to_owned))
}

fn texts(field: &Field<'_>, read: impl Fn(&str) -> Result<String, Wrong>) -> ByLeg {
    if !field.is_table() {
        return field.optional(read).map(ByLeg::both).unwrap_or_default();
    }
    let mut texts = ByLeg::default();
    for (party, text, _) in field.table().unwrap_or_default() {
        let place = match party {
            "caller" => &mut texts.caller,
            "callee" => &mut texts.callee,
            _ => {
                field.report(Wrong::new(
                    format!("{party:?} is not a party"),
                    "write { caller = \"…\", callee = \"…\" }, or one text for both",
                ));
                continue;
            }
        };
        match read(text) {
            Ok(text) => *place = Some(text),
            Err(wrong) => field.report(wrong),
        }
    }
    texts
}

fn locale_name(text: &str) -> Result<String, Wrong> {
    match normalised(text) {
        // In a header any case will do; here it names a folder.
        Some(locale) if locale == text => Ok(locale),
        _ => Err(Wrong::new(
            format!("{text:?} is not a locale"),
            "write \"en-US\", \"de-DE\" or the like",
        )),
    }
}
