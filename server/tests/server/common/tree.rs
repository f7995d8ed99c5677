//! A published tree with one key for every role, that can be published again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::metadata::{
    MetaFile, Payload, RoleKeys, RoleType, Root, Snapshot, TargetFile, Targets, Timestamp,
};
use ampoule_protocol::name::{ComponentName, HardwareId, ProductName, RoleName, TargetPath};
use ampoule_protocol::paths;
use ampoule_protocol::release::{
    Blocks, Class, Component, FileRef, Install, Release, ReleaseVersion,
};
use ampoule_protocol::repo::Draft;
use ampoule_protocol::sign::{Ed25519Key, Sign};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::{MetaVersion, RollbackIndex};

/// The image that the tree offers; long enough that no socket buffer takes it whole.
pub const IMAGE_LEN: usize = 48 << 20;

pub struct Tree {
    pub folder: PathBuf,
    pub image_path: String,
    pub root: Root,
    targets: Targets,
    snapshot: Snapshot,
    timestamp: Timestamp,
    /// Publishes targets of which one byte is not what the snapshot says.
    pub bent: bool,
}

pub fn key(seed: u8) -> Ed25519Key {
    Ed25519Key::from_seed(&[seed; 32]).unwrap()
}

pub fn days(days: i64) -> UtcTime {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    UtcTime::from_unix(i64::try_from(now).unwrap()).plus_secs(days * 86_400)
}

pub fn sign(payload: &impl Payload, seeds: &[u8]) -> Vec<u8> {
    let mut draft = Draft::new(payload);
    for seed in seeds {
        draft.sign(&key(*seed)).unwrap();
    }
    draft.to_bytes()
}

/// Byte `n` of the image.
pub fn image_byte(at: usize) -> u8 {
    u8::try_from(at % 251).unwrap()
}

impl Tree {
    /// Key 1 signs root, targets and snapshot; key 2 the timestamp.
    pub fn publish(folder: &Path) -> Self {
        let mut root = Root::new(days(365));
        for (role, seed) in RoleType::ALL.map(|role| (role, 1)) {
            let seed = if role == RoleType::Timestamp { 2 } else { seed };
            let key = key(seed).public_key().to_key();
            root.roles.insert(role, RoleKeys::new(vec![key.id()], 1));
            root.keys.insert(key.id(), key);
        }
        let image: Vec<u8> = (0..IMAGE_LEN).map(image_byte).collect();
        let digest = Digest::of(&image);
        let mut targets = Targets::new(days(365));
        let path = TargetPath::parse("infusion-pump/rootfs-1.0.0.img").unwrap();
        targets
            .targets
            .insert(path, TargetFile::new(image.len() as u64, digest));
        let snapshot = Snapshot::new(days(90));
        let nothing = MetaFile::of(snapshot.common.version, b"");
        let timestamp = Timestamp::new(days(7), nothing);
        let image_path = format!("targets/infusion-pump/{digest}.rootfs-1.0.0.img");
        fs::create_dir_all(folder.join("metadata")).unwrap();
        fs::create_dir_all(folder.join("targets/infusion-pump")).unwrap();
        fs::write(folder.join(&image_path), image).unwrap();
        let mut tree = Self {
            folder: folder.into(),
            image_path,
            root,
            targets,
            snapshot,
            timestamp,
            bent: false,
        };
        tree.write_root(&[1]);
        tree.write_rest();
        tree
    }

    /// Publishes the next version of targets, snapshot and timestamp.
    pub fn publish_next(&mut self) {
        self.targets.common.bump(days(365)).unwrap();
        self.snapshot.common.bump(days(90)).unwrap();
        self.timestamp.common.bump(days(7)).unwrap();
        self.write_rest();
    }

    /// Publishes a target of a few bytes beside what there is.
    pub fn publish_small(&mut self, name: &str, bytes: &[u8]) {
        let path = TargetPath::parse(&format!("infusion-pump/{name}")).unwrap();
        let digest = Digest::of(bytes);
        let file = TargetFile::new(bytes.len() as u64, digest);
        self.targets.targets.insert(path, file);
        let folder = self.folder.join("targets/infusion-pump");
        fs::write(folder.join(format!("{digest}.{name}")), bytes).unwrap();
        self.publish_next();
    }

    /// Publishes a release of the pump, and gives the digest of its target.
    pub fn publish_release(&mut self, version: &str, index: u64) -> Digest {
        let path = |name: &str| TargetPath::parse(&format!("infusion-pump/{name}")).unwrap();
        let file = |name: &str, length| FileRef {
            path: path(name),
            length,
            sha256: Digest::of(format!("{name} {version}").as_bytes()),
        };
        let component = Component {
            name: ComponentName::parse("rootfs").unwrap(),
            hardware: vec![HardwareId::parse("pump-mk3").unwrap()],
            install: Install::Slot,
            activation: ampoule_protocol::release::Activation::Restart,
            meta_data: None,
            requires: BTreeMap::new(),
            artifact: file(&format!("rootfs-{version}.img"), 8192),
            blocks: Blocks {
                block_len: 4096,
                root: Digest::of(b"root"),
                leaves: file(&format!("rootfs-{version}.leaves"), 64),
            },
            deltas: Vec::new(),
        };
        let release = Release {
            format: 1,
            product: ProductName::parse("infusion-pump").unwrap(),
            version: ReleaseVersion::parse(version).unwrap(),
            rollback_index: RollbackIndex(index),
            class: Class::Security,
            purpose: "Closes a hole.".into(),
            risk_if_not_applied: String::new(),
            downtime_secs: 60,
            functions_unavailable: Vec::new(),
            regions: vec!["EU".into()],
            components: vec![component],
            sbom: None,
        };
        let text = format!("version = \"{version}\"");
        let digest = Digest::of(text.as_bytes());
        let described = TargetFile::new(text.len() as u64, digest);
        let described = described.with_custom(release.to_custom().unwrap());
        self.targets.targets.insert(release.path(), described);
        self.publish_next();
        digest
    }

    /// The tree as it would be with an older snapshot: a signed one, replayed.
    pub fn replay(&mut self, version: u64) {
        let name = format!("{version}.snapshot.json");
        let bytes = fs::read(self.metadata(&name)).unwrap();
        self.timestamp.common.bump(days(7)).unwrap();
        self.timestamp.snapshot = MetaFile::of(MetaVersion::new(version).unwrap(), &bytes);
        self.write("timestamp.json", &sign(&self.timestamp, &[2]));
    }

    pub fn metadata(&self, name: &str) -> PathBuf {
        self.folder.join("metadata").join(name)
    }

    fn write_root(&self, seeds: &[u8]) {
        let name = paths::root_file(self.root.common.version);
        self.write(&name, &sign(&self.root, seeds));
    }

    fn write_rest(&mut self) {
        let targets = sign(&self.targets, &[1]);
        let version = self.targets.common.version;
        let role = RoleName::targets();
        let mut written = targets.clone();
        if self.bent {
            *written.last_mut().unwrap() ^= 1;
        }
        self.write(&paths::role_file(&role, Some(version)), &written);
        self.snapshot
            .meta
            .insert(Snapshot::meta_name(&role), MetaFile::of(version, &targets));
        let snapshot = sign(&self.snapshot, &[1]);
        let version = self.snapshot.common.version;
        self.write(&paths::snapshot_file(Some(version)), &snapshot);
        self.timestamp.snapshot = MetaFile::of(version, &snapshot);
        self.write("timestamp.json", &sign(&self.timestamp, &[2]));
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let new = self.metadata(".new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, self.metadata(name)).unwrap();
    }
}
