//! Snapshot fixes which targets versions belong together (TUF 1.0.34 section 4.4).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use super::fields::{Fields, Place, common_members};
use super::{Common, FormatError, Payload, RoleType};
use crate::digest::Hashes;
use crate::json::{Map, Value};
use crate::name::RoleName;
use crate::time::UtcTime;
use crate::version::MetaVersion;

/// What one metadata file says of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaFile {
    /// The version that it must have.
    pub version: MetaVersion,
    /// Its length in bytes, where given.
    pub length: Option<u64>,
    /// Its digests, where given.
    pub hashes: Option<Hashes>,
    /// Members that we do not know, kept.
    pub extra: Map,
}

impl MetaFile {
    /// Of these bytes, length and SHA-256 included.
    pub fn of(version: MetaVersion, bytes: &[u8]) -> Self {
        Self {
            version,
            length: Some(bytes.len() as u64),
            hashes: Some(Hashes::sha256(crate::digest::Digest::of(bytes))),
            extra: Map::new(),
        }
    }

    pub(super) fn from_value(place: Place<'_>, value: &Value) -> Result<Self, FormatError> {
        let mut fields = Fields::at(place, value)?;
        let version = fields.version()?;
        let length = match fields.optional("length") {
            None => None,
            Some(value) => Some(
                value
                    .as_u64()
                    .ok_or_else(|| fields.error("length", "not a number from 0"))?,
            ),
        };
        let hashes = match fields.optional("hashes") {
            None => None,
            Some(Value::Object(map)) if !map.is_empty() => Some(
                Hashes::from_map(map).ok_or_else(|| fields.error("hashes", "not hex digests"))?,
            ),
            Some(_) => return Err(fields.error("hashes", "not an object with members")),
        };
        Ok(Self {
            version,
            length,
            hashes,
            extra: fields.rest(),
        })
    }

    pub(super) fn to_map(&self) -> Map {
        let mut members = self.extra.clone();
        members.insert("version".into(), self.version.get().into());
        if let Some(length) = self.length {
            members.insert("length".into(), length.into());
        }
        if let Some(hashes) = &self.hashes {
            members.insert("hashes".into(), hashes.to_map().into());
        }
        members
    }

    /// Whether a file of these bytes is the one described, as far as length and digests go.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        self.length
            .is_none_or(|length| length == bytes.len() as u64)
            && self
                .hashes
                .as_ref()
                .is_none_or(|hashes| hashes.verify(bytes))
    }
}

/// The payload of snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Version, expiry, unknown members.
    pub common: Common,
    /// The targets files by name, `targets.json` and `ROLE.json`.
    pub meta: BTreeMap<String, MetaFile>,
}

impl Snapshot {
    /// A snapshot of nothing yet.
    pub fn new(expires: UtcTime) -> Self {
        Self {
            common: Common::new(expires),
            meta: BTreeMap::new(),
        }
    }

    /// What it says of the targets file of `role`.
    pub fn role(&self, role: &RoleName) -> Option<&MetaFile> {
        self.meta.get(&Self::meta_name(role))
    }

    /// The name under which `role` stands in `meta`: not encoded, as the specification has it.
    pub fn meta_name(role: &RoleName) -> String {
        format!("{role}.json")
    }
}

fn read_meta(meta: &Map) -> Result<BTreeMap<String, MetaFile>, FormatError> {
    let read = |(name, value): (&String, &Value)| {
        Ok((
            name.clone(),
            MetaFile::from_value(Place("snapshot.meta", Some(name)), value)?,
        ))
    };
    meta.iter().map(read).collect()
}

impl Payload for Snapshot {
    const TYPE: RoleType = RoleType::Snapshot;

    fn from_signed(signed: &Value) -> Result<Self, FormatError> {
        let mut fields = Fields::of("snapshot", signed)?;
        let mut common = fields.common(Self::NAME)?;
        let meta = read_meta(fields.object("meta")?)?;
        common.extra = fields.rest();
        Ok(Self { common, meta })
    }

    fn to_signed(&self) -> Value {
        let mut members = common_members(Self::NAME, &self.common);
        let meta = self.meta.iter();
        let meta = meta.map(|(name, file)| (name.clone(), Value::Object(file.to_map())));
        members.insert("meta".into(), Value::Object(meta.collect()));
        Value::Object(members)
    }

    fn version(&self) -> MetaVersion {
        self.common.version
    }

    fn expires(&self) -> UtcTime {
        self.common.expires
    }
}
