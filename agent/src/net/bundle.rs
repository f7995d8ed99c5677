//! The network port over a bundle: one file with metadata and targets that was carried here.
//!
//! A bundle is a plain tar (docs/FORMAT.md, "A bundle"): `bundle.json`, `metadata/…`, `targets/…`.
//! It is indexed once, by names and places; nothing is unpacked. The same rules judge what comes
//! out of it as judge what comes from a server, so a bundle that was changed on its way is refused
//! where it was changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use ampoule_protocol::client::Source;
use ampoule_protocol::error::{Coded, Guilty};
use ampoule_protocol::paths;

use super::NetError;
use crate::ports::{Fetch, Network};

/// Files in a bundle: stops one that fills memory with names.
const FILES_MAX: usize = 1 << 16;
/// Bytes of a name in a bundle.
const NAME_LEN_MAX: usize = 4096;

/// A file that is no bundle, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("\"{path}\" cannot be used as a bundle: {what}")]
pub struct BundleError {
    path: PathBuf,
    what: String,
    source: Option<io::Error>,
}

impl Coded for BundleError {
    fn code(&self) -> &'static str {
        "bundle-unreadable"
    }

    fn guilty(&self) -> Guilty {
        Guilty::Operator
    }
}

/// A bundle, opened and indexed.
pub struct BundleFile {
    file: File,
    /// Place and length by name.
    files: BTreeMap<String, (u64, u64)>,
}

impl BundleFile {
    /// Opens the bundle at `path`.
    ///
    /// # Errors
    /// A file that cannot be read, is no tar, holds anything but files, or holds one twice.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let fail = |what: &str, source| BundleError {
            path: path.to_owned(),
            what: what.to_owned(),
            source,
        };
        let file = File::open(path).map_err(|error| fail("it cannot be opened", Some(error)))?;
        let length = file.metadata().map(|found| found.len());
        let length = length.map_err(|error| fail("it has no length", Some(error)))?;
        let files = index(&file, length).map_err(|error| fail("it is no bundle", Some(error)))?;
        if !files.contains_key(paths::BUNDLE_FILE) {
            return Err(fail("it has no \"bundle.json\"", None));
        }
        Ok(Self { file, files })
    }

    fn reader(&self, name: &str, offset: u64) -> Result<Option<io::Take<&File>>, NetError> {
        let Some((place, length)) = self.files.get(name).copied() else {
            return Ok(None);
        };
        let mut file = &self.file;
        file.seek(SeekFrom::Start(place + offset.min(length)))
            .map_err(|error| unreadable(&error))?;
        Ok(Some(file.take(length.saturating_sub(offset))))
    }
}

fn unreadable(error: &io::Error) -> NetError {
    NetError::new("bundle-unreadable", format!("the bundle failed: {error}"))
}

fn index(file: &File, length: u64) -> io::Result<BTreeMap<String, (u64, u64)>> {
    let refuse = |what: String| Err(io::Error::other(what));
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if files.len() >= FILES_MAX {
            return refuse(format!("it holds more than {FILES_MAX} files"));
        }
        let name = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| io::Error::other("a name in it is not UTF-8"))?;
        if !entry.header().entry_type().is_file() || name.len() > NAME_LEN_MAX {
            return refuse(format!("\"{name:.80}\" in it is no plain file"));
        }
        let (place, len) = (entry.raw_file_position(), entry.size());
        if place.checked_add(len).is_none_or(|end| end > length) {
            return refuse(format!("it ends within \"{name:.80}\""));
        }
        if files.insert(name.clone(), (place, len)).is_some() {
            return refuse(format!("it holds \"{name:.80}\" twice"));
        }
    }
    Ok(files)
}

impl Fetch for BundleFile {
    fn fetch(&mut self, name: &str, max_len: u64) -> Result<Option<Vec<u8>>, NetError> {
        let inside = match name {
            paths::BUNDLE_FILE => name.to_owned(),
            _ => format!("{}/{name}", paths::METADATA_DIR),
        };
        let Some(mut reader) = self.reader(&inside, 0)? else {
            return Ok(None);
        };
        if reader.limit() > max_len {
            return Err(NetError::too_long(max_len));
        }
        let mut bytes = Vec::new();
        reader
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(&error))?;
        Ok(Some(bytes))
    }

    fn source(&self) -> Source {
        Source::Bundle
    }
}

impl Network for BundleFile {
    fn target(
        &mut self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Box<dyn Read + '_>, NetError> {
        let inside = format!("{}/{name}", paths::TARGETS_DIR);
        let found = self.files.get(&inside).map(|(_, found)| *found);
        match (found, self.reader(&inside, offset)?) {
            (Some(found), Some(reader)) if found == length => Ok(Box::new(reader)),
            (Some(_), Some(_)) => Err(NetError::truncated()),
            _ => Err(NetError::new(
                "not-in-bundle",
                format!("the bundle does not hold \"{name}\""),
            )),
        }
    }

    fn holds(&self, name: &str) -> bool {
        self.files
            .contains_key(&format!("{}/{name}", paths::TARGETS_DIR))
    }

    fn is_at_hand(&self) -> bool {
        true
    }

    fn post(&mut self, _path: &str, _body: &[u8]) -> Result<Vec<u8>, NetError> {
        Err(NetError::new(
            "no-network",
            "a bundle carries nothing back; \"ampoule-agent receipts\" writes them to a file",
        ))
    }
}
