//! Times and spans, as people write and read them. Always UTC.

use std::time::Duration;

use crate::cli::failure::Failure;
use crate::config;
use crate::time::Timestamp;

/// A time that somebody typed: RFC 3339, a date (its beginning, UTC), or a span before `now`.
pub(super) fn time(flag: &str, text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(at) = format!("{text}T00:00:00Z").parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(span) = config::duration(text) {
        let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        return Ok(Timestamp::from_micros(now.as_micros().saturating_sub(span)));
    }
    Err(Failure::Usage(format!(
        "{flag}: {text:?} is not a time; write 2026-11-21, 2026-11-21T22:00:00Z, or a span before \
         now such as 2d"
    )))
}

/// `2026-11-21 22:00:00`.
pub(super) fn short(at: Timestamp) -> String {
    at.to_string().chars().take(19).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

/// `2026-11-21 22:00:00.123`.
pub(super) fn precise(at: Timestamp) -> String {
    at.to_string().chars().take(23).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

/// `1:02:03`, `2:03`, `0:03`.
pub(super) fn clock(span: Duration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_three_ways() {
        let now: Timestamp = "2026-11-21T22:00:00Z".parse().unwrap();
        let at = |text| time("--since", text, now).unwrap().to_string();
        assert_eq!(at("2026-11-20T10:00:00+01:00"), "2026-11-20T09:00:00.000000Z");
        assert_eq!(at("2026-11-20"), "2026-11-20T00:00:00.000000Z");
        assert_eq!(at("2d"), "2026-11-19T22:00:00.000000Z");
        assert!(time("--since", "yesterday", now).unwrap_err().to_string().contains("--since"));
    }

    #[test]
    fn times_and_spans_read_well() {
        let at: Timestamp = "2026-11-21T22:00:00.123456Z".parse().unwrap();
        assert_eq!(short(at), "2026-11-21 22:00:00");
        assert_eq!(precise(at), "2026-11-21 22:00:00.123");
        assert_eq!(clock(Duration::from_secs(3)), "0:03");
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
    }
}
