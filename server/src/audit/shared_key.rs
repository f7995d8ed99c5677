//! The key of a log that servers share: made by the first of them, sealed, and kept in their store.

use ampoule_protocol::sign::Ed25519Key;
use zeroize::Zeroizing;

use super::start::new_key;
use crate::error::ServerError;
use crate::secrets::Sealer;
use crate::store::records::{Expected, Key, Kind, RecordWrite};
use crate::store::{Store, StoreError, Write};

/// What it is sealed as.
const CONTEXT: &str = "audit-key";

/// The key; made where there is none yet.
///
/// # Errors
/// The store failed, or what is there was sealed with a key that this server has not.
pub(super) fn get(store: &dyn Store, sealer: &Sealer) -> Result<Ed25519Key, ServerError> {
    let (kind, key) = name();
    if let Some(record) = store.record(&kind, &key)? {
        return read(&record.bytes, sealer);
    }
    let new = new_key()?;
    let sealed = sealer.seal(CONTEXT, new.to_pkcs8_pem().as_bytes())?;
    let write = RecordWrite {
        kind: kind.clone(),
        key: key.clone(),
        expected: Expected::Absent,
        bytes: Some(sealed),
    };
    store.commit(&[Write::Records(vec![write])])?;
    // Ours, or that of a server that was first.
    let record = store.record(&kind, &key)?;
    let record = record.ok_or_else(|| StoreError::Damaged("the audit key is gone".into()))?;
    read(&record.bytes, sealer)
}

fn read(sealed: &[u8], sealer: &Sealer) -> Result<Ed25519Key, ServerError> {
    let pem = sealer.unseal(CONTEXT, sealed)?;
    let text = std::str::from_utf8(&pem).map(|text| Zeroizing::new(text.to_owned()));
    let text = text.map_err(|error| ServerError::Tls(format!("the audit key: {error}")))?;
    let key = Ed25519Key::from_pkcs8_pem(&text);
    key.map_err(|error| ServerError::Tls(format!("the audit key in the store: {error}")))
}

fn name() -> (Kind, Key) {
    let kind = Kind::parse("server").expect("six small letters");
    let key = Key::parse("audit-key").expect("a short text");
    (kind, key)
}
