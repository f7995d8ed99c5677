//! A downgrade record: the one way in which a device's floor falls.
//!
//! A record is a target of the product's role, `PRODUCT/downgrade-SERIAL.json`, so a threshold of
//! the product's holders signed it and the ordinary rules of TUF verify it. Its `custom.ampoule`:
//!
//! ```json
//! {"format":1,"kind":"downgrade","product":"infusion-pump","serial":3,
//!  "devices":["pump-0042"],"from":"2.4.1","to":"2.4.0","rollback_index":16,
//!  "reason":"Alarm relay chatters on lot 7.","expires":"2026-12-24T00:00:00Z"}
//! ```
//!
//! A device uses a record when it is named in it, runs exactly `from`, is offered exactly `to` with
//! exactly that rollback index, knows that it is not yet `expires`, and has used no record of this
//! or a higher serial. It remembers one number for that, the highest serial it used: nothing that
//! was used is ever forgotten, and a record that was passed by a later one is void.
//!
//! A record offers nothing by itself, and makes no release good: `to` is an ordinary release with
//! ordinary signatures. It names devices one by one; there is no record for all of them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::json::{self, Map, Value};
use crate::limits::{BUNDLE_LIST_MAX, RELEASE_TEXT_MAX};
use crate::name::{DeviceId, ProductName, TargetPath};
use crate::release::{CUSTOM_MEMBER, ReleaseError, ReleaseVersion};
use crate::time::UtcTime;
use crate::trust::TrustedTarget;
use crate::version::RollbackIndex;

/// The format that we write.
pub const FORMAT: u32 = 1;
/// What stands in `kind`.
pub const KIND: &str = "downgrade";
/// The highest serial: JSON readers of other houses lose whole numbers beyond 2^53.
pub const SERIAL_MAX: u64 = (1 << 53) - 1;

/// A downgrade record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downgrade {
    /// [`FORMAT`].
    pub format: u32,
    /// [`KIND`].
    pub kind: String,
    /// Of this product.
    pub product: ProductName,
    /// Counts up, for each product: 1 to [`SERIAL_MAX`].
    pub serial: u64,
    /// Who may use it, once each; at least one.
    pub devices: Vec<DeviceId>,
    /// What the device runs.
    pub from: ReleaseVersion,
    /// What it goes to; lower than `from`.
    pub to: ReleaseVersion,
    /// The rollback index of `to`, and the device's floor afterwards.
    pub rollback_index: RollbackIndex,
    /// Why, in words.
    pub reason: String,
    /// It cannot be used from then on.
    pub expires: UtcTime,
}

/// A device that might use a record.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// Which.
    pub device: &'a DeviceId,
    /// The highest serial that it used; 0 for none.
    pub used: u64,
    /// The time, or its lower bound.
    pub now: UtcTime,
}

/// Why a device does not use a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Void {
    /// It names other devices.
    Device,
    /// It was used here, or one after it was.
    Used,
    /// Its time is over.
    Expired,
    /// The device runs something else.
    From,
    /// The release is not the one that it names.
    To,
}

impl Downgrade {
    /// Reads the description of the target at `path`, which must stand under its own path.
    ///
    /// # Errors
    /// Any form or bound that is broken.
    pub fn at(path: &TargetPath, custom: Option<&Value>) -> Result<Self, ReleaseError> {
        let description = custom
            .and_then(|custom| custom.member(CUSTOM_MEMBER))
            .ok_or_else(|| ReleaseError::Form("it is missing".to_string()))?;
        let record: Self = serde_json::from_slice(&json::compact(description))
            .map_err(|error| ReleaseError::Form(error.to_string()))?;
        record.check()?;
        if record.path() != *path {
            return Err(wrong("serial", "it is the description of another record"));
        }
        Ok(record)
    }

    /// Reads the description of a trusted target.
    ///
    /// # Errors
    /// As [`Downgrade::at`].
    pub fn of_target(target: &TrustedTarget) -> Result<Self, ReleaseError> {
        Self::at(target.path(), target.file().custom.as_ref())
    }

    /// The `custom` of its target.
    ///
    /// # Errors
    /// Any bound that is broken.
    pub fn to_custom(&self) -> Result<Value, ReleaseError> {
        self.check()?;
        let form = |error: String| ReleaseError::Form(error);
        let text = serde_json::to_vec(self).map_err(|error| form(error.to_string()))?;
        let value = json::parse(&text).map_err(|error| form(error.to_string()))?;
        let members = [(CUSTOM_MEMBER.to_string(), value)];
        Ok(Value::Object(Map::from(members)))
    }

    /// The path of its target.
    pub fn path(&self) -> TargetPath {
        TargetPath::parse(&format!("{}/{KIND}-{}.json", self.product, self.serial))
            .expect("a product and a number make a path")
    }

    /// Whether a device that runs `running` may go to release `to` by this record.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn is_for(
        &self,
        holder: Holder<'_>,
        running: &[&ReleaseVersion],
        to: (&ReleaseVersion, RollbackIndex),
    ) -> Result<(), Void> {
        if !self.devices.contains(holder.device) {
            return Err(Void::Device);
        }
        if self.serial <= holder.used {
            return Err(Void::Used);
        }
        if holder.now >= self.expires {
            return Err(Void::Expired);
        }
        if running.is_empty() || running.iter().any(|version| **version != self.from) {
            return Err(Void::From);
        }
        if *to.0 != self.to || to.1 != self.rollback_index {
            return Err(Void::To);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ReleaseError> {
        if self.format != FORMAT {
            return Err(ReleaseError::Format { found: self.format });
        }
        if self.kind != KIND {
            return Err(wrong("kind", "it is not a downgrade record"));
        }
        if self.serial == 0 || self.serial > SERIAL_MAX {
            return Err(wrong("serial", "it is not from 1 to 2^53 - 1"));
        }
        if self.devices.is_empty() {
            return Err(wrong("devices", "there is none"));
        }
        if self.devices.len() > BUNDLE_LIST_MAX {
            return Err(ReleaseError::TooLong {
                place: "devices".to_string(),
                max: BUNDLE_LIST_MAX,
            });
        }
        if self.to >= self.from {
            return Err(wrong("to", "it is not below \"from\""));
        }
        if self.reason.is_empty() {
            return Err(wrong("reason", "there is none"));
        }
        if self.reason.len() > RELEASE_TEXT_MAX {
            return Err(ReleaseError::TooLong {
                place: "reason".to_string(),
                max: RELEASE_TEXT_MAX,
            });
        }
        Ok(())
    }
}

/// The serial of the record at `path`; `None` where it is no record of the product.
pub fn serial_of(product: &ProductName, path: &TargetPath) -> Option<u64> {
    let rest = path.as_str().strip_prefix(product.as_str())?;
    let serial = rest.strip_prefix("/downgrade-")?.strip_suffix(".json")?;
    let serial: u64 = serial.parse().ok().filter(|serial| *serial > 0)?;
    // One reading: no leading zero or sign.
    (*path.as_str() == format!("{product}/{KIND}-{serial}.json")).then_some(serial)
}

fn wrong(place: &str, what: &str) -> ReleaseError {
    ReleaseError::Content {
        place: place.to_string(),
        what: what.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ReleaseVersion {
        ReleaseVersion::parse(text).expect("a version")
    }

    fn record() -> Downgrade {
        Downgrade {
            format: FORMAT,
            kind: KIND.to_string(),
            product: "infusion-pump".parse().expect("a name"),
            serial: 3,
            devices: alloc::vec!["pump-7".parse().expect("a name")],
            from: version("2.4.1"),
            to: version("2.4.0"),
            rollback_index: RollbackIndex(16),
            reason: "It chatters.".to_string(),
            expires: UtcTime::from_unix(1_800_000_000),
        }
    }

    #[test]
    fn a_record_reads_as_it_was_written_and_under_its_own_path_alone() {
        let record = record();
        let custom = record.to_custom().expect("within its bounds");
        let path = record.path();
        assert_eq!(path.as_str(), "infusion-pump/downgrade-3.json");
        assert_eq!(Downgrade::at(&path, Some(&custom)), Ok(record));
        let other = TargetPath::parse("infusion-pump/downgrade-4.json").expect("a path");
        Downgrade::at(&other, Some(&custom)).expect_err("another serial");
        Downgrade::at(&path, None).expect_err("no description");
    }

    #[test]
    fn every_bound_holds() {
        type Bend = fn(&mut Downgrade);
        let bends: [(&str, Bend); 7] = [
            ("format", |it| it.format = 2),
            ("kind", |it| it.kind = "release".to_string()),
            ("serial", |it| it.serial = 0),
            ("devices", |it| it.devices.clear()),
            ("to", |it| it.to = it.from.clone()),
            ("reason", |it| it.reason.clear()),
            ("length", |it| it.reason = "x".repeat(RELEASE_TEXT_MAX + 1)),
        ];
        for (what, bend) in bends {
            let mut record = record();
            bend(&mut record);
            record.to_custom().expect_err(what);
        }
    }

    /// Meant to catch: each line of [`Downgrade::is_for`] left out is one row here.
    #[test]
    fn a_record_is_for_one_device_one_way_one_time() {
        let record = record();
        let (own, other) = ("pump-7".parse(), "pump-8".parse());
        let (own, other) = (own.expect("a name"), other.expect("a name"));
        let (from, to) = (version("2.4.1"), version("2.4.0"));
        let (early, late) = (
            UtcTime::from_unix(1_799_999_999),
            UtcTime::from_unix(1_800_000_000),
        );
        let index = RollbackIndex(16);
        let is_for = |device, used, now, running: &[&ReleaseVersion], to| {
            record.is_for(Holder { device, used, now }, running, to)
        };
        let good = [&from, &from];
        assert_eq!(is_for(&own, 2, early, &good, (&to, index)), Ok(()));
        for (expected, found) in [
            (Void::Device, is_for(&other, 2, early, &good, (&to, index))),
            (Void::Used, is_for(&own, 3, early, &good, (&to, index))),
            (Void::Used, is_for(&own, 4, early, &good, (&to, index))),
            (Void::Expired, is_for(&own, 2, late, &good, (&to, index))),
            (Void::From, is_for(&own, 2, early, &[], (&to, index))),
            (
                Void::From,
                is_for(&own, 2, early, &[&from, &to], (&to, index)),
            ),
            (Void::To, is_for(&own, 2, early, &good, (&from, index))),
            (
                Void::To,
                is_for(&own, 2, early, &good, (&to, RollbackIndex(15))),
            ),
        ] {
            assert_eq!(found, Err(expected));
        }
    }

    #[test]
    fn a_serial_has_one_spelling() {
        let product: ProductName = "p".parse().expect("a name");
        let serial = |path: &str| serial_of(&product, &TargetPath::parse(path).expect("a path"));
        assert_eq!(serial("p/downgrade-12.json"), Some(12));
        for other in [
            "p/downgrade-012.json",
            "p/downgrade-+1.json",
            "p/downgrade-0.json",
            "p/downgrade-.json",
            "q/downgrade-1.json",
            "p/release-1.0.0.toml",
        ] {
            assert_eq!(serial(other), None, "{other}");
        }
    }
}
