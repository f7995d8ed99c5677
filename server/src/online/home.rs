//! Where the timestamp that was signed last is kept.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use super::Signed;
use crate::error::ServerError;
use crate::file::{self, Readers};
use crate::store::records::{Expected, Key, Kind, RecordWrite};
use crate::store::{Store, Write, Written};

/// Where the last timestamp is kept.
pub enum Home {
    /// In the server's folder.
    File(PathBuf),
    /// In a store that several servers share.
    Shared(Arc<dyn Store>),
}

impl Home {
    pub(super) fn read(&self) -> Result<Option<Signed>, ServerError> {
        match self {
            Self::File(path) => match std::fs::read(path) {
                Ok(bytes) => Signed::parse(bytes).map(Some),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(ServerError::file("read", path)(error)),
            },
            Self::Shared(store) => {
                let (kind, key) = record_name();
                let Some(record) = store.record(&kind, &key)? else {
                    return Ok(None);
                };
                let signed = Signed::parse(record.bytes)?;
                let record = record.version;
                Ok(Some(Signed { record, ..signed }))
            }
        }
    }

    /// Keeps it durably in the place of `last`. The record's version, or nothing where another
    /// server was first.
    pub(super) fn keep(
        &self,
        bytes: &[u8],
        last: Option<&Signed>,
    ) -> Result<Option<u64>, ServerError> {
        match self {
            Self::File(path) => {
                file::replace(path, bytes, Readers::All)?;
                Ok(Some(0))
            }
            Self::Shared(store) => {
                let (kind, key) = record_name();
                let expected = last.map_or(Expected::Absent, |last| Expected::Version(last.record));
                let write = Write::Records(vec![RecordWrite {
                    kind,
                    key,
                    expected,
                    bytes: Some(bytes.to_vec()),
                }]);
                match store.commit(&[write])?.pop() {
                    Some(Written::Recorded(versions)) => Ok(versions.into_iter().flatten().next()),
                    _ => Ok(None),
                }
            }
        }
    }
}

fn record_name() -> (Kind, Key) {
    let kind = Kind::parse("server").expect("five small letters");
    let key = Key::parse("image-timestamp").expect("a short text");
    (kind, key)
}
