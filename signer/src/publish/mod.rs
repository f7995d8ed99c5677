//! Publication: from signed drafts to a tree that devices read.
//!
//! ```text
//! 1. every draft has its thresholds, under the root and targets that are coming
//! 2. every file that the drafts name is there, measured; every delta is applied back
//! 3. the snapshot is drafted over the signed files, and signed
//! 4. the timestamp is drafted over the signed snapshot, and signed
//! 5. target files, product roles and targets, snapshot; then timestamp and root
//! 6. the drafts go
//! ```
//!
//! A reader follows the timestamp, so before its one rename in step 5 it sees the old tree and
//! after it the new. A crash leaves a tree that is the old one with files nobody names, or the new
//! one with drafts that are published; both are published again by the same command. Signatures
//! made in steps 3 and 4 are on the disk as requests before step 5 begins, so that a second run
//! needs no key.
//!
//! A root that changes keys comes last, where the old root's keys signed targets, snapshot and
//! timestamp as well: then each state between two renames verifies under both roots, whichever of
//! them a device has just read. `publish` takes their keys along with the new ones.
//!
//! Gap: where the old keys are not at hand (they were lost or stolen), root comes before the
//! timestamp. A device that asks between these two renames refuses the old timestamp and asks
//! again later; it never believes less than a threshold.

mod check;
mod coming;
mod place;

use std::path::Path;

use ampoule_protocol::metadata::{MetaFile, Payload, RoleType, Snapshot, Timestamp};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::KeyRing;
use ampoule_protocol::version::MetaVersion;

use crate::durable::Disk;
use crate::error::SignerError;
use crate::layout::Repository;
use crate::progress::Progress;
use crate::request::{Request, payload};
use crate::settings::Expiries;
use crate::sign::{self, OpenKey};
use crate::workspace::{LockedWorkspace, Workspace, top_role};

pub use coming::Scope;
use coming::{Coming, File, is_signed};
pub use place::mirror;

/// What a publication shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Which drafts go out.
    pub scope: Scope,
    /// A new snapshot though nothing changed: it would expire.
    pub renew_snapshot: bool,
    /// A new timestamp though nothing changed.
    pub renew_timestamp: bool,
}

/// What a publication did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Metadata files written, in the order of writing; empty where nothing was to be done.
    pub metadata: Vec<String>,
    /// Target files written.
    pub targets: usize,
    /// Their bytes.
    pub targets_len: u64,
    /// Deltas applied back.
    pub deltas_proved: usize,
    /// Drafts that stay behind, by title.
    pub left: Vec<String>,
}

/// Publishes the drafts of the workspace at `dir`, signing snapshot and timestamp with `keys`.
pub fn publish(
    disk: &dyn Disk,
    dir: &Path,
    keys: &[OpenKey],
    options: Options,
    now: UtcTime,
    progress: &dyn Progress,
) -> Result<Outcome, SignerError> {
    let mut workspace = Workspace::open_to_write(disk, dir)?;
    place::clear(disk, &workspace)?;
    let coming = Coming::read(&workspace, options.scope)?;
    let mut outcome = Outcome {
        left: coming.left.clone(),
        ..Outcome::default()
    };
    outcome.deltas_proved = check::check(&workspace, &coming, progress)?;

    let snapshot = snapshot(disk, &mut workspace, &coming, keys, options, now)?;
    let timestamp = timestamp(disk, &mut workspace, &coming, &snapshot, keys, options, now)?;

    place::place(
        disk,
        &workspace,
        &coming,
        &snapshot,
        &timestamp,
        &mut outcome,
    )?;
    workspace.reread()?;
    place::clear(disk, &workspace)?;
    Ok(outcome)
}

/// The snapshot over the coming files: the published one where it still holds, else a signed
/// draft.
fn snapshot(
    disk: &dyn Disk,
    workspace: &mut LockedWorkspace,
    coming: &Coming,
    keys: &[OpenKey],
    options: Options,
    now: UtcTime,
) -> Result<File, SignerError> {
    let ring = KeyRing::of_root(&coming.root.payload, RoleType::Snapshot);
    let meta = coming.meta();
    if let Some(published) = &workspace.published {
        let held = &published.snapshot;
        let holds = held.payload.meta == meta && is_signed(&held.envelope, &ring);
        if holds && !options.renew_snapshot {
            return Ok(File::published("snapshot", held));
        }
    }
    let role = top_role("snapshot");
    let drafted = workspace.draft(&role).map(|staged| staged.request.clone());
    let request = match drafted {
        Some(drafted) if payload::<Snapshot>(&drafted.envelope)?.meta == meta => {
            let mut drafted = drafted;
            coming.name_signers(workspace, &mut drafted);
            drafted
        }
        _ => {
            let expires = now.plus_secs(Expiries::secs(workspace.settings.expiry.snapshot));
            let mut snapshot = Snapshot::new(expires);
            snapshot.common.version = version(workspace.next_version(&role))?;
            snapshot.meta = meta;
            let mut request = workspace.request(Repository::Image, &role, snapshot.to_signed())?;
            coming.name_signers(workspace, &mut request);
            request
        }
    };
    sign_now(disk, workspace, request, keys)
}

/// The timestamp over `snapshot`.
fn timestamp(
    disk: &dyn Disk,
    workspace: &mut LockedWorkspace,
    coming: &Coming,
    snapshot: &File,
    keys: &[OpenKey],
    options: Options,
    now: UtcTime,
) -> Result<File, SignerError> {
    let ring = KeyRing::of_root(&coming.root.payload, RoleType::Timestamp);
    let named = MetaFile::of(version(snapshot.version)?, &snapshot.bytes);
    if let Some(published) = &workspace.published {
        let held = &published.timestamp;
        let holds = held.payload.snapshot == named && is_signed(&held.envelope, &ring);
        if holds && !options.renew_timestamp {
            return Ok(File::published("timestamp", held));
        }
    }
    let role = top_role("timestamp");
    let drafted = workspace.draft(&role).map(|staged| staged.request.clone());
    let request = match drafted {
        Some(drafted) if payload::<Timestamp>(&drafted.envelope)?.snapshot == named => {
            let mut drafted = drafted;
            coming.name_signers(workspace, &mut drafted);
            drafted
        }
        _ => {
            let expires = now.plus_secs(Expiries::secs(workspace.settings.expiry.timestamp));
            let mut timestamp = Timestamp::new(expires, named);
            timestamp.common.version = version(workspace.next_version(&role))?;
            timestamp.signed_at = Some(now);
            let mut request = workspace.request(Repository::Image, &role, timestamp.to_signed())?;
            coming.name_signers(workspace, &mut request);
            request
        }
    };
    sign_now(disk, workspace, request, keys)
}

/// Signs what can be signed here, keeps it, and refuses to go on below the threshold.
fn sign_now(
    disk: &dyn Disk,
    workspace: &mut LockedWorkspace,
    mut request: Request,
    keys: &[OpenKey],
) -> Result<File, SignerError> {
    let has_enough = request.is_complete()? && request.welcome()?.is_none_or(|it| it.is_met());
    if !has_enough {
        let mut fitting = false;
        for key in keys {
            fitting |= !request.ids_of(key.key.public_key())?.is_empty();
        }
        if fitting {
            sign::sign(&mut request, keys)?;
        }
    }
    workspace.stage(disk, request.clone())?;
    request.require_complete()?;
    Ok(File::drafted(&request))
}

fn version(number: u64) -> Result<MetaVersion, SignerError> {
    MetaVersion::new(number).ok_or_else(|| SignerError::Ourselves("version 0".to_owned()))
}
