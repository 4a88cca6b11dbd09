//! Where one message ends and the next begins in a byte stream (RFC 3261, 18.3).
//!
//! The SIP library has a framer too, but it gives up on a connection at the first message that
//! it cannot parse, together with the good ones that arrived before it in the same read, and it
//! does not keep the bytes that an answer needs. One bad message of a proxy must not end the
//! signalling of all its other calls, so this only finds the boundary; the library parses what
//! is inside.

use bytes::{Buf, Bytes, BytesMut};

/// What came out of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// One whole message, parsed or not.
    Message(Bytes),
    /// A keep-alive that wants its pong (RFC 5626, 4.4.1).
    Ping,
}

/// The boundary is lost: answer what there is of the message, and close.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// The status of the answer.
    pub(super) status: u16,
    /// The message so far.
    pub(super) head: Bytes,
}

/// Collects bytes until they are a message. Holds at most one that is not complete.
#[derive(Debug)]
pub(super) struct Framer {
    buffer: BytesMut,
    /// How far the end of the head has been looked for.
    scanned: usize,
    /// The length of the whole message, once its head is there.
    whole: Option<usize>,
    /// CRLFs since the last message: two are a ping.
    blank: usize,
    most_head: usize,
    most_body: usize,
}

impl Framer {
    pub(super) fn new(most_head: usize, most_body: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, whole: None, blank: 0, most_head, most_body }
    }

    /// Takes bytes that arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether a message has begun that is not complete.
    pub(super) fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next thing that is complete.
    ///
    /// # Errors
    /// [`Lost`] when there is no way to know where the message ends, or it is too long.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Lost> {
        let whole = match self.whole {
            Some(whole) => whole,
            None => {
                while self.buffer.starts_with(b"\r\n") {
                    self.buffer.advance(2);
                    self.scanned = 0;
                    self.blank += 1;
                    if self.blank == 2 {
                        self.blank = 0;
                        return Ok(Some(Frame::Ping));
                    }
                }
                let Some(whole) = self.measure()? else { return Ok(None) };
                self.whole = Some(whole);
                whole
            }
        };
        if self.buffer.len() < whole {
            return Ok(None);
        }
        self.whole = None;
        self.scanned = 0;
        self.blank = 0;
        Ok(Some(Frame::Message(self.buffer.split_to(whole).freeze())))
    }

    fn measure(&mut self) -> Result<Option<usize>, Lost> {
        let unseen = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(at) = unseen.windows(4).position(|w| w == b"\r\n\r\n") else {
            if self.buffer.len() > self.most_head {
                return Err(self.lost(513, self.buffer.len()));
            }
            self.scanned = self.buffer.len().saturating_sub(3);
            return Ok(None);
        };
        let head = self.scanned + at + 4;
        if head > self.most_head {
            return Err(self.lost(513, head));
        }
        match content_length(self.buffer.get(..head).unwrap_or_default()) {
            Some(body) if body > self.most_body => Err(self.lost(413, head)),
            Some(body) => Ok(Some(head + body)),
            None => Err(self.lost(400, head)),
        }
    }

    fn lost(&mut self, status: u16, head: usize) -> Lost {
        Lost { status, head: self.buffer.split_to(head.min(self.buffer.len())).freeze() }
    }
}

/// The one `Content-Length` of a head. `None` when it is missing, repeated or not a number: on a
/// stream that leaves no boundary (RFC 3261, 20.14).
fn content_length(head: &[u8]) -> Option<usize> {
    let mut found = None;
    let mut lines = head.split(|&b| b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
    let mut line = lines.next();
    while let Some(current) = line {
        line = lines.next();
        let Some(colon) = current.iter().position(|&b| b == b':') else { continue };
        let (name, value) = current.split_at(colon);
        let name = name.trim_ascii_end();
        if !(name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"l")) {
            continue;
        }
        let mut value = value.get(1..).unwrap_or_default().to_vec();
        while let Some(more) = line.filter(|l| matches!(l.first(), Some(b' ' | b'\t'))) {
            value.push(b' ');
            value.extend_from_slice(more);
            line = lines.next();
        }
        let digits = value.trim_ascii();
        if found.is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let length: usize = std::str::from_utf8(digits).ok()?.parse().unwrap_or(usize::MAX);
        found = Some(length);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], step: usize) -> Result<Vec<Frame>, Lost> {
        let mut framer = Framer::new(1000, 100);
        let mut frames = Vec::new();
        for chunk in bytes.chunks(step) {
            framer.push(chunk);
            while let Some(frame) = framer.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        let one = b"BYE sip:a SIP/2.0\r\nl: 3\r\nX: content-length: 9\r\n\r\nabc";
        let two = b"no message at all\r\nContent-Length:\r\n  0\r\n\r\n";
        let stream = [&b"\r\n\r\n"[..], one, b"\r\n", two, b"\r\n\r\n\r\n"].concat();
        for step in 1..stream.len() {
            let frames = all(&stream, step).unwrap();
            let expected = [
                Frame::Ping,
                Frame::Message(Bytes::from_static(one)),
                Frame::Message(Bytes::from_static(two)),
                Frame::Ping,
            ];
            assert_eq!(frames, expected, "in steps of {step}");
        }
    }

    #[test]
    fn a_message_without_a_boundary_is_lost_with_what_its_answer_needs() {
        let cases: [(u16, &[u8]); 6] = [
            (400, b"BYE sip:a SIP/2.0\r\nX: y\r\n\r\n"),
            (400, b"BYE sip:a SIP/2.0\r\nl: -1\r\n\r\n"),
            (400, b"BYE sip:a SIP/2.0\r\nl: 0\r\nContent-Length: 0\r\n\r\n"),
            (400, b"BYE sip:a SIP/2.0\r\nl: 1 2\r\n\r\n"),
            (413, b"BYE sip:a SIP/2.0\r\nl: 101\r\n\r\n"),
            (413, b"BYE sip:a SIP/2.0\r\nl: 99999999999999999999999999\r\n\r\n"),
        ];
        for (status, bytes) in cases {
            let lost = all(bytes, 7).unwrap_err();
            assert_eq!(lost, Lost { status, head: Bytes::copy_from_slice(bytes) });
        }
    }

    #[test]
    fn an_endless_head_is_cut_off() {
        let endless = vec![b'a'; 5000];
        assert_eq!(all(&endless, 10).unwrap_err().status, 513);
    }
}
