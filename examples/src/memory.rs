//! A repository and a client in memory: two maps of files and the loop that joins them.

use std::collections::BTreeMap;

use ampoule_protocol::client::{Answer, Find, LocalName, Refresh, Search, Step, Trusted};
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::metadata::{
    DelegatedRole, Delegations, Listing, MetaFile, Payload, RoleKeys, RoleType, Root, Snapshot,
    TargetFile, Targets, Timestamp, Trusts,
};
use ampoule_protocol::name::{RoleName, TargetPath};
use ampoule_protocol::paths;
use ampoule_protocol::repo::Draft;
use ampoule_protocol::sign::{Ed25519Key, Sign};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::{TrustError, TrustedTarget, UpdateStart};

/// The published metadata, by file name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The keys of a small repository.
pub struct Keys {
    /// Signs root, targets, snapshot and timestamp. A real one keeps these apart.
    pub top: Ed25519Key,
    /// The holders of the product role; all of them are needed.
    pub product: Vec<Ed25519Key>,
}

/// Publishes one product role that describes `targets`.
///
/// # Errors
/// A key that cannot sign.
pub fn publish(
    product: &RoleName,
    targets: BTreeMap<TargetPath, TargetFile>,
    keys: &Keys,
    expires: UtcTime,
) -> Result<Files, Box<dyn std::error::Error>> {
    let mut files = Files::new();
    let top = keys.top.public_key().to_key();

    let mut root = Root::new(expires);
    for role in RoleType::ALL {
        root.roles.insert(role, RoleKeys::new(vec![top.id()], 1));
    }
    root.keys.insert(top.id(), top);
    let bytes = signed(&root, &[&keys.top])?;
    files.insert(paths::root_file(root.version()), bytes);

    let mut role = Targets::new(expires);
    role.targets = targets;
    let mut top_targets = Targets::new(expires);
    top_targets.delegations = Some(delegate(product, &keys.product));
    let mut snapshot = Snapshot::new(expires);
    let holders: Vec<&Ed25519Key> = keys.product.iter().collect();
    for (name, bytes) in [
        (product, signed(&role, &holders)?),
        (&RoleName::targets(), signed(&top_targets, &[&keys.top])?),
    ] {
        let version = role.version();
        snapshot
            .meta
            .insert(Snapshot::meta_name(name), MetaFile::of(version, &bytes));
        files.insert(paths::role_file(name, Some(version)), bytes);
    }

    let bytes = signed(&snapshot, &[&keys.top])?;
    let timestamp = Timestamp::new(expires, MetaFile::of(snapshot.version(), &bytes));
    files.insert(paths::snapshot_file(Some(snapshot.version())), bytes);
    files.insert(
        paths::TIMESTAMP_FILE.into(),
        signed(&timestamp, &[&keys.top])?,
    );
    Ok(files)
}

fn delegate(product: &RoleName, holders: &[Ed25519Key]) -> Delegations {
    let holders: Vec<_> = holders
        .iter()
        .map(|key| key.public_key().to_key())
        .collect();
    let ids: Vec<_> = holders.iter().map(ampoule_protocol::key::Key::id).collect();
    let threshold = ids.len() as u64;
    let mut delegations = Delegations::new();
    delegations.keys.extend(ids.iter().cloned().zip(holders));
    delegations.roles = Listing::Roles(vec![DelegatedRole {
        name: product.clone(),
        keys: RoleKeys::new(ids, threshold),
        trusts: Trusts::Paths(vec![format!("{product}/*")]),
        terminating: true,
    }]);
    delegations
}

fn signed(
    payload: &impl Payload,
    keys: &[&Ed25519Key],
) -> Result<Vec<u8>, ampoule_protocol::repo::RepoError> {
    let mut draft = Draft::new(payload);
    for key in keys {
        draft.sign(*key)?;
    }
    Ok(draft.to_bytes())
}

/// A client: what it has made durable. It begins with a root that it was given at manufacture.
pub struct Client {
    stored: BTreeMap<LocalName, Vec<u8>>,
    root: Vec<u8>,
}

impl Client {
    /// Begins with this root.
    pub fn new(root: &[u8]) -> Self {
        Self {
            stored: BTreeMap::new(),
            root: root.to_vec(),
        }
    }

    /// Refreshes from `files` and looks `path` up.
    ///
    /// # Errors
    /// Whatever is not believed.
    pub fn find(
        &mut self,
        files: &Files,
        path: &TargetPath,
        now: UtcTime,
    ) -> Result<Option<TrustedTarget>, TrustError> {
        let mut trusted = self.refresh(files, now)?;
        let mut find = Find::new(path.clone());
        loop {
            match find.step(&trusted)? {
                Step::Done => return Ok(find.found().cloned()),
                step => self.act(files, step, |answer| find.answer(&mut trusted, answer))?,
            }
        }
    }

    fn refresh(&mut self, files: &Files, now: UtcTime) -> Result<Trusted, TrustError> {
        let start = UpdateStart::new(Some(now), UtcTime::EPOCH);
        let mut refresh = Refresh::begin(&self.root, start, Lengths::DEFAULT)?;
        loop {
            match refresh.step()? {
                Step::Done => return refresh.finish().ok_or(TrustError::OutOfTurn),
                step => self.act(files, step, |answer| refresh.answer(answer))?,
            }
        }
    }

    /// Does what the conversation asks for. A device reads a socket and a disk here.
    fn act(
        &mut self,
        files: &Files,
        step: Step,
        mut take: impl FnMut(Answer<'_>) -> Result<(), TrustError>,
    ) -> Result<(), TrustError> {
        let found = match step {
            Step::Load(name) => self.stored.get(&name),
            Step::Fetch(wanted) => files.get(&wanted.file),
            Step::Store(name, bytes) => {
                if matches!(name, LocalName::Root(_)) {
                    self.root.clone_from(&bytes);
                }
                self.stored.insert(name, bytes);
                return take(Answer::Stored);
            }
            Step::Done => return Ok(()),
        };
        take(found.map_or(Answer::NotFound, |bytes| Answer::Bytes(bytes)))
    }
}
