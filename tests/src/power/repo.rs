//! Releases of a few small images, and a tree that serves them.

use std::collections::BTreeMap;
use std::rc::Rc;

use ampoule_delta::{DiffOptions, diff, diff_in_place};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::downgrade::{self, Downgrade};
use ampoule_protocol::metadata::{Bundle, Common, MetaFile, Payload};
use ampoule_protocol::name::{ComponentName, HardwareId, ProductName};
use ampoule_protocol::release::{
    Activation, Base, Blocks, Class, Component, DeltaRef, FORMAT, FileRef, Install, Release,
    ReleaseVersion,
};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::tree::BlockTree;
use ampoule_protocol::version::{MetaVersion, RollbackIndex};

use crate::sim::{BLOCK_LEN, DAWN, RepositorySimulator, Tree, sign};

/// The product of every story.
pub const PRODUCT: &str = "infusion-pump";
/// The hardware of every story.
pub const HARDWARE: &str = "pump-mk3";
/// The device of every story.
pub const DEVICE: &str = "pump-1";
/// Versions of an image that tests know; 0 is what leaves the factory.
pub const VERSIONS: std::ops::Range<u8> = 0..5;

/// Scratch of patches in place: two windows of a page, so that an image takes several steps.
const SCRATCH_LEN: u64 = 8192;

/// What stands in the shop: files by path, and whether they came in a bundle.
#[derive(Clone)]
pub struct Shelf {
    /// The files.
    pub tree: Rc<Tree>,
    /// Whether they were carried here.
    pub is_bundle: bool,
}

/// What programs see of a component in this version: some blocks, a little different each time.
pub fn content(component: &str, version: u8) -> Vec<u8> {
    let salt = Digest::of(component.as_bytes()).as_bytes()[0];
    let len = match component {
        "rootfs" => 18_000,
        "controller" => 24_000,
        _ => 6_000,
    };
    let noise = |index: u32| Digest::of(&index.to_be_bytes()).as_bytes()[0] ^ salt;
    let mut image: Vec<u8> = (0..len).map(noise).collect();
    for at in (0..image.len()).step_by(5_000) {
        image[at] = version;
    }
    image
}

/// What is signed for it.
pub fn artifact(install: &Install, component: &str, version: u8) -> Vec<u8> {
    match install {
        Install::Tree => archive([("app".to_owned(), content(component, version))]),
        Install::Module(name) if name.as_str() == "in-place" => pairs(component, version),
        Install::Slot | Install::File | Install::Module(_) => content(component, version),
    }
}

/// Patches in place from every older version, and back.
fn pairs(component: &str, version: u8) -> Vec<u8> {
    let new = content(component, version);
    let options = DiffOptions::default();
    let patch = |from: &[u8], to: &[u8]| {
        diff_in_place(from, to, &options, SCRATCH_LEN, &mut |_| {}).expect("a patch")
    };
    archive((0..version).flat_map(|base| {
        let old = content(component, base);
        let forward = (format!("{base}.forward"), patch(&old, &new));
        [forward, (format!("{base}.back"), patch(&new, &old))]
    }))
}

fn archive(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let added = builder.append_data(&mut header, name, content.as_slice());
        added.expect("in memory");
    }
    builder.into_inner().expect("in memory")
}

/// What to publish.
#[derive(Clone)]
pub struct Catalogue {
    /// The components of each release.
    pub components: Vec<(&'static str, Install)>,
    /// The newest version; the releases from 1 on are there.
    pub newest: u8,
    /// Whether each has a delta from the one before.
    pub has_deltas: bool,
    /// Whether the root was changed before the newest.
    pub has_new_root: bool,
    /// Whether it is carried as a bundle.
    pub is_bundle: bool,
    /// When its components are to be seen.
    pub activation: Activation,
    /// A downgrade record, from one version to another; what is between is withdrawn.
    pub falls: Option<(u8, u8)>,
}

impl Catalogue {
    /// Of one slot.
    pub fn of_rootfs(newest: u8) -> Self {
        Self {
            components: vec![("rootfs", Install::Slot)],
            newest,
            has_deltas: false,
            has_new_root: false,
            is_bundle: false,
            activation: Activation::Restart,
            falls: None,
        }
    }

    /// The same, one release later.
    #[must_use]
    pub fn then(&self) -> Self {
        Self {
            newest: self.newest + 1,
            ..self.clone()
        }
    }

    /// Publishes it.
    pub fn publish(&self) -> Shelf {
        self.publish_releases().0
    }

    /// Publishes it, and tells of each release what its target is and what it says.
    pub fn publish_releases(&self) -> (Shelf, Vec<(FileRef, Release)>) {
        let mut releases = Vec::new();
        let mut repo = RepositorySimulator::new();
        repo.add_product(PRODUCT);
        repo.publish();
        for version in 1..=self.newest {
            releases.push(self.add_release(&mut repo, version));
            repo.release();
        }
        if self.has_new_root {
            repo.rotate(ampoule_protocol::metadata::RoleType::Root);
            repo.release_root();
        }
        if let Some((from, to)) = self.falls {
            add_record(&mut repo, from, to);
            repo.release();
        }
        if self.is_bundle {
            add_statement(&mut repo);
        }
        let shelf = Shelf {
            tree: Rc::new(repo.tree),
            is_bundle: self.is_bundle,
        };
        (shelf, releases)
    }

    fn add_release(&self, repo: &mut RepositorySimulator, version: u8) -> (FileRef, Release) {
        let components = self.components.iter();
        let components =
            components.map(|(name, install)| self.component(repo, name, install, version));
        let release = Release {
            format: FORMAT,
            product: ProductName::parse(PRODUCT).expect("a name"),
            version: release_version(version),
            rollback_index: RollbackIndex(version.into()),
            class: Class::Security,
            purpose: format!("Closes what {version} left open."),
            risk_if_not_applied: "It stays open.".into(),
            downtime_secs: 90,
            functions_unavailable: vec!["infusion".into()],
            regions: vec!["EU".into()],
            components: components.collect(),
            sbom: None,
        };
        let path = release.path();
        repo.add_delegated_target(PRODUCT, path.as_str(), path.as_str().as_bytes());
        let role = repo.delegated.get_mut(PRODUCT).expect("the product");
        let target = role.targets.get_mut(&path).expect("just added");
        let custom = release.to_custom().expect("a good description");
        *target = target.clone().with_custom(custom);
        let file = FileRef {
            sha256: Digest::of(path.as_str().as_bytes()),
            length: path.as_str().len() as u64,
            path,
        };
        (file, release)
    }

    fn component(
        &self,
        repo: &mut RepositorySimulator,
        name: &str,
        install: &Install,
        version: u8,
    ) -> Component {
        let image = artifact(install, name, version);
        let mut builder = BlockTree::builder(BLOCK_LEN).expect("a good block length");
        builder.push(&image);
        let tree = builder.finish().expect("a small image");
        let deltas = if self.has_deltas && version > 1 {
            vec![delta(repo, name, install, version)]
        } else {
            Vec::new()
        };
        Component {
            name: ComponentName::parse(name).expect("a name"),
            hardware: vec![HardwareId::parse(HARDWARE).expect("a name")],
            install: install.clone(),
            requires: BTreeMap::default(),
            artifact: add_file(
                repo,
                &format!("{name}-{version}.{}", ending(install)),
                &image,
            ),
            blocks: Blocks {
                block_len: BLOCK_LEN,
                root: tree.root(),
                leaves: add_file(
                    repo,
                    &format!("{name}-{version}.leaves"),
                    &tree.leaves_bytes(),
                ),
            },
            deltas,
            activation: self.activation,
            meta_data: None,
        }
    }
}

/// Archives that a module is given file by file say so by their name.
fn ending(install: &Install) -> &'static str {
    match install {
        Install::Module(name) if name.as_str() == "in-place" => "tar",
        _ => "img",
    }
}

fn delta(repo: &mut RepositorySimulator, name: &str, install: &Install, version: u8) -> DeltaRef {
    let old = artifact(install, name, version - 1);
    let new = artifact(install, name, version);
    let patch = diff(&old, &new, &DiffOptions::default(), &mut |_| {}).expect("a patch");
    DeltaRef {
        file: add_file(repo, &format!("{name}-{version}.delta"), &patch),
        base: Base {
            version: release_version(version - 1),
            length: old.len() as u64,
            sha256: Digest::of(&old),
        },
        memory: 1 << 20,
        caps: Vec::new(),
    }
}

fn release_version(version: u8) -> ReleaseVersion {
    ReleaseVersion::parse(&format!("2.{version}.0")).expect("a version")
}

fn add_file(repo: &mut RepositorySimulator, name: &str, content: &[u8]) -> FileRef {
    let path = format!("{PRODUCT}/{name}");
    repo.add_delegated_target(PRODUCT, &path, content);
    FileRef {
        path: path.parse().expect("a path"),
        length: content.len() as u64,
        sha256: Digest::of(content),
    }
}

/// A record by which the floor of every device of these stories falls, once; the releases that
/// are to be left are withdrawn.
fn add_record(repo: &mut RepositorySimulator, from: u8, to: u8) {
    let record = Downgrade {
        format: downgrade::FORMAT,
        kind: downgrade::KIND.to_owned(),
        product: ProductName::parse(PRODUCT).expect("a name"),
        serial: 1,
        devices: vec![DEVICE.parse().expect("a name")],
        from: release_version(from),
        to: release_version(to),
        rollback_index: RollbackIndex(to.into()),
        reason: "The alarm relay chatters.".to_owned(),
        // Longer than an update rests that fell back too often.
        expires: UtcTime::parse(DAWN).expect("a time").plus_secs(20 * 86_400),
    };
    let path = record.path();
    repo.add_delegated_target(PRODUCT, path.as_str(), b"a record");
    let role = repo.delegated.get_mut(PRODUCT).expect("the product");
    let target = role.targets.get_mut(&path).expect("just added");
    *target = target
        .clone()
        .with_custom(record.to_custom().expect("a good record"));
    for version in to + 1..=from {
        let ending = format!("release-{}.toml", release_version(version));
        role.targets
            .retain(|path, _| !path.as_str().ends_with(&ending));
    }
}

/// The statement that vouches for a bundle in place of the timestamp.
fn add_statement(repo: &mut RepositorySimulator) {
    let now = UtcTime::parse(DAWN).expect("a time");
    let version = MetaVersion::new(repo.snapshot.version).expect("from 1");
    let snapshot = &repo.tree[&format!("metadata/{version}.snapshot.json")];
    let statement = Bundle {
        common: Common::new(now.plus_secs(20 * 86_400)),
        signed_at: now,
        snapshot: MetaFile::of(version, snapshot),
        product: ProductName::parse(PRODUCT).expect("a name"),
        hardware: vec![HardwareId::parse(HARDWARE).expect("a name")],
        devices: Vec::new(),
    };
    let file = sign(&statement.to_signed(), &repo.snapshot.signers);
    repo.tree.remove("metadata/timestamp.json");
    repo.tree.insert("metadata/bundle.json".into(), file);
}
