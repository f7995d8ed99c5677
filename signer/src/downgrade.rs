//! Drafts a downgrade record: a target of the product's role, signed by its threshold as a release
//! is (`protocol/src/downgrade.rs` says what a device makes of it).
//!
//! Serials are never used again, neither those of records that were withdrawn: a device remembers
//! the highest that it used.

use std::path::{Path, PathBuf};

use ampoule_protocol::downgrade::{self, Downgrade, FORMAT, KIND};
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::metadata::{Envelope, Payload, TargetFile, Targets};
use ampoule_protocol::name::{DeviceId, ProductName, RoleName};
use ampoule_protocol::paths;
use ampoule_protocol::release::{Release, ReleaseVersion};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::MetaVersion;

use crate::add::{redraft, require_unsigned, role_of};
use crate::blob;
use crate::durable::{self, Disk};
use crate::error::{OperatorError, SignerError, TreeError};
use crate::releases;
use crate::workspace::Workspace;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Order {
    /// Of this product.
    pub product: String,
    /// The devices.
    pub devices: Vec<DeviceId>,
    /// What they run.
    pub from: ReleaseVersion,
    /// What they go to.
    pub to: ReleaseVersion,
    /// Why.
    pub reason: String,
    /// Until when.
    pub expires: UtcTime,
}

/// A record that was drafted.
#[derive(Debug, Clone)]
pub struct Drafted {
    /// The draft.
    pub request: PathBuf,
    /// The record.
    pub record: Downgrade,
    /// Whether what the devices leave is still listed: one that lives alone would take it again.
    pub from_is_listed: bool,
}

/// Drafts the record in the workspace at `dir`.
pub fn draft(
    disk: &dyn Disk,
    dir: &Path,
    order: &Order,
    now: UtcTime,
) -> Result<Drafted, SignerError> {
    let mut workspace = Workspace::open_to_write(disk, dir)?;
    let Some(known) = workspace.settings.product(&order.product) else {
        let products = workspace.settings.products.iter();
        let known = products.map(|product| product.name.to_string()).collect();
        let name = order.product.clone();
        return Err(OperatorError::UnknownProduct { name, known }.into());
    };
    let product = known.name.clone();
    let role = role_of(&product)?;
    require_unsigned(&workspace, &role)?;
    let mut targets = workspace.coming_targets(&role)?;
    let listed = releases::of(&product, &targets)?;
    let find = |version: &ReleaseVersion| listed.iter().find(|r| r.version == *version);
    let to = find(&order.to).ok_or_else(|| OperatorError::UnknownRelease {
        product: order.product.clone(),
        version: order.to.to_string(),
    })?;
    let record = record(&workspace, &targets, product, order, to)?;
    let custom = record.to_custom().map_err(|source| bad(&record, source))?;
    let mut bytes = serde_json::to_vec_pretty(&record)
        .map_err(|error| SignerError::Ourselves(error.to_string()))?;
    bytes.push(b'\n');
    let staging = workspace.layout.staged_targets();
    let file = blob::store(disk, &staging, &record.path(), &mut bytes.as_slice(), None)?;
    let target = TargetFile::new(file.length, file.sha256).with_custom(custom);
    targets.targets.insert(record.path(), target);
    let from_is_listed = find(&order.from).is_some();
    let request = redraft(disk, &mut workspace, &role, targets, now)?;
    Ok(Drafted {
        request,
        record,
        from_is_listed,
    })
}

fn record(
    workspace: &Workspace,
    targets: &Targets,
    product: ProductName,
    order: &Order,
    to: &Release,
) -> Result<Downgrade, SignerError> {
    let role = role_of(&product)?;
    let upto = workspace.next_version(&role) - 1;
    let tree = workspace.layout.published();
    let ever = last_serial_ever(&tree, &role, &product, upto)?;
    let serial = last_serial(targets, &product).max(ever) + 1;
    Ok(Downgrade {
        format: FORMAT,
        kind: KIND.to_owned(),
        product,
        serial,
        devices: order.devices.clone(),
        from: order.from.clone(),
        to: order.to.clone(),
        rollback_index: to.rollback_index,
        reason: order.reason.clone(),
        expires: order.expires,
    })
}

fn last_serial(targets: &Targets, product: &ProductName) -> u64 {
    let paths = targets.targets.keys();
    let serials = paths.filter_map(|path| downgrade::serial_of(product, path));
    serials.max().unwrap_or(0)
}

/// The highest serial in the old files as they lie there, unverified: what they say can only
/// forbid more.
fn last_serial_ever(
    tree: &Path,
    role: &RoleName,
    product: &ProductName,
    upto: u64,
) -> Result<u64, SignerError> {
    let mut last = 0;
    for version in (1..=upto).filter_map(MetaVersion::new) {
        let path = tree
            .join(paths::METADATA_DIR)
            .join(paths::role_file(role, Some(version)));
        let Some(bytes) = durable::read_if_there(&path, Lengths::DEFAULT.targets)? else {
            continue;
        };
        let envelope = Envelope::parse(&bytes).map_err(TreeError::malformed(&path))?;
        let targets =
            Targets::from_signed(envelope.unverified()).map_err(TreeError::malformed(&path))?;
        last = last.max(last_serial(&targets, product));
    }
    Ok(last)
}

fn bad(record: &Downgrade, source: ampoule_protocol::release::ReleaseError) -> SignerError {
    TreeError::BadRelease {
        release: record.path().to_string(),
        source: Box::new(source),
    }
    .into()
}
