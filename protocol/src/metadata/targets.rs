//! Targets describes files, and may delegate (TUF 1.0.34 section 4.5).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use super::delegations::Delegations;
use super::fields::{Fields, Place, common_members};
use super::{Common, FormatError, Payload, RoleType};
use crate::digest::{Digest, Hashes};
use crate::json::{Map, Value};
use crate::name::TargetPath;
use crate::time::UtcTime;
use crate::version::MetaVersion;

/// What metadata says of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFile {
    /// Its length in bytes.
    pub length: u64,
    /// Its digests.
    pub hashes: Hashes,
    /// What it means to its users; ours stands in the member `ampoule`.
    pub custom: Option<Value>,
    /// Members that we do not know, kept.
    pub extra: Map,
}

impl TargetFile {
    /// A file of this length and digest.
    pub fn new(length: u64, digest: Digest) -> Self {
        Self {
            length,
            hashes: Hashes::sha256(digest),
            custom: None,
            extra: Map::new(),
        }
    }

    /// With this `custom`.
    pub fn with_custom(mut self, custom: Value) -> Self {
        self.custom = Some(custom);
        self
    }

    fn from_value(path: &str, value: &Value) -> Result<Self, FormatError> {
        let mut fields = Fields::at(Place("targets.targets", Some(path)), value)?;
        let length = fields.u64("length")?;
        let hashes = fields.object("hashes")?;
        if hashes.is_empty() {
            return Err(fields.error("hashes", "empty"));
        }
        let hashes =
            Hashes::from_map(hashes).ok_or_else(|| fields.error("hashes", "not hex digests"))?;
        let custom = fields
            .optional("custom")
            .filter(|custom| **custom != Value::Null)
            .cloned();
        Ok(Self {
            length,
            hashes,
            custom,
            extra: fields.rest(),
        })
    }

    fn to_map(&self) -> Map {
        let mut members = self.extra.clone();
        members.insert("length".into(), self.length.into());
        members.insert("hashes".into(), self.hashes.to_map().into());
        if let Some(custom) = &self.custom {
            members.insert("custom".into(), custom.clone());
        }
        members
    }
}

/// The payload of targets and of delegated roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// Version, expiry, unknown members.
    pub common: Common,
    /// The files, by path.
    ///
    /// Paths that lead out of a folder or are otherwise no [`TargetPath`] refuse the whole file.
    pub targets: BTreeMap<TargetPath, TargetFile>,
    /// Whom it trusts for which paths.
    pub delegations: Option<Delegations>,
}

impl Targets {
    /// No files yet.
    pub fn new(expires: UtcTime) -> Self {
        Self {
            common: Common::new(expires),
            targets: BTreeMap::new(),
            delegations: None,
        }
    }
}

impl Payload for Targets {
    const TYPE: RoleType = RoleType::Targets;

    fn from_signed(signed: &Value) -> Result<Self, FormatError> {
        let mut fields = Fields::of("targets", signed)?;
        let mut common = fields.common(Self::NAME)?;
        let targets = fields.object("targets")?;
        // The members are in order: a list of them becomes the map as it is.
        let mut listed = Vec::with_capacity(targets.len());
        for (path, value) in targets {
            let name = TargetPath::parse(path)
                .map_err(|error| FormatError::new("targets.targets", format!("{error}")))?;
            listed.push((name, TargetFile::from_value(path, value)?));
        }
        let delegations = match fields.optional("delegations") {
            None => None,
            Some(value) => Some(Delegations::from_value(value)?),
        };
        common.extra = fields.rest();
        Ok(Self {
            common,
            targets: listed.into_iter().collect(),
            delegations,
        })
    }

    fn to_signed(&self) -> Value {
        let mut members = common_members(Self::NAME, &self.common);
        let targets = self.targets.iter();
        let targets = targets.map(|(path, file)| (path.as_str().into(), file.to_map().into()));
        members.insert("targets".into(), Value::Object(targets.collect()));
        if let Some(delegations) = &self.delegations {
            members.insert("delegations".into(), delegations.to_map().into());
        }
        Value::Object(members)
    }

    fn version(&self) -> MetaVersion {
        self.common.version
    }

    fn expires(&self) -> UtcTime {
        self.common.expires
    }
}
