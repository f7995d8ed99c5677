//! What the director signs for one device: targets, snapshot and timestamp.
//!
//! A pure function of who, what and when: signed again with the same arguments, by another
//! replica or after a restart, it is the same to the byte (Ed25519 and RFC 6979 are
//! deterministic). So nothing about it has to be stored, and versions never fall as long as the
//! times that are handed in do not.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::{DEVICE_MEMBER, Terms};
use crate::metadata::{MetaFile, Snapshot, TargetFile, Targets, Timestamp};
use crate::name::{DeviceId, TargetPath};
use crate::release::FileRef;
use crate::repo::{Draft, RepoError};
use crate::sign::Sign;
use crate::time::UtcTime;
use crate::version::MetaVersion;

/// What to sign.
#[derive(Debug, Clone)]
pub struct Issue<'a> {
    /// For whom.
    pub device: &'a DeviceId,
    /// What is offered, on which terms.
    pub offer: Option<(&'a FileRef, Terms)>,
    /// When targets and snapshot are signed; their version is this in Unix seconds, from 1.
    pub content_at: UtcTime,
    /// For how long they hold, in seconds.
    pub content_secs: i64,
    /// When the timestamp is signed, not before `content_at`; likewise its version.
    pub fresh_at: UtcTime,
    /// For how long it holds, in seconds.
    pub fresh_secs: i64,
}

/// Signed files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The version of targets and snapshot.
    pub content_version: MetaVersion,
    /// `VERSION.targets.json`.
    pub targets: Vec<u8>,
    /// `VERSION.snapshot.json`.
    pub snapshot: Vec<u8>,
    /// `timestamp.json`.
    pub timestamp: Vec<u8>,
}

impl Issue<'_> {
    /// Signs.
    ///
    /// # Errors
    /// A key that fails.
    pub fn sign(&self, key: &dyn Sign) -> Result<Issued, RepoError> {
        let content_version = version(self.content_at);
        let content_until = self.content_at.plus_secs(self.content_secs);
        let mut targets = Targets::new(content_until);
        targets.common.version = content_version;
        let device = self.device.as_str().into();
        targets
            .common
            .extra
            .insert(DEVICE_MEMBER.to_string(), device);
        if let Some((file, terms)) = &self.offer {
            let described = TargetFile::new(file.length, file.sha256);
            let path: TargetPath = file.path.clone();
            targets
                .targets
                .insert(path, described.with_custom(terms.to_custom()));
        }
        let targets = signed(Draft::new(&targets), key)?;
        let mut snapshot = Snapshot::new(content_until);
        snapshot.common.version = content_version;
        let described = MetaFile::of(content_version, &targets);
        snapshot.meta.insert("targets.json".to_string(), described);
        let snapshot = signed(Draft::new(&snapshot), key)?;
        let described = MetaFile::of(content_version, &snapshot);
        let fresh_at = self.fresh_at.max(self.content_at);
        let mut timestamp = Timestamp::new(fresh_at.plus_secs(self.fresh_secs), described);
        timestamp.common.version = version(fresh_at);
        timestamp.signed_at = Some(fresh_at);
        Ok(Issued {
            content_version,
            targets,
            snapshot,
            timestamp: signed(Draft::new(&timestamp), key)?,
        })
    }
}

fn version(at: UtcTime) -> MetaVersion {
    let secs = u64::try_from(at.unix()).unwrap_or(0);
    MetaVersion::new(secs).unwrap_or(MetaVersion::FIRST)
}

fn signed(mut draft: Draft, key: &dyn Sign) -> Result<Vec<u8>, RepoError> {
    draft.sign(key)?;
    Ok(draft.to_bytes())
}
