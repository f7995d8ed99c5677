//! Verifying what others hold: a published tree as a whole, or one file of it, offline.

use std::path::{Path, PathBuf};

use ampoule_protocol::metadata::{Envelope, Payload, RoleType, Root, Targets};
use ampoule_protocol::name::RoleName;
use ampoule_protocol::paths;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::KeyRing;

use crate::blob;
use crate::durable;
use crate::error::{OperatorError, SignerError, TreeError};
use crate::progress::Progress;
use crate::request::{REQUEST_LEN_MAX, payload};
use crate::tree::Published;

/// Whether an expired file is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// As a device would.
    Enforce,
    /// For trees that are kept as a record.
    Ignore,
}

/// One line of a verified tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Role.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// Signatures that count, and those needed.
    pub signed: (usize, u64),
    /// When it expires.
    pub expires: UtcTime,
    /// Target files that it names.
    pub targets: usize,
}

/// A tree that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Every role.
    pub rows: Vec<Row>,
    /// Target files measured.
    pub targets: usize,
    /// Their bytes.
    pub targets_len: u64,
}

/// Verifies a tree: the chain of roots, every role, every target file.
///
/// # Errors
/// The first thing that does not hold, expiry last.
pub fn tree(
    dir: &Path,
    expiry: Expiry,
    now: UtcTime,
    progress: &dyn Progress,
) -> Result<Report, SignerError> {
    let missing = |file: &str| TreeError::Missing {
        tree: dir.to_owned(),
        file: file.to_owned(),
    };
    let published = Published::load(dir)?.ok_or_else(|| missing(paths::TIMESTAMP_FILE))?;
    if published.trusted_root + 1 != published.roots.len() {
        // A publication was cut off here; the next one mends it.
        return Err(missing("a timestamp under the newest root").into());
    }
    let mut report = Report {
        rows: rows(&published),
        targets: 0,
        targets_len: 0,
    };
    for (path, file, length, hashes) in published.target_files() {
        let place = dir.join(paths::TARGETS_DIR).join(&file);
        if !place.is_file() {
            return Err(missing(&place.display().to_string()).into());
        }
        let (found, digest) = blob::measure(&place, progress)?;
        if found != length || hashes.sha256.is_some_and(|signed| signed != digest) {
            return Err(TreeError::WrongTarget {
                path: path.to_string(),
                found: format!("{found} bytes with digest {}", digest.short()),
                signed: format!(
                    "{length} bytes with digest {}",
                    hashes
                        .prefix()
                        .unwrap_or_default()
                        .chars()
                        .take(12)
                        .collect::<String>()
                ),
            }
            .into());
        }
        report.targets += 1;
        report.targets_len += length;
    }
    if expiry == Expiry::Enforce {
        for row in &report.rows {
            fresh(&dir.join(paths::METADATA_DIR), &row.role, row.expires, now)?;
        }
    }
    Ok(report)
}

/// Verifies one metadata file with the root (and, for a product's role, the targets) that name
/// its signers; a root also with itself.
pub fn file(
    path: &Path,
    root: Option<&Path>,
    targets: Option<&Path>,
    expiry: Expiry,
    now: UtcTime,
) -> Result<Row, SignerError> {
    let envelope = read(path)?;
    let role = role_of(path, &envelope)?;
    let missing = |file: &str| TreeError::Missing {
        tree: path.to_owned(),
        file: file.to_owned(),
    };
    let needs = |what, option| OperatorError::VerifyNeeds {
        path: path.to_owned(),
        what,
        option,
    };
    let trusted = root.map(|root| payload::<Root>(&read(root)?)).transpose()?;
    let signed = match (role.as_str(), trusted, targets) {
        ("root", trusted, _) => {
            let own: Root = payload(&envelope)?;
            if let Some(trusted) = &trusted {
                check(path, &KeyRing::of_root(trusted, RoleType::Root), &envelope)?;
            }
            check(path, &KeyRing::of_root(&own, RoleType::Root), &envelope)?
        }
        (_, None, _) => return Err(needs("the root that names its signers", "--root").into()),
        ("targets", Some(root), _) => {
            check(path, &KeyRing::of_root(&root, RoleType::Targets), &envelope)?
        }
        ("snapshot", Some(root), _) => check(
            path,
            &KeyRing::of_root(&root, RoleType::Snapshot),
            &envelope,
        )?,
        ("timestamp", Some(root), _) => check(
            path,
            &KeyRing::of_root(&root, RoleType::Timestamp),
            &envelope,
        )?,
        (_, Some(_), None) => {
            return Err(needs("the targets that delegate to it", "--targets").into());
        }
        (_, Some(root), Some(targets_path)) => {
            let above = read(targets_path)?;
            check(
                targets_path,
                &KeyRing::of_root(&root, RoleType::Targets),
                &above,
            )?;
            let above: Targets = payload(&above)?;
            let ring = above
                .delegations
                .as_ref()
                .and_then(|delegations| KeyRing::of_delegated(delegations, &role))
                .ok_or_else(|| missing("a delegation to this role"))?;
            check(path, &ring, &envelope)?
        }
    };
    let (version, expires) = head(path, &envelope)?;
    if expiry == Expiry::Enforce {
        fresh(path, role.as_str(), expires, now)?;
    }
    Ok(Row {
        role: role.to_string(),
        version,
        signed,
        expires,
        targets: 0,
    })
}

/// The role that a metadata file is of: its type, and for a delegated role the file's name.
pub fn role_of(path: &Path, envelope: &Envelope) -> Result<RoleName, SignerError> {
    let kind = envelope
        .unverified()
        .member("_type")
        .and_then(|t| t.as_str())
        .unwrap_or_default();
    let stem = path
        .file_stem()
        .map(|s| s.to_string_lossy().into_owned())
        .unwrap_or_default();
    let stem = match stem.split_once('.') {
        Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => rest.to_owned(),
        _ => stem,
    };
    let name = match kind {
        "root" | "snapshot" | "timestamp" => kind,
        "targets" => stem.as_str(),
        _ => {
            return Err(TreeError::NotMetadata {
                path: path.to_owned(),
            }
            .into());
        }
    };
    Ok(RoleName::parse(name).map_err(TreeError::malformed(path))?)
}

/// Version and expiry of any metadata.
pub fn head(path: &Path, envelope: &Envelope) -> Result<(u64, UtcTime), SignerError> {
    let member = |name: &str| envelope.unverified().member(name);
    let not_metadata = || TreeError::NotMetadata {
        path: path.to_owned(),
    };
    let version = member("version")
        .and_then(ampoule_protocol::json::Value::as_u64)
        .ok_or_else(not_metadata)?;
    let expires = member("expires")
        .and_then(|e| e.as_str())
        .ok_or_else(not_metadata)?;
    Ok((
        version,
        UtcTime::parse(expires).map_err(TreeError::malformed(path))?,
    ))
}

/// Reads any metadata file.
pub fn read(path: &Path) -> Result<Envelope, SignerError> {
    let bytes = durable::read(path, REQUEST_LEN_MAX)?;
    Ok(Envelope::parse(&bytes).map_err(TreeError::malformed(path))?)
}

fn check(
    path: &Path,
    ring: &KeyRing<'_>,
    envelope: &Envelope,
) -> Result<(usize, u64), SignerError> {
    let have = ring.signers(envelope).len();
    if have as u64 >= ring.threshold() {
        return Ok((have, ring.threshold()));
    }
    let role = role_of(path, envelope)?.to_string();
    let (version, need) = (head(path, envelope)?.0, ring.threshold());
    Err(OperatorError::Threshold {
        role,
        version,
        have,
        need,
    }
    .into())
}

fn fresh(path: &Path, role: &str, expires: UtcTime, now: UtcTime) -> Result<(), SignerError> {
    if expires > now {
        return Ok(());
    }
    let path: PathBuf = path.to_owned();
    Err(TreeError::Expired {
        path,
        role: role.to_owned(),
        expires: expires.to_string(),
    }
    .into())
}

/// A line for each role of a tree.
pub fn rows(published: &Published) -> Vec<Row> {
    let root = &published.newest_root().payload;
    let row =
        |role: &str, ring: &KeyRing<'_>, envelope: &Envelope, version, expires, targets| Row {
            role: role.to_owned(),
            version,
            signed: (ring.signers(envelope).len(), ring.threshold()),
            expires,
            targets,
        };
    macro_rules! top {
        ($name:literal, $role:expr, $file:expr, $targets:expr) => {
            row(
                $name,
                &KeyRing::of_root(root, $role),
                &$file.envelope,
                $file.payload.version().get(),
                $file.payload.expires(),
                $targets,
            )
        };
    }
    let mut rows = vec![
        top!("root", RoleType::Root, published.newest_root(), 0),
        top!("timestamp", RoleType::Timestamp, published.timestamp, 0),
        top!("snapshot", RoleType::Snapshot, published.snapshot, 0),
        top!(
            "targets",
            RoleType::Targets,
            published.targets,
            published.targets.payload.targets.len()
        ),
    ];
    for (role, file) in &published.roles {
        let delegations = published.targets.payload.delegations.as_ref();
        let ring = delegations.and_then(|d| KeyRing::of_delegated(d, role));
        if let Some(ring) = ring {
            let (version, expires) = (file.payload.version().get(), file.payload.expires());
            let targets = file.payload.targets.len();
            rows.push(row(
                role.as_str(),
                &ring,
                &file.envelope,
                version,
                expires,
                targets,
            ));
        }
    }
    rows
}
