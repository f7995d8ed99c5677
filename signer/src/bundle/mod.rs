//! A bundle: one file with metadata and targets for devices without a network.
//!
//! ```text
//! bundle.json                          the statement, signed by the keys of snapshot
//! metadata/1.root.json …               every root, snapshot, targets, the product's role
//! targets/infusion-pump/HASH.NAME …    one release and every file it names
//! ```
//!
//! A plain tar, in this order and with fixed times and owners: the same tree and order give the
//! same bytes but for the statement's signatures. It is made from the published tree and changes
//! nothing there. Every target file is measured again before it is packed.

mod archive;

use std::path::{Path, PathBuf};

use ampoule_protocol::metadata::{
    Bundle, Common, MetaFile, Payload, RoleType, Root, Snapshot, Targets,
};
use ampoule_protocol::name::{DeviceId, HardwareId, ProductName, RoleName};
use ampoule_protocol::paths;
use ampoule_protocol::release::{FileRef, Release, ReleaseVersion};
use ampoule_protocol::repo::Draft;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::KeyRing;

use crate::blob;
use crate::durable::{self, Access, Disk};
use crate::error::{OperatorError, SignerError, TreeError};
use crate::keys::sign_checked;
use crate::layout::Layout;
use crate::progress::{Counted, Progress};
use crate::releases;
use crate::sign::OpenKey;
use crate::tree::{Published, SignedFile};
use crate::workspace::Workspace;
use archive::{Archive, Member};

/// What a bundle shall be.
#[derive(Debug, Clone)]
pub struct Order {
    /// The product of the devices.
    pub product: ProductName,
    /// Their hardware; at least one.
    pub hardware: Vec<HardwareId>,
    /// The devices; empty for all of that hardware.
    pub devices: Vec<DeviceId>,
    /// The release; the highest version where not given.
    pub version: Option<ReleaseVersion>,
    /// From when on the bundle is expired.
    pub expires: UtcTime,
    /// Whether deltas are packed beside the whole artifacts.
    pub deltas: Deltas,
}

/// Whether deltas are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deltas {
    /// All that the release has.
    Pack,
    /// None: every device reads the whole artifacts.
    Leave,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The release in it.
    pub version: ReleaseVersion,
    /// Its files, and their bytes.
    pub targets: usize,
    /// Bytes of the bundle.
    pub len: u64,
    /// What expires before the bundle does, and so ends it: role and time.
    pub ends_before: Vec<(String, UtcTime)>,
}

/// Makes the bundle `output` from what the workspace has published.
///
/// # Errors
/// Nothing is published, no release fits the order, the keys do not reach the threshold of
/// snapshot, something in the tree has expired or is not what was signed.
pub fn make(
    disk: &dyn Disk,
    workspace: &Workspace,
    keys: &[OpenKey],
    order: &Order,
    output: &Path,
    now: UtcTime,
    progress: &dyn Progress,
) -> Result<Made, SignerError> {
    if output.exists() {
        let path = output.to_owned();
        return Err(OperatorError::Exists { path }.into());
    }
    let source = Source::of(workspace, order)?;
    let ends_before = source.ends_before(order.expires, now)?;
    let statement = source.statement(order, keys, now)?;
    let release = &source.release;
    let mut files = vec![source.description.clone()];
    files.extend(releases::files(release).into_iter().cloned());
    if order.deltas == Deltas::Leave {
        let is_delta = |file: &FileRef| {
            let mut deltas = release.components.iter().flat_map(|one| &one.deltas);
            deltas.any(|delta| delta.file == *file)
        };
        files.retain(|file| !is_delta(file));
    }
    let targets = measured(&workspace.layout, &files, progress)?;

    let mut members = vec![Member::bytes(paths::BUNDLE_FILE, statement)];
    members.extend(source.metadata());
    let count = targets.len();
    members.extend(targets);
    let mut archive = Archive::new(members, now);
    let len = archive.len();
    progress.begin("packing", len);
    let packed = durable::put_from(
        disk,
        output,
        &mut Counted::new(&mut archive, progress),
        Access::Shared,
    );
    progress.end();
    packed?;
    Ok(Made {
        version: release.version.clone(),
        targets: count,
        len,
        ends_before,
    })
}

/// What a bundle is made from.
struct Source<'a> {
    published: &'a Published,
    role: RoleName,
    product: &'a SignedFile<Targets>,
    release: Release,
    /// The release's own target.
    description: FileRef,
}

impl<'a> Source<'a> {
    fn of(workspace: &'a Workspace, order: &Order) -> Result<Self, SignerError> {
        let missing = |file: &str| TreeError::Missing {
            tree: workspace.layout.published(),
            file: file.to_owned(),
        };
        let published = workspace.published.as_ref();
        let published = published.ok_or_else(|| missing(paths::TIMESTAMP_FILE))?;
        if published.trusted_root + 1 != published.roots.len() {
            // A publication was cut off here; the next one mends it.
            return Err(missing("a timestamp under the newest root").into());
        }
        let role = RoleName::parse(order.product.as_str())
            .map_err(|error| SignerError::Ourselves(error.to_string()))?;
        let unknown = || {
            let name = order.product.to_string();
            let known = published.roles.keys().map(ToString::to_string).collect();
            OperatorError::UnknownProduct { name, known }
        };
        let product = published.roles.get(&role).ok_or_else(unknown)?;
        let release = chosen(&product.payload, order)?;
        let target = product.payload.targets.get(&release.path());
        let found = target.and_then(|file| Some((file.length, file.hashes.sha256?)));
        let (length, sha256) = found
            .ok_or_else(|| SignerError::Ourselves("a release without its target".to_owned()))?;
        let path = release.path();
        Ok(Self {
            published,
            role,
            product,
            release,
            description: FileRef {
                path,
                length,
                sha256,
            },
        })
    }

    fn root(&self) -> &Root {
        &self.published.newest_root().payload
    }

    fn snapshot(&self) -> &SignedFile<Snapshot> {
        &self.published.snapshot
    }

    /// What ends before `expires`; refuses what has ended already.
    fn ends_before(
        &self,
        expires: UtcTime,
        now: UtcTime,
    ) -> Result<Vec<(String, UtcTime)>, SignerError> {
        let all = [
            ("root", self.root().expires()),
            ("snapshot", self.snapshot().payload.expires()),
            ("targets", self.published.targets.payload.expires()),
            (self.role.as_str(), self.product.payload.expires()),
        ];
        if let Some((role, expires)) = all.iter().find(|(_, expires)| *expires <= now) {
            return Err(TreeError::Expired {
                path: PathBuf::from(format!("{role}.json")),
                role: (*role).to_owned(),
                expires: expires.to_string(),
            }
            .into());
        }
        let early = all.into_iter().filter(|(_, ends)| *ends < expires);
        Ok(early.map(|(role, ends)| (role.to_owned(), ends)).collect())
    }

    fn statement(
        &self,
        order: &Order,
        keys: &[OpenKey],
        now: UtcTime,
    ) -> Result<Vec<u8>, SignerError> {
        let snapshot = self.snapshot();
        let statement = Bundle {
            common: Common::new(order.expires),
            signed_at: now,
            snapshot: MetaFile::of(snapshot.payload.version(), &snapshot.bytes),
            product: order.product.clone(),
            hardware: order.hardware.clone(),
            devices: order.devices.clone(),
        };
        let mut draft = Draft::new(&statement);
        let ring = KeyRing::of_root(self.root(), RoleType::Snapshot);
        let message = draft.signed_bytes();
        for OpenKey { name, key } in keys {
            let own = key.public_key();
            for (id, _) in ring.keys().filter(|(_, public)| *public == own) {
                sign_checked(key.as_ref(), name, &message)?;
                draft
                    .sign_as(key.as_ref(), id.clone())
                    .map_err(|error| SignerError::Ourselves(error.to_string()))?;
            }
        }
        let status = draft.status(&ring);
        if !status.is_met() {
            return Err(OperatorError::Threshold {
                role: "the bundle (by the keys of snapshot)".to_owned(),
                version: 1,
                have: status.signed.len(),
                need: status.threshold,
            }
            .into());
        }
        Ok(draft.to_bytes())
    }

    fn metadata(&self) -> Vec<Member> {
        let named = |file: String, bytes: &[u8]| {
            Member::bytes(&format!("{}/{file}", paths::METADATA_DIR), bytes.to_vec())
        };
        let version = |version| self.root().consistent_snapshot.then_some(version);
        let mut members = Vec::new();
        for root in &self.published.roots {
            let file = paths::root_file(root.payload.common.version);
            members.push(named(file, &root.bytes));
        }
        let snapshot = self.snapshot();
        let file = paths::snapshot_file(version(snapshot.payload.version()));
        members.push(named(file, &snapshot.bytes));
        let targets = &self.published.targets;
        for (role, file) in [(&RoleName::targets(), targets), (&self.role, self.product)] {
            let name = paths::role_file(role, version(file.payload.version()));
            members.push(named(name, &file.bytes));
        }
        members
    }
}

/// The release that is asked for, which must be for the hardware that is asked for.
fn chosen(targets: &Targets, order: &Order) -> Result<Release, SignerError> {
    let all = releases::of(&order.product, targets)?;
    let release = match &order.version {
        None => all.into_iter().next_back(),
        Some(version) => all.into_iter().find(|one| one.version == *version),
    };
    let version = order.version.as_ref();
    let release = release.ok_or_else(|| OperatorError::UnknownRelease {
        product: order.product.to_string(),
        version: version.map_or_else(|| "at all".to_owned(), ToString::to_string),
    })?;
    for id in &order.hardware {
        if release.for_hardware(id).next().is_none() {
            return Err(OperatorError::BadArgument {
                what: "hardware",
                text: id.to_string(),
                source: Some(format!("release {} has nothing for it", release.version).into()),
            }
            .into());
        }
    }
    Ok(release)
}

/// The files as members, each measured and found to be what was signed.
fn measured(
    layout: &Layout,
    files: &[FileRef],
    progress: &dyn Progress,
) -> Result<Vec<Member>, SignerError> {
    let folder = layout.published().join(paths::TARGETS_DIR);
    let mut members = Vec::new();
    for file in files {
        let path = blob::file_of(&folder, file);
        let (length, sha256) = blob::measure(&path, progress)?;
        if (length, sha256) != (file.length, file.sha256) {
            return Err(TreeError::WrongTarget {
                path: file.path.to_string(),
                found: format!("{length} bytes with SHA-256 {}", sha256.short()),
                signed: format!("{} bytes with SHA-256 {}", file.length, file.sha256.short()),
            }
            .into());
        }
        let name = format!("{}/{}", paths::TARGETS_DIR, file.file_name());
        members.push(Member::file(&name, path, length));
    }
    // Two components may share an artifact.
    members.sort_by(|a, b| a.name().cmp(b.name()));
    members.dedup_by(|a, b| a.name() == b.name());
    Ok(members)
}
