//! Which recording a command is about: its identifier, or the newest.

use std::str::FromStr;

use crate::catalog::{Filter, Reader};
use crate::cli::failure::Failure;
use crate::ids::RecordingId;

/// How an administrator names a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// `last`: the one that `assent list` shows first.
    Last,
    /// This one.
    Id(RecordingId),
}

impl Which {
    /// The recording that is meant, whether or not it exists.
    pub(super) fn resolve(self, reader: &Reader) -> Result<RecordingId, Failure> {
        match self {
            Which::Id(id) => Ok(id),
            Which::Last => reader
                .recordings(&Filter { limit: 1, ..Filter::default() })?
                .first()
                .map(|row| row.id)
                .ok_or_else(|| Failure::Failed("there is no recording yet".to_owned())),
        }
    }
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "last" {
            return Ok(Which::Last);
        }
        text.parse().map(Which::Id).map_err(|_| {
            "a recording is named as `assent list` shows it, in full, or `last`".to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_named_in_full_or_as_the_last() {
        let id = "01a200d9-f5db-70e9-bb95-c6662a9412a9";
        assert_eq!(id.parse(), Ok(Which::Id(id.parse().unwrap())));
        assert_eq!("last".parse(), Ok(Which::Last));
        for wrong in ["", "01a200d9", "LAST", "RECORDING"] {
            assert!(wrong.parse::<Which>().unwrap_err().contains("assent list"), "{wrong}");
        }
    }
}
