//! The files of one stream: found, removed, and looked for again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use crate::ids::{Digest, StreamId};
use crate::segment::format::{SegmentName, SignedManifest};

/// Everything of a stream in its recording's folder, half-written manifests included. A folder that
/// is not there holds nothing.
pub(super) fn of_stream(root: &Path, stream: StreamId) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder(root, stream)) {
        Ok(entries) => entries,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(why) => return Err(why),
    };
    let start = format!("{}-", stream.index);
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        // Names that are no text are nobody's here.
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(&start)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The digests of the manifests among these files. One that does not read is a link of no chain.
pub(super) fn manifests(files: &[PathBuf]) -> io::Result<Vec<Digest>> {
    let mut digests = Vec::new();
    for path in files.iter().filter(|path| path.extension().is_some_and(|ext| ext == "json")) {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
            Err(why) => return Err(why),
        };
        if let Ok(signed) = SignedManifest::parse(&bytes) {
            digests.push(signed.digest());
        }
    }
    Ok(digests)
}

/// Unlinks files, and makes that durable.
pub(super) fn remove(root: &Path, stream: StreamId, files: &[PathBuf]) -> io::Result<()> {
    let folder = match File::open(folder(root, stream)) {
        Ok(folder) => folder,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(why),
    };
    for name in files.iter().filter_map(|path| path.file_name()) {
        match unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(why) => return Err(why.into()),
        }
    }
    // Also where nothing was left to unlink: a crash may have come before this.
    folder.sync_all()
}

pub(super) fn folder(root: &Path, stream: StreamId) -> PathBuf {
    root.join(SegmentName::folder(stream.recording))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StreamIndex;

    fn stream(index: u8) -> StreamId {
        let recording = "019aa8a6-2c00-7abc-8def-0123456789ab".parse().unwrap();
        StreamId { recording, index: StreamIndex(index) }
    }

    #[test]
    fn only_the_files_of_the_stream_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path(), stream(0));
        std::fs::create_dir_all(&folder).unwrap();
        let ours = ["0-0.seg", "0-0.json", "0-1.seg", "0-1.json.new", "0-10.seg"];
        let others = ["1-0.seg", "1-0.json", "10-0.seg", "00-0.seg", "notes.txt"];
        for name in ours.iter().chain(&others) {
            std::fs::write(folder.join(name), b"x").unwrap();
        }
        let found = of_stream(root.path(), stream(0)).unwrap();
        assert_eq!(found.len(), ours.len());
        for _ in 0..2 {
            remove(root.path(), stream(0), &found).unwrap();
            assert_eq!(of_stream(root.path(), stream(0)).unwrap(), Vec::<PathBuf>::new());
        }
        assert!(others.iter().all(|name| folder.join(name).exists()));
    }

    #[test]
    fn a_folder_that_is_not_there_holds_nothing() {
        let root = tempfile::tempdir().unwrap();
        assert!(of_stream(root.path(), stream(0)).unwrap().is_empty());
        remove(root.path(), stream(0), &[]).unwrap();
    }
}
