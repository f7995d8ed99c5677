//! `release.toml`, as a person writes it (docs/guide/signing.md).
//!
//! Reading has two halves. [`Reading::read`] knows the file alone: fields, types, bounds. [`check`]
//! knows the workspace and the disk: products, hardware, the last signed version, the artifacts. It
//! takes what could be read, with holes where a field is bad. Both note their faults in the same
//! document, so that a person sees all of them at once, each with its line.

pub mod check;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ampoule_protocol::limits::{RELEASE_LIST_MAX, RELEASE_TEXT_MAX};
use ampoule_protocol::name::{ComponentName, HardwareId};
use ampoule_protocol::release::{Activation, Class, Install, ReleaseVersion, Requirement};

use crate::toml_doc::{At, Document, Section};

/// A device that is out of service for longer than a week is being replaced, not updated.
const DOWNTIME_SECS: RangeInclusive<u64> = 0..=7 * 86_400;
/// JSON readers of other houses lose whole numbers beyond 2^53.
pub const ROLLBACK_INDEX: RangeInclusive<u64> = 0..=(1 << 53) - 1;
/// Deltas of one component; each costs a build and a place on every mirror.
const BASES_MAX: usize = 16;
const PATH_LEN_MAX: usize = 4096;
const VERSION_LEN_MAX: usize = 64;
const REGION_LEN_MAX: usize = 16;

/// A release as its file tells it.
#[derive(Debug, Clone)]
pub struct ReleaseFile {
    /// Which product it is for.
    pub product: At<String>,
    /// For people.
    pub version: At<ReleaseVersion>,
    /// For machines.
    pub rollback_index: At<u64>,
    /// `security`, `functional` or `both`.
    pub class: At<Class>,
    /// Why there is this release.
    pub purpose: At<String>,
    /// What happens to who stays without.
    pub risk_if_not_applied: At<String>,
    /// How long a device is out of service.
    pub downtime_secs: At<u64>,
    /// What it cannot do meanwhile.
    pub functions_unavailable: Vec<At<String>>,
    /// Where it is cleared for.
    pub regions: Vec<At<String>>,
    /// What it updates.
    pub components: Vec<ComponentFile>,
    /// Its bill of materials.
    pub sbom: At<PathBuf>,
}

/// A `[[component]]`.
#[derive(Debug, Clone)]
pub struct ComponentFile {
    /// What it is called on the device.
    pub name: At<ComponentName>,
    /// What its artifact fits.
    pub hardware: Vec<At<HardwareId>>,
    /// The file, relative to `release.toml`.
    pub artifact: At<PathBuf>,
    /// `slot`, `tree`, `file` or `module:<name>`.
    pub install: Install,
    /// `restart` or `live`.
    pub activation: Activation,
    /// For modules: a JSON file, relative to `release.toml`.
    pub meta_data: Option<At<PathBuf>>,
    /// What must be there already, and its version.
    pub requires: BTreeMap<String, Requirement>,
    /// From which versions there shall be deltas.
    pub bases: Bases,
}

/// What could be read of a file that may have faults: `None` where one is noted.
#[derive(Debug)]
pub struct Reading {
    /// As in [`ReleaseFile`].
    pub product: Option<At<String>>,
    /// As in [`ReleaseFile`].
    pub version: Option<At<ReleaseVersion>>,
    /// As in [`ReleaseFile`].
    pub rollback_index: Option<At<u64>>,
    class: Option<At<Class>>,
    purpose: Option<At<String>>,
    risk_if_not_applied: Option<At<String>>,
    downtime_secs: Option<At<u64>>,
    functions_unavailable: Vec<At<String>>,
    regions: Vec<At<String>>,
    components: Vec<ComponentReading>,
    sbom: Option<At<PathBuf>>,
}

/// The same of one component.
#[derive(Debug)]
struct ComponentReading {
    name: Option<At<ComponentName>>,
    hardware: Vec<At<HardwareId>>,
    artifact: Option<At<PathBuf>>,
    install: Option<Install>,
    activation: Activation,
    meta_data: Option<At<PathBuf>>,
    requires: BTreeMap<String, Requirement>,
    bases: Bases,
}

/// From which versions a component shall have deltas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bases {
    /// `last:N`, the newest N published versions; 0 where no delta is asked for.
    Last(usize),
    /// `fleet:N`, the N published versions that the most devices run, as this file counts them.
    Fleet(usize, At<PathBuf>),
    /// Exactly these.
    Versions(Vec<At<ReleaseVersion>>),
}

impl ReleaseFile {
    /// Reads the file; `None` where a required field was missing or bad. Faults are noted in
    /// `document` either way.
    pub fn read(document: &Document<'_>) -> Option<Self> {
        Reading::read(document).whole()
    }
}

impl Reading {
    /// Reads the file; its faults are noted in `document`.
    pub fn read(document: &Document<'_>) -> Self {
        let root = document.root();
        let product = root.text("product", 128);
        let version = root.parsed("version", VERSION_LEN_MAX, ReleaseVersion::parse);
        let rollback_index = root.integer("rollback_index", ROLLBACK_INDEX);
        let class = root.parsed("class", 16, class);
        let purpose = root.text("purpose", RELEASE_TEXT_MAX);
        let risk_if_not_applied = root.text("risk_if_not_applied", RELEASE_TEXT_MAX);
        let downtime_secs = root.integer("downtime_secs", DOWNTIME_SECS);
        let functions_unavailable = root.texts(
            "functions_unavailable",
            0..=RELEASE_LIST_MAX,
            RELEASE_TEXT_MAX,
        );
        let regions = root.texts("regions", 1..=RELEASE_LIST_MAX, REGION_LEN_MAX);
        check_regions(document, &regions);
        let sections = root.sections("component", 1..=RELEASE_LIST_MAX);
        let components = sections.into_iter().map(|s| component(document, s));
        let components = components.collect();
        let sbom = sbom(&root);
        root.finish();
        Self {
            product,
            version,
            rollback_index,
            class,
            purpose,
            risk_if_not_applied,
            downtime_secs,
            functions_unavailable,
            regions,
            components,
            sbom,
        }
    }

    /// The file; `None` where a required field was missing or bad.
    pub fn whole(self) -> Option<ReleaseFile> {
        let components = self.components.into_iter().map(ComponentReading::whole);
        Some(ReleaseFile {
            product: self.product?,
            version: self.version?,
            rollback_index: self.rollback_index?,
            class: self.class?,
            purpose: self.purpose?,
            risk_if_not_applied: self.risk_if_not_applied?,
            downtime_secs: self.downtime_secs?,
            functions_unavailable: self.functions_unavailable,
            regions: self.regions,
            components: components.collect::<Option<_>>()?,
            sbom: self.sbom?,
        })
    }
}

impl ComponentReading {
    fn whole(self) -> Option<ComponentFile> {
        Some(ComponentFile {
            name: self.name?,
            hardware: self.hardware,
            artifact: self.artifact?,
            install: self.install?,
            activation: self.activation,
            meta_data: self.meta_data,
            requires: self.requires,
            bases: self.bases,
        })
    }
}

fn sbom(root: &Section<'_, '_>) -> Option<At<PathBuf>> {
    let Some(section) = root.section("sbom") else {
        if !root.has("sbom") {
            root.fault("[sbom] is missing");
        }
        return None;
    };
    let file = section.text("file", PATH_LEN_MAX);
    section.finish();
    file.map(|at| at.map(PathBuf::from))
}

fn check_regions(document: &Document<'_>, regions: &[At<String>]) {
    for region in regions {
        let fine = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
        if region.len() < 2 || !region.bytes().all(fine) {
            let text = format!("region \"{}\" is not a code such as \"US\"", region.value);
            document.fault(region.line, text);
        }
    }
}

fn component(document: &Document<'_>, mut section: Section<'_, '_>) -> ComponentReading {
    let name = section.parsed("name", 128, ComponentName::parse);
    if let Some(name) = &name {
        section.entitle(format!("component \"{}\"", name.value));
    }
    let mut hardware = Vec::new();
    for text in section.texts("hardware", 1..=RELEASE_LIST_MAX, 128) {
        match HardwareId::parse(&text) {
            Ok(id) => hardware.push(text.map(|_| id)),
            Err(e) => document.fault(text.line, e.to_string()),
        }
    }
    let artifact = section.text("artifact", PATH_LEN_MAX);
    let install = section.parsed("install", 140, Install::parse);
    let activation = activation(document, &section, install.as_deref());
    let meta_data = meta_data(document, &section, install.as_deref());
    let requires = requires(document, &section);
    let bases = bases(document, &section);
    section.finish();
    ComponentReading {
        name,
        hardware,
        artifact: artifact.map(|at| at.map(PathBuf::from)),
        install: install.map(|at| at.value),
        activation,
        meta_data,
        requires,
        bases,
    }
}

fn activation(
    document: &Document<'_>,
    section: &Section<'_, '_>,
    install: Option<&Install>,
) -> Activation {
    if !section.has("activation") {
        return Activation::Restart;
    }
    let Some(found) = section.parsed("activation", 16, Activation::parse) else {
        return Activation::Restart;
    };
    let is_live = found.value == Activation::Live;
    if is_live && !matches!(install, None | Some(Install::File | Install::Tree)) {
        document.fault(
            found.line,
            "activation \"live\" is for install \"file\" and \"tree\" alone".to_owned(),
        );
    }
    found.value
}

fn meta_data(
    document: &Document<'_>,
    section: &Section<'_, '_>,
    install: Option<&Install>,
) -> Option<At<PathBuf>> {
    if !section.has("meta_data") {
        return None;
    }
    let file = section.text("meta_data", PATH_LEN_MAX)?;
    if !matches!(install, None | Some(Install::Module(_))) {
        let text = "meta_data is for install \"module:<name>\" alone".to_owned();
        document.fault(file.line, text);
    }
    Some(file.map(PathBuf::from))
}

fn class(text: &str) -> Result<Class, &'static str> {
    [Class::Security, Class::Functional, Class::Both]
        .into_iter()
        .find(|class| class.as_str() == text)
        .ok_or("expected \"security\", \"functional\" or \"both\"")
}

fn requires(document: &Document<'_>, section: &Section<'_, '_>) -> BTreeMap<String, Requirement> {
    let Some(table) = section.section("requires") else {
        return BTreeMap::new();
    };
    let mut requires = BTreeMap::new();
    for (name, range) in table.pairs(RELEASE_LIST_MAX, 128) {
        if let Err(e) = ComponentName::parse(&name) {
            document.fault(name.line, e.to_string());
            continue;
        }
        match Requirement::parse(&range) {
            Ok(requirement) => {
                requires.insert(name.value, requirement);
            }
            Err(e) => document.fault(range.line, format!("requires {}: {e}", name.value)),
        }
    }
    requires
}

fn bases(document: &Document<'_>, section: &Section<'_, '_>) -> Bases {
    const NONE: Bases = Bases::Last(0);
    let Some(delta) = section.section("delta") else {
        return NONE;
    };
    let found = delta.text_or_texts("bases", 1..=BASES_MAX, VERSION_LEN_MAX);
    if !delta.has("bases") {
        delta.fault("bases of [component.delta] is missing");
    }
    let fleet = match &found {
        Some(Ok(text)) if text.starts_with("fleet:") => delta.text("fleet", PATH_LEN_MAX),
        _ => None,
    };
    delta.finish();
    match found {
        None => NONE,
        Some(Ok(text)) => {
            let count = |prefix| {
                let count = text.strip_prefix(prefix)?.parse().ok();
                count.filter(|count| (1..=BASES_MAX).contains(count))
            };
            if let Some(count) = count("last:") {
                return Bases::Last(count);
            }
            if let Some(count) = count("fleet:") {
                return fleet.map_or(NONE, |file| Bases::Fleet(count, file.map(PathBuf::from)));
            }
            let fault = format!(
                "bases \"{}\": expected \"last:1\" to \"last:{BASES_MAX}\", \"fleet:1\" to \"fleet:{BASES_MAX}\", or a list of versions",
                text.value
            );
            document.fault(text.line, fault);
            NONE
        }
        Some(Err(texts)) => {
            let mut versions = Vec::new();
            for text in texts {
                match ReleaseVersion::parse(&text) {
                    Ok(version) => versions.push(text.map(|_| version)),
                    Err(e) => document.fault(text.line, format!("base {e}")),
                }
            }
            Bases::Versions(versions)
        }
    }
}
