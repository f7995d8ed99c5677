//! The statement of a bundle: which snapshot is the newest for devices without a network, whom it
//! is for, and until when. Ours, not of the TUF specification.
//!
//! ```json
//! {"_type":"ampoule-bundle","spec_version":"1.0.34","version":1,
//!  "expires":"2027-03-01T00:00:00Z","signed_at":"2026-11-24T09:00:00Z",
//!  "meta":{"snapshot.json":{"version":3,"length":617,"hashes":{"sha256":"9b1c…"}}},
//!  "product":"infusion-pump","hardware":["pump-mk3"],"devices":["pump-0042"]}
//! ```
//!
//! It stands where the timestamp stands for a device with a network, and is signed by the keys of
//! *snapshot*, which are kept offline: the server's timestamp key makes no bundle. Each bundle has
//! an expiry of its own, so one does not end another and none is good for ever; it names its
//! snapshot by digest, so a newer publication does not break it.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::fields::{Fields, Place, common_members};
use super::{Common, FormatError, MetaFile, Payload, RoleType};
use crate::json::{Map, Value};
use crate::limits::BUNDLE_LIST_MAX;
use crate::name::{DeviceId, HardwareId, ProductName};
use crate::time::UtcTime;
use crate::version::MetaVersion;

const SNAPSHOT: &str = "snapshot.json";

/// The payload of a bundle's statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Version (always 1: bundles do not follow one another), expiry, unknown members.
    pub common: Common,
    /// When it was signed: a lower bound on the time, as a timestamp's.
    pub signed_at: UtcTime,
    /// The snapshot that it vouches for, with length and SHA-256.
    pub snapshot: MetaFile,
    /// The product of the devices that it is for.
    pub product: ProductName,
    /// Their hardware; at least one.
    pub hardware: Vec<HardwareId>,
    /// The devices, where it is not for all of that hardware.
    pub devices: Vec<DeviceId>,
}

/// Why a bundle is not for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFor {
    /// It is for another product.
    Product,
    /// It is for none of the device's hardware.
    Hardware,
    /// It names devices, and not this one.
    Device,
}

impl Bundle {
    /// Whether it is for this device.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn is_for(
        &self,
        product: &ProductName,
        hardware: &HardwareId,
        device: &DeviceId,
    ) -> Result<(), NotFor> {
        if self.product != *product {
            return Err(NotFor::Product);
        }
        if !self.hardware.contains(hardware) {
            return Err(NotFor::Hardware);
        }
        if !self.devices.is_empty() && !self.devices.contains(device) {
            return Err(NotFor::Device);
        }
        Ok(())
    }
}

impl Payload for Bundle {
    const TYPE: RoleType = RoleType::Snapshot;
    const NAME: &'static str = "ampoule-bundle";

    fn from_signed(signed: &Value) -> Result<Self, FormatError> {
        let mut fields = Fields::of("bundle", signed)?;
        let mut common = fields.common(Self::NAME)?;
        let signed_at = UtcTime::parse(fields.string("signed_at")?)
            .map_err(|error| fields.error("signed_at", &error.to_string()))?;
        let meta = fields.object("meta")?;
        let snapshot = match meta.get(SNAPSHOT) {
            Some(value) if meta.len() == 1 => {
                MetaFile::from_value(Place("bundle.meta", Some(SNAPSHOT)), value)?
            }
            _ => return Err(fields.error("meta", "not exactly \"snapshot.json\"")),
        };
        let digest = snapshot.hashes.as_ref().and_then(|hashes| hashes.sha256);
        if snapshot.length.is_none() || digest.is_none() {
            return Err(fields.error("meta", "length and SHA-256 of the snapshot are needed"));
        }
        let product = ProductName::parse(fields.string("product")?)
            .map_err(|error| fields.error("product", &error.to_string()))?;
        let hardware = list(&mut fields, "hardware", HardwareId::parse)?;
        if hardware.is_empty() {
            return Err(fields.error("hardware", "empty"));
        }
        let devices = list(&mut fields, "devices", DeviceId::parse)?;
        common.extra = fields.rest();
        Ok(Self {
            common,
            signed_at,
            snapshot,
            product,
            hardware,
            devices,
        })
    }

    fn to_signed(&self) -> Value {
        let mut members = common_members(Self::NAME, &self.common);
        let meta = Map::from([(SNAPSHOT.to_string(), Value::Object(self.snapshot.to_map()))]);
        members.insert("meta".into(), meta.into());
        members.insert("signed_at".into(), self.signed_at.to_string().into());
        members.insert("product".into(), self.product.as_str().into());
        let hardware = self.hardware.iter().map(|id| id.as_str().into()).collect();
        members.insert("hardware".into(), Value::Array(hardware));
        let devices = self.devices.iter().map(|id| id.as_str().into()).collect();
        members.insert("devices".into(), Value::Array(devices));
        Value::Object(members)
    }

    fn version(&self) -> MetaVersion {
        self.common.version
    }

    fn expires(&self) -> UtcTime {
        self.common.expires
    }
}

fn list<T, E: ToString>(
    fields: &mut Fields<'_>,
    name: &'static str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, FormatError> {
    let values = fields.array(name)?;
    if values.len() > BUNDLE_LIST_MAX {
        return Err(fields.error(name, "too many"));
    }
    let read = |value: &Value| {
        let text: Option<&str> = value.as_str();
        let text = text.ok_or_else(|| String::from("not a string"))?;
        parse(text).map_err(|error| error.to_string())
    };
    let all: Result<Vec<T>, String> = values.iter().map(read).collect();
    all.map_err(|what| fields.error(name, &what))
}
