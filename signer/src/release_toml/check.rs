//! What a release file says against what the workspace and the disk know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use ampoule_protocol::limits::RELEASE_TEXT_MAX;
use ampoule_protocol::name::HardwareId;
use ampoule_protocol::release::{Release, ReleaseVersion};

use super::{Bases, ComponentReading, Reading};
use crate::delta_notes::read_fleet;
use crate::durable;
use crate::settings::{Product, Settings};
use crate::toml_doc::{At, Document};

/// Bytes of an SBOM; the largest we have seen has 40 MiB.
pub const SBOM_LEN_MAX: u64 = 64 << 20;
/// Bytes of an artifact: what the hash tree's bound of 2^24 blocks of 64 KiB allows.
pub const ARTIFACT_LEN_MAX: u64 = 1 << 40;

/// What there is already of the product.
pub struct Known<'w> {
    /// The settings of the workspace.
    pub settings: &'w Settings,
    /// Its releases, published or drafted, without the one that this file replaces.
    pub releases: &'w [Release],
    /// All it ever had, withdrawn ones too.
    pub ever: &'w [Release],
}

/// Notes every fault that [`Reading::read`] could not know of. Paths are relative to `folder`.
pub fn check(document: &Document<'_>, file: &Reading, known: &Known<'_>, folder: &Path) {
    let named = file.product.as_ref();
    let product = named.and_then(|name| known.settings.product(name));
    if let Some(name) = named.filter(|_| product.is_none()) {
        let names: Vec<_> = known
            .settings
            .products
            .iter()
            .map(|p| p.name.as_str())
            .collect();
        let text = format!(
            "product \"{}\" is unknown, this workspace has {}",
            name.value,
            names.join(", ")
        );
        document.fault(name.line, text);
    }
    check_order(document, file, known);
    let mut lines = BTreeMap::new();
    for component in &file.components {
        if let Some(name) = &component.name
            && let Some(first) = lines.insert(name.value.clone(), name.line)
        {
            let text = format!(
                "component \"{}\" is there already, on line {first}",
                name.value
            );
            document.fault(name.line, text);
        }
        if let Some(product) = product {
            check_hardware(document, component, product);
        }
        if let Some(artifact) = &component.artifact
            && let Err(text) = readable(&folder.join(&artifact.value), ARTIFACT_LEN_MAX)
        {
            document.fault(
                artifact.line,
                format!("artifact \"{}\" {text}", artifact.display()),
            );
        }
        let version = file.version.as_ref().map(|version| &version.value);
        check_bases(document, component, version, known.releases, folder);
        check_meta_data(document, component, folder);
    }
    if let Some(sbom) = &file.sbom {
        check_sbom(document, sbom, folder);
    }
}

fn check_order(document: &Document<'_>, file: &Reading, known: &Known<'_>) {
    let all = || known.releases.iter().chain(known.ever);
    let Some(last) = all().max_by(|a, b| a.version.cmp(&b.version)) else {
        return;
    };
    if let Some(version) = &file.version
        && version.value <= last.version
    {
        let text = format!(
            "version {} is not above the last, {}",
            version.value, last.version
        );
        document.fault(version.line, text);
    }
    let highest = all()
        .map(|release| release.rollback_index.0)
        .max()
        .unwrap_or(0);
    if let Some(index) = &file.rollback_index
        && index.value < highest
    {
        let text = format!(
            "rollback_index {} is below {highest}, which was signed before",
            index.value
        );
        document.fault(index.line, text);
    }
}

fn check_hardware(document: &Document<'_>, component: &ComponentReading, product: &Product) {
    for id in &component.hardware {
        if !product.hardware.contains(&id.value) {
            let names: Vec<_> = product.hardware.iter().map(HardwareId::as_str).collect();
            let text = format!(
                "hardware \"{}\" is unknown, {} runs on {}",
                id.value,
                product.name,
                names.join(", ")
            );
            document.fault(id.line, text);
        }
    }
}

fn check_bases(
    document: &Document<'_>,
    component: &ComponentReading,
    version: Option<&ReleaseVersion>,
    releases: &[Release],
    folder: &Path,
) {
    let bases = match &component.bases {
        Bases::Last(_) => return,
        Bases::Fleet(_, file) => {
            if let Err(text) = read_fleet(&folder.join(&file.value)) {
                let text = format!("fleet \"{}\" {text}", file.display());
                document.fault(file.line, text);
            }
            return;
        }
        Bases::Versions(bases) => bases,
    };
    let Some(name) = &component.name else {
        return;
    };
    let mut seen = BTreeSet::new();
    for base in bases {
        let At { value, line } = base;
        let has_component = |release: &Release| {
            release
                .components
                .iter()
                .any(|other| other.name == name.value)
        };
        let fault = if version == Some(value) {
            format!("base {value} is this release itself")
        } else if !seen.insert(value)
            || releases
                .iter()
                .any(|r| r.version == *value && has_component(r))
        {
            // Named twice is a fault of the list, and noted there.
            continue;
        } else {
            format!(
                "base {value} is no release with a component \"{}\"",
                name.value
            )
        };
        document.fault(*line, fault);
    }
}

fn check_meta_data(document: &Document<'_>, component: &ComponentReading, folder: &Path) {
    let Some(file) = &component.meta_data else {
        return;
    };
    let found = durable::read(&folder.join(&file.value), RELEASE_TEXT_MAX as u64)
        .map_err(|error| error.to_string())
        .and_then(|bytes| match ampoule_protocol::json::parse(&bytes) {
            Ok(ampoule_protocol::json::Value::Object(_)) => Ok(()),
            Ok(_) => Err("is not a JSON object".to_owned()),
            Err(error) => Err(format!("is not JSON: {error}")),
        });
    if let Err(text) = found {
        let text = format!("meta_data \"{}\" {text}", file.display());
        document.fault(file.line, text);
    }
}

fn check_sbom(document: &Document<'_>, sbom: &At<std::path::PathBuf>, folder: &Path) {
    let path = folder.join(&sbom.value);
    let fault = match readable(&path, SBOM_LEN_MAX) {
        Err(text) => text,
        Ok(())
            if sbom
                .extension()
                .is_some_and(|extension| extension == "json") =>
        {
            let parsed = durable::read(&path, SBOM_LEN_MAX)
                .map_err(|e| e.to_string())
                .and_then(|bytes| {
                    serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)
                        .map_err(|e| format!("is not JSON: {e}"))
                });
            match parsed {
                Ok(_) => return,
                Err(text) => text,
            }
        }
        Ok(()) => return,
    };
    document.fault(sbom.line, format!("sbom \"{}\" {fault}", sbom.display()));
}

/// Whether it is a file with 1 to `len_max` bytes that opens and reads.
fn readable(path: &Path, len_max: u64) -> Result<(), String> {
    let unreadable = |e: std::io::Error| format!("cannot be read: {}", cause(&e));
    // Before it is opened: opening a pipe waits for somebody to write into it.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    let mut file = File::open(path).map_err(unreadable)?;
    if metadata.len() == 0 {
        return Err("is empty".to_owned());
    }
    if metadata.len() > len_max {
        return Err(format!(
            "has {} bytes, expected at most {len_max}",
            metadata.len()
        ));
    }
    file.read_exact(&mut [0]).map_err(unreadable)
}

/// The operating system's words without its number, lower case as ours are.
fn cause(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
