//! Timestamp says, for a short while, what is newest (TUF 1.0.34 section 4.6).

use alloc::string::ToString;

use super::fields::{Fields, Place, common_members};
use super::{Common, FormatError, MetaFile, Payload, RoleType};
use crate::json::{Map, Value};
use crate::time::UtcTime;
use crate::version::MetaVersion;

const SNAPSHOT: &str = "snapshot.json";
const SIGNED_AT: &str = "ampoule_signed_at";

/// The payload of timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    /// Version, expiry, unknown members.
    pub common: Common,
    /// The snapshot that is newest.
    pub snapshot: MetaFile,
    /// When it was signed: ours alone (`ampoule_signed_at`), a lower bound on the time that holds
    /// on a device without a clock. Others' timestamps lack it.
    pub signed_at: Option<UtcTime>,
}

impl Timestamp {
    /// Names `snapshot` as the newest.
    pub fn new(expires: UtcTime, snapshot: MetaFile) -> Self {
        Self {
            common: Common::new(expires),
            snapshot,
            signed_at: None,
        }
    }
}

impl Payload for Timestamp {
    const TYPE: RoleType = RoleType::Timestamp;

    fn from_signed(signed: &Value) -> Result<Self, FormatError> {
        let mut fields = Fields::of("timestamp", signed)?;
        let mut common = fields.common(Self::NAME)?;
        let meta = fields.object("meta")?;
        let snapshot = meta
            .get(SNAPSHOT)
            .ok_or_else(|| fields.error("meta", "\"snapshot.json\" is missing"))?;
        if meta.len() > 1 {
            return Err(fields.error("meta", "there is more than \"snapshot.json\""));
        }
        let snapshot = MetaFile::from_value(Place("timestamp.meta", Some(SNAPSHOT)), snapshot)?;
        let signed_at = match fields.optional(SIGNED_AT) {
            None => None,
            Some(value) => Some(
                value
                    .as_str()
                    .and_then(|text| UtcTime::parse(text).ok())
                    .ok_or_else(|| fields.error(SIGNED_AT, "not a time"))?,
            ),
        };
        common.extra = fields.rest();
        Ok(Self {
            common,
            snapshot,
            signed_at,
        })
    }

    fn to_signed(&self) -> Value {
        let mut members = common_members(Self::NAME, &self.common);
        let meta = Map::from([(SNAPSHOT.to_string(), Value::Object(self.snapshot.to_map()))]);
        members.insert("meta".into(), meta.into());
        if let Some(signed_at) = self.signed_at {
            members.insert(SIGNED_AT.into(), signed_at.to_string().into());
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
