//! Putting files into the tree, in the one order that a reader and a crash can bear.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ampoule_protocol::digest::Hashes;
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::name::TargetPath;
use ampoule_protocol::paths;

use super::coming::believes;
use super::{Coming, File, Outcome};
use crate::blob;
use crate::durable::{self, Access, Disk};
use crate::error::{DiskError, SignerError, TreeError};
use crate::progress::{Counted, Progress};
use crate::tree::Published;
use crate::workspace::Workspace;

/// Places everything new: target files first, what devices follow last (see the module's head on
/// the order of root and timestamp).
pub(super) fn place(
    disk: &dyn Disk,
    workspace: &Workspace,
    coming: &Coming,
    snapshot: &File,
    timestamp: &File,
    outcome: &mut Outcome,
) -> Result<(), SignerError> {
    let tree = workspace.layout.published();
    let metadata = tree.join(paths::METADATA_DIR);
    durable::create_dirs(disk, &metadata)?;
    place_targets(
        disk,
        workspace,
        coming,
        &tree.join(paths::TARGETS_DIR),
        outcome,
    )?;
    for file in &coming.director {
        let folder = workspace.layout.director();
        durable::create_dirs(disk, &folder)?;
        durable::put(disk, &folder.join(&file.name), &file.bytes, Access::Shared)?;
        outcome.metadata.push(format!("director/{}", file.name));
    }
    let roles = coming.roles.values().map(|role| &role.file);
    let mut last: Vec<&File> = coming.root.file.iter().chain([timestamp]).collect();
    if coming.is_seamless(workspace, snapshot, timestamp) {
        last.reverse();
    }
    let files = roles.chain([&coming.targets.file, snapshot]).chain(last);
    for file in files.filter(|file| file.is_new) {
        durable::put(
            disk,
            &metadata.join(&file.name),
            &file.bytes,
            Access::Shared,
        )?;
        outcome.metadata.push(file.name.clone());
    }
    Ok(())
}

fn place_targets(
    disk: &dyn Disk,
    workspace: &Workspace,
    coming: &Coming,
    folder: &Path,
    outcome: &mut Outcome,
) -> Result<(), SignerError> {
    let staged = workspace.layout.staged_targets();
    let new = coming.roles.values().filter(|role| role.file.is_new);
    for (path, target) in new.flat_map(|role| &role.payload.targets) {
        let name = paths::target_file(path, Some(&target.hashes));
        let (from, to) = (staged.join(&name), folder.join(&name));
        if to.is_file() {
            continue;
        }
        durable::create_dirs(disk, durable::folder_of(&to))?;
        durable::relocate(disk, &from, &to)?;
        outcome.targets += 1;
        outcome.targets_len += target.length;
    }
    Ok(())
}

/// Removes drafts that are published, and staged files that nothing names any more.
pub(super) fn clear(disk: &dyn Disk, workspace: &Workspace) -> Result<(), SignerError> {
    for path in &workspace.finished {
        durable::remove(disk, path)?;
    }
    let staged = workspace.layout.staged_targets();
    let mut named: BTreeSet<PathBuf> = BTreeSet::new();
    for role in workspace.staged.values().map(|staged| &staged.request) {
        let Ok(targets) =
            crate::request::payload::<ampoule_protocol::metadata::Targets>(&role.envelope)
        else {
            continue;
        };
        for (path, target) in &targets.targets {
            named.insert(staged.join(paths::target_file(path, Some(&target.hashes))));
        }
    }
    let Ok(products) = std::fs::read_dir(&staged) else {
        return Ok(());
    };
    for product in products {
        let product = product.map_err(DiskError::at("list", &staged))?.path();
        let Ok(files) = std::fs::read_dir(&product) else {
            continue;
        };
        for file in files {
            let file = file.map_err(DiskError::at("list", &product))?.path();
            if !named.contains(&file) {
                disk.remove(&file).map_err(DiskError::at("remove", &file))?;
            }
        }
    }
    Ok(())
}

/// Copies a published tree to `to`, in the same order: what is there already is not written again.
pub fn mirror(
    disk: &dyn Disk,
    from: &Path,
    to: &Path,
    progress: &dyn Progress,
) -> Result<usize, SignerError> {
    let missing = || TreeError::Missing {
        tree: from.to_owned(),
        file: paths::TIMESTAMP_FILE.to_owned(),
    };
    let published = Published::load(from)?.ok_or_else(missing)?;
    let mut written = 0;
    for (path, file, length, hashes) in published.target_files() {
        written += usize::from(copy_target(
            disk, from, to, &path, &file, length, &hashes, progress,
        )?);
    }
    let metadata = to.join(paths::METADATA_DIR);
    durable::create_dirs(disk, &metadata)?;
    let roles = published
        .roles
        .iter()
        .map(|(role, file)| File::published(role.as_str(), file));
    let mut files: Vec<File> = roles.collect();
    files.push(File::published("targets", &published.targets));
    files.push(File::published("snapshot", &published.snapshot));
    let timestamp = File::published("timestamp", &published.timestamp);
    let mut roots = published.roots.iter().rev();
    let newest = roots.next();
    files.extend(roots.rev().map(|root| File::published("root", root)));
    let mut last: Vec<File> = newest
        .map(|root| File::published("root", root))
        .into_iter()
        .chain([timestamp])
        .collect();
    if is_seamless(&published) {
        last.reverse();
    }
    files.extend(last);
    for file in files {
        let path = metadata.join(&file.name);
        let there = durable::read_if_there(&path, Lengths::DEFAULT.targets)?;
        if there.as_deref() != Some(file.bytes.as_slice()) {
            durable::put(disk, &path, &file.bytes, Access::Shared)?;
            written += 1;
        }
    }
    Ok(written)
}

/// Whether the keys of the root before the newest signed what there is, too.
fn is_seamless(published: &Published) -> bool {
    let before = published.roots.iter().rev().nth(1);
    before.is_some_and(|root| {
        let files = [
            published.targets.bytes.as_slice(),
            &published.snapshot.bytes,
            &published.timestamp.bytes,
        ];
        believes(&root.payload, files)
    })
}

#[allow(clippy::too_many_arguments)] // Two places, one target, and who watches.
fn copy_target(
    disk: &dyn Disk,
    from: &Path,
    to: &Path,
    path: &TargetPath,
    file: &Path,
    length: u64,
    hashes: &Hashes,
    progress: &dyn Progress,
) -> Result<bool, SignerError> {
    let target = to.join(paths::TARGETS_DIR).join(file);
    if std::fs::metadata(&target).is_ok_and(|found| found.len() == length) {
        return Ok(false);
    }
    let source = from.join(paths::TARGETS_DIR).join(file);
    let open = std::fs::File::open(&source).map_err(DiskError::at("read", &source))?;
    progress.begin(&format!("copying {}", path.base_name()), length);
    let stored = blob::store(
        disk,
        &to.join(paths::TARGETS_DIR),
        path,
        &mut Counted::new(open, progress),
        None,
    );
    progress.end();
    let stored = stored?;
    if hashes.sha256 == Some(stored.sha256) && stored.length == length {
        return Ok(true);
    }
    durable::remove(disk, &blob::file_of(&to.join(paths::TARGETS_DIR), &stored))?;
    Err(TreeError::WrongTarget {
        path: path.to_string(),
        found: stored.sha256.short(),
        signed: hashes
            .prefix()
            .unwrap_or_default()
            .chars()
            .take(12)
            .collect(),
    }
    .into())
}
