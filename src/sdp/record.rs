//! What descriptions say about recording (RFC 7866, 6 and 7): ours tell a peer what becomes of its
//! stream, the peer's tell what it would like.

use super::text;

/// What becomes of a stream: `a=record` (RFC 7866, 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// It is recorded.
    On,
    /// It is not.
    Off,
    /// Its recording is paused.
    Paused,
}

impl RecordState {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            RecordState::On => "on",
            RecordState::Off => "off",
            RecordState::Paused => "paused",
        }
    }
}

/// What a peer would like: `a=recordpref` (RFC 7866, 9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordPreference {
    /// To be recorded. It is a wish and no permission.
    On,
    /// Not to be recorded.
    Off,
    /// That the recording is paused.
    Pause,
}

/// What the peer's description says that it would like: on its first audio line, else for the
/// session. `None` where it says nothing, has no preference, or does not parse.
#[must_use]
pub fn record_preference(description: &[u8]) -> Option<RecordPreference> {
    let session = text::parse(description).ok()?;
    let audio = session.medias.iter().find(|media| media.media.eq_ignore_ascii_case("audio"));
    let of_media = audio.into_iter().flat_map(|media| &media.attributes);
    let value = of_media
        .chain(&session.attributes)
        .find(|attribute| attribute.attribute.eq_ignore_ascii_case("recordpref"))
        .and_then(|attribute| attribute.value.as_deref())?;
    match value.trim().to_ascii_lowercase().as_str() {
        "on" => Some(RecordPreference::On),
        "off" => Some(RecordPreference::Off),
        "pause" => Some(RecordPreference::Pause),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_read_from_the_audio_line_before_the_session() {
        let sdp = |session: &str, media: &str| {
            format!("v=0\r\nc=IN IP4 192.0.2.1\r\n{session}m=audio 4000 RTP/AVP 0\r\n{media}")
        };
        let cases = [
            ("", "", None),
            ("a=recordpref:off\r\n", "", Some(RecordPreference::Off)),
            ("", "a=recordpref:OFF \r\n", Some(RecordPreference::Off)),
            ("a=recordpref:off\r\n", "a=recordpref:on\r\n", Some(RecordPreference::On)),
            ("", "a=recordpref:pause\r\n", Some(RecordPreference::Pause)),
            ("", "a=recordpref:nopreference\r\n", None),
            ("", "a=recordpref\r\n", None),
        ];
        for (session, media, expected) in cases {
            let description = sdp(session, media);
            assert_eq!(record_preference(description.as_bytes()), expected, "{description}");
        }
        assert_eq!(record_preference(b"rubbish"), None);
    }
}
