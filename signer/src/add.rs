//! From `release.toml` to a draft: read, check all at once, measure, stage, draft.
//!
//! The draft is written last. A crash before leaves files in `staging/targets/` that nothing
//! names; adding again writes the same names.

use std::path::{Path, PathBuf};

use ampoule_protocol::limits::{BLOCKS_MAX, RELEASE_TEXT_MAX};
use ampoule_protocol::metadata::{Payload, Targets};
use ampoule_protocol::name::{ProductName, RoleName};
use ampoule_protocol::release::{Blocks, Component, FORMAT, FileRef, Release, ReleaseVersion};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::tree::{BLOCK_LEN_DEFAULT, BlockTree};
use ampoule_protocol::version::{MetaVersion, RollbackIndex};

use crate::blob;
use crate::delta_notes::{Notes, read_fleet};
use crate::durable::{self, Disk};
use crate::error::{OperatorError, SignerError, TreeError};
use crate::layout::Repository;
use crate::progress::Progress;
use crate::release_toml::check::{Known, check};
use crate::release_toml::{Bases, ComponentFile, Reading, ReleaseFile};
use crate::releases;
use crate::settings::Expiries;
use crate::toml_doc::{Document, TOML_LEN_MAX};
use crate::workspace::Workspace;

/// What [`add`] drafted.
#[derive(Debug, Clone)]
pub struct Added {
    /// The draft.
    pub request: PathBuf,
    /// What it adds.
    pub release: Release,
    /// Deltas that the file asks for and that are to be built, over all components.
    pub deltas_wanted: usize,
}

/// Checks `toml` and drafts its release in the workspace at `dir`.
pub fn add(
    disk: &dyn Disk,
    dir: &Path,
    toml: &Path,
    now: UtcTime,
    progress: &dyn Progress,
) -> Result<Added, SignerError> {
    let bytes = durable::read(toml, TOML_LEN_MAX)?;
    let name = toml.display().to_string();
    let document = Document::parse(&name, Document::text(&name, &bytes)?)?;
    let reading = Reading::read(&document);
    let mut workspace = Workspace::open_to_write(disk, dir)?;
    let folder = durable::folder_of(toml);
    let named = reading.product.as_ref();
    let product = named.and_then(|name| ProductName::parse(name).ok());
    let role = product.as_ref().map(role_of).transpose()?;
    let version = reading.version.as_ref().map(|version| &version.value);
    let before = match (&product, &role) {
        (Some(product), Some(role)) if workspace.settings.product(product.as_str()).is_some() => {
            Some(Before::read(&workspace, product, role, version)?)
        }
        _ => None,
    };
    let (releases, ever) = match &before {
        Some(before) => (before.releases.as_slice(), before.ever.as_slice()),
        None => Default::default(),
    };
    let known = Known {
        settings: &workspace.settings,
        releases,
        ever,
    };
    check(&document, &reading, &known, folder);
    document.check()?;
    let (Some(file), Some(product), Some(role), Some(before)) =
        (reading.whole(), product, role, before)
    else {
        return Err(SignerError::Ourselves(
            "a fault was found and not noted".to_owned(),
        ));
    };

    let staging = workspace.layout.staged_targets();
    let stage = Stage {
        disk,
        staging: &staging,
        product: &product,
        progress,
    };
    let release = stage.release(&file, folder)?;
    let notes = notes(&file, folder)?;
    durable::create_dirs(disk, &workspace.layout.staging())?;
    notes.write(disk, &workspace.layout, &product)?;
    let toml = blob::store(disk, &staging, &release.path(), &mut bytes.as_slice(), None)?;
    let mut targets = before.targets;
    if let Some(replaced) = &before.replaced {
        releases::remove(&mut targets, replaced);
    }
    releases::insert(&mut targets, &release, &toml)?;
    let request = redraft(disk, &mut workspace, &role, targets, now)?;
    let deltas_wanted = crate::deltas::wanted(&workspace, &release, &file, &notes).len();
    Ok(Added {
        request,
        release,
        deltas_wanted,
    })
}

/// What is known of the fleet, for the components that ask.
fn notes(file: &ReleaseFile, folder: &Path) -> Result<Notes, SignerError> {
    let mut notes = Notes::default();
    for component in &file.components {
        let Bases::Fleet(_, path) = &component.bases else {
            continue;
        };
        // It was read and checked a moment ago.
        let fleet = read_fleet(&folder.join(&path.value)).map_err(SignerError::Ourselves)?;
        notes.fleets.insert(component.name.value.to_string(), fleet);
    }
    Ok(notes)
}

/// Drafts a new content of a targets role, as the version after the published one.
pub fn redraft(
    disk: &dyn Disk,
    workspace: &mut Workspace,
    role: &RoleName,
    mut targets: Targets,
    now: UtcTime,
) -> Result<PathBuf, SignerError> {
    let version = workspace.next_version(role);
    targets.common.version =
        MetaVersion::new(version).ok_or_else(|| SignerError::Ourselves("version 0".to_owned()))?;
    targets.common.expires = now.plus_secs(Expiries::secs(workspace.settings.expiry.targets));
    let request = workspace.request(Repository::Image, role, targets.to_signed())?;
    workspace.stage(disk, request)
}

/// What a module is given as meta-data. [`check`] found it readable and well-formed.
fn meta_data(path: &Path) -> Result<String, SignerError> {
    let bytes = durable::read(path, RELEASE_TEXT_MAX as u64)?;
    String::from_utf8(bytes).map_err(|_| {
        SignerError::Ourselves(format!("\"{}\" changed while it was read", path.display()))
    })
}

/// Refuses to change a draft that somebody has signed.
pub fn require_unsigned(workspace: &Workspace, role: &RoleName) -> Result<(), SignerError> {
    match workspace.draft(role) {
        Some(staged) if !staged.request.envelope.signatures().is_empty() => {
            Err(OperatorError::DraftInUse {
                role: role.to_string(),
                version: staged.request.version(),
            }
            .into())
        }
        _ => Ok(()),
    }
}

/// The role of a product has its name.
pub fn role_of(product: &ProductName) -> Result<RoleName, SignerError> {
    RoleName::parse(product.as_str()).map_err(|e| SignerError::Ourselves(e.to_string()))
}

/// What the role says before this release.
struct Before {
    targets: Targets,
    releases: Vec<Release>,
    ever: Vec<Release>,
    /// A drafted release of the same version, which this one replaces.
    replaced: Option<Release>,
}

impl Before {
    fn read(
        workspace: &Workspace,
        product: &ProductName,
        role: &RoleName,
        version: Option<&ReleaseVersion>,
    ) -> Result<Self, SignerError> {
        require_unsigned(workspace, role)?;
        let targets = workspace.coming_targets(role)?;
        let published = workspace.published.as_ref().and_then(|p| p.roles.get(role));
        let is_published = |release: &Release| {
            published.is_some_and(|role| role.payload.targets.contains_key(&release.path()))
        };
        let mut releases = releases::of(product, &targets)?;
        let same = releases
            .iter()
            .position(|release| version == Some(&release.version) && !is_published(release));
        let replaced = same.map(|at| releases.remove(at));
        let upto = workspace.next_version(role) - 1;
        let ever = releases::ever(&workspace.layout.published(), product, upto)?;
        Ok(Self {
            targets,
            releases,
            ever,
            replaced,
        })
    }
}

/// Where the files of a release are put, and how.
struct Stage<'a> {
    disk: &'a dyn Disk,
    staging: &'a Path,
    product: &'a ProductName,
    progress: &'a dyn Progress,
}

impl Stage<'_> {
    fn release(&self, file: &ReleaseFile, folder: &Path) -> Result<Release, SignerError> {
        let texts = |list: &[crate::toml_doc::At<String>]| {
            list.iter()
                .map(|text| text.value.clone())
                .collect::<Vec<_>>()
        };
        let components = file
            .components
            .iter()
            .map(|component| self.component(file, component, folder))
            .collect::<Result<_, _>>()?;
        let sbom_path = folder.join(&file.sbom.value);
        let stem = format!("sbom-{}", file.version.value);
        let sbom = self.file(&stem, &sbom_path, None)?;
        Ok(Release {
            format: FORMAT,
            product: self.product.clone(),
            version: file.version.value.clone(),
            rollback_index: RollbackIndex(file.rollback_index.value),
            class: file.class.value,
            purpose: file.purpose.value.clone(),
            risk_if_not_applied: file.risk_if_not_applied.value.clone(),
            downtime_secs: u32::try_from(file.downtime_secs.value).unwrap_or(u32::MAX),
            functions_unavailable: texts(&file.functions_unavailable),
            regions: texts(&file.regions),
            components,
            sbom: Some(sbom),
        })
    }

    fn component(
        &self,
        file: &ReleaseFile,
        component: &ComponentFile,
        folder: &Path,
    ) -> Result<Component, SignerError> {
        let stem = format!("{}-{}", component.name.value, file.version.value);
        let source = folder.join(&component.artifact.value);
        let impossible = |e: ampoule_protocol::tree::TreeError| TreeError::BadRelease {
            release: component.name.value.to_string(),
            source: Box::new(e),
        };
        let mut tree = BlockTree::builder(BLOCK_LEN_DEFAULT).map_err(impossible)?;
        let artifact = self.file(&stem, &source, Some(&mut tree))?;
        let tree = tree.finish().map_err(impossible)?;
        debug_assert!(tree.shape().block_count() <= BLOCKS_MAX);
        let leaves_path = releases::target_path(
            self.product,
            &stem,
            Path::new(&format!("{}.leaves", component.name.value)),
        )?;
        let leaves = tree.leaves_bytes();
        let leaves = blob::store(
            self.disk,
            self.staging,
            &leaves_path,
            &mut leaves.as_slice(),
            None,
        )?;
        Ok(Component {
            name: component.name.value.clone(),
            hardware: component
                .hardware
                .iter()
                .map(|id| id.value.clone())
                .collect(),
            install: component.install.clone(),
            activation: component.activation,
            meta_data: component
                .meta_data
                .as_ref()
                .map(|path| meta_data(&folder.join(&path.value)))
                .transpose()?,
            requires: component.requires.clone(),
            artifact,
            blocks: Blocks {
                block_len: BLOCK_LEN_DEFAULT,
                root: tree.root(),
                leaves,
            },
            deltas: Vec::new(),
        })
    }

    fn file(
        &self,
        stem: &str,
        source: &Path,
        tree: Option<&mut ampoule_protocol::tree::TreeBuilder>,
    ) -> Result<FileRef, SignerError> {
        let path = releases::target_path(self.product, stem, source)?;
        blob::store_file(self.disk, self.staging, &path, source, tree, self.progress)
    }
}
