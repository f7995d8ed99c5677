//! What enrolment must remember, as named records of the store.
//!
//! | kind | key | holds |
//! |---|---|---|
//! | `enrol-token` | device | [`Token`]: a one-time password, hashed |
//! | `enrol-request` | device | [`Asked`]: who waits for a person's word, and what it was |
//! | `enrol-renewal` | device | [`Renewal`]: a certificate that was issued and not yet used |
//! | `enrol-issued` | device/serial | [`IssuedRecord`]: every certificate of ours that may be in use |
//! | `enrol-ended` | device | [`Ended`]: a device that was decommissioned, for ever |
//! | `enrol-revoked` | serial | [`RevokedRecord`]: what the revocation list names |
//!
//! Records are written before an answer is given. Nothing here is secret: tokens are hashed, and
//! certificates are public.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::hex;
use ampoule_protocol::name::DeviceId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::http::problem::Problem;
use crate::serve::Shared;
use crate::store::records::{Expected, Key, Kind, Record, RecordWrite};
use crate::store::{Store, StoreError, Write, Written};

/// Records that one question about a kind reads.
pub const PAGE_LEN: usize = 256;

/// A one-time token for a first certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// SHA-256 of its text.
    pub hash: Digest,
    /// Unix time of its last second.
    pub ends_at: i64,
    /// SHA-256 of the key that used it. The same key may ask again, since an answer can be lost;
    /// no other key may.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<Digest>,
}

/// What a person says of a device that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Nothing yet.
    Waiting,
    /// It may have its certificate.
    Approved,
    /// It may not.
    Denied,
}

/// A device that asked with a birth certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Who.
    pub device: DeviceId,
    /// SHA-256 of the key that it asks for.
    pub key: Digest,
    /// SHA-256 of its birth certificate.
    pub birth: Digest,
    /// Unix time of its first question with this key.
    pub at: i64,
    /// Whether a device of that name was enrolled already, with another key: it was reset to
    /// factory state, or somebody copied its birth certificate.
    pub again: bool,
    /// What was said.
    pub word: Word,
}

/// A certificate that waits for its first use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// SHA-256 of it.
    pub certificate: Digest,
    /// Unix time of its last second.
    pub not_after: i64,
}

/// A certificate that we issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedRecord {
    /// SHA-256 of it.
    pub certificate: Digest,
    /// Unix time of its last second.
    pub not_after: i64,
    /// Unix time at which it was issued.
    pub at: i64,
}

/// An entry of the revocation list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedRecord {
    /// Whose it was.
    pub device: DeviceId,
    /// Unix time of its revocation.
    pub at: i64,
    /// Unix time of its last second; behind it, the entry can go.
    pub not_after: i64,
    /// Whether a newer certificate took its place, rather than a person's word.
    pub superseded: bool,
}

/// A device that was decommissioned: its name is never enrolled again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Unix time of it.
    pub at: i64,
}

/// The kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// [`Token`].
    Tokens,
    /// [`Asked`].
    Requests,
    /// [`Renewal`].
    Renewals,
    /// [`IssuedRecord`].
    Issued,
    /// [`RevokedRecord`].
    Revoked,
    /// [`Ended`].
    Ended,
}

impl Page {
    fn kind(self) -> Kind {
        let name = match self {
            Self::Tokens => "enrol-token",
            Self::Requests => "enrol-request",
            Self::Renewals => "enrol-renewal",
            Self::Issued => "enrol-issued",
            Self::Revoked => "enrol-revoked",
            Self::Ended => "enrol-ended",
        };
        Kind::parse(name).expect("these names fit")
    }
}

/// A record and the version that was read.
#[derive(Debug, Clone)]
pub struct Seen<T> {
    /// What it holds.
    pub value: T,
    /// Its version.
    pub version: u64,
}

/// The key of a device's record. Ids of devices are shorter than keys may be, and have no
/// control characters.
pub fn of_device(device: &DeviceId) -> Key {
    Key::parse(device.as_str()).expect("a device id fits")
}

/// The key of one certificate.
pub fn of_certificate(device: &DeviceId, serial: &[u8]) -> Key {
    Key::parse(&format!("{device}/{}", hex::encode(serial)))
        .expect("a device id and a serial number fit")
}

/// The key of an entry of the revocation list.
pub fn of_serial(serial: &[u8]) -> Key {
    Key::parse(&hex::encode(serial)).expect("a serial number fits")
}

/// Reads one record.
///
/// # Errors
/// The store failed, or the record is not what this server writes.
pub fn read<T: DeserializeOwned>(
    store: &dyn Store,
    page: Page,
    key: &Key,
) -> Result<Option<Seen<T>>, StoreError> {
    store
        .record(&page.kind(), key)?
        .map(|record| parse(page, &record))
        .transpose()
}

/// Reads the records of a kind that stand behind `after`, at most [`PAGE_LEN`].
///
/// # Errors
/// As [`read`].
pub fn list<T: DeserializeOwned>(
    store: &dyn Store,
    page: Page,
    after: Option<&Key>,
) -> Result<Vec<(Key, Seen<T>)>, StoreError> {
    store
        .records(&page.kind(), after, PAGE_LEN)?
        .into_iter()
        .map(|record| Ok((record.key.clone(), parse(page, &record)?)))
        .collect()
}

fn parse<T: DeserializeOwned>(page: Page, record: &Record) -> Result<Seen<T>, StoreError> {
    let value = serde_json::from_slice(&record.bytes).map_err(|error| {
        let kind = page.kind();
        StoreError::Damaged(format!("{kind} {:?}: {error}", record.key.as_str()))
    })?;
    Ok(Seen {
        value,
        version: record.version,
    })
}

/// When a device was decommissioned, if it was.
///
/// # Errors
/// As [`read`].
pub fn ended_at(store: &dyn Store, device: &DeviceId) -> Result<Option<i64>, StoreError> {
    let seen = read::<Ended>(store, Page::Ended, &of_device(device))?;
    Ok(seen.map(|seen| seen.value.at))
}

/// A change of one record.
pub fn change<T: Serialize>(
    page: Page,
    key: Key,
    expected: Expected,
    value: Option<&T>,
) -> RecordWrite {
    let bytes = value.map(|value| serde_json::to_vec(value).expect("records are plain data"));
    RecordWrite {
        kind: page.kind(),
        key,
        expected,
        bytes,
    }
}

/// The end of a record.
pub fn remove(page: Page, key: Key) -> RecordWrite {
    change::<()>(page, key, Expected::Any, None)
}

/// Whether a change was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is durable.
    Yes,
    /// Somebody else was quicker; nothing was written.
    Conflict,
}

/// Writes records as one, durably.
///
/// # Errors
/// The store failed or is busy.
pub async fn write(shared: &Shared, records: Vec<RecordWrite>) -> Result<Changed, StoreError> {
    match shared.writer.write(Write::Records(records)).await? {
        Written::Conflict { .. } => Ok(Changed::Conflict),
        _ => Ok(Changed::Yes),
    }
}

/// [`write()`], where a conflict is the caller's to repeat.
///
/// # Errors
/// The store failed, or somebody else changed the same.
pub async fn write_or_retry(shared: &Shared, records: Vec<RecordWrite>) -> Result<(), Problem> {
    match write(shared, records).await? {
        Changed::Yes => Ok(()),
        Changed::Conflict => Err(Problem::unavailable(
            "enrolment-changed",
            "somebody else is changing the same enrolment",
            1,
        )),
    }
}
