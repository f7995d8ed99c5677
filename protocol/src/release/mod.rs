//! What a target means to us: the release description in its `custom`.
//!
//! A release is one target, `PRODUCT/release-VERSION.toml`: the file that a person wrote and
//! reviewed. Its `custom.ampoule` is the description below; artifacts, leaf lists, deltas and the
//! SBOM are targets of the same role, named here with length and digest.
//!
//! ```json
//! {"format":1,"product":"infusion-pump","version":"2.4.1","rollback_index":17,
//!  "class":"security","purpose":"Closes CVE-2026-1234.","risk_if_not_applied":"…",
//!  "downtime_secs":90,"functions_unavailable":["infusion"],"regions":["US"],
//!  "components":[{"name":"rootfs","hardware":["pump-mk3"],"install":"slot",
//!    "requires":{"bootloader":">=2024.01"},
//!    "artifact":{"path":"infusion-pump/rootfs-2.4.1.img","length":8192,"sha256":"…"},
//!    "blocks":{"block_len":65536,"root":"…",
//!              "leaves":{"path":"infusion-pump/rootfs-2.4.1.leaves","length":32,"sha256":"…"}},
//!    "deltas":[{"file":{"path":"infusion-pump/rootfs-2.4.0-to-2.4.1.delta","length":812,"sha256":"…"},
//!               "base":{"version":"2.4.0","length":8192,"sha256":"…"},
//!               "memory":4194304,"caps":["zstd"]}]}],
//!  "sbom":{"path":"infusion-pump/sbom-2.4.1.cdx.json","length":900,"sha256":"…"}}
//! ```
//!
//! Invariant: a [`Release`] that exists was within every bound; lists are unique where they must
//! be, and every path lies below its product.

mod words;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use words::{Activation, Class, Install, ReleaseVersion, Requirement, WordError};

use crate::digest::{Digest, Hashes};
use crate::error::{Coded, Guilty};
use crate::json::{self, Map, Value};
use crate::limits::{RELEASE_LIST_MAX, RELEASE_TEXT_MAX};
use crate::name::{ComponentName, HardwareId, ProductName, TargetPath};
use crate::paths;
use crate::tree::{TreeError, TreeShape};
use crate::trust::TrustedTarget;
use crate::version::RollbackIndex;

/// The member of `custom` that is ours.
pub const CUSTOM_MEMBER: &str = "ampoule";

/// The format that we write; a higher one is refused, since it may mean something else.
pub const FORMAT: u32 = 1;

/// A release: what is signed and offered, whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// [`FORMAT`].
    pub format: u32,
    /// Of this product.
    pub product: ProductName,
    /// For people.
    pub version: ReleaseVersion,
    /// For machines; never falls.
    pub rollback_index: RollbackIndex,
    /// Why it is made.
    pub class: Class,
    /// What it does, in words.
    pub purpose: String,
    /// What may happen without it, in words.
    #[serde(default)]
    pub risk_if_not_applied: String,
    /// For how long the device is out of service, in seconds.
    #[serde(default)]
    pub downtime_secs: u32,
    /// What the device cannot do meanwhile.
    #[serde(default)]
    pub functions_unavailable: Vec<String>,
    /// Where it is cleared; empty means nowhere is excluded.
    #[serde(default)]
    pub regions: Vec<String>,
    /// Its parts, in the order of installing.
    pub components: Vec<Component>,
    /// The software bill of materials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbom: Option<FileRef>,
}

/// One part of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its name, unique in the release.
    pub name: ComponentName,
    /// The hardware that it fits.
    pub hardware: Vec<HardwareId>,
    /// How it is installed.
    pub install: Install,
    /// When programs see it.
    #[serde(default, skip_serializing_if = "Activation::is_restart")]
    pub activation: Activation,
    /// What an update module is given as `header/meta-data`, to the byte: a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<String>,
    /// What must be there already: fact or component name, and its version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requires: BTreeMap<String, Requirement>,
    /// The whole artifact.
    pub artifact: FileRef,
    /// Its hash tree.
    pub blocks: Blocks,
    /// Patches that make it from an older one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deltas: Vec<DeltaRef>,
}

/// A target of the same role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Its path.
    pub path: TargetPath,
    /// Its length in bytes.
    pub length: u64,
    /// Its digest.
    pub sha256: Digest,
}

impl FileRef {
    /// The name of its file below `targets/`, with the digest in front.
    pub fn file_name(&self) -> String {
        paths::target_file(&self.path, Some(&Hashes::sha256(self.sha256)))
    }
}

/// The block hash tree of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// Bytes of a block, a power of two from 4096 to 1048576.
    pub block_len: u32,
    /// The root.
    pub root: Digest,
    /// The leaf list.
    pub leaves: FileRef,
}

/// A patch from one base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeltaRef {
    /// The patch.
    pub file: FileRef,
    /// The image that it starts from.
    pub base: Base,
    /// Memory that applying it takes, in bytes.
    pub memory: u64,
    /// What the device must be able to do, as the delta format names it.
    #[serde(default)]
    pub caps: Vec<String>,
}

/// The image that a delta starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The release that it came with.
    pub version: ReleaseVersion,
    /// Its length in bytes.
    pub length: u64,
    /// Its digest.
    pub sha256: Digest,
}

/// A description that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The target has no `custom.ampoule`, or one of another form.
    #[error("\"custom.{CUSTOM_MEMBER}\" is not a release description: {0}")]
    Form(String),
    /// A newer format.
    #[error("release description has format {found}, this program reads {FORMAT}")]
    Format {
        /// Found.
        found: u32,
    },
    /// A list or text beyond its bound.
    #[error("{place} is longer than {max}")]
    TooLong {
        /// Which member.
        place: String,
        /// The bound.
        max: usize,
    },
    /// Something that must stand once stands twice, or something needed is missing.
    #[error("{place}: {what}")]
    Content {
        /// Which member.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// A hash tree of impossible shape.
    #[error("the blocks of component \"{component}\" are impossible")]
    Tree {
        /// The component.
        component: ComponentName,
        /// Why.
        source: TreeError,
    },
}

impl Coded for ReleaseError {
    fn code(&self) -> &'static str {
        match self {
            Self::Form(_) => "release-malformed",
            Self::Format { .. } => "release-format",
            Self::TooLong { .. } => "release-too-long",
            Self::Content { .. } => "release-content",
            Self::Tree { .. } => "release-blocks",
        }
    }

    fn guilty(&self) -> Guilty {
        Guilty::Repository
    }
}

impl Release {
    /// Reads the `custom` of a release target.
    ///
    /// # Errors
    /// Any form or bound that is broken.
    pub fn from_custom(custom: Option<&Value>) -> Result<Self, ReleaseError> {
        let description = custom
            .and_then(|custom| custom.member(CUSTOM_MEMBER))
            .ok_or_else(|| ReleaseError::Form("it is missing".to_string()))?;
        // The format is looked at first: what a later one calls its members is not known here.
        let format = description.member("format").and_then(Value::as_u64);
        if let Some(found) = format.and_then(|found| u32::try_from(found).ok())
            && found != FORMAT
        {
            return Err(ReleaseError::Format { found });
        }
        let release: Self = serde_json::from_slice(&json::compact(description))
            .map_err(|error| ReleaseError::Form(error.to_string()))?;
        release.check()?;
        Ok(release)
    }

    /// Reads the description of the target at `path`, which must stand under its own path: a role
    /// that signs for one release must not have it taken for another.
    ///
    /// # Errors
    /// As [`Release::from_custom`], and a description of another product or version.
    pub fn at(path: &TargetPath, custom: Option<&Value>) -> Result<Self, ReleaseError> {
        let release = Self::from_custom(custom)?;
        if release.path() != *path {
            return Err(content(
                "version",
                "it is the description of another release",
            ));
        }
        Ok(release)
    }

    /// Reads the description of a trusted release target.
    ///
    /// # Errors
    /// As [`Release::at`].
    pub fn of_target(target: &TrustedTarget) -> Result<Self, ReleaseError> {
        Self::at(target.path(), target.file().custom.as_ref())
    }

    /// The `custom` of a release target.
    ///
    /// # Errors
    /// Any bound that is broken.
    pub fn to_custom(&self) -> Result<Value, ReleaseError> {
        self.check()?;
        let text =
            serde_json::to_vec(self).map_err(|error| ReleaseError::Form(error.to_string()))?;
        let value = json::parse(&text).map_err(|error| ReleaseError::Form(error.to_string()))?;
        Ok(Value::Object(Map::from([(
            CUSTOM_MEMBER.to_string(),
            value,
        )])))
    }

    /// The path of the release target.
    pub fn path(&self) -> TargetPath {
        TargetPath::parse(&format!("{}/release-{}.toml", self.product, self.version))
            .expect("a product and a version make a path")
    }

    /// The components that fit `hardware`.
    pub fn for_hardware<'a>(
        &'a self,
        hardware: &'a HardwareId,
    ) -> impl Iterator<Item = &'a Component> {
        self.components
            .iter()
            .filter(move |component| component.hardware.contains(hardware))
    }

    fn check(&self) -> Result<(), ReleaseError> {
        text_fits("purpose", &self.purpose)?;
        text_fits("risk_if_not_applied", &self.risk_if_not_applied)?;
        texts_fit("functions_unavailable", &self.functions_unavailable)?;
        texts_fit("regions", &self.regions)?;
        list_fits("components", self.components.len())?;
        if self.components.is_empty() {
            return Err(content("components", "there is none"));
        }
        let names: BTreeSet<_> = self
            .components
            .iter()
            .map(|component| &component.name)
            .collect();
        if names.len() != self.components.len() {
            return Err(content("components", "a name stands twice"));
        }
        if let Some(sbom) = &self.sbom {
            self.below_product("sbom", sbom)?;
        }
        self.components
            .iter()
            .try_for_each(|component| self.check_component(component))
    }

    fn check_component(&self, component: &Component) -> Result<(), ReleaseError> {
        list_fits("hardware", component.hardware.len())?;
        list_fits("requires", component.requires.len())?;
        list_fits("deltas", component.deltas.len())?;
        if component.hardware.is_empty() {
            return Err(content("hardware", "there is none"));
        }
        let shape = component.shape().map_err(|source| ReleaseError::Tree {
            component: component.name.clone(),
            source,
        })?;
        if component.blocks.leaves.length != shape.leaves_len() {
            return Err(content(
                "blocks.leaves",
                "its length does not fit the artifact",
            ));
        }
        if let Some(text) = &component.meta_data {
            check_meta_data(&component.install, text)?;
        }
        let is_live = component.activation == Activation::Live;
        if is_live && !matches!(component.install, Install::File | Install::Tree) {
            return Err(content(
                "activation",
                "\"live\" is for files and trees alone",
            ));
        }
        self.below_product("artifact", &component.artifact)?;
        self.below_product("leaves", &component.blocks.leaves)?;
        for delta in &component.deltas {
            self.below_product("delta", &delta.file)?;
            texts_fit("caps", &delta.caps)?;
        }
        Ok(())
    }

    fn below_product(&self, place: &str, file: &FileRef) -> Result<(), ReleaseError> {
        let below = file.path.as_str().strip_prefix(self.product.as_str());
        if !below.is_some_and(|rest| rest.starts_with('/')) {
            return Err(content(place, "its path is not below the product"));
        }
        Ok(())
    }
}

impl Component {
    /// The shape of its hash tree.
    pub fn shape(&self) -> Result<TreeShape, TreeError> {
        TreeShape::new(self.artifact.length, self.blocks.block_len)
    }

    /// The delta that starts from an image of this digest.
    pub fn delta_from(&self, base: &Digest) -> Option<&DeltaRef> {
        self.deltas.iter().find(|delta| delta.base.sha256 == *base)
    }
}

fn check_meta_data(install: &Install, text: &str) -> Result<(), ReleaseError> {
    text_fits("meta_data", text)?;
    if !matches!(install, Install::Module(_)) {
        return Err(content("meta_data", "it is for update modules alone"));
    }
    match json::parse(text.as_bytes()) {
        Ok(Value::Object(_)) => Ok(()),
        Ok(_) => Err(content("meta_data", "it is not a JSON object")),
        Err(error) => Err(content("meta_data", &error.to_string())),
    }
}

fn content(place: &str, what: &str) -> ReleaseError {
    ReleaseError::Content {
        place: place.to_string(),
        what: what.to_string(),
    }
}

fn list_fits(place: &str, len: usize) -> Result<(), ReleaseError> {
    if len > RELEASE_LIST_MAX {
        return Err(ReleaseError::TooLong {
            place: place.to_string(),
            max: RELEASE_LIST_MAX,
        });
    }
    Ok(())
}

fn text_fits(place: &str, text: &str) -> Result<(), ReleaseError> {
    if text.len() > RELEASE_TEXT_MAX {
        return Err(ReleaseError::TooLong {
            place: place.to_string(),
            max: RELEASE_TEXT_MAX,
        });
    }
    Ok(())
}

fn texts_fit(place: &str, texts: &[String]) -> Result<(), ReleaseError> {
    list_fits(place, texts.len())?;
    texts.iter().try_for_each(|text| text_fits(place, text))
}

/// A path that no release has, below the product: a walk for it loads every role that is trusted
/// for the product's paths.
pub(crate) fn probe_path(product: &ProductName) -> String {
    format!("{product}/release-.toml")
}

pub(crate) fn is_release_path(product: &ProductName, path: &TargetPath) -> bool {
    path.as_str()
        .strip_prefix(product.as_str())
        .and_then(|rest| rest.strip_prefix("/release-"))
        .and_then(|rest| rest.strip_suffix(".toml"))
        .is_some_and(|version| ReleaseVersion::parse(version).is_ok())
}

#[cfg(test)]
mod tests;
