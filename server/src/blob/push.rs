//! Publishes a folder to a store: targets first, the timestamp last.
//!
//! Whoever reads the store while this goes on, or after it was cut anywhere, finds behind the
//! timestamp everything that it leads to: the kinds are written in the order of [`Kind`], and a kind
//! is begun when the one before is whole. What is there already is left alone, so a push that was
//! cut is simply done again.
//!
//! A target is hashed before it leaves: a file that is not what its name says is not published.
//!
//! Gap: two pushes at once are not kept apart; whoever publishes is one, as the signer's lock says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::paths::{METADATA_DIR, TARGETS_DIR, TIMESTAMP_FILE};

use super::{BlobError, BlobStore, Folder, Key, Kind, read_all};

/// Bytes of a timestamp.
pub(super) const TIMESTAMP_LEN_MAX: u64 = 64 << 10;

/// What a push did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Blobs that were written.
    pub written: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that were there.
    pub there: usize,
}

/// Publishes the tree in `from`; `told` hears of each blob that is written.
///
/// # Errors
/// The store or the disk failed, a file is not what its name says, or the store has a newer
/// timestamp. What was written stays and harms nobody.
pub async fn push(
    from: &Folder,
    to: &dyn BlobStore,
    mut told: impl FnMut(&Key, u64),
) -> Result<Pushed, BlobError> {
    let mut wanted: BTreeMap<Kind, Vec<(Key, u64)>> = BTreeMap::new();
    let mut there: BTreeMap<Key, u64> = BTreeMap::new();
    for folder in [TARGETS_DIR, METADATA_DIR] {
        for (key, len) in from.list(folder).await? {
            wanted.entry(key.kind()).or_default().push((key, len));
        }
        there.extend(to.list(folder).await?);
    }
    let timestamp = wanted.remove(&Kind::Timestamp).unwrap_or_default();
    let Some((timestamp, len)) = timestamp.first() else {
        return Err(BlobError::Tree("it has no timestamp".into()));
    };
    is_newer(from, to, timestamp, *len, there.get(timestamp)).await?;
    let mut pushed = Pushed::default();
    for (key, len) in wanted.into_values().flatten() {
        if !key.is_immutable() {
            let what = format!("{key:?} holds neither a digest nor a version");
            return Err(BlobError::Tree(what));
        }
        match there.get(&key) {
            Some(found) if *found == len => pushed.there += 1,
            Some(found) => {
                let what = format!("{key:?} is there with {found} bytes, this one has {len}");
                return Err(BlobError::Tree(what));
            }
            None => {
                is_what_it_says(&key, &from.path(&key))?;
                told(&key, len);
                to.write(&key, &from.path(&key)).await?;
                pushed.written += 1;
                pushed.bytes += len;
            }
        }
    }
    told(timestamp, *len);
    to.write(timestamp, &from.path(timestamp)).await?;
    pushed.written += 1;
    pushed.bytes += len;
    Ok(pushed)
}

/// A store is never set back: its timestamp's version does not fall.
async fn is_newer(
    from: &Folder,
    to: &dyn BlobStore,
    key: &Key,
    len: u64,
    there: Option<&u64>,
) -> Result<(), BlobError> {
    let Some(there) = there else { return Ok(()) };
    let new = version(&read_all(from, key, len, TIMESTAMP_LEN_MAX).await?)?;
    let old = version(&read_all(to, key, *there, TIMESTAMP_LEN_MAX).await?)?;
    if new < old {
        let what = format!("timestamp version {new} is older than {old}, which is there");
        return Err(BlobError::Tree(what));
    }
    Ok(())
}

/// The version that a metadata file says it has; nobody trusts it for that.
pub(super) fn version(bytes: &[u8]) -> Result<u64, BlobError> {
    let words = serde_json::from_slice::<serde_json::Value>(bytes).unwrap_or_default();
    let version = words["signed"]["version"].as_u64();
    version.ok_or_else(|| BlobError::Tree(format!("\"{TIMESTAMP_FILE}\" names no version")))
}

fn is_what_it_says(key: &Key, path: &Path) -> Result<(), BlobError> {
    let Some(said) = key.digest() else {
        return Ok(());
    };
    let found = digest_of(path).map_err(BlobError::file("read", path))?;
    if found == said {
        return Ok(());
    }
    let what = format!("{key:?} holds {}", found.short());
    Err(BlobError::Tree(what))
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut hashing = Hashing(ampoule_protocol::digest::Hasher::new());
    io::copy(&mut File::open(path)?, &mut hashing)?;
    Ok(hashing.0.finish())
}

struct Hashing(ampoule_protocol::digest::Hasher);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
