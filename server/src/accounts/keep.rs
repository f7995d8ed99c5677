//! Accounts and sessions in the store: read, and changed as one.

use ampoule_protocol::digest::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::row::{Account, Session};
use super::{ACCOUNTS_MAX, AccountError, AccountName, Accounts};
use crate::store::records::{Expected, Key, Kind, RecordWrite};
use crate::store::{StoreError, Write, Written};

/// Times that a change is tried again after somebody else's.
const TRIES_MAX: usize = 16;
/// Sessions that are looked at for ended ones at each login.
const SWEPT_MAX: usize = 64;

fn kind(name: &str) -> Kind {
    Kind::parse(name).expect("our own names are names")
}

fn key(name: &str) -> Result<Key, AccountError> {
    Key::parse(name).map_err(|error| AccountError::Bad(error.to_string()))
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, AccountError> {
    serde_json::from_slice(bytes).map_err(|error| AccountError::Damaged(error.to_string()))
}

fn bytes<T: Serialize>(row: &T) -> Vec<u8> {
    serde_json::to_vec(row).expect("rows are plain data")
}

impl Accounts {
    async fn record<T: DeserializeOwned>(
        &self,
        of: &'static str,
        name: &str,
    ) -> Result<Option<(T, u64)>, AccountError> {
        let (store, key) = (self.store.clone(), key(name)?);
        let found = tokio::task::spawn_blocking(move || store.record(&kind(of), &key)).await;
        let found = found.map_err(|_| AccountError::Store(StoreError::Closed))??;
        found
            .map(|record| Ok((read(&record.bytes)?, record.version)))
            .transpose()
    }

    /// An account.
    ///
    /// # Errors
    /// The store failed.
    pub async fn find(&self, name: &AccountName) -> Result<Option<Account>, AccountError> {
        let found = self.record("account", name.as_str()).await?;
        Ok(found.map(|(account, _)| account))
    }

    /// All accounts, by name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list(&self) -> Result<Vec<(String, Account)>, AccountError> {
        let store = self.store.clone();
        let list = move || store.records(&kind("account"), None, ACCOUNTS_MAX);
        let found = tokio::task::spawn_blocking(list).await;
        let found = found.map_err(|_| AccountError::Store(StoreError::Closed))??;
        let row = |record: &crate::store::records::Record| {
            Ok((record.key.as_str().to_owned(), read(&record.bytes)?))
        };
        found.iter().map(row).collect()
    }

    /// Changes an account and gives what `change` gives; nothing is written where it refuses.
    pub(super) async fn change<T>(
        &self,
        name: &AccountName,
        change: impl Fn(&mut Account) -> Result<T, AccountError>,
    ) -> Result<T, AccountError> {
        for _ in 0..TRIES_MAX {
            let found = self.record("account", name.as_str()).await?;
            let (mut account, version) =
                found.ok_or_else(|| AccountError::Unknown(name.to_string()))?;
            let given = change(&mut account)?;
            let expected = Expected::Version(version);
            if self
                .put("account", name.as_str(), expected, Some(bytes(&account)))
                .await?
            {
                return Ok(given);
            }
        }
        Err(AccountError::Busy)
    }

    /// Adds an account.
    pub(super) async fn add(
        &self,
        name: &AccountName,
        account: &Account,
    ) -> Result<(), AccountError> {
        let row = Some(bytes(account));
        if self
            .put("account", name.as_str(), Expected::Absent, row)
            .await?
        {
            return Ok(());
        }
        Err(AccountError::Exists(format!(
            "there is an account {name:?} already"
        )))
    }

    /// Whether it was written; `false` where the record is not as expected.
    async fn put(
        &self,
        of: &str,
        name: &str,
        expected: Expected,
        bytes: Option<Vec<u8>>,
    ) -> Result<bool, AccountError> {
        let write = RecordWrite {
            kind: kind(of),
            key: key(name)?,
            expected,
            bytes,
        };
        let written = self.writer.write(Write::Records(vec![write])).await?;
        Ok(!matches!(written, Written::Conflict { .. }))
    }

    /// Keeps a session under the hash of its id.
    pub(super) async fn keep(&self, id: &Digest, session: &Session) -> Result<(), AccountError> {
        let row = Some(bytes(session));
        self.put("session", &id.to_string(), Expected::Any, row)
            .await?;
        Ok(())
    }

    /// The session of this hash.
    pub(super) async fn session(&self, id: &Digest) -> Result<Option<Session>, AccountError> {
        let found = self.record("session", &id.to_string()).await?;
        Ok(found.map(|(session, _)| session))
    }

    /// Forgets a session.
    pub(super) async fn forget(&self, id: &Digest) -> Result<(), AccountError> {
        self.put("session", &id.to_string(), Expected::Any, None)
            .await?;
        Ok(())
    }

    /// Forgets some sessions that are over.
    pub(super) async fn sweep(&self, now: i64) -> Result<(), AccountError> {
        let store = self.store.clone();
        let list = move || store.records(&kind("session"), None, SWEPT_MAX);
        let found = tokio::task::spawn_blocking(list).await;
        let found = found.map_err(|_| AccountError::Store(StoreError::Closed))??;
        for record in found {
            let session: Session = read(&record.bytes)?;
            if session.until <= now {
                self.put("session", record.key.as_str(), Expected::Any, None)
                    .await?;
            }
        }
        Ok(())
    }
}
