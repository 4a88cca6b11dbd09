//! Spans of time with their unit, as people write them: `8s`, `5m`, `90d`.

use std::time::Duration;

use crate::config::problem::Wrong;

const UNITS: [(&str, u64); 7] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 7 * 86_400_000),
    ("y", 365 * 86_400_000),
];

/// Reads a span such as `250ms`, `8s`, `5m`, `12h`, `90d`, `2w` or `1y` (365 days).
///
/// # Errors
///
/// When the text is not a whole number with one of those units.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit.trim()).map(|(_, ms)| *ms);
    let span = number
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .map(Duration::from_millis);
    span.ok_or_else(|| {
        Wrong::new(
            format!("{text:?} is not a span of time"),
            "write a whole number with a unit: ms, s, m, h, d, w or y, such as \"8s\" or \"90d\"",
        )
    })
}

/// The span in the largest unit that states it exactly: `90d`, `8s`, `1500ms`.
#[must_use]
pub fn span_text(span: Duration) -> String {
    let millis = span.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    // Weeks and years are for writing: "90d" reads better than a mix of units.
    let unit =
        UNITS.iter().take(5).rev().find(|(_, factor)| millis.is_multiple_of(u128::from(*factor)));
    unit.map_or_else(
        || format!("{millis}ms"),
        |(name, factor)| format!("{}{name}", millis / u128::from(*factor)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_whole_number_and_a_unit() {
        assert_eq!(duration("8s").unwrap(), Duration::from_secs(8));
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(duration("90d").unwrap(), Duration::from_secs(90 * 86_400));
        assert_eq!(duration("1y").unwrap(), Duration::from_secs(365 * 86_400));
        for bad in ["", "8", "s", "-8s", "8 seconds", "1.5h", "99999999999999999999d", "∞"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(duration("18446744073709551615y").is_err());
    }

    #[test]
    fn a_span_is_written_in_its_largest_exact_unit() {
        for text in ["90d", "8s", "5m", "1500ms", "36h", "0s"] {
            assert_eq!(span_text(duration(text).unwrap()), text);
        }
    }
}
