//! Before anything is signed or published: is what the drafts name there, and is it so?
//!
//! What the published role says in the same words was checked before; everything else is new, also
//! under a path that is old.

use std::collections::BTreeMap;

use ampoule_protocol::metadata::{TargetFile, Targets};
use ampoule_protocol::name::{ProductName, RoleName, TargetPath};
use ampoule_protocol::release::{Component, DeltaRef, FileRef, Release};
use ampoule_protocol::tree::{BlockTree, TreeError as BlockError};

use super::Coming;
use crate::blob;
use crate::deltas;
use crate::error::{OperatorError, SignerError, TreeError};
use crate::progress::Progress;
use crate::release_toml::check::ARTIFACT_LEN_MAX;
use crate::releases;
use crate::workspace::Workspace;

/// Checks everything that the coming roles name and the published ones do not: each file by
/// length and digest, each leaf list by its root, each delta by applying it. Returns how many
/// deltas were applied.
pub(super) fn check(
    workspace: &Workspace,
    coming: &Coming,
    progress: &dyn Progress,
) -> Result<usize, SignerError> {
    let mut proved = 0;
    for (role, file) in &coming.roles {
        if !file.file.is_new {
            continue;
        }
        let published = workspace.published.as_ref().and_then(|p| p.roles.get(role));
        let known: BTreeMap<&TargetPath, &TargetFile> = published
            .iter()
            .flat_map(|file| &file.payload.targets)
            .collect();
        let new = file
            .payload
            .targets
            .iter()
            .filter(|(path, target)| known.get(path) != Some(target));
        for (path, target) in new {
            check_file(workspace, path, target, progress)?;
        }
        proved += check_releases(workspace, role, &file.payload, &known, progress)?;
    }
    Ok(proved)
}

fn check_releases(
    workspace: &Workspace,
    role: &RoleName,
    targets: &Targets,
    known: &BTreeMap<&TargetPath, &TargetFile>,
    progress: &dyn Progress,
) -> Result<usize, SignerError> {
    let Ok(product) = ProductName::parse(role.as_str()) else {
        return Ok(0);
    };
    if let Some((component, missing)) = deltas::missing(workspace, &product)?.into_iter().next() {
        return Err(OperatorError::DeltasMissing { component, missing }.into());
    }
    let mut proved = 0;
    for release in releases::of(&product, targets)? {
        for file in releases::files(&release) {
            check_listed(&release, targets, file)?;
        }
        if known.get(&release.path()).copied() == targets.targets.get(&release.path()) {
            continue;
        }
        for component in &release.components {
            check_leaves(workspace, component)?;
            for delta in &component.deltas {
                prove(workspace, component, delta, progress)?;
                proved += 1;
            }
        }
    }
    Ok(proved)
}

/// A file that the description names must be the target of that path.
fn check_listed(release: &Release, targets: &Targets, file: &FileRef) -> Result<(), SignerError> {
    if releases::is_listed(targets, file) {
        return Ok(());
    }
    Err(TreeError::WrongTarget {
        path: file.path.to_string(),
        found: "listed otherwise or not at all".to_owned(),
        signed: format!(
            "{} as release {} has it",
            file.sha256.short(),
            release.version
        ),
    }
    .into())
}

fn check_file(
    workspace: &Workspace,
    path: &TargetPath,
    target: &TargetFile,
    progress: &dyn Progress,
) -> Result<(), SignerError> {
    let missing = || deltas::missing_blob(&workspace.layout, path);
    let sha256 = target.hashes.sha256.ok_or_else(missing)?;
    let file = FileRef {
        path: path.clone(),
        length: target.length,
        sha256,
    };
    let place = blob::find(&workspace.layout, &file).ok_or_else(missing)?;
    let (length, found) = blob::measure(&place, progress)?;
    if (length, found) == (file.length, file.sha256) {
        return Ok(());
    }
    Err(TreeError::WrongTarget {
        path: path.to_string(),
        found: format!("{length} bytes with digest {}", found.short()),
        signed: format!("{} bytes with digest {}", file.length, file.sha256.short()),
    }
    .into())
}

fn check_leaves(workspace: &Workspace, component: &Component) -> Result<(), SignerError> {
    let wrong = |source: BlockError| TreeError::BadRelease {
        release: component.artifact.path.to_string(),
        source: Box::new(source),
    };
    let leaves = deltas::read_blob(
        &workspace.layout,
        &component.blocks.leaves,
        component.blocks.leaves.length,
    )?;
    let shape = component.shape().map_err(wrong)?;
    BlockTree::from_leaves(shape, &component.blocks.root, &leaves).map_err(wrong)?;
    Ok(())
}

fn prove(
    workspace: &Workspace,
    component: &Component,
    delta: &DeltaRef,
    progress: &dyn Progress,
) -> Result<(), SignerError> {
    progress.begin(
        &format!("applying {}", delta.file.path.base_name()),
        delta.file.length,
    );
    let base = base_file(workspace, &component.name, delta)?;
    let old = deltas::read_blob(&workspace.layout, &base, ARTIFACT_LEN_MAX)?;
    let patch = deltas::read_blob(&workspace.layout, &delta.file, delta.file.length)?;
    let proved = deltas::prove(&mut &old[..], &patch, component, &delta.base);
    progress.end();
    proved
}

/// The published artifact that a delta starts from.
fn base_file(
    workspace: &Workspace,
    component: &ampoule_protocol::name::ComponentName,
    delta: &DeltaRef,
) -> Result<FileRef, SignerError> {
    let roles = workspace
        .published
        .iter()
        .flat_map(|published| published.roles.iter());
    for (role, file) in roles {
        let Ok(product) = ProductName::parse(role.as_str()) else {
            continue;
        };
        for release in releases::of(&product, &file.payload)? {
            for other in release.components {
                if other.artifact.sha256 == delta.base.sha256 {
                    return Ok(other.artifact);
                }
            }
        }
    }
    let (component, base) = (component.to_string(), delta.base.version.to_string());
    Err(OperatorError::DeltaWrong { component, base }.into())
}
