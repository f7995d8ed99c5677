//! Building the deltas that a release asks for, and proving them.
//!
//! A delta is a claim: this patch on that base gives this artifact. It is proved here by applying
//! it, right after it is built, and once more by [`crate::publish`] before anything is signed.

use std::path::{Path, PathBuf};

use ampoule_delta::{Accept, Caps, DiffError, DiffOptions, DiffProgress, OldImage, SourceFile};
use ampoule_protocol::digest::{Digest, Hasher};
use ampoule_protocol::name::{ProductName, TargetPath};
use ampoule_protocol::release::{Base, Component, DeltaRef, FileRef, Release, ReleaseVersion};
use ampoule_protocol::time::UtcTime;

use crate::add::{redraft, require_unsigned, role_of};
use crate::blob;
use crate::delta_notes::{Fleet, Notes, Skipped};
use crate::durable::{self, Disk};
use crate::error::{DiskError, OperatorError, SignerError, TreeError};
use crate::layout::Layout;
use crate::progress::Progress;
use crate::release_toml::{Bases, ReleaseFile};
use crate::releases;
use crate::toml_doc::{Document, TOML_LEN_MAX};
use crate::workspace::Workspace;

/// A delta pays up to this share of its artifact, in percent: a longer one saves a device little,
/// and costs it the work, and every mirror a place.
pub const PAYS_PERCENT: u64 = 80;

/// Memory that a delta of ours may take on a device, in MiB: the agent's whole budget.
pub const DELTA_MEMORY_MIB: u64 = 16;

/// What a delta of ours may need of a device: what an agent is built with when nothing is said.
pub const DELTA_CAPS: &str = "code,zlib";

/// What the devices give to a delta.
#[derive(Debug, Clone, Copy)]
pub struct Means {
    /// Memory, in bytes.
    pub memory_max: u64,
    /// Re-encoders, and whether they predict references in code.
    pub caps: Caps,
}

/// Reads a list of caps.
///
/// # Errors
/// A sentence that names the word which is none.
pub fn parse_caps(list: &str) -> Result<Caps, String> {
    if list == "none" {
        return Ok(Caps::NONE);
    }
    list.split(',').try_fold(Caps::NONE, |caps, name| {
        let cap = Caps::from_name(name).ok_or_else(|| format!("cap \"{name}\" is unknown"))?;
        Ok(caps.with(cap))
    })
}

/// A delta that is asked for and not there.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Position of the component in the release.
    pub component: usize,
    /// The artifact it shall start from.
    pub base: Base,
    /// Where that artifact is.
    pub base_file: FileRef,
}

/// A delta that was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// Which component.
    pub component: String,
    /// From which version.
    pub base: String,
    /// Its length in bytes.
    pub length: u64,
    /// The length of the artifact it makes.
    pub artifact_length: u64,
    /// Whether it is worth having; one that is not was thrown away.
    pub pays: bool,
}

/// The deltas that `file` asks for and that `release` does not have, but for those that do not pay.
pub fn wanted(
    workspace: &Workspace,
    release: &Release,
    file: &ReleaseFile,
    notes: &Notes,
) -> Vec<Wanted> {
    let published = workspace.published.as_ref();
    let role = role_of(&release.product)
        .ok()
        .and_then(|role| published?.roles.get(&role));
    let Some(role) = role else { return Vec::new() };
    let older: Vec<Release> = releases::of(&release.product, &role.payload)
        .unwrap_or_default()
        .into_iter()
        .filter(|older| older.version < release.version)
        .collect();
    let mut wanted = Vec::new();
    for (at, component) in release.components.iter().enumerate() {
        let asked = file
            .components
            .iter()
            .find(|c| c.name.value == component.name);
        let Some(asked) = asked else { continue };
        let bases = older
            .iter()
            .rev()
            .filter_map(|older| Some((older, same(older, component)?)));
        let chosen: Vec<_> = match &asked.bases {
            Bases::Last(count) => bases.take(*count).collect(),
            Bases::Fleet(count, _) => {
                let fleet = notes.fleets.get(component.name.as_str());
                most_run(bases.collect(), fleet, *count)
            }
            Bases::Versions(versions) => bases
                .filter(|(older, _)| versions.iter().any(|v| v.value == older.version))
                .collect(),
        };
        for (older, base) in chosen {
            let artifact = &base.artifact;
            let needless = artifact.sha256 == component.artifact.sha256
                || notes.skips(&artifact.sha256, &component.artifact.sha256)
                || component.delta_from(&artifact.sha256).is_some()
                || wanted
                    .iter()
                    .any(|w: &Wanted| w.component == at && w.base.sha256 == artifact.sha256);
            if !needless {
                let base = Base {
                    version: older.version.clone(),
                    length: artifact.length,
                    sha256: artifact.sha256,
                };
                wanted.push(Wanted {
                    component: at,
                    base,
                    base_file: artifact.clone(),
                });
            }
        }
    }
    wanted
}

/// The `count` of these that the most devices run, the newer first where as many run both; none
/// that no device runs.
fn most_run<'r>(
    mut bases: Vec<(&'r Release, &'r Component)>,
    fleet: Option<&Fleet>,
    count: usize,
) -> Vec<(&'r Release, &'r Component)> {
    let devices = |(older, _): &(&Release, &Component)| {
        let counted = fleet.and_then(|fleet| fleet.get(&older.version.to_string()));
        counted.copied().unwrap_or(0)
    };
    bases.retain(|base| devices(base) > 0);
    bases.sort_by_key(|base| std::cmp::Reverse(devices(base)));
    bases.truncate(count);
    bases
}

/// The component of an older release that runs on some of the same hardware.
fn same<'r>(older: &'r Release, component: &Component) -> Option<&'r Component> {
    older.components.iter().find(|other| {
        other.name == component.name
            && other
                .hardware
                .iter()
                .any(|id| component.hardware.contains(id))
    })
}

/// The newest drafted release of a product, with its `release.toml` as staged.
pub fn drafted(
    workspace: &Workspace,
    product: &ProductName,
) -> Result<Option<(Release, String)>, SignerError> {
    let role = role_of(product)?;
    if workspace.draft(&role).is_none() {
        return Ok(None);
    }
    let targets = workspace.coming_targets(&role)?;
    let published = workspace
        .published
        .as_ref()
        .and_then(|p| p.roles.get(&role));
    let is_new = |release: &Release| {
        !published.is_some_and(|role| role.payload.targets.contains_key(&release.path()))
    };
    let Some(release) = releases::of(product, &targets)?
        .into_iter()
        .rfind(|r| is_new(r))
    else {
        return Ok(None);
    };
    let Some(target) = targets.targets.get(&release.path()) else {
        return Ok(None);
    };
    let Some(sha256) = target.hashes.sha256 else {
        return Ok(None);
    };
    let file = FileRef {
        path: release.path(),
        length: target.length,
        sha256,
    };
    let toml = read_blob(&workspace.layout, &file, TOML_LEN_MAX)?;
    Ok(Some((release, String::from_utf8_lossy(&toml).into_owned())))
}

/// How many deltas the drafted release of a product still lacks, by component.
pub fn missing(
    workspace: &Workspace,
    product: &ProductName,
) -> Result<Vec<(String, usize)>, SignerError> {
    let Some((release, text)) = drafted(workspace, product)? else {
        return Ok(Vec::new());
    };
    let document = Document::parse("release.toml", &text)?;
    let Some(file) = ReleaseFile::read(&document) else {
        return Ok(Vec::new());
    };
    let notes = Notes::read(&workspace.layout, product)?;
    let wanted = wanted(workspace, &release, &file, &notes);
    let count = |at: usize| wanted.iter().filter(|w| w.component == at).count();
    Ok(release
        .components
        .iter()
        .enumerate()
        .map(|(at, component)| (component.name.to_string(), count(at)))
        .filter(|(_, count)| *count > 0)
        .collect())
}

/// Builds every delta that the drafted release of `product` lacks, proves each, and redrafts. What
/// does not pay is not kept, and not built again for this draft.
pub fn build(
    disk: &dyn Disk,
    dir: &Path,
    product: &ProductName,
    means: Means,
    now: UtcTime,
    progress: &dyn Progress,
) -> Result<Vec<Built>, SignerError> {
    let mut workspace = Workspace::open_to_write(disk, dir)?;
    let role = role_of(product)?;
    let nothing = || OperatorError::NoDraft {
        what: format!("product \"{product}\""),
    };
    let (mut release, text) = drafted(&workspace, product)?.ok_or_else(nothing)?;
    let document = Document::parse("release.toml", &text)?;
    let file = ReleaseFile::read(&document);
    document.check()?;
    let Some(file) = file else {
        return Ok(Vec::new());
    };
    let mut notes = Notes::read(&workspace.layout, product)?;
    let wanted = wanted(&workspace, &release, &file, &notes);
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    require_unsigned(&workspace, &role)?;
    let workshop = Workshop {
        disk,
        layout: &workspace.layout,
        product,
        version: release.version.clone(),
        means,
        progress,
    };
    let mut built = Vec::new();
    for want in wanted {
        let Some(component) = release.components.get_mut(want.component) else {
            continue;
        };
        let patch = workshop.make(component, &want)?;
        let (length, artifact_length) = (patch.len() as u64, component.artifact.length);
        let pays = pays(length, artifact_length);
        built.push(Built {
            component: component.name.to_string(),
            base: want.base.version.to_string(),
            length,
            artifact_length,
            pays,
        });
        if pays {
            let delta = workshop.store(component, &want, &patch)?;
            component.deltas.push(delta);
        } else {
            notes.skipped.push(Skipped {
                base: want.base.sha256,
                artifact: component.artifact.sha256,
                memory_max: means.memory_max,
            });
            notes.write(disk, &workspace.layout, product)?;
        }
    }
    let mut targets = workspace.coming_targets(&role)?;
    let toml = targets.targets.get(&release.path()).and_then(|target| {
        Some(FileRef {
            path: release.path(),
            length: target.length,
            sha256: target.hashes.sha256?,
        })
    });
    releases::insert(&mut targets, &release, &toml.ok_or_else(nothing)?)?;
    redraft(disk, &mut workspace, &role, targets, now)?;
    Ok(built)
}

/// Whether a delta of this length is worth having.
fn pays(length: u64, artifact_length: u64) -> bool {
    u128::from(length) * 100 <= u128::from(artifact_length) * u128::from(PAYS_PERCENT)
}

/// Where deltas are built, and within which bounds.
struct Workshop<'a> {
    disk: &'a dyn Disk,
    layout: &'a Layout,
    product: &'a ProductName,
    version: ReleaseVersion,
    means: Means,
    progress: &'a dyn Progress,
}

impl Workshop<'_> {
    /// Makes a delta and applies it back. Neither image is held in memory whole.
    fn make(&self, component: &Component, want: &Wanted) -> Result<Vec<u8>, SignerError> {
        let old = self.open(&want.base_file)?;
        let new = self.open(&component.artifact)?;
        let path = self.path(component, want)?;
        let patch = self.diff(&old, &new, path.base_name()).map_err(|source| {
            let (component, base) = (component.name.to_string(), want.base.version.to_string());
            OperatorError::DeltaNotMade {
                component,
                base,
                source,
            }
        })?;
        prove(&mut &old, &patch, component, &want.base)?;
        Ok(patch)
    }

    /// Stages a delta that was made.
    fn store(
        &self,
        component: &Component,
        want: &Wanted,
        patch: &[u8],
    ) -> Result<DeltaRef, SignerError> {
        let header = ampoule_delta::header(patch).map_err(|e| {
            SignerError::Ourselves(format!("a delta was made that does not read: {e}"))
        })?;
        let (folder, path) = (self.layout.staged_targets(), self.path(component, want)?);
        Ok(DeltaRef {
            file: blob::store(self.disk, &folder, &path, &mut { patch }, None)?,
            base: want.base.clone(),
            memory: header.memory_needed(),
            caps: header.caps_needed.names().map(str::to_owned).collect(),
        })
    }

    fn path(&self, component: &Component, want: &Wanted) -> Result<TargetPath, SignerError> {
        let (base, version) = (&want.base.version, &self.version);
        let name = format!(
            "{}/{}-{base}-to-{version}.delta",
            self.product, component.name
        );
        TargetPath::parse(&name).map_err(|e| SignerError::Ourselves(e.to_string()))
    }

    /// A target's file, compared with what was signed or will be.
    fn open(&self, file: &FileRef) -> Result<SourceFile, SignerError> {
        let path =
            blob::find(self.layout, file).ok_or_else(|| missing_blob(self.layout, &file.path))?;
        let (_, found) = blob::measure(&path, self.progress)?;
        if found != file.sha256 {
            return Err(TreeError::WrongTarget {
                path: file.path.to_string(),
                found: found.short(),
                signed: file.sha256.short(),
            }
            .into());
        }
        Ok(SourceFile::open(&path).map_err(DiskError::at("read", &path))?)
    }

    fn diff(&self, old: &SourceFile, new: &SourceFile, name: &str) -> Result<Vec<u8>, DiffError> {
        let options = DiffOptions {
            memory_max: self.means.memory_max,
            caps: self.means.caps,
            ..DiffOptions::default()
        };
        let mut shown = Shown {
            progress: self.progress,
            name,
            stage: "",
            done: 0,
        };
        let patch = ampoule_delta::diff_sources(old, new, &options, &mut |step| shown.step(step));
        self.progress.end();
        patch
    }
}

/// Applies a delta back and compares what comes out with the signed description.
pub fn prove(
    old: &mut dyn OldImage,
    patch: &[u8],
    component: &Component,
    base: &Base,
) -> Result<(), SignerError> {
    let mut out = Outcome {
        hasher: Hasher::new(),
        length: 0,
    };
    let applied = ampoule_delta::apply(old, patch, &mut out, &Accept::default());
    let made = (out.length, out.hasher.finish());
    if applied.is_ok() && made == (component.artifact.length, component.artifact.sha256) {
        return Ok(());
    }
    let (component, base) = (component.name.to_string(), base.version.to_string());
    Err(OperatorError::DeltaWrong { component, base }.into())
}

/// The bytes of a target, compared with what was signed or will be.
pub fn read_blob(layout: &Layout, file: &FileRef, len_max: u64) -> Result<Vec<u8>, SignerError> {
    let path = blob::find(layout, file).ok_or_else(|| missing_blob(layout, &file.path))?;
    let bytes = durable::read(&path, len_max)?;
    let found = Digest::of(&bytes);
    if found != file.sha256 {
        return Err(TreeError::WrongTarget {
            path: file.path.to_string(),
            found: found.short(),
            signed: file.sha256.short(),
        }
        .into());
    }
    Ok(bytes)
}

/// A target that should be somewhere in the workspace and is not.
pub fn missing_blob(layout: &Layout, path: &TargetPath) -> SignerError {
    let tree: PathBuf = layout.published();
    TreeError::Missing {
        tree,
        file: path.to_string(),
    }
    .into()
}

struct Outcome {
    hasher: Hasher,
    length: u64,
}

impl ampoule_delta::NewImage for Outcome {
    fn append(&mut self, bytes: &[u8]) -> Result<(), ampoule_delta::ImageError> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Turns the stages of a diff into pieces of work.
struct Shown<'p> {
    progress: &'p dyn Progress,
    name: &'p str,
    stage: &'static str,
    done: u64,
}

impl Shown<'_> {
    fn step(&mut self, step: DiffProgress) {
        let stage = step.stage.as_str();
        if stage != self.stage {
            self.progress
                .begin(&format!("{}: {stage}", self.name), step.total);
            (self.stage, self.done) = (stage, 0);
        }
        self.progress.advance(step.done.saturating_sub(self.done));
        self.done = step.done;
    }
}
