//! A segment file as chunks, read one ahead, since only the end of the file tells which is last.

use std::io::{self, Read};
use std::ops::Range;

use zeroize::Zeroize as _;

use crate::keys::DataKey;
use crate::segment::format::AssociatedData;
use crate::segment::format::aead::{
    CHUNK, FIRST_PLAINTEXT, HEADER, PLAINTEXT, Place, Seed, SegmentCipher, TAG,
};

/// Reads chunks and opens them. Holds two chunks at a time; the text is zeroised.
pub(super) struct Chunks<R> {
    source: R,
    /// `None` when the header is not of this format: nothing can be opened then.
    cipher: Option<SegmentCipher>,
    this: Vec<u8>,
    ahead: Vec<u8>,
    number: u64,
    /// Where the chunk ahead begins in the file.
    at: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// More may come.
    Reading,
    /// The last chunk has been, and yet bytes follow.
    PastLast,
    /// Nothing comes any more.
    Ended,
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// The text of a chunk.
    Text(&'a [u8]),
    /// The text of the last chunk: the file is whole.
    Last(&'a [u8]),
    /// The file ends before its last chunk. Behind the whole chunks is nothing, or less than a
    /// chunk that does not open, or zeros, as a power cut leaves them.
    CutOff {
        /// Where the whole chunks end, in bytes.
        whole: u64,
    },
    /// These bytes are not what was written here. What comes next may be whole again.
    Damaged(Range<u64>),
}

impl<R: Read> Chunks<R> {
    pub(super) fn open(
        mut source: R,
        key: &DataKey,
        associated: &AssociatedData,
    ) -> io::Result<Self> {
        let mut ahead = Vec::with_capacity(CHUNK);
        fill(&mut source, &mut ahead)?;
        let seed = ahead.first_chunk::<HEADER>().and_then(Seed::of_header);
        let cipher = seed.map(|seed| SegmentCipher::new(key.expose(), &seed, associated));
        let this = Vec::with_capacity(CHUNK);
        Ok(Self { source, cipher, this, ahead, number: 0, at: 0, state: State::Reading })
    }

    /// What comes next; `None` after [`Found::Last`] and [`Found::CutOff`], and at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Found<'_>>> {
        match self.state {
            State::Ended => return Ok(None),
            State::PastLast => {
                let from = self.at;
                while !self.ahead.is_empty() {
                    self.advance()?;
                }
                self.state = State::Ended;
                return Ok(Some(Found::Damaged(from..self.at)));
            }
            State::Reading => {}
        }
        let from = self.at;
        if self.ahead.is_empty() {
            self.state = State::Ended;
            return Ok(Some(Found::CutOff { whole: from }));
        }
        self.advance()?;
        let follows = !self.ahead.is_empty();
        let opened = match follows {
            true if self.opens(Place::Inner) => Some(Place::Inner),
            true if self.opens(Place::Last) => {
                self.state = State::PastLast;
                Some(Place::Inner)
            }
            false if self.opens(Place::Last) => {
                self.state = State::Ended;
                Some(Place::Last)
            }
            false if self.this.len() == CHUNK && self.opens(Place::Inner) => Some(Place::Inner),
            _ => None,
        };
        let number = self.number;
        self.number += 1;
        match opened {
            Some(place) => {
                let text = text_range(number, self.this.len());
                let text = self.this.get(text).unwrap_or_default();
                Ok(Some(match place {
                    Place::Inner => Found::Text(text),
                    Place::Last => Found::Last(text),
                }))
            }
            None => self.not_opened(from).map(Some),
        }
    }

    /// After [`Found::CutOff`]: whether the bytes behind the whole chunks are the last chunk of a
    /// file of this length. Then chunks are missing before it.
    pub(super) fn tail_is_the_last_of(&mut self, length: u64) -> bool {
        self.number = length.saturating_sub(1) / CHUNK as u64;
        self.opens(Place::Last)
    }

    /// The source, for what is done with the bytes as they are.
    pub(super) fn source(&self) -> &R {
        &self.source
    }

    fn not_opened(&mut self, from: u64) -> io::Result<Found<'static>> {
        let zeros = is_zero(&self.this);
        if zeros {
            while !self.ahead.is_empty() && is_zero(&self.ahead) {
                self.advance()?;
                self.number += 1;
            }
        }
        if !self.ahead.is_empty() {
            return Ok(Found::Damaged(from..self.at));
        }
        self.state = State::Ended;
        if zeros || self.this.len() < CHUNK {
            Ok(Found::CutOff { whole: from })
        } else {
            Ok(Found::Damaged(from..self.at))
        }
    }

    fn advance(&mut self) -> io::Result<()> {
        std::mem::swap(&mut self.this, &mut self.ahead);
        self.at += self.this.len() as u64;
        self.ahead.clear();
        fill(&mut self.source, &mut self.ahead)
    }

    /// Opens the chunk in place; leaves it as it is when it does not open there.
    fn opens(&mut self, place: Place) -> bool {
        let (Some(cipher), Ok(number)) = (&self.cipher, u32::try_from(self.number)) else {
            return false;
        };
        let header = if number == 0 { HEADER } else { 0 };
        let chunk = self.this.get_mut(header..).unwrap_or_default();
        cipher.open(number, place, chunk).is_ok()
    }
}

impl<R> Drop for Chunks<R> {
    fn drop(&mut self) {
        self.this.zeroize();
        self.ahead.zeroize();
    }
}

/// Where in the file the chunk is that holds this byte of the text.
pub(super) fn chunk_of_text(at: u64) -> Range<u64> {
    let number = match at.checked_sub(FIRST_PLAINTEXT as u64) {
        None => 0,
        Some(after) => 1 + after / PLAINTEXT as u64,
    };
    let from = number.saturating_mul(CHUNK as u64);
    from..from.saturating_add(CHUNK as u64)
}

fn text_range(number: u64, chunk: usize) -> Range<usize> {
    let from = if number == 0 { HEADER } else { 0 };
    from..chunk.saturating_sub(TAG).max(from)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

fn fill(source: &mut impl Read, into: &mut Vec<u8>) -> io::Result<()> {
    source.by_ref().take(CHUNK as u64).read_to_end(into).map(drop)
}
