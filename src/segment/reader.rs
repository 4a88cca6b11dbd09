//! Reads a segment back, packet by packet, in bounded memory.

use std::io::{self, Read};
use std::ops::Range;

use crate::keys::DataKey;
use crate::segment::chunks::{Chunks, Found, chunk_of_text};
use crate::segment::format::AssociatedData;
use crate::segment::format::rtpdump::{Malformed, Preamble, Record, RecordParser};

/// A segment that is being read. Memory: two chunks and one packet.
///
/// Nothing is given out of a chunk that does not authenticate.
pub struct SegmentReader<R> {
    chunks: Chunks<R>,
    parser: RecordParser,
    preamble: Preamble,
    ended: Ended,
}

/// Why reading ended before the end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file ends before its last chunk. Every packet that is whole in the chunks before has
    /// been read.
    #[error("truncated after {whole} bytes: everything before is read")]
    Truncated {
        /// Where the whole chunks end, in bytes.
        whole: u64,
    },
    /// Bytes are not what was written there, or not with this key and for this segment.
    #[error("damaged from byte {} to {}", range.start, range.end)]
    Damaged {
        /// Which bytes of the file.
        range: Range<u64>,
    },
    /// The file cannot be read.
    #[error("cannot read the segment: {0}")]
    Io(#[from] io::Error),
}

#[derive(Clone)]
enum Ended {
    NotYet,
    Whole,
    CutOff { whole: u64 },
    Damaged(Range<u64>),
}

impl<R: Read> SegmentReader<R> {
    /// Begins to read a segment with its data key and associated data.
    ///
    /// The source is read in pieces of 2048 bytes; a `File` needs no buffer in between where
    /// system calls do not matter.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; a segment of another name, evidence or key is damaged from its first byte.
    pub fn open(source: R, key: &DataKey, associated: &AssociatedData) -> Result<Self, ReadError> {
        let mut chunks = Chunks::open(source, key, associated)?;
        let mut parser = RecordParser::new();
        let mut ended = Ended::NotYet;
        loop {
            match parser.preamble() {
                Ok(Some(preamble)) => return Ok(Self { chunks, parser, preamble, ended }),
                Ok(None) => ended = feed(&mut chunks, &mut parser, ended)?,
                Err(malformed) => return Err(damaged(malformed)),
            }
        }
    }

    /// When the segment begins, and where its packets came from.
    #[must_use]
    pub fn preamble(&self) -> &Preamble {
        &self.preamble
    }

    /// The next packet; `None` after the last one of a whole segment.
    ///
    /// # Errors
    ///
    /// [`ReadError`], again and again: there is no packet after it.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        while self.parser.next_length().map_err(damaged)?.is_none() {
            if let Ended::Whole = self.ended
                && self.parser.unfinished() == 0
            {
                return Ok(None);
            }
            self.ended = feed(&mut self.chunks, &mut self.parser, self.ended.clone())?;
        }
        self.parser.record().map_err(damaged)
    }
}

/// Gives the parser the next chunk's text.
fn feed<R: Read>(
    chunks: &mut Chunks<R>,
    parser: &mut RecordParser,
    ended: Ended,
) -> Result<Ended, ReadError> {
    let ended = match ended {
        // A whole file whose text ends within a record.
        Ended::Whole => Ended::Damaged(chunk_of_text(parser.at())),
        Ended::NotYet => match chunks.next()? {
            Some(Found::Text(text)) => {
                parser.feed(text);
                Ended::NotYet
            }
            Some(Found::Last(text)) => {
                parser.feed(text);
                Ended::Whole
            }
            Some(Found::CutOff { whole }) => Ended::CutOff { whole },
            Some(Found::Damaged(range)) => Ended::Damaged(range),
            None => Ended::Whole,
        },
        over => over,
    };
    match ended {
        Ended::CutOff { whole } => Err(ReadError::Truncated { whole }),
        Ended::Damaged(range) => Err(ReadError::Damaged { range }),
        more => Ok(more),
    }
}

fn damaged(malformed: Malformed) -> ReadError {
    ReadError::Damaged { range: chunk_of_text(malformed.at) }
}
