//! Segment files and manifests on the disk.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, RecordingId};
use crate::keys::SigningKey;
use crate::segment::chain;
use crate::segment::format::{
    Format, Gap, Manifest, SealedBy, SegmentName, SegmentState, Signature, SignedManifest,
};
use crate::segment::sink::SegmentHead;
use crate::time::Timestamp;

use super::{StoreCounters, StoreError};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Opens the recordings folder and makes sure that files can be made in it.
pub(super) fn open_root(root: &Path) -> Result<File, StoreError> {
    DirBuilder::new()
        .mode(FOLDER_MODE)
        .recursive(true)
        .create(root)
        .map_err(|source| StoreError::of("create", root, source))?;
    rustix::fs::access(root, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|errno| StoreError::of("write to", root, errno.into()))?;
    File::open(root).map_err(|source| StoreError::of("open", root, source))
}

/// Makes a recording's folder and finds the manifest that the next one follows.
pub(super) fn open_recording(
    root: &Path,
    recording: RecordingId,
) -> Result<Option<Digest>, StoreError> {
    let folder = root.join(SegmentName::folder(recording));
    let failed = |source| StoreError::of("create", &folder, source);
    let mut builder = DirBuilder::new();
    builder.mode(FOLDER_MODE);
    match builder.create(&folder) {
        Ok(()) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            builder.recursive(true).create(&folder).map_err(failed)?;
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    chain::head_on_disk(&folder).map_err(|source| StoreError::of("read", &folder, source))
}

/// How a segment ended.
pub(super) struct Ended {
    pub(super) end: Timestamp,
    pub(super) packets: u64,
    pub(super) masked: u64,
    pub(super) gaps: Vec<Gap>,
    pub(super) state: SegmentState,
}

/// A segment that is being written.
pub(super) struct SegmentFile {
    pub(super) head: SegmentHead,
    path: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl SegmentFile {
    pub(super) fn create(root: &Path, head: SegmentHead) -> Result<Self, StoreError> {
        let path = root.join(head.name.path());
        let created = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path);
        let file = match created {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Exists { path });
            }
            Err(source) => return Err(StoreError::of("create", &path, source)),
        };
        Ok(Self { head, path, file, hash: Sha256::new(), bytes: 0 })
    }

    /// Writes a chunk, whole or not at all.
    pub(super) fn write(
        &mut self,
        chunk: &[u8],
        packets: u32,
        counters: &StoreCounters,
    ) -> Result<(), StoreError> {
        if let Err(source) = self.file.write_all(chunk) {
            // Part of a chunk would read as damage. If this fails too, it does.
            let _ = self.file.set_len(self.bytes);
            return Err(StoreError::of("write", &self.path, source));
        }
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;
        StoreCounters::add(&counters.bytes_written, chunk.len() as u64);
        StoreCounters::add(&counters.packets_written, u64::from(packets));
        Ok(())
    }

    /// Ends the segment: its manifest, signed and written.
    pub(super) fn seal(
        self,
        ended: Ended,
        previous: Option<Digest>,
        signing: &SigningKey,
    ) -> Result<SignedManifest, StoreError> {
        let SegmentHead { name, party_ref, codecs, start, evidence, key_id } = self.head;
        let manifest = Manifest {
            format: Format::V1,
            recording: name.stream.recording,
            stream: name.stream.index,
            segment: name.segment,
            party_ref,
            codecs,
            start,
            end: ended.end,
            packets: ended.packets,
            masked: ended.masked,
            gaps: ended.gaps,
            bytes: self.bytes,
            sha256: Digest(self.hash.finalize().into()),
            evidence,
            key_id,
            previous,
            state: ended.state,
            sealed_by: SealedBy::Writer,
            signing_key: signing.key_id(),
        };
        let path = self.path.with_extension("json");
        write_manifest(&path, manifest, signing)
            .map_err(|source| StoreError::of("write", &path, source))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Signs a manifest and puts it in its place, whole or not at all. The caller syncs.
pub(in crate::segment) fn write_manifest(
    path: &Path,
    manifest: Manifest,
    signing: &SigningKey,
) -> io::Result<SignedManifest> {
    let signature = Signature(signing.sign(&manifest.signed_text()));
    let signed = manifest.with_signature(signature);
    let unfinished = path.with_extension("json.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&unfinished)?;
    file.write_all(&signed.to_bytes())?;
    std::fs::rename(&unfinished, path)?;
    Ok(signed)
}
