//! The releases that a product's role lists, and the words for its targets.

use std::collections::BTreeMap;
use std::path::Path;

use ampoule_protocol::json::{Map, Value};
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::metadata::{Envelope, Payload, TargetFile, Targets};
use ampoule_protocol::name::{ProductName, RoleName, TargetPath};
use ampoule_protocol::paths;
use ampoule_protocol::release::{CUSTOM_MEMBER, FileRef, Release, ReleaseVersion};
use ampoule_protocol::version::MetaVersion;

use crate::durable;
use crate::error::{SignerError, TreeError};

/// All releases of `product` in its role, the oldest version first.
///
/// # Errors
/// A release target whose description does not read, or is another release's: nothing is built on
/// it.
pub fn of(product: &ProductName, targets: &Targets) -> Result<Vec<Release>, SignerError> {
    let prefix = format!("{product}/release-");
    let mut releases = Vec::new();
    for (path, file) in &targets.targets {
        let version = path
            .as_str()
            .strip_prefix(&prefix)
            .and_then(|p| p.strip_suffix(".toml"));
        if version.is_none_or(|version| ReleaseVersion::parse(version).is_err()) {
            continue;
        }
        let release =
            Release::at(path, file.custom.as_ref()).map_err(|source| TreeError::BadRelease {
                release: path.to_string(),
                source: Box::new(source),
            })?;
        releases.push(release);
    }
    releases.sort_by(|a, b| a.version.cmp(&b.version));
    Ok(releases)
}

/// Every release that `product` ever had in the tree at `tree`, up to version `upto` of its role,
/// withdrawn ones too: no version and no rollback index is used again.
///
/// The old files are read as they lie there, unverified: what they say can only forbid more.
pub fn ever(tree: &Path, product: &ProductName, upto: u64) -> Result<Vec<Release>, SignerError> {
    let role =
        RoleName::parse(product.as_str()).map_err(|e| SignerError::Ourselves(e.to_string()))?;
    let mut releases: BTreeMap<ReleaseVersion, Release> = BTreeMap::new();
    for version in (1..=upto).filter_map(MetaVersion::new) {
        let path = tree
            .join(paths::METADATA_DIR)
            .join(paths::role_file(&role, Some(version)));
        let Some(bytes) = durable::read_if_there(&path, Lengths::DEFAULT.targets)? else {
            continue;
        };
        let envelope = Envelope::parse(&bytes).map_err(TreeError::malformed(&path))?;
        let targets =
            Targets::from_signed(envelope.unverified()).map_err(TreeError::malformed(&path))?;
        releases.extend(
            of(product, &targets)?
                .into_iter()
                .map(|r| (r.version.clone(), r)),
        );
    }
    Ok(releases.into_values().collect())
}

/// Every file that a release names, its own target aside.
pub fn files(release: &Release) -> Vec<&FileRef> {
    let components = release.components.iter().flat_map(|component| {
        [&component.artifact, &component.blocks.leaves]
            .into_iter()
            .chain(component.deltas.iter().map(|delta| &delta.file))
    });
    components.chain(&release.sbom).collect()
}

/// Whether a file that a release names is the target of that path.
pub fn is_listed(targets: &Targets, file: &FileRef) -> bool {
    targets.targets.get(&file.path).is_some_and(|target| {
        target.length == file.length && target.hashes.sha256 == Some(file.sha256)
    })
}

/// The `custom` of an artifact's target: enough to see what it is for without the release.
pub fn artifact_custom(release: &Release, at: usize) -> Option<Value> {
    let component = release.components.get(at)?;
    let hardware = component
        .hardware
        .iter()
        .map(|id| Value::from(id.as_str()))
        .collect();
    let members = Map::from([
        ("kind".to_owned(), "artifact".into()),
        ("release".to_owned(), release.path().as_str().into()),
        ("hardware".to_owned(), Value::Array(hardware)),
        ("rollback_index".to_owned(), release.rollback_index.0.into()),
    ]);
    Some(Value::Object(Map::from([(
        CUSTOM_MEMBER.to_owned(),
        Value::Object(members),
    )])))
}

/// Puts a release and all its files into its role, `toml` being its own target.
pub fn insert(targets: &mut Targets, release: &Release, toml: &FileRef) -> Result<(), SignerError> {
    for file in files(release) {
        targets
            .targets
            .insert(file.path.clone(), TargetFile::new(file.length, file.sha256));
    }
    for (at, component) in release.components.iter().enumerate() {
        if let (Some(file), Some(custom)) = (
            targets.targets.get_mut(&component.artifact.path),
            artifact_custom(release, at),
        ) {
            file.custom = Some(custom);
        }
    }
    let custom = release
        .to_custom()
        .map_err(|source| TreeError::BadRelease {
            release: release.path().to_string(),
            source: Box::new(source),
        })?;
    let file = TargetFile::new(toml.length, toml.sha256).with_custom(custom);
    targets.targets.insert(release.path(), file);
    Ok(())
}

/// Takes a release and all its files out of its role.
pub fn remove(targets: &mut Targets, release: &Release) {
    targets.targets.remove(&release.path());
    for file in files(release) {
        targets.targets.remove(&file.path);
    }
}

/// `PRODUCT/STEM.EXTENSION`, the extension taken from the file that a person named, where it is
/// plain.
pub fn target_path(
    product: &ProductName,
    stem: &str,
    named: &Path,
) -> Result<TargetPath, SignerError> {
    const EXTENSION_LEN_MAX: usize = 16;
    let name = named
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let plain = |part: &str| {
        (1..=EXTENSION_LEN_MAX).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    // `rootfs.cdx.json` keeps both of its extensions; a version in the name is none.
    let mut extensions: Vec<&str> = name
        .split('.')
        .skip(1)
        .filter(|part| plain(part) && !part.bytes().all(|b| b.is_ascii_digit()))
        .collect();
    if extensions.len() > 2 {
        extensions.drain(..extensions.len() - 2);
    }
    let extension = if extensions.is_empty() {
        "bin".to_owned()
    } else {
        extensions.join(".")
    };
    let path = format!("{product}/{stem}.{extension}");
    TargetPath::parse(&path).map_err(|e| SignerError::Ourselves(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_kept_where_they_are_plain() {
        let product = ProductName::parse("p").unwrap();
        for (named, expected) in [
            ("build/rootfs.img", "p/s.img"),
            ("rootfs.cdx.json", "p/s.cdx.json"),
            ("rootfs-2.4.1.img", "p/s.img"),
            ("vmlinuz", "p/s.bin"),
            ("a.b.c.tar.gz", "p/s.tar.gz"),
            ("x.ä", "p/s.bin"),
        ] {
            let path = target_path(&product, "s", Path::new(named)).unwrap();
            assert_eq!(path.as_str(), expected, "{named}");
        }
    }
}
