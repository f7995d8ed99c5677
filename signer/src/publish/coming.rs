//! What the tree will say after this publication.

use std::collections::BTreeMap;

use ampoule_protocol::key::{KeyId, PublicKey};
use ampoule_protocol::metadata::{
    Envelope, Listing, MetaFile, Payload, RoleType, Root, Snapshot, Targets,
};
use ampoule_protocol::name::RoleName;
use ampoule_protocol::paths;
use ampoule_protocol::trust::KeyRing;
use ampoule_protocol::version::MetaVersion;

use crate::error::{OperatorError, SignerError, TreeError};
use crate::layout::Repository;
use crate::request::{Request, payload, with_signatures};
use crate::tree::{Published, SignedFile};
use crate::workspace::{Staged, Workspace, top_role};

/// Which drafts go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All; one that lacks a signature refuses the whole.
    All,
    /// Those that are complete; the others wait.
    Complete,
    /// None but snapshot and timestamp: a refresh.
    Nothing,
}

/// A metadata file on its way into the tree.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// Its name in `metadata/`.
    pub(super) name: String,
    /// Its version.
    pub(super) version: u64,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// Whether the tree lacks it.
    pub(super) is_new: bool,
}

impl File {
    /// A file that is in the tree.
    pub(super) fn published<T: Payload>(role: &str, file: &SignedFile<T>) -> Self {
        let version = file.payload.version().get();
        Self {
            name: file_name(role, version),
            version,
            bytes: file.bytes.clone(),
            is_new: false,
        }
    }

    /// A draft as it will be published: the verified signatures alone.
    pub(super) fn drafted(request: &Request) -> Self {
        let version = request.version();
        let bytes = envelope_of(request).to_bytes();
        Self {
            name: file_name(request.role.as_str(), version),
            version,
            bytes,
            is_new: true,
        }
    }
}

/// The root with its draft, if it is one.
#[derive(Debug, Clone)]
pub(super) struct ComingRoot {
    /// What it says.
    pub(super) payload: Root,
    /// Its envelope.
    pub(super) envelope: Envelope,
    /// The file to write, where it is new.
    pub(super) file: Option<File>,
}

/// A targets file, top-level or delegated.
#[derive(Debug, Clone)]
pub(super) struct ComingTargets {
    /// What it says.
    pub(super) payload: Targets,
    /// Its envelope.
    pub(super) envelope: Envelope,
    /// Its file.
    pub(super) file: File,
}

/// Everything but snapshot and timestamp, which are made over it.
#[derive(Debug, Clone)]
pub(super) struct Coming {
    /// The root.
    pub(super) root: ComingRoot,
    /// The top-level targets.
    pub(super) targets: ComingTargets,
    /// The product roles.
    pub(super) roles: BTreeMap<RoleName, ComingTargets>,
    /// The director's root, where it is complete.
    pub(super) director: Vec<File>,
    /// Titles of drafts that stay behind.
    pub(super) left: Vec<String>,
}

impl Coming {
    /// Chooses between drafts and published files, and checks every signature under the root and
    /// targets that are coming.
    pub(super) fn read(workspace: &Workspace, scope: Scope) -> Result<Self, SignerError> {
        let mut left = Vec::new();
        let root_role = top_role("root");
        let root = if let Some(request) = chosen(workspace, &root_role, &[], scope, &mut left)? {
            ComingRoot {
                payload: payload(&request.envelope)?,
                envelope: envelope_of(&request),
                file: Some(File::drafted(&request)),
            }
        } else {
            let file = workspace
                .published
                .as_ref()
                .ok_or_else(nothing)?
                .newest_root();
            ComingRoot {
                payload: file.payload.clone(),
                envelope: file.envelope.clone(),
                file: None,
            }
        };
        let chain = vec![root.envelope.clone()];
        let targets = targets(workspace, &RoleName::targets(), &chain, scope, &mut left)?
            .ok_or_else(nothing)?;
        let ring = KeyRing::of_root(&root.payload, RoleType::Targets);
        require_signed("targets", &targets, &ring)?;
        let chain = vec![root.envelope.clone(), targets.envelope.clone()];
        let mut roles = BTreeMap::new();
        if let Some(delegations) = &targets.payload.delegations
            && let Listing::Roles(listed) = &delegations.roles
        {
            for role in listed {
                let Some(file) = self::targets(workspace, &role.name, &chain, scope, &mut left)?
                else {
                    continue;
                };
                let Some(ring) = KeyRing::of_delegated(delegations, &role.name) else {
                    continue;
                };
                require_signed(role.name.as_str(), &file, &ring)?;
                roles.insert(role.name.clone(), file);
            }
        }
        for ((repository, role), staged) in &workspace.staged {
            let is_product =
                staged.request.kind() == RoleType::Targets && role.as_str() != "targets";
            let is_seen = roles.contains_key(role) || left.contains(&staged.request.title());
            if *repository == Repository::Image && is_product && !is_seen {
                left.push(format!(
                    "{}, to which targets does not delegate",
                    staged.request.title()
                ));
            }
        }
        let director = director(workspace, &mut left)?;
        Ok(Self {
            root,
            targets,
            roles,
            director,
            left,
        })
    }

    /// What the snapshot must say.
    pub(super) fn meta(&self) -> BTreeMap<String, MetaFile> {
        let files = std::iter::once((RoleName::targets(), &self.targets))
            .chain(self.roles.iter().map(|(role, file)| (role.clone(), file)));
        files
            .map(|(role, targets)| {
                let version = targets.payload.version();
                (
                    Snapshot::meta_name(&role),
                    MetaFile::of(version, &targets.file.bytes),
                )
            })
            .collect()
    }

    /// Names this root as the one that says who signs, and the published one beside it where that
    /// names other keys.
    pub(super) fn name_signers(&self, workspace: &Workspace, request: &mut Request) {
        request.chain = vec![self.root.envelope.clone()];
        let role = request.kind();
        let published = workspace.published.as_ref().map(Published::trusted_root);
        let other = published.filter(|root| {
            let (old, new) = (&root.payload, &self.root.payload);
            keys_of(old, role) != keys_of(new, role)
        });
        request.former = other.map(|root| root.envelope.clone());
    }

    /// Whether a device that knows the published root alone believes what is coming. Then root may
    /// come last, and no moment has a device refuse anything.
    pub(super) fn is_seamless(
        &self,
        workspace: &Workspace,
        snapshot: &File,
        timestamp: &File,
    ) -> bool {
        let published = workspace.published.as_ref().map(Published::trusted_root);
        published.is_some_and(|root| {
            let files = [&self.targets.file, snapshot, timestamp];
            believes(&root.payload, files.map(|file| file.bytes.as_slice()))
        })
    }
}

/// Whether these keys signed targets, snapshot and timestamp.
pub(super) fn believes(root: &Root, [targets, snapshot, timestamp]: [&[u8]; 3]) -> bool {
    let is_signed = |role, bytes| {
        let ring = KeyRing::of_root(root, role);
        Envelope::parse(bytes).is_ok_and(|envelope| is_signed(&envelope, &ring))
    };
    is_signed(RoleType::Targets, targets)
        && is_signed(RoleType::Snapshot, snapshot)
        && is_signed(RoleType::Timestamp, timestamp)
}

/// The keys that count for a role, by id.
fn keys_of(root: &Root, role: RoleType) -> Vec<(KeyId, PublicKey)> {
    let ring = KeyRing::of_root(root, role);
    let keys = ring.keys();
    keys.map(|(id, key)| (id.clone(), key.clone())).collect()
}

/// Whether a threshold of `ring` signed.
pub(super) fn is_signed(envelope: &Envelope, ring: &KeyRing<'_>) -> bool {
    ring.signers(envelope).len() as u64 >= ring.threshold()
}

/// The draft of `role` if it goes out, its chain being what is coming.
fn chosen(
    workspace: &Workspace,
    role: &RoleName,
    chain: &[Envelope],
    scope: Scope,
    left: &mut Vec<String>,
) -> Result<Option<Request>, SignerError> {
    let Some(staged) = workspace.draft(role) else {
        return Ok(None);
    };
    require_next(staged, workspace.next_version(role))?;
    let mut request = staged.request.clone();
    request.chain = chain.to_vec();
    let goes = match scope {
        Scope::Nothing => false,
        Scope::Complete => request.is_complete()?,
        Scope::All => {
            request.require_complete()?;
            true
        }
    };
    if goes {
        return Ok(Some(request));
    }
    left.push(request.title());
    Ok(None)
}

fn targets(
    workspace: &Workspace,
    role: &RoleName,
    chain: &[Envelope],
    scope: Scope,
    left: &mut Vec<String>,
) -> Result<Option<ComingTargets>, SignerError> {
    if let Some(request) = chosen(workspace, role, chain, scope, left)? {
        return Ok(Some(ComingTargets {
            payload: payload(&request.envelope)?,
            envelope: envelope_of(&request),
            file: File::drafted(&request),
        }));
    }
    let published = workspace
        .published
        .as_ref()
        .and_then(|p| p.targets_of(role));
    Ok(published.map(|file| ComingTargets {
        payload: file.payload.clone(),
        envelope: file.envelope.clone(),
        file: File::published(role.as_str(), file),
    }))
}

fn director(workspace: &Workspace, left: &mut Vec<String>) -> Result<Vec<File>, SignerError> {
    let mut files = Vec::new();
    for ((repository, _), staged) in &workspace.staged {
        if *repository != Repository::Director {
            continue;
        }
        require_next(staged, workspace.next_director_version())?;
        if staged.request.is_complete()? {
            files.push(File::drafted(&staged.request));
        } else {
            left.push(staged.request.title());
        }
    }
    Ok(files)
}

/// A version that skips one would be a root that no device finds, or a leap that cannot be taken
/// back.
fn require_next(staged: &Staged, next: u64) -> Result<(), SignerError> {
    let found = staged.request.version();
    // A root that a crash left in the tree without its timestamp goes out once more.
    if found <= next {
        return Ok(());
    }
    let (tree, role) = (staged.path.clone(), staged.request.role.to_string());
    Err(TreeError::VersionConflict {
        tree,
        role,
        found,
        expected: next.to_string(),
    }
    .into())
}

/// The keys of a published file may have been rotated away since.
fn require_signed(role: &str, file: &ComingTargets, ring: &KeyRing<'_>) -> Result<(), SignerError> {
    let have = ring.signers(&file.envelope).len();
    if have as u64 >= ring.threshold() {
        return Ok(());
    }
    let (role, version, need) = (role.to_owned(), file.file.version, ring.threshold());
    Err(OperatorError::Threshold {
        role,
        version,
        have,
        need,
    }
    .into())
}

/// The draft with the signatures that count and no others.
fn envelope_of(request: &Request) -> Envelope {
    let good = request.counted().unwrap_or_default();
    let kept = request
        .envelope
        .signatures()
        .iter()
        .filter(|s| good.contains(&s.keyid))
        .cloned();
    with_signatures(kept.collect(), request.envelope.unverified().clone())
}

fn file_name(role: &str, version: u64) -> String {
    let version = MetaVersion::new(version);
    match role {
        "timestamp" => paths::TIMESTAMP_FILE.to_owned(),
        "root" => paths::root_file(version.unwrap_or(MetaVersion::FIRST)),
        "snapshot" => paths::snapshot_file(version),
        _ => paths::role_file(&top_role(role), version),
    }
}

fn nothing() -> SignerError {
    OperatorError::NoDraft {
        what: "root and targets".to_owned(),
    }
    .into()
}
