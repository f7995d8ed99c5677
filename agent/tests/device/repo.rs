//! A small repository: one key signs every role, one product, one component.

use std::collections::BTreeMap;

use ampoule_delta::{DiffOptions, diff};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::downgrade::Downgrade;
use ampoule_protocol::json::{self, Value};
use ampoule_protocol::metadata::{
    DelegatedRole, Delegations, Listing, MetaFile, RoleKeys, RoleType, Root, Snapshot, TargetFile,
    Targets, Timestamp, Trusts,
};
use ampoule_protocol::name::{HardwareId, RoleName, TargetPath};
use ampoule_protocol::paths;
use ampoule_protocol::release::{
    Activation, Base, Blocks, Class, Component, DeltaRef, FORMAT, FileRef, Install, Release,
    ReleaseVersion,
};
use ampoule_protocol::repo::Draft;
use ampoule_protocol::sign::{Ed25519Key, Sign};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::tree::BlockTree;
use ampoule_protocol::version::{MetaVersion, RollbackIndex};

/// Files by path below `tuf/image/`.
pub(crate) type Tree = BTreeMap<String, Vec<u8>>;

/// Releases so far, and the tree they make.
pub(crate) struct Repo {
    key: Ed25519Key,
    version: u64,
    product: Targets,
    /// Where the next releases are cleared.
    pub(crate) regions: Vec<String>,
    /// What the next releases fit.
    pub(crate) hardware: HardwareId,
    pub(crate) tree: Tree,
}

/// A component of a release.
pub(crate) struct Item<'a> {
    pub(crate) name: &'a str,
    pub(crate) install: Install,
    pub(crate) image: &'a [u8],
    pub(crate) activation: Activation,
    pub(crate) meta_data: Option<&'a str>,
    /// The ending of the artifact's name.
    pub(crate) ending: &'a str,
    /// Version and content of what a delta starts from.
    pub(crate) base: Option<(&'a str, &'a [u8])>,
}

impl<'a> Item<'a> {
    pub(crate) const fn new(name: &'a str, install: Install, image: &'a [u8]) -> Self {
        Self {
            name,
            install,
            image,
            activation: Activation::Restart,
            meta_data: None,
            ending: "img",
            base: None,
        }
    }
}

fn expires() -> UtcTime {
    UtcTime::parse("2099-01-01T00:00:00Z").expect("a time")
}

fn name(text: &str) -> RoleName {
    RoleName::parse(text).expect("a role")
}

impl Repo {
    pub(crate) fn new() -> Self {
        let key = Ed25519Key::from_seed(&[9; 32]).expect("a seed");
        let public = key.public_key().to_key();
        let mut root = Root::new(expires());
        root.keys.insert(public.id(), public.clone());
        for role in RoleType::ALL {
            root.roles.insert(role, RoleKeys::new(vec![public.id()], 1));
        }
        let mut repo = Self {
            key,
            version: 0,
            product: Targets::new(expires()),
            regions: Vec::new(),
            hardware: "pump-mk3".parse().expect("a name"),
            tree: Tree::new(),
        };
        let mut draft = Draft::new(&root);
        draft.sign(&repo.key).expect("a key in memory");
        repo.tree
            .insert("metadata/1.root.json".into(), draft.to_bytes());
        repo.publish();
        repo
    }

    /// The root that devices are made with.
    pub(crate) fn root(&self) -> &[u8] {
        &self.tree["metadata/1.root.json"]
    }

    /// A release of one component, published.
    pub(crate) fn release(&mut self, version: &str, index: u64, install: Install, image: &[u8]) {
        self.release_of(version, index, &[Item::new("rootfs", install, image)]);
    }

    /// A release whose signed description, and the object around it, hold these members as well.
    #[allow(dead_code, reason = "another test binary takes this file too")]
    pub(crate) fn release_demanding(
        &mut self,
        version: &str,
        index: u64,
        image: &[u8],
        demands: &str,
    ) {
        let demands = json::parse(demands.as_bytes()).expect("JSON");
        let items = [Item::new("rootfs", Install::Slot, image)];
        self.release_with(version, index, &items, |custom| {
            let more = |value: Value| match (value, &demands) {
                (Value::Object(mut map), Value::Object(demands)) => {
                    for (name, value) in demands {
                        map.insert(name.to_owned(), value.clone());
                    }
                    Value::Object(map)
                }
                (other, _) => other,
            };
            let inner = custom.member("ampoule").cloned().expect("a description");
            match more(custom) {
                Value::Object(mut map) => {
                    map.insert("ampoule".to_owned(), more(inner));
                    Value::Object(map)
                }
                other => other,
            }
        });
    }

    /// A release of these components, in this order, published.
    pub(crate) fn release_of(&mut self, version: &str, index: u64, items: &[Item<'_>]) {
        self.release_with(version, index, items, |description| description);
    }

    /// Takes a release away, and publishes what is left.
    #[allow(dead_code, reason = "another test binary takes this file too")]
    pub(crate) fn withdraw(&mut self, version: &str) {
        let ending = format!("release-{version}.toml");
        let targets = &mut self.product.targets;
        targets.retain(|path, _| !path.as_str().ends_with(&ending));
        self.publish();
    }

    /// A downgrade record, published.
    #[allow(dead_code, reason = "another test binary takes this file too")]
    pub(crate) fn downgrade(&mut self, record: &Downgrade) {
        let path = record.path();
        self.add(path.as_str(), b"a record");
        let target = self.product.targets.get_mut(&path).expect("just added");
        let custom = record.to_custom().expect("a good record");
        *target = target.clone().with_custom(custom);
        self.publish();
    }

    fn release_with(
        &mut self,
        version: &str,
        index: u64,
        items: &[Item<'_>],
        bend: impl FnOnce(Value) -> Value,
    ) {
        let components = items.iter().map(|item| self.component(version, item));
        let components = components.collect();
        let release = Release {
            format: FORMAT,
            product: "infusion-pump".parse().expect("a name"),
            version: ReleaseVersion::parse(version).expect("a version"),
            rollback_index: RollbackIndex(index),
            class: Class::Both,
            purpose: "To be tested.".into(),
            risk_if_not_applied: String::new(),
            downtime_secs: 0,
            functions_unavailable: Vec::new(),
            regions: self.regions.clone(),
            components,
            sbom: None,
        };
        let path = release.path();
        self.add(path.as_str(), version.as_bytes());
        let target = self.product.targets.get_mut(&path).expect("just added");
        *target = target
            .clone()
            .with_custom(bend(release.to_custom().expect("a good description")));
        self.publish();
    }

    fn component(&mut self, version: &str, item: &Item<'_>) -> Component {
        let mut builder = BlockTree::builder(4096).expect("a block length");
        builder.push(item.image);
        let tree = builder.finish().expect("a small image");
        let path = |ending: &str| format!("infusion-pump/{}-{version}.{ending}", item.name);
        let artifact = self.add(&path(item.ending), item.image);
        let leaves = self.add(&path("leaves"), &tree.leaves_bytes());
        let delta = item.base.map(|(version, old)| {
            let patch = diff(old, item.image, &DiffOptions::default(), &mut |_| {});
            DeltaRef {
                file: self.add(&path("delta"), &patch.expect("a patch")),
                base: Base {
                    version: ReleaseVersion::parse(version).expect("a version"),
                    length: old.len() as u64,
                    sha256: Digest::of(old),
                },
                memory: 1 << 20,
                caps: Vec::new(),
            }
        });
        Component {
            name: item.name.parse().expect("a name"),
            hardware: vec![self.hardware.clone()],
            install: item.install.clone(),
            activation: item.activation,
            meta_data: item.meta_data.map(str::to_owned),
            requires: BTreeMap::new(),
            artifact,
            blocks: Blocks {
                block_len: 4096,
                root: tree.root(),
                leaves,
            },
            deltas: delta.into_iter().collect(),
        }
    }

    fn add(&mut self, path: &str, content: &[u8]) -> FileRef {
        let path = TargetPath::parse(path).expect("a path");
        let (length, sha256) = (content.len() as u64, Digest::of(content));
        let target = TargetFile::new(length, sha256);
        let file = format!(
            "targets/{}",
            paths::target_file(&path, Some(&target.hashes))
        );
        self.tree.insert(file, content.to_vec());
        self.product.targets.insert(path.clone(), target);
        FileRef {
            path,
            length,
            sha256,
        }
    }

    fn publish(&mut self) {
        self.version += 1;
        let version = MetaVersion::new(self.version).expect("from 1");
        let public = self.key.public_key().to_key();
        let mut targets = Targets::new(expires());
        let mut delegations = Delegations::new();
        delegations.keys.insert(public.id(), public.clone());
        delegations.roles = Listing::Roles(vec![DelegatedRole {
            name: name("infusion-pump"),
            keys: RoleKeys::new(vec![public.id()], 1),
            trusts: Trusts::Paths(vec!["infusion-pump/*".into()]),
            terminating: true,
        }]);
        targets.delegations = Some(delegations);
        targets.common.version = version;
        self.product.common.version = version;
        let mut snapshot = Snapshot::new(expires());
        snapshot.common.version = version;
        for (role, payload) in [("targets", &targets), ("infusion-pump", &self.product)] {
            let mut draft = Draft::new(payload);
            draft.sign(&self.key).expect("a key in memory");
            let bytes = draft.to_bytes();
            snapshot
                .meta
                .insert(format!("{role}.json"), MetaFile::of(version, &bytes));
            self.tree
                .insert(format!("metadata/{version}.{role}.json"), bytes);
        }
        let mut draft = Draft::new(&snapshot);
        draft.sign(&self.key).expect("a key in memory");
        let bytes = draft.to_bytes();
        let mut timestamp = Timestamp::new(expires(), MetaFile::of(version, &bytes));
        timestamp.common.version = version;
        self.tree
            .insert(format!("metadata/{version}.snapshot.json"), bytes);
        let mut draft = Draft::new(&timestamp);
        draft.sign(&self.key).expect("a key in memory");
        self.tree
            .insert("metadata/timestamp.json".into(), draft.to_bytes());
    }
}
