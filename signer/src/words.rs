//! What a draft means, in words: what a holder reads before signing.
//!
//! Everything said is taken from the bytes that will be signed and from the last signed version
//! in the same request; nothing from file names.

use std::collections::{BTreeMap, BTreeSet};

use ampoule_protocol::downgrade::{self, Downgrade};
use ampoule_protocol::json::Value;
use ampoule_protocol::key::{Key, KeyId};
use ampoule_protocol::metadata::{
    DelegatedRole, Envelope, Listing, RoleKeys, RoleType, Root, Snapshot, TargetFile, Targets,
    Timestamp,
};
use ampoule_protocol::name::{DeviceId, HardwareId, ProductName, TargetPath};
use ampoule_protocol::release::{Activation, Component, Release};

use crate::error::SignerError;
use crate::releases;
use crate::request::{Request, payload};
use crate::terminal::{bytes, plain};

/// What the draft changes against the last signed version, a line each.
pub fn changes(request: &Request) -> Result<Vec<String>, SignerError> {
    let (new, old) = (&request.envelope, request.previous.as_ref());
    let name = |id: &KeyId| request.holder(id);
    let mut lines = match request.kind() {
        RoleType::Root => root(
            &payload(new)?,
            old.map(payload::<Root>).transpose()?.as_ref(),
            &name,
        ),
        RoleType::Targets => {
            let old = old.map(payload::<Targets>).transpose()?;
            targets(request.role.as_str(), &payload(new)?, old.as_ref(), &name)?
        }
        RoleType::Snapshot => snapshot(
            &payload(new)?,
            old.map(payload::<Snapshot>).transpose()?.as_ref(),
        ),
        RoleType::Timestamp => {
            let timestamp: Timestamp = payload(new)?;
            vec![format!(
                "the newest snapshot is version {}",
                timestamp.snapshot.version
            )]
        }
    };
    if lines.is_empty() {
        lines.push("nothing changes but version and expiry".to_owned());
    }
    if let Some(expires) = expires_at(new) {
        lines.push(match old.and_then(expires_at) {
            Some(before) => format!("it expires at {expires}, the last one at {before}"),
            None => format!("it expires at {expires}"),
        });
    }
    Ok(lines)
}

fn expires_at(envelope: &Envelope) -> Option<String> {
    envelope
        .unverified()
        .member("expires")
        .and_then(Value::as_str)
        .map(plain)
}

type Name<'a> = &'a dyn Fn(&KeyId) -> String;

fn root(new: &Root, old: Option<&Root>, name: Name<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for role in RoleType::ALL {
        let old_keys = old.map(|root| (root.role(role), &root.keys));
        lines.extend(role_keys(
            role.as_str(),
            (new.role(role), &new.keys),
            old_keys,
            name,
        ));
    }
    lines
}

type KeysOf<'a> = (&'a RoleKeys, &'a BTreeMap<KeyId, Key>);

/// How the holders of one role change.
fn role_keys(
    role: &str,
    (new, new_table): KeysOf<'_>,
    old: Option<KeysOf<'_>>,
    name: Name<'_>,
) -> Vec<String> {
    let scheme = |id: &KeyId| {
        let public = new_table.get(id).and_then(Key::public);
        public.map_or("a key that nobody can check", |key| key.scheme().as_str())
    };
    let Some((old, _)) = old else {
        let names: Vec<_> = new.keyids.iter().map(name).collect();
        return vec![format!(
            "{role} is signed by {} of {}: {}",
            new.threshold,
            new.keyids.len(),
            names.join(", ")
        )];
    };
    let mut lines = Vec::new();
    for id in new.keyids.iter().filter(|id| !old.keyids.contains(id)) {
        lines.push(format!(
            "{role} gets the key of {}, {}",
            name(id),
            scheme(id)
        ));
    }
    for id in old.keyids.iter().filter(|id| !new.keyids.contains(id)) {
        lines.push(format!("{role} loses the key of {}", name(id)));
    }
    if new.threshold != old.threshold || !lines.is_empty() {
        lines.push(format!(
            "{role} is signed by {} of {} from now on, before by {} of {}",
            new.threshold,
            new.keyids.len(),
            old.threshold,
            old.keyids.len()
        ));
    }
    lines
}

fn targets(
    role: &str,
    new: &Targets,
    old: Option<&Targets>,
    name: Name<'_>,
) -> Result<Vec<String>, SignerError> {
    let mut lines = Vec::new();
    delegations(new, old, name, &mut lines);
    let mut told: BTreeSet<TargetPath> = BTreeSet::new();
    if let Ok(product) = ProductName::parse(role) {
        let now = releases::of(&product, new)?;
        let before = old
            .map(|old| releases::of(&product, old))
            .transpose()?
            .unwrap_or_default();
        for gone in before
            .iter()
            .filter(|r| !now.iter().any(|n| n.version == r.version))
        {
            lines.push(format!(
                "release {} of {product} is withdrawn",
                gone.version
            ));
            tell(gone, &mut told);
        }
        let highest = before.iter().map(|release| release.rollback_index.0).max();
        for release in &now {
            let other = before.iter().find(|other| other.version == release.version);
            if other == Some(release) {
                // Its files are compared one by one below.
                continue;
            }
            if let Some(other) = other {
                let version = &release.version;
                lines.push(format!(
                    "release {version} of {product} is CHANGED after it was signed"
                ));
                tell(other, &mut told);
            }
            tell(release, &mut told);
            lines.extend(self::release(release, highest));
        }
        lines.extend(downgrades(&product, new, old, &mut told));
    }
    other_targets(new, old, &told, &mut lines);
    Ok(lines)
}

/// Records that let devices fall: what every holder must read.
fn downgrades(
    product: &ProductName,
    new: &Targets,
    old: Option<&Targets>,
    told: &mut BTreeSet<TargetPath>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, file) in &new.targets {
        let is_record = downgrade::serial_of(product, path).is_some();
        let before = old.and_then(|old| old.targets.get(path));
        if !is_record || before == Some(file) {
            continue;
        }
        // One that does not read, or that changed, is told with the other files, in plain words.
        let Ok(record) = Downgrade::at(path, file.custom.as_ref()) else {
            continue;
        };
        if before.is_none() {
            told.insert(path.clone());
        }
        let devices: Vec<_> = record.devices.iter().map(DeviceId::as_str).collect();
        lines.extend([
            format!(
                "DOWNGRADE {} of {product}: from {} to {}, their floor FALLS to {}",
                record.serial, record.from, record.to, record.rollback_index
            ),
            format!("  for {}", devices.join(", ")),
            format!("  once each, before {}", record.expires),
            format!("  because: {}", plain(&record.reason)),
        ]);
    }
    lines
}

/// The files of a release that is told in its own words.
fn tell(release: &Release, told: &mut BTreeSet<TargetPath>) {
    told.insert(release.path());
    told.extend(
        releases::files(release)
            .into_iter()
            .map(|file| file.path.clone()),
    );
}

/// Files that belong to no release, or that changed under a release that did not.
fn other_targets(
    new: &Targets,
    old: Option<&Targets>,
    told: &BTreeSet<TargetPath>,
    lines: &mut Vec<String>,
) {
    let nothing = BTreeMap::new();
    let old = old.map_or(&nothing, |old| &old.targets);
    for (path, file) in new.targets.iter().filter(|(path, _)| !told.contains(path)) {
        match old.get(path) {
            None => lines.push(format!(
                "file \"{}\" is added, {}",
                plain(path.as_str()),
                size(file)
            )),
            Some(before) if before != file => {
                lines.push(format!(
                    "file \"{}\" is CHANGED, {}",
                    plain(path.as_str()),
                    size(file)
                ));
            }
            Some(_) => {}
        }
    }
    for path in old
        .keys()
        .filter(|path| !told.contains(path) && !new.targets.contains_key(path))
    {
        lines.push(format!("file \"{}\" is removed", plain(path.as_str())));
    }
}

fn size(file: &TargetFile) -> String {
    format!("{} bytes", file.length)
}

fn release(release: &Release, highest: Option<u64>) -> Vec<String> {
    let index = release.rollback_index;
    let rollback = match highest {
        Some(before) if before == index.0 => format!("rollback index {index}, as before"),
        Some(before) => format!("rollback index {index}, before {before}"),
        None => format!("rollback index {index}"),
    };
    let mut lines = vec![
        format!(
            "release {} of {} is added: {rollback}",
            release.version, release.product
        ),
        format!(
            "  class {}: {}",
            release.class.as_str(),
            plain(&release.purpose)
        ),
        format!("  without it: {}", plain(&release.risk_if_not_applied)),
        format!(
            "  out of service for {} seconds{}",
            release.downtime_secs,
            lost(release)
        ),
        format!("  cleared for {}", plain(&release.regions.join(", "))),
    ];
    lines.extend(release.components.iter().flat_map(component));
    if let Some(sbom) = &release.sbom {
        lines.push(format!(
            "  sbom {} bytes, digest {}",
            sbom.length,
            sbom.sha256.short()
        ));
    }
    lines
}

fn lost(release: &Release) -> String {
    if release.functions_unavailable.is_empty() {
        return String::new();
    }
    format!(
        ", without {}",
        plain(&release.functions_unavailable.join(", "))
    )
}

fn component(component: &Component) -> Vec<String> {
    let hardware: Vec<_> = component.hardware.iter().map(HardwareId::as_str).collect();
    let mut lines = vec![format!(
        "  component {} for {}, install {}, {} ({} bytes), digest {}",
        component.name,
        hardware.join(", "),
        component.install,
        bytes(component.artifact.length),
        component.artifact.length,
        component.artifact.sha256.short()
    )];
    if component.activation == Activation::Live {
        lines.push("    programs see it at once, without a restart".to_owned());
    }
    if let Some(text) = &component.meta_data {
        lines.push(format!("    meta-data for the module: {}", plain(text)));
    }
    for (name, requirement) in &component.requires {
        lines.push(format!("    requires {} {requirement}", plain(name)));
    }
    for delta in &component.deltas {
        lines.push(format!(
            "    delta from {}, {} bytes, {} of memory on the device",
            delta.base.version,
            delta.file.length,
            bytes(delta.memory)
        ));
    }
    lines
}

fn delegations(new: &Targets, old: Option<&Targets>, name: Name<'_>, lines: &mut Vec<String>) {
    let (now, now_keys) = listed(Some(new));
    let (before, before_keys) = listed(old);
    for role in &now {
        let title = format!("product {}", plain(role.name.as_str()));
        let other = before.iter().find(|other| other.name == role.name);
        if other.is_none() && old.is_some() {
            lines.push(format!("{title} is added"));
        }
        let keys = (&role.keys, &now_keys);
        lines.extend(role_keys(
            &title,
            keys,
            other.map(|o| (&o.keys, &before_keys)),
            name,
        ));
        if other.is_some_and(|o| o.trusts != role.trusts || o.terminating != role.terminating) {
            lines.push(format!("{title} is trusted for other paths than before"));
        }
    }
    for role in before
        .iter()
        .filter(|r| !now.iter().any(|n| n.name == r.name))
    {
        lines.push(format!("product {} is removed", plain(role.name.as_str())));
    }
}

fn listed(targets: Option<&Targets>) -> (Vec<DelegatedRole>, BTreeMap<KeyId, Key>) {
    let Some(delegations) = targets.and_then(|targets| targets.delegations.as_ref()) else {
        return (Vec::new(), BTreeMap::new());
    };
    let roles = match &delegations.roles {
        Listing::Roles(roles) => roles.clone(),
        Listing::Bins(_) => Vec::new(),
    };
    (roles, delegations.keys.clone())
}

fn snapshot(new: &Snapshot, old: Option<&Snapshot>) -> Vec<String> {
    let nothing = BTreeMap::new();
    let old = old.map_or(&nothing, |old| &old.meta);
    let mut lines = Vec::new();
    for (name, file) in &new.meta {
        let name = plain(name);
        match old.get(&name) {
            None => lines.push(format!("\"{name}\" is added at version {}", file.version)),
            Some(before) if before.version != file.version => {
                lines.push(format!(
                    "\"{name}\" goes from version {} to {}",
                    before.version, file.version
                ));
            }
            Some(before) if before != file => {
                lines.push(format!("\"{name}\" is CHANGED at version {}", file.version));
            }
            Some(_) => {}
        }
    }
    for name in old.keys().filter(|name| !new.meta.contains_key(*name)) {
        lines.push(format!("\"{}\" is removed", plain(name)));
    }
    lines
}
