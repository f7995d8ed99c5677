//! Changing who holds a role: keys and threshold, root included.
//!
//! The delegator is drafted anew: root for the top-level roles, targets for a product. A new root
//! is signed by a threshold of the old keys and of the new ones. What the change leaves without
//! enough signatures is drafted anew as well, with the same content, for its new holders to sign:
//! without that the tree could not be published. The director's root is a chain of its own, and
//! names the director's online keys ([`crate::director`]).

use std::path::PathBuf;

use ampoule_protocol::key::{Key, KeyId};
use ampoule_protocol::metadata::{Listing, Payload, RoleKeys, RoleType, Root, Targets};
use ampoule_protocol::name::RoleName;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::KeyRing;
use ampoule_protocol::version::MetaVersion;

use crate::add::{redraft, require_unsigned};
use crate::ceremony::role_keys;
use crate::director;
use crate::durable::{self, Access, Disk};
use crate::error::{OperatorError, SignerError};
use crate::init::holder_name;
use crate::keys::public;
use crate::layout::Repository;
use crate::settings::Expiries;
use crate::workspace::{LockedWorkspace, Workspace, top_role};

/// What shall change for one role.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Public key files that come in.
    pub add: Vec<PathBuf>,
    /// Holders or key ids that go.
    pub remove: Vec<String>,
    /// Signatures needed from now on; as before where `None`.
    pub threshold: Option<u64>,
}

/// Drafts the change; the requests that were written.
pub fn rotate(
    disk: &dyn Disk,
    dir: &std::path::Path,
    role: &str,
    change: &Change,
    now: UtcTime,
) -> Result<Vec<PathBuf>, SignerError> {
    let mut workspace = Workspace::open_to_write(disk, dir)?;
    let incoming = keep_holders(disk, &mut workspace, &change.add)?;
    if let Some(part) = director::part(&workspace, role) {
        let draft = director::rotate(disk, &mut workspace, part, change, &incoming, now)?;
        return Ok(vec![draft]);
    }
    let top = RoleType::ALL.into_iter().find(|kind| kind.as_str() == role);
    let mut drafts = Vec::new();
    match top {
        Some(kind) => {
            require_unsigned(&workspace, &top_role("root"))?;
            let mut root = workspace.coming_root()?;
            let keys = changed(
                &workspace,
                role,
                root.role(kind),
                &root.keys,
                change,
                &incoming,
            )?;
            root.keys
                .extend(incoming.iter().map(|key| (key.id(), key.clone())));
            root.roles.insert(kind, keys);
            retain_used(&mut root);
            drafts.push(draft_root(disk, &mut workspace, root, now)?);
        }
        None => drafts.push(rotate_product(
            disk,
            &mut workspace,
            role,
            change,
            &incoming,
            now,
        )?),
    }
    drafts.extend(redraft_unsigned(disk, &mut workspace, now)?);
    Ok(drafts)
}

fn rotate_product(
    disk: &dyn Disk,
    workspace: &mut LockedWorkspace,
    role: &str,
    change: &Change,
    incoming: &[Key],
    now: UtcTime,
) -> Result<PathBuf, SignerError> {
    let targets_role = RoleName::targets();
    require_unsigned(workspace, &targets_role)?;
    let mut targets = workspace.coming_targets(&targets_role)?;
    let mut known = vec!["root", "targets", "snapshot", "timestamp"]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    known.extend(workspace.coming_roles()?.iter().map(ToString::to_string));
    known.extend(director::names(workspace));
    let unknown = || OperatorError::UnknownRole {
        name: role.to_owned(),
        known,
    };
    let Some(delegations) = targets.delegations.as_mut() else {
        return Err(unknown().into());
    };
    let Listing::Roles(roles) = &mut delegations.roles else {
        return Err(unknown().into());
    };
    let Some(delegated) = roles.iter_mut().find(|other| other.name.as_str() == role) else {
        return Err(unknown().into());
    };
    delegated.keys = changed(
        workspace,
        role,
        &delegated.keys,
        &delegations.keys,
        change,
        incoming,
    )?;
    delegations
        .keys
        .extend(incoming.iter().map(|key| (key.id(), key.clone())));
    let used: Vec<KeyId> = roles
        .iter()
        .flat_map(|role| role.keys.keyids.clone())
        .collect();
    delegations.keys.retain(|id, _| used.contains(id));
    redraft(disk, workspace, &targets_role, targets, now)
}

/// The keys of a role after the change.
pub(crate) fn changed(
    workspace: &Workspace,
    role: &str,
    before: &RoleKeys,
    table: &std::collections::BTreeMap<KeyId, Key>,
    change: &Change,
    incoming: &[Key],
) -> Result<RoleKeys, SignerError> {
    let mut keys: Vec<&Key> = before
        .keyids
        .iter()
        .filter_map(|id| table.get(id))
        .collect();
    for name in &change.remove {
        let id = find(workspace, &keys, name).ok_or_else(|| OperatorError::KeyNotAsked {
            key: name.clone(),
            role: role.to_owned(),
        })?;
        keys.retain(|key| key.id() != id);
    }
    keys.extend(incoming);
    let after = role_keys(&keys, change.threshold.unwrap_or(before.threshold))?;
    let mut ids = before.keyids.clone();
    ids.sort();
    if ids == after.keyids && before.threshold == after.threshold {
        return Err(OperatorError::NoChange {
            role: role.to_owned(),
        }
        .into());
    }
    Ok(after)
}

/// The key that a holder's name or the beginning of an id means.
fn find(workspace: &Workspace, keys: &[&Key], name: &str) -> Option<KeyId> {
    /// Shorter beginnings are mistyped too easily.
    const BEGINNING_MIN: usize = 8;
    let ids = || keys.iter().map(|key| key.id());
    ids()
        .find(|id| {
            workspace
                .holders
                .get(id.as_str())
                .is_some_and(|holder| holder == name)
        })
        .or_else(|| {
            let mut fitting =
                ids().filter(|id| name.len() >= BEGINNING_MIN && id.as_str().starts_with(name));
            let first = fitting.next();
            first.filter(|_| fitting.next().is_none())
        })
}

/// Keys that no role uses are dropped: a key table is not a history.
pub(crate) fn retain_used(root: &mut Root) {
    let used: Vec<KeyId> = root
        .roles
        .values()
        .flat_map(|role| role.keyids.clone())
        .collect();
    root.keys.retain(|id, _| used.contains(id));
}

/// Drafts this root as the next version.
pub(crate) fn draft_root(
    disk: &dyn Disk,
    workspace: &mut LockedWorkspace,
    mut root: Root,
    now: UtcTime,
) -> Result<PathBuf, SignerError> {
    let role = top_role("root");
    root.common.version = MetaVersion::new(workspace.next_version(&role))
        .ok_or_else(|| SignerError::Ourselves("version 0".to_owned()))?;
    root.common.expires = now.plus_secs(Expiries::secs(workspace.settings.expiry.root));
    let request = workspace.request(Repository::Image, &role, root.to_signed())?;
    workspace.stage(disk, request)
}

/// Drafts anew every published targets file that the coming delegators no longer accept.
fn redraft_unsigned(
    disk: &dyn Disk,
    workspace: &mut LockedWorkspace,
    now: UtcTime,
) -> Result<Vec<PathBuf>, SignerError> {
    let mut drafts = Vec::new();
    let targets_role = RoleName::targets();
    let root = workspace.coming_root()?;
    if let Some(published) = accepted_no_more(
        workspace,
        &targets_role,
        &KeyRing::of_root(&root, RoleType::Targets),
    ) {
        drafts.push(redraft(disk, workspace, &targets_role, published, now)?);
    }
    let delegations = workspace.coming_targets(&targets_role)?.delegations;
    for role in workspace.coming_roles()? {
        let ring = delegations
            .as_ref()
            .and_then(|d| KeyRing::of_delegated(d, &role));
        let Some(ring) = ring else { continue };
        if let Some(published) = accepted_no_more(workspace, &role, &ring) {
            drafts.push(redraft(disk, workspace, &role, published, now)?);
        }
    }
    // Drafts that stay carry the delegators of before; their holders must see the new ones.
    let staged: Vec<_> = workspace
        .staged
        .values()
        .map(|s| s.request.clone())
        .collect();
    for request in staged {
        let mut fresh = request.clone();
        workspace.complete_chain(&mut fresh)?;
        if fresh != request {
            workspace.stage(disk, fresh)?;
        }
    }
    Ok(drafts)
}

/// A published file without a draft that too few of the ring's keys signed.
fn accepted_no_more(workspace: &Workspace, role: &RoleName, ring: &KeyRing<'_>) -> Option<Targets> {
    if workspace.draft(role).is_some() {
        return None;
    }
    let file = workspace.published.as_ref()?.targets_of(role)?;
    let enough = ring.signers(&file.envelope).len() as u64 >= ring.threshold();
    (!enough).then(|| file.payload.clone())
}

/// Reads the incoming keys and keeps their names.
pub(crate) fn keep_holders(
    disk: &dyn Disk,
    workspace: &mut LockedWorkspace,
    paths: &[PathBuf],
) -> Result<Vec<Key>, SignerError> {
    let mut keys = Vec::new();
    for path in paths {
        let key = public::read(path)?;
        let name = holder_name(path);
        let place = workspace.layout.holders().join(format!("{name}.pub"));
        require_free(&place, &key, &name)?;
        if let Some(public) = key.public() {
            durable::put(disk, &place, &public::to_bytes(public), Access::Shared)?;
        }
        workspace.holders.insert(key.id().to_string(), name);
        keys.push(key);
    }
    Ok(keys)
}

/// One name means one key: in words, people are told apart by it.
fn require_free(place: &std::path::Path, key: &Key, name: &str) -> Result<(), SignerError> {
    if place.exists() && public::read(place)?.public() != key.public() {
        return Err(OperatorError::HolderTaken {
            name: name.to_owned(),
        }
        .into());
    }
    Ok(())
}
