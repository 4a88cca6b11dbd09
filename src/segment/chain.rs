//! The chain of a recording's manifests: each names the digest of the one before.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use crate::ids::Digest;
use crate::segment::format::SignedManifest;

/// The digest of the manifest that was written last in a recording's folder; `None` where there
/// is none. Files that are no manifests are passed over.
pub(super) fn head_on_disk(folder: &Path) -> io::Result<Option<Digest>> {
    let manifests = read_all(folder)?;
    let named: HashSet<Digest> = manifests.values().filter_map(|m| m.manifest.previous).collect();
    Ok(manifests
        .iter()
        .filter(|(digest, _)| !named.contains(digest))
        .max_by_key(|(_, signed)| (signed.manifest.end, signed.manifest.name()))
        .map(|(digest, _)| *digest))
}

fn read_all(folder: &Path) -> io::Result<HashMap<Digest, SignedManifest>> {
    let mut manifests = HashMap::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(manifests),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json")
            && let Ok(signed) = SignedManifest::parse(&std::fs::read(&path)?)
        {
            manifests.insert(signed.digest(), signed);
        }
    }
    Ok(manifests)
}
