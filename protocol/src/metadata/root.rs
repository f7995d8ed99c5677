//! Root names the keys of every role (TUF 1.0.34 section 4.3).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::fields::{Fields, Place, common_members};
use super::{Common, FormatError, Payload, RoleType};
use crate::json::{Map, Value};
use crate::key::{Key, KeyId};
use crate::limits::DELEGATIONS_MAX;
use crate::time::UtcTime;
use crate::version::MetaVersion;

/// Whose signatures a role needs, and how many of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleKeys {
    /// The ids of its keys, none twice.
    pub keyids: Vec<KeyId>,
    /// Signatures needed, from 1.
    pub threshold: u64,
    /// Members that we do not know, kept.
    pub extra: Map,
}

impl RoleKeys {
    /// These keys, this threshold.
    pub fn new(keyids: Vec<KeyId>, threshold: u64) -> Self {
        Self {
            keyids,
            threshold,
            extra: Map::new(),
        }
    }

    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self, FormatError> {
        let listed = fields.array("keyids")?;
        let mut seen = BTreeSet::new();
        let mut keyids = Vec::new();
        for id in listed {
            let id = id
                .as_str()
                .ok_or_else(|| fields.error("keyids", "not strings"))?;
            if !seen.insert(id) {
                return Err(fields.error("keyids", "a key id stands twice"));
            }
            keyids.push(KeyId::new(id));
        }
        let threshold = fields.u64("threshold")?;
        if threshold == 0 {
            return Err(fields.error("threshold", "0, at least one signature is needed"));
        }
        Ok(Self {
            keyids,
            threshold,
            extra: Map::new(),
        })
    }

    pub(super) fn to_map(&self) -> Map {
        let mut members = self.extra.clone();
        let ids = self
            .keyids
            .iter()
            .map(|id| Value::from(id.as_str()))
            .collect();
        members.insert("keyids".into(), Value::Array(ids));
        members.insert("threshold".into(), self.threshold.into());
        members
    }
}

/// The payload of root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Version, expiry, unknown members.
    pub common: Common,
    /// Whether files are named by version or digest.
    pub consistent_snapshot: bool,
    /// All keys, by id.
    pub keys: BTreeMap<KeyId, Key>,
    /// The four top-level roles.
    pub roles: BTreeMap<RoleType, RoleKeys>,
}

impl Root {
    /// A root without keys yet; every role must be given some before it is published.
    pub fn new(expires: UtcTime) -> Self {
        let nobody = || RoleKeys::new(Vec::new(), 1);
        Self {
            common: Common::new(expires),
            consistent_snapshot: true,
            keys: BTreeMap::new(),
            roles: RoleType::ALL
                .into_iter()
                .map(|role| (role, nobody()))
                .collect(),
        }
    }

    /// Whose signatures `role` needs.
    ///
    /// # Panics
    /// Never for a root that was parsed or made by [`Root::new`]: both have all four roles.
    pub fn role(&self, role: RoleType) -> &RoleKeys {
        self.roles.get(&role).expect("a root has all four roles")
    }
}

pub(super) fn read_keys(keys: &Map, place: &str) -> Result<BTreeMap<KeyId, Key>, FormatError> {
    if keys.len() > DELEGATIONS_MAX {
        return Err(FormatError::new(format!("{place}.keys"), "too many"));
    }
    let read = |(id, key): (&alloc::string::String, &Value)| match key {
        Value::Object(object) => Ok((KeyId::new(id), Key::from_map(object.clone()))),
        _ => Err(FormatError::new(
            format!("{place}.keys.{id}"),
            "not an object",
        )),
    };
    keys.iter().map(read).collect()
}

pub(super) fn write_keys(keys: &BTreeMap<KeyId, Key>) -> Map {
    let write = |(id, key): (&KeyId, &Key)| (id.to_string(), Value::Object(key.object().clone()));
    keys.iter().map(write).collect()
}

impl Payload for Root {
    const TYPE: RoleType = RoleType::Root;

    fn from_signed(signed: &Value) -> Result<Self, FormatError> {
        let mut fields = Fields::of("root", signed)?;
        let mut common = fields.common(Self::NAME)?;
        let consistent_snapshot = match fields.optional("consistent_snapshot") {
            None => false,
            Some(Value::Bool(truth)) => *truth,
            Some(_) => return Err(fields.error("consistent_snapshot", "neither true nor false")),
        };
        let keys = read_keys(fields.object("keys")?, "root")?;
        let listed = fields.object("roles")?;
        let mut roles = BTreeMap::new();
        for role in RoleType::ALL {
            let value = listed
                .get(role.as_str())
                .ok_or_else(|| fields.error("roles", &format!("{role} is missing")))?;
            let mut role_fields = Fields::at(Place("root.roles", Some(role.as_str())), value)?;
            let mut role_keys = RoleKeys::take(&mut role_fields)?;
            role_keys.extra = role_fields.rest();
            roles.insert(role, role_keys);
        }
        if listed.len() > roles.len() {
            return Err(fields.error("roles", "there are others than the four top-level ones"));
        }
        common.extra = fields.rest();
        Ok(Self {
            common,
            consistent_snapshot,
            keys,
            roles,
        })
    }

    fn to_signed(&self) -> Value {
        let mut members = common_members(Self::NAME, &self.common);
        let roles = self.roles.iter();
        let roles = roles.map(|(role, keys)| (role.to_string(), Value::Object(keys.to_map())));
        members.insert(
            "consistent_snapshot".into(),
            self.consistent_snapshot.into(),
        );
        members.insert("keys".into(), write_keys(&self.keys).into());
        members.insert("roles".into(), Value::Object(roles.collect()));
        Value::Object(members)
    }

    fn version(&self) -> MetaVersion {
        self.common.version
    }

    fn expires(&self) -> UtcTime {
        self.common.expires
    }
}
