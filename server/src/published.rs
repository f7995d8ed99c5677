//! The published tree, as it is served.
//!
//! ```text
//!   metadata/N.root.json, N.snapshot.json, N.ROLE.json   never change: kept in memory, encoded once
//!   metadata/timestamp.json                              changes: from the keeper, or the tree
//!   targets/P/<sha256>.<name>                            never change: read where they lie,
//!                                                        in the folder or in a bucket
//! ```
//!
//! Invariants:
//! - Nothing outside `metadata/` and `targets/` is served: a name is taken apart into segments,
//!   and none may be empty, begin with a dot or hold a separator.
//! - The ETag is strong: it is made of a SHA-256, that of the bytes or that in the name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::paths::{METADATA_DIR, TARGETS_DIR, TIMESTAMP_FILE};
use bytes::Bytes;
use hyper::header::HeaderValue;

use crate::blob::{BlobError, BlobStore, Folder, Key};
use crate::cell::Cell;

/// Metadata longer than this is not kept in memory, but read where it lies.
const KEPT_LEN_MAX: u64 = 8 << 20;
/// All kept metadata; when more comes, everything is forgotten and read again as asked for.
const KEPT_SUM_MAX: usize = 256 << 20;
/// Lengths of targets that are remembered; more, and all are asked for again.
const LENGTHS_MAX: usize = 10_000;
/// Shorter bodies gain nothing from an encoding.
const ENCODED_LEN_MIN: usize = 256;

/// A metadata file in memory, in each form that can be sent.
#[derive(Debug, Clone)]
pub struct Document {
    /// As published.
    pub plain: Form,
    /// Where it is smaller.
    pub gzip: Option<Form>,
    /// Where it is smaller.
    pub zstd: Option<Form>,
}

/// One form of a metadata file, with what its answer says.
#[derive(Debug, Clone)]
pub struct Form {
    /// What is sent.
    pub bytes: Bytes,
    /// Each form has its own.
    pub etag: HeaderValue,
}

impl Document {
    /// In one form only: what is sent to one device, and seldom, is not worth an encoding.
    pub fn plain(bytes: Vec<u8>) -> Self {
        let etag = etag_value(&format!("\"{}\"", Digest::of(&bytes)));
        Self {
            gzip: None,
            zstd: None,
            plain: Form {
                bytes: bytes.into(),
                etag,
            },
        }
    }

    /// Encodes once what will be sent often.
    pub fn new(bytes: Vec<u8>) -> Self {
        let digest = Digest::of(&bytes);
        let form = |bytes: Vec<u8>, mark: &str| Form {
            bytes: bytes.into(),
            etag: etag_value(&format!("\"{digest}{mark}\"")),
        };
        let smaller = |encoded: io::Result<Vec<u8>>, mark: &str| {
            let encoded = encoded.ok().filter(|encoded| encoded.len() < bytes.len())?;
            Some(form(encoded, mark))
        };
        let worth = bytes.len() >= ENCODED_LEN_MIN;
        let gzip = worth.then(|| smaller(gzip(&bytes), "-gzip")).flatten();
        let zstd = worth
            .then(|| smaller(zstd::bulk::compress(&bytes, 9), "-zstd"))
            .flatten();
        Self {
            gzip,
            zstd,
            plain: form(bytes, ""),
        }
    }
}

/// Our ETags are hex digits and dashes in quotes.
fn etag_value(etag: &str) -> HeaderValue {
    HeaderValue::from_str(etag).unwrap_or(HeaderValue::from_static(""))
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// What a name leads to.
pub enum Found {
    /// A metadata file that never changes.
    Versioned(Arc<Document>),
    /// The timestamp.
    Timestamp(Arc<Document>),
    /// A file to be read where it lies.
    File {
        /// Open.
        file: File,
        /// Its length.
        len: u64,
        /// Its ETag, quotes included.
        etag: HeaderValue,
        /// Whether its name says what it holds.
        immutable: bool,
    },
    /// A target in a bucket, if it is there.
    Elsewhere {
        /// Its name.
        key: Key,
        /// Its ETag, quotes included.
        etag: HeaderValue,
    },
}

/// The tree of one image repository.
#[derive(Debug)]
pub struct Published {
    folder: PathBuf,
    /// Where targets lie.
    targets: Arc<dyn BlobStore>,
    /// What is known of targets in a bucket.
    lengths: RwLock<HashMap<Key, u64>>,
    timestamp: Cell<Option<Arc<Document>>>,
    kept: RwLock<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    documents: HashMap<String, Arc<Document>>,
    len: usize,
}

impl Published {
    /// The tree in `folder`, with no timestamp yet.
    pub fn new(folder: PathBuf) -> Self {
        let targets = Arc::new(Folder::new(folder.clone()));
        Self::with_targets(folder, targets)
    }

    /// A tree whose metadata is in `folder`, and whose targets are in a store.
    pub fn with_targets(folder: PathBuf, targets: Arc<dyn BlobStore>) -> Self {
        Self {
            folder,
            targets,
            lengths: RwLock::default(),
            timestamp: Cell::new(None),
            kept: RwLock::default(),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Serves this timestamp from now on.
    pub fn set_timestamp(&self, bytes: Vec<u8>) {
        self.timestamp.store(Some(Arc::new(Document::new(bytes))));
    }

    /// Forgets what was kept of the tree; it is read again as asked for.
    pub fn forget(&self) {
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    }

    /// Reads the newest version of each role into memory, so that no device waits for an encoding.
    pub fn warm(&self) {
        let Ok(entries) = std::fs::read_dir(self.folder.join(METADATA_DIR)) else {
            return;
        };
        let mut newest: HashMap<String, u64> = HashMap::new();
        for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            let Some((version, role)) = name.split_once('.') else {
                continue;
            };
            if let Ok(version) = version.parse::<u64>() {
                let known = newest.entry(role.to_string()).or_default();
                *known = version.max(*known);
            }
        }
        for (role, version) in newest {
            // A file that cannot be read now is answered for when it is asked for.
            let _ = self.metadata(&format!("{version}.{role}"));
        }
    }

    /// What the path below `/tuf/image/` leads to; `None` where that is nothing.
    ///
    /// # Errors
    /// The disk failed.
    pub fn find(&self, path: &str) -> io::Result<Option<Found>> {
        match path.split_once('/') {
            Some((METADATA_DIR, TIMESTAMP_FILE)) => {
                Ok(Option::clone(&self.timestamp.load()).map(Found::Timestamp))
            }
            Some((METADATA_DIR, name)) => self.metadata(name),
            Some((TARGETS_DIR, path)) => self.target(path),
            _ => Ok(None),
        }
    }

    /// Where targets lie.
    pub fn targets(&self) -> &dyn BlobStore {
        self.targets.as_ref()
    }

    /// The length of a target in a bucket; nothing where there is none. It is asked for once: the
    /// name says what the target holds.
    ///
    /// # Errors
    /// The bucket does not answer.
    pub async fn length(&self, key: &Key) -> Result<Option<u64>, BlobError> {
        let known = {
            let lengths = self.lengths.read().unwrap_or_else(PoisonError::into_inner);
            lengths.get(key).copied()
        };
        if known.is_some() {
            return Ok(known);
        }
        let found = self.targets.length(key).await?;
        if let Some(len) = found {
            let mut lengths = self.lengths.write().unwrap_or_else(PoisonError::into_inner);
            if lengths.len() >= LENGTHS_MAX {
                lengths.clear();
            }
            lengths.insert(key.clone(), len);
        }
        Ok(found)
    }

    fn metadata(&self, name: &str) -> io::Result<Option<Found>> {
        let kept = {
            let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
            kept.documents.get(name).cloned()
        };
        if let Some(document) = kept {
            return Ok(Some(Found::Versioned(document)));
        }
        let folder = self.folder.join(METADATA_DIR);
        // Role names are percent-encoded in file names; clients send them encoded once or twice.
        let names = [Some(name.to_string()), decode(name)];
        for on_disk in names.into_iter().flatten().filter(|name| is_segment(name)) {
            let Some((mut file, len)) = open(&folder.join(&on_disk))? else {
                continue;
            };
            if len > KEPT_LEN_MAX {
                return Ok(Some(Found::File {
                    etag: weak_name_etag(&file)?,
                    file,
                    len,
                    immutable: is_versioned(name),
                }));
            }
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let document = Arc::new(Document::new(bytes));
            if !is_versioned(name) {
                return Ok(Some(Found::Timestamp(document)));
            }
            self.keep(name, &document);
            return Ok(Some(Found::Versioned(document)));
        }
        Ok(None)
    }

    fn keep(&self, name: &str, document: &Arc<Document>) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len + document.plain.bytes.len() > KEPT_SUM_MAX {
            *kept = Kept::default();
        }
        kept.len += document.plain.bytes.len();
        kept.documents.insert(name.to_string(), document.clone());
    }

    fn target(&self, path: &str) -> io::Result<Option<Found>> {
        let mut name = TARGETS_DIR.to_owned();
        let mut last = String::new();
        for segment in path.split('/') {
            let Some(segment) = decode(segment).filter(|segment| is_segment(segment)) else {
                return Ok(None);
            };
            name = format!("{name}/{segment}");
            last = segment;
        }
        let Some(folder) = self.targets.local() else {
            // Only what says in its name what it holds: the rest of it is never asked for.
            let key = Key::parse(&name);
            return Ok(key.and_then(|key| {
                let etag = etag_value(&format!("\"{}\"", key.digest()?));
                Some(Found::Elsewhere { key, etag })
            }));
        };
        let on_disk = folder.join(&name);
        let Some((file, len)) = open(&on_disk)? else {
            return Ok(None);
        };
        let hash = last.split_once('.').map_or("", |(hash, _)| hash);
        let digest = Digest::parse(hash).ok();
        let etag = match &digest {
            Some(digest) => etag_value(&format!("\"{digest}\"")),
            None => weak_name_etag(&file)?,
        };
        let immutable = digest.is_some();
        Ok(Some(Found::File {
            file,
            len,
            etag,
            immutable,
        }))
    }
}

/// A regular file and its length; `None` where there is none.
fn open(path: &Path) -> io::Result<Option<(File, u64)>> {
    // Asked first, since opening a pipe would wait for its other end.
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    match File::open(path) {
        Ok(file) => {
            let len = file.metadata()?.len();
            Ok(Some((file, len)))
        }
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename)
}

/// For a file whose name does not tell its content: changes with inode, length and time.
fn weak_name_etag(file: &File) -> io::Result<HeaderValue> {
    let m = file.metadata()?;
    let (inode, len) = (m.ino(), m.size());
    let (secs, nanos) = (m.mtime(), m.mtime_nsec());
    Ok(etag_value(&format!(
        "\"{inode:x}-{len:x}-{secs:x}-{nanos:x}\""
    )))
}

/// Whether the name begins with a version: then its bytes never change.
fn is_versioned(name: &str) -> bool {
    let version = name.split_once('.').map_or("", |(version, _)| version);
    !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_segment(segment: &str) -> bool {
    !segment.is_empty() && !segment.starts_with('.') && !segment.contains(['/', '\\', '\0'])
}

/// Takes percent-encoding away, once; `None` where it is broken or no UTF-8.
fn decode(segment: &str) -> Option<String> {
    if !segment.contains('%') {
        return Some(segment.to_string());
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let value = digit(rest.next())? * 16 + digit(rest.next())?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Published) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("published");
        std::fs::create_dir_all(root.join("metadata")).unwrap();
        std::fs::create_dir_all(root.join("targets/pump")).unwrap();
        std::fs::write(folder.path().join("secret"), "s").unwrap();
        std::fs::write(root.join("metadata/1.a%2Fb.json"), "{}").unwrap();
        std::fs::write(root.join("metadata/1.root.json"), "r".repeat(1000)).unwrap();
        let name = format!("{}.img", Digest::of(b"image"));
        std::fs::write(root.join("targets/pump").join(name), "image").unwrap();
        let published = Published::new(root);
        (folder, published)
    }

    #[test]
    fn nothing_outside_is_found() {
        let (_folder, tree) = tree();
        for path in [
            "metadata/../../secret",
            "metadata/..%2F..%2Fsecret",
            "metadata/%2e%2e",
            "targets/../metadata/1.root.json",
            "targets/%2e%2e/%2e%2e/secret",
            "targets/..%2f..%2fsecret",
            "targets//etc/passwd",
            "targets/pump",
            "targets/",
            "targets",
            "",
            "secret",
            "metadata/.hidden",
            "metadata/1.root.json\0",
            "metadata/%",
            "metadata/%ff",
            "metadata/1.root.json/x",
        ] {
            assert!(tree.find(path).unwrap().is_none(), "{path:?}");
        }
    }

    #[test]
    fn names_encoded_once_or_twice_are_found() {
        let (_folder, tree) = tree();
        for path in ["metadata/1.a%2Fb.json", "metadata/1.a%252Fb.json"] {
            assert!(
                matches!(tree.find(path).unwrap(), Some(Found::Versioned(_))),
                "{path}"
            );
        }
    }

    #[test]
    fn targets_have_their_digest_for_etag_and_metadata_is_encoded_once() {
        let (_folder, tree) = tree();
        let digest = Digest::of(b"image");
        let found = tree.find(&format!("targets/pump/{digest}.img")).unwrap();
        let Some(Found::File {
            etag,
            len: 5,
            immutable: true,
            ..
        }) = found
        else {
            panic!()
        };
        assert_eq!(etag, format!("\"{digest}\""));
        let Some(Found::Versioned(root)) = tree.find("metadata/1.root.json").unwrap() else {
            panic!()
        };
        assert!(root.zstd.as_ref().unwrap().bytes.len() < 100 && root.gzip.is_some());
    }
}
