//! The segments of a recording on the disk: where they are, with which key they open.

use std::fs::File;
use std::path::PathBuf;

use crate::catalog::{Reader, RecordingDetail, SegmentRow, Tombstone};
use crate::cli::failure::Failure;
use crate::cli::proof::Keys;
use crate::cli::{context, when};
use crate::config::Config;
use crate::event::ErasureReason;
use crate::export::{SourceError, SourceRecord};
use crate::ids::{Digest, RecordingId, StreamId, StreamIndex};
use crate::keys::{DataKey, FileKeyStore, KeyError, KeyStore};
use crate::segment::format::{Codecs, SegmentName, SignedManifest};
use crate::segment::{ReadError, SegmentReader};

/// The key-encryption keys; only where there are some: a command that reads makes none.
pub(super) fn key_store(config: &Config) -> Result<FileKeyStore, Failure> {
    let folder = &config.keys.path;
    context::refuse_missing(&folder.join("signing-key"), folder)?;
    FileKeyStore::open(folder).map_err(Failure::unavailable)
}

/// The data key of a stream; `None` when it is destroyed.
pub(super) fn data_key(
    reader: &Reader,
    store: &FileKeyStore,
    stream: StreamId,
) -> Result<Option<DataKey>, Failure> {
    let Some(wrapped) = reader.wrapped_key(stream)? else { return Ok(None) };
    match store.unwrap(&wrapped) {
        Ok(key) => Ok(Some(key)),
        Err(KeyError::Destroyed(_)) => Ok(None),
        Err(why) => Err(Failure::Failed(format!("the key of stream {stream}: {why}"))),
    }
}

/// A segment's file: where the catalog says, else where the name of the segment says.
pub(super) fn path(config: &Config, recording: RecordingId, segment: &SegmentRow) -> PathBuf {
    let folder = &config.storage.recordings;
    let stated = folder.join(&segment.location);
    if stated.exists() {
        return stated;
    }
    let stream = StreamId { recording, index: segment.stream };
    folder.join(SegmentName { stream, segment: segment.index }.path())
}

/// How many files of a stream there are.
pub(super) fn files(config: &Config, stream: StreamId) -> Result<usize, Failure> {
    let folder = config.storage.recordings.join(SegmentName::folder(stream.recording));
    let start = format!("{}-", stream.index);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(why) => {
            return Err(Failure::Failed(format!("{} cannot be read: {why}", folder.display())));
        }
    };
    let names = entries.filter_map(Result::ok).map(|entry| entry.file_name());
    Ok(names.filter(|name| name.to_string_lossy().starts_with(&start)).count())
}

/// What is said of a stream that is erased, or about to be.
pub(super) fn erased(tombstone: &Tombstone) -> String {
    let Tombstone { reason, evidence, requested, failing, verified, .. } = tombstone;
    let why = match reason {
        ErasureReason::Withdrawal => "permission was taken back",
    };
    match (verified, failing) {
        (Some(at), _) => {
            format!("erased on {} UTC: {why}, evidence {evidence}", when::short(*at))
        }
        (None, None) => format!(
            "being erased since {} UTC: {why}, evidence {evidence}",
            when::short(*requested)
        ),
        (None, Some(at)) => format!(
            "to be erased since {} UTC ({why}, evidence {evidence}), which fails since {}: see the \
             agent's log",
            when::short(*requested),
            when::short(*at)
        ),
    }
}

/// The manifest beside a segment's file, without a proof.
pub(super) fn manifest(path: &std::path::Path) -> Result<SignedManifest, String> {
    let path = path.with_extension("json");
    let bytes = std::fs::read(&path).map_err(|why| format!("{}: {why}", path.display()))?;
    SignedManifest::parse(&bytes).map_err(|why| format!("{}: {why}", path.display()))
}

/// One segment, ready to be read: its manifest's signature is right.
pub(super) struct Source {
    name: SegmentName,
    path: PathBuf,
    /// What its payload types mean.
    pub(super) codecs: Codecs,
}

/// The segments of one stream, in order, and what keeps some of them from being read.
pub(super) fn sources(
    config: &Config,
    detail: &RecordingDetail,
    stream: StreamIndex,
    keys: &Keys<'_>,
) -> (Vec<Source>, Vec<String>) {
    let (mut sources, mut problems) = (Vec::new(), Vec::new());
    for segment in detail.segments.iter().filter(|segment| segment.stream == stream) {
        match source(config, detail.recording.id, segment, keys) {
            Ok(source) => sources.push(source),
            Err(why) => problems.push(format!("{}: {why}", segment.location)),
        }
    }
    (sources, problems)
}

fn source(
    config: &Config,
    recording: RecordingId,
    segment: &SegmentRow,
    keys: &Keys<'_>,
) -> Result<Source, String> {
    let path = path(config, recording, segment);
    let signed = manifest(&path)?;
    let signer = keys
        .find_for_manifest(&signed.manifest.signing_key.to_string())
        .ok_or("the manifest is signed by an unknown key")?;
    signer
        .verify(&signed.manifest.signed_text(), &signed.signature)
        .map_err(|why| why.to_string())?;
    let name = SegmentName::of_path(&path).map_err(|why| why.to_string())?;
    if name != signed.manifest.name() {
        return Err("the manifest is that of another segment".to_owned());
    }
    Ok(Source { name, path, codecs: signed.manifest.codecs })
}

/// The packets of a stream, segment by segment. What cannot be read is passed over and noted:
/// everything else is exported.
pub(super) struct Packets<'a> {
    sources: std::vec::IntoIter<Source>,
    key: DataKey,
    evidence: Digest,
    reading: Option<(SegmentReader<File>, Source)>,
    problems: &'a std::cell::RefCell<Vec<String>>,
}

impl<'a> Packets<'a> {
    pub(super) fn new(
        sources: Vec<Source>,
        key: DataKey,
        evidence: Digest,
        problems: &'a std::cell::RefCell<Vec<String>>,
    ) -> Self {
        Self { sources: sources.into_iter(), key, evidence, reading: None, problems }
    }

    fn open_next(&mut self) -> Option<()> {
        let source = self.sources.next()?;
        let associated = source.name.associated_data(self.evidence);
        let opened = File::open(&source.path)
            .map_err(ReadError::from)
            .and_then(|file| SegmentReader::open(file, &self.key, &associated));
        match opened {
            Ok(reader) => self.reading = Some((reader, source)),
            Err(why) => self.note(&source.name, &why),
        }
        Some(())
    }

    fn note(&self, name: &SegmentName, why: &ReadError) {
        self.problems.borrow_mut().push(format!("segment {name}: {why}"));
    }
}

impl Iterator for Packets<'_> {
    type Item = Result<SourceRecord, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((reader, source)) = &mut self.reading else {
                self.open_next()?;
                continue;
            };
            let start = reader.preamble().start;
            match reader.next_record() {
                Ok(Some(record)) => {
                    // The second byte holds marker and payload type (RFC 3550, 5.1).
                    let payload_type = record.rtp.get(1).map_or(u8::MAX, |byte| byte & 0x7f);
                    return Some(Ok(SourceRecord {
                        arrival: start.plus(record.offset),
                        codec: source.codecs.get(payload_type).and_then(|codec| codec.audio()),
                        packet: record.rtp.to_vec(),
                    }));
                }
                Ok(None) => self.reading = None,
                Err(why) => {
                    let name = source.name;
                    self.note(&name, &why);
                    self.reading = None;
                }
            }
        }
    }
}
