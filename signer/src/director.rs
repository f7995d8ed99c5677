//! The director's root: whose it is, and which online keys it names.
//!
//! A chain of roots of its own, made offline like the other one. What the server signs for each
//! device it signs with the online keys that this root names, so that a stolen one is left behind
//! by the next version of it.

use std::path::PathBuf;

use ampoule_protocol::key::Key;
use ampoule_protocol::metadata::{Payload, RoleType, Root};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::MetaVersion;

use crate::durable::Disk;
use crate::error::{OperatorError, SignerError};
use crate::layout::Repository;
use crate::rotate::{Change, changed, retain_used};
use crate::settings::Expiries;
use crate::workspace::{LockedWorkspace, Workspace, top_role};

/// Whose keys change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Those who sign the director's root, offline.
    Root,
    /// What the server signs with: targets, snapshot and timestamp of the director together.
    Online,
}

impl Part {
    const ALL: [Self; 2] = [Self::Root, Self::Online];

    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "director.root",
            Self::Online => "director.online",
        }
    }

    /// The three online roles are one power and change together.
    fn roles(self) -> &'static [RoleType] {
        match self {
            Self::Root => &[RoleType::Root],
            Self::Online => &[RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp],
        }
    }
}

/// The part of that name; a product of the same name comes first, and without a director there is
/// none.
pub fn part(workspace: &Workspace, name: &str) -> Option<Part> {
    let is_product = workspace.settings.product(name).is_some();
    let mut parts = Part::ALL.into_iter();
    parts.find(|part| part.name() == name && is_there(workspace) && !is_product)
}

/// What can be named where a role is asked for.
pub fn names(workspace: &Workspace) -> Vec<String> {
    let parts = Part::ALL.into_iter().filter(|_| is_there(workspace));
    parts.map(|part| part.name().to_owned()).collect()
}

fn is_there(workspace: &Workspace) -> bool {
    workspace.director_draft().is_some() || !workspace.director.is_empty()
}

/// Drafts the next root with other keys.
pub fn rotate(
    disk: &dyn Disk,
    workspace: &mut LockedWorkspace,
    part: Part,
    change: &Change,
    incoming: &[Key],
    now: UtcTime,
) -> Result<PathBuf, SignerError> {
    let mut root = coming(workspace)?;
    for role in part.roles() {
        let (name, before) = (part.name(), root.role(*role));
        let keys = changed(workspace, name, before, &root.keys, change, incoming)?;
        root.roles.insert(*role, keys);
    }
    root.keys
        .extend(incoming.iter().map(|key| (key.id(), key.clone())));
    retain_used(&mut root);
    draft(disk, workspace, root, now)
}

/// Drafts the next root as it is, before it expires.
pub fn renew(
    disk: &dyn Disk,
    workspace: &mut LockedWorkspace,
    now: UtcTime,
) -> Result<PathBuf, SignerError> {
    let root = coming(workspace)?;
    draft(disk, workspace, root, now)
}

/// The root to change, where nobody has signed a draft of it.
fn coming(workspace: &Workspace) -> Result<Root, SignerError> {
    if let Some(staged) = workspace.director_draft()
        && !staged.request.envelope.signatures().is_empty()
    {
        let (role, version) = ("director root".to_owned(), staged.request.version());
        return Err(OperatorError::DraftInUse { role, version }.into());
    }
    let nothing = || OperatorError::NoDraft {
        what: "the director's root".to_owned(),
    };
    Ok(workspace.coming_director()?.ok_or_else(nothing)?)
}

fn draft(
    disk: &dyn Disk,
    workspace: &mut LockedWorkspace,
    mut root: Root,
    now: UtcTime,
) -> Result<PathBuf, SignerError> {
    root.common.version = MetaVersion::new(workspace.next_director_version())
        .ok_or_else(|| SignerError::Ourselves("version 0".to_owned()))?;
    root.common.expires = now.plus_secs(Expiries::secs(workspace.settings.expiry.root));
    let request = workspace.request(Repository::Director, &top_role("root"), root.to_signed())?;
    workspace.stage(disk, request)
}
