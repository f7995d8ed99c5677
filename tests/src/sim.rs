//! A TUF repository in memory that a test bends in one line.
//!
//! ```
//! use ampoule_tests::sim::RepositorySimulator;
//!
//! let mut repo = RepositorySimulator::new();
//! repo.add_target("file.txt", b"content");
//! repo.release();                  // every version one higher, signed, linked
//! repo.timestamp.version -= 1;     // a rollback
//! repo.publish();                  // signed as it stands
//! assert!(repo.tree.contains_key("metadata/2.snapshot.json"));
//! ```
//!
//! [`RepositorySimulator::publish`] signs every role as it stands, with its own signers, after
//! linking snapshot to the targets files and timestamp to the snapshot. Whatever a device must
//! refuse can be made: publication checks nothing. What was published stays in
//! [`RepositorySimulator::tree`], since old files are what attackers replay.

mod keys;
mod release;
mod role;

use std::collections::BTreeMap;
use std::path::Path;

use ampoule_protocol::digest::{Digest, Hashes};
use ampoule_protocol::json::{self, Value};
use ampoule_protocol::key::KeyId;
use ampoule_protocol::metadata::{
    DelegatedRole, Delegations, Listing, MetaFile, RoleKeys, RoleType, Root, Snapshot,
    SuccinctBins, TargetFile, Targets, Timestamp, Trusts,
};
use ampoule_protocol::name::{RoleName, TargetPath};
use ampoule_protocol::paths;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::MetaVersion;

pub use keys::TestKey;
pub use release::BLOCK_LEN;
pub use role::{Role, envelope, sign, signature};

/// The files of a published tree, by path: `metadata/1.root.json`, `targets/…`.
pub type Tree = BTreeMap<String, Vec<u8>>;

/// Noon of the day on which every simulated world begins.
pub const DAWN: &str = "2030-01-01T12:00:00Z";

/// When simulated metadata expires unless a test says otherwise: 30 days after [`DAWN`].
pub const EXPIRY_SECS: i64 = 30 * 86_400;

/// See the module's head.
#[derive(Clone)]
pub struct RepositorySimulator {
    /// Names the keys of every role.
    pub root: Role<Root>,
    /// What is newest.
    pub timestamp: Role<Timestamp>,
    /// Which targets versions belong together.
    pub snapshot: Role<Snapshot>,
    /// The top-level targets.
    pub targets: Role<Targets>,
    /// The delegated roles, by name.
    pub delegated: BTreeMap<String, Role<Targets>>,
    /// Whether snapshot and timestamp carry lengths and digests of what they name.
    pub describe_files: bool,
    /// Whether publication lets snapshot name the targets files; a test that forges this says no.
    pub link_targets: bool,
    /// Whether publication lets timestamp name the snapshot.
    pub link_snapshot: bool,
    /// Everything ever published, newest version of each name.
    pub tree: Tree,
}

impl Default for RepositorySimulator {
    fn default() -> Self {
        Self::new()
    }
}

impl RepositorySimulator {
    /// Version 1 of all four roles, one Ed25519 key each, published.
    pub fn new() -> Self {
        Self::with_keys(TestKey::ed25519)
    }

    /// The same, with keys of another kind.
    ///
    /// # Panics
    /// Never: [`DAWN`] is a time.
    pub fn with_keys(make: impl Fn(&str) -> TestKey) -> Self {
        let expires = UtcTime::parse(DAWN).expect("a time").plus_secs(EXPIRY_SECS);
        let mut root = Root::new(expires);
        let mut signers = BTreeMap::new();
        for role in RoleType::ALL {
            let key = make(role.as_str());
            authorise(&mut root, role, std::slice::from_ref(&key), 1);
            signers.insert(role, vec![key]);
        }
        let mut of = |role| signers.remove(&role).unwrap_or_default();
        let first = MetaFile::of(MetaVersion::FIRST, b"");
        let mut simulator = Self {
            root: Role::new(root, of(RoleType::Root)),
            timestamp: Role::new(Timestamp::new(expires, first), of(RoleType::Timestamp)),
            snapshot: Role::new(Snapshot::new(expires), of(RoleType::Snapshot)),
            targets: Role::new(Targets::new(expires), of(RoleType::Targets)),
            delegated: BTreeMap::new(),
            describe_files: false,
            link_targets: true,
            link_snapshot: true,
            tree: Tree::new(),
        };
        simulator.publish();
        simulator
    }

    /// Signs all roles as they stand and puts them into the tree.
    pub fn publish(&mut self) {
        self.publish_root();
        let names: Vec<String> = self.delegated.keys().cloned().collect();
        for name in names {
            let file = self.delegated[&name].to_file();
            self.put_targets(&name, self.delegated[&name].version, file);
        }
        self.put_targets("targets", self.targets.version, self.targets.to_file());
        let file = self.snapshot.to_file();
        if self.link_snapshot {
            self.timestamp.snapshot = self.describe(self.snapshot.version, &file);
        }
        self.put(&versioned("snapshot", self.snapshot.version), file);
        self.publish_timestamp();
    }

    /// Signs root alone.
    pub fn publish_root(&mut self) {
        self.put(&versioned("root", self.root.version), self.root.to_file());
    }

    /// Signs timestamp alone.
    pub fn publish_timestamp(&mut self) {
        self.put(paths::TIMESTAMP_FILE, self.timestamp.to_file());
    }

    /// The next version of everything but root, published.
    pub fn release(&mut self) {
        self.timestamp.version += 1;
        self.snapshot.version += 1;
        self.targets.version += 1;
        for role in self.delegated.values_mut() {
            role.version += 1;
        }
        self.publish();
    }

    /// The next version of root, published with all else as it stands.
    pub fn release_root(&mut self) {
        self.root.version += 1;
        self.publish();
    }

    /// A file in the top-level targets, and its content in the tree.
    pub fn add_target(&mut self, path: &str, content: &[u8]) {
        let file = self.put_content(path, content);
        self.targets.targets.insert(target_path(path), file);
    }

    /// A file in the delegated role `role`.
    ///
    /// # Panics
    /// Where there is no such role.
    pub fn add_delegated_target(&mut self, role: &str, path: &str, content: &[u8]) {
        let file = self.put_content(path, content);
        let role = self
            .delegated
            .get_mut(role)
            .expect("a role that was delegated before");
        role.targets.insert(target_path(path), file);
    }

    /// Delegates `paths` from `parent` to the new role `name`, with a key of its own.
    pub fn delegate(&mut self, parent: &str, name: &str, paths: &[&str], terminating: bool) {
        let key = TestKey::ed25519(name);
        let role = DelegatedRole {
            name: role_name(name),
            keys: RoleKeys::new(vec![key.id.clone()], 1),
            trusts: Trusts::Paths(paths.iter().map(|path| (*path).to_owned()).collect()),
            terminating,
        };
        self.delegate_as(parent, role, &[key]);
    }

    /// Delegates as `role` says, to a new role that `keys` sign.
    ///
    /// # Panics
    /// Where `parent` is no role, or delegates to succinct bins.
    pub fn delegate_as(&mut self, parent: &str, role: DelegatedRole, keys: &[TestKey]) {
        let expires = self.targets.expires;
        let name = role.name.to_string();
        let delegations = self.delegations(parent);
        for key in keys {
            delegations.keys.insert(key.id.clone(), key.object.clone());
        }
        let Listing::Roles(roles) = &mut delegations.roles else {
            panic!("{parent} delegates to bins");
        };
        roles.push(role);
        self.delegated
            .entry(name)
            .or_insert_with(|| Role::new(Targets::new(expires), Vec::new()))
            .signers
            .extend_from_slice(keys);
    }

    /// Delegates everything from targets to `2^bit_length` succinct bins (TAP 15).
    pub fn delegate_to_bins(&mut self, bit_length: u32, name_prefix: &str) -> SuccinctBins {
        let key = TestKey::ed25519(name_prefix);
        let bins = SuccinctBins {
            keys: RoleKeys::new(vec![key.id.clone()], 1),
            bit_length,
            name_prefix: name_prefix.to_owned(),
        };
        for index in 0..1 << bit_length {
            let role = Role::new(Targets::new(self.targets.expires), vec![key.clone()]);
            self.delegated
                .insert(bins.bin_name(index).to_string(), role);
        }
        let delegations = self.delegations("targets");
        delegations.keys.insert(key.id.clone(), key.object.clone());
        delegations.roles = Listing::Bins(bins.clone());
        bins
    }

    /// The delegations of `parent`, made where there are none.
    ///
    /// # Panics
    /// Where `parent` is no role.
    pub fn delegations(&mut self, parent: &str) -> &mut Delegations {
        let role = match parent {
            "targets" => &mut self.targets,
            _ => self
                .delegated
                .get_mut(parent)
                .expect("a role that was delegated before"),
        };
        role.delegations.get_or_insert_with(Delegations::new)
    }

    /// Lets every role expire at `expires`; for peers, which live by the real clock.
    pub fn expire_at(&mut self, expires: UtcTime) {
        self.root.expires = expires;
        self.timestamp.expires = expires;
        self.snapshot.expires = expires;
        self.targets.expires = expires;
        for role in self.delegated.values_mut() {
            role.expires = expires;
        }
    }

    /// Lets root trust exactly `keys` for `role`, and lets them sign it.
    pub fn set_keys(&mut self, role: RoleType, keys: &[TestKey], threshold: u64) {
        authorise(&mut self.root, role, keys, threshold);
        *self.signers(role) = keys.to_vec();
    }

    /// Replaces the keys of `role` by a new one. A root rotated so is signed by old and new.
    pub fn rotate(&mut self, role: RoleType) {
        let name = format!("{role} after version {}", self.root.version);
        let old = self.signers(role).clone();
        self.set_keys(role, &[TestKey::ed25519(&name)], 1);
        if role == RoleType::Root {
            self.root.signers.extend(old);
        }
    }

    /// Who signs `role` at the next publication.
    pub fn signers(&mut self, role: RoleType) -> &mut Vec<TestKey> {
        match role {
            RoleType::Root => &mut self.root.signers,
            RoleType::Timestamp => &mut self.timestamp.signers,
            RoleType::Snapshot => &mut self.snapshot.signers,
            RoleType::Targets => &mut self.targets.signers,
        }
    }

    /// Changes a published file as JSON, leaving its signatures as they are.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn tamper(&mut self, path: &str, change: impl FnOnce(&mut Value)) {
        let file = self.tree.get_mut(path).expect("a published file");
        let mut value = json::parse(file).expect("published files are JSON");
        change(&mut value);
        *file = json::compact(&value);
    }

    /// Where the content of target `path` is found in the tree.
    ///
    /// # Panics
    /// Where no role has it.
    pub fn content_path(&self, path: &str) -> String {
        let path = target_path(path);
        let all = std::iter::once(&self.targets).chain(self.delegated.values());
        let file = all
            .into_iter()
            .find_map(|role| role.targets.get(&path))
            .expect("a target");
        content_path(&path, file)
    }

    /// Writes the tree into `folder`, to look at or to serve.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn dump(&self, folder: &Path) -> std::io::Result<()> {
        for (path, bytes) in &self.tree {
            let file = folder.join(path);
            if let Some(parent) = file.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(file, bytes)?;
        }
        Ok(())
    }

    fn put(&mut self, name: &str, file: Vec<u8>) {
        self.tree.insert(format!("metadata/{name}"), file);
    }

    fn put_targets(&mut self, name: &str, version: u64, file: Vec<u8>) {
        if self.link_targets {
            let described = self.describe(version, &file);
            self.snapshot.meta.insert(format!("{name}.json"), described);
        }
        let stem = role_name(name).file_stem();
        self.put(&versioned(&stem, version), file);
    }

    fn put_content(&mut self, path: &str, content: &[u8]) -> TargetFile {
        let file = TargetFile::new(content.len() as u64, Digest::of(content));
        self.tree
            .insert(content_path(&target_path(path), &file), content.to_vec());
        file
    }

    fn describe(&self, version: u64, file: &[u8]) -> MetaFile {
        // A version of 0 cannot be described; whoever publishes one forges the link as well.
        let version = MetaVersion::new(version).unwrap_or(MetaVersion::FIRST);
        let mut described = MetaFile::of(version, file);
        if !self.describe_files {
            described.length = None;
            described.hashes = None;
        }
        described
    }
}

/// The keys of `role` in `root`, replaced. Keys that no role names any more are dropped.
fn authorise(root: &mut Root, role: RoleType, keys: &[TestKey], threshold: u64) {
    let ids: Vec<KeyId> = keys.iter().map(|key| key.id.clone()).collect();
    root.roles.insert(role, RoleKeys::new(ids, threshold));
    for key in keys {
        root.keys.insert(key.id.clone(), key.object.clone());
    }
    let named: Vec<KeyId> = root
        .roles
        .values()
        .flat_map(|role| role.keyids.clone())
        .collect();
    root.keys.retain(|id, _| named.contains(id));
}

fn versioned(stem: &str, version: u64) -> String {
    format!("{version}.{stem}.json")
}

fn content_path(path: &TargetPath, file: &TargetFile) -> String {
    format!("targets/{}", paths::target_file(path, Some(&file.hashes)))
}

fn target_path(path: &str) -> TargetPath {
    TargetPath::parse(path).expect("tests name targets by good paths")
}

fn role_name(name: &str) -> RoleName {
    RoleName::parse(name).expect("tests name roles")
}

/// Digests that fit nothing.
pub fn wrong_hashes() -> Hashes {
    Hashes::sha256(Digest::from_bytes([0; 32]))
}
