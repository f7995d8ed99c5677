//! The director: which release this one device gets (Uptane 2.1.0, "Director repository").
//!
//! The director is a TUF repository of one device, signed online. It can choose among what the
//! image repository describes and nothing else: a device acts where both agree.
//!
//! ```json
//! {"_type":"targets","ampoule_device":"pump-0042","version":1795439880,"spec_version":"1.0.34",
//!  "expires":"2026-12-07T13:18:00Z",
//!  "targets":{"infusion-pump/release-2.4.1.toml":{"length":812,"hashes":{"sha256":"…"},
//!    "custom":{"ampoule":{"format":1,"device":"pump-0042","hardware":"pump-mk3",
//!      "rollback_index":17,"rollout":"pump-2.4.1","begin_before":"2026-11-30T13:18:00Z"}}}}}
//! ```
//!
//! Invariants:
//! - An [`Assignment`] exists only of metadata that a threshold signed, that is fresh, and that
//!   names this device, also where it offers nothing (a replay of another device's is refused).
//! - It has no delegations and at most one offer.
//! - [`Agreed`] exists only where both repositories say the same path, length, digests, hardware
//!   and rollback index.

mod issue;

use alloc::string::{String, ToString};

use serde::{Deserialize, Serialize};

pub use issue::{Issue, Issued};

use crate::client::Trusted;
use crate::digest::Digest;
use crate::error::{Coded, Guilty};
use crate::json::{self, Map, Value};
use crate::limits::Lengths;
use crate::metadata::TargetFile;
use crate::name::{DeviceId, HardwareId, TargetPath};
use crate::release::{CUSTOM_MEMBER, Release, ReleaseError};
use crate::time::UtcTime;
use crate::trust::TrustedTarget;
use crate::version::RollbackIndex;

/// The member of the director's targets that names the device.
pub const DEVICE_MEMBER: &str = "ampoule_device";

/// The greatest lengths of a director's files: it says one thing to one device.
pub const LENGTHS: Lengths = Lengths {
    root: 65_536,
    timestamp: 16_384,
    bundle: 0,
    snapshot: 16_384,
    targets: 65_536,
};

/// The code of a receipt for an update that was given up because its offer was taken back.
pub const WITHDRAWN_CODE: &str = "offer-withdrawn";

/// What the director says to this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    offer: Option<Offer>,
}

/// One release, offered to this device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    path: TargetPath,
    file: TargetFile,
    terms: Terms,
}

/// What stands in `custom.ampoule` of an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// 1.
    pub format: u32,
    /// To whom.
    pub device: DeviceId,
    /// For which hardware.
    pub hardware: HardwareId,
    /// The release's, so that both repositories say the same of the floor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_index: Option<RollbackIndex>,
    /// By which rollout, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// The device may not leave service for it from then on: its permit ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin_before: Option<UtcTime>,
}

/// A release on which both repositories agree. Only [`Offer::agree`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    target: TrustedTarget,
    release: Release,
    begin_before: Option<UtcTime>,
}

/// What the director says and a device does not act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectorError {
    /// It names another device, or none (replay).
    #[error("the director's targets are for {found}, this is \"{own}\"")]
    WrongDevice {
        /// Found.
        found: String,
        /// This device.
        own: DeviceId,
    },
    /// It delegates.
    #[error("the director delegates, which it may not")]
    Delegates,
    /// More than one offer.
    #[error("the director offers {0} releases at once")]
    TwoOffers(usize),
    /// An offer whose terms cannot be read.
    #[error("the director's offer of \"{path}\" is not understood: {what}")]
    Terms {
        /// Of what.
        path: TargetPath,
        /// What is wrong.
        what: String,
    },
    /// An offer for other hardware, or of a release that does not fit.
    #[error("the offer of \"{path}\" is not for hardware \"{own}\"")]
    Hardware {
        /// Of what.
        path: TargetPath,
        /// This device's.
        own: HardwareId,
    },
    /// Both repositories differ.
    #[error("director and image repository differ in the {what} of \"{path}\"")]
    Differ {
        /// In what.
        what: &'static str,
        /// Of what.
        path: TargetPath,
    },
    /// The image repository's description.
    #[error("the offered release is not understood")]
    Release(#[from] ReleaseError),
}

impl Coded for DirectorError {
    fn code(&self) -> &'static str {
        match self {
            Self::WrongDevice { .. } => "director-wrong-device",
            Self::Delegates => "director-delegates",
            Self::TwoOffers(_) => "director-two-offers",
            Self::Terms { .. } => "director-offer-malformed",
            Self::Hardware { .. } => "director-wrong-hardware",
            Self::Differ { .. } => "director-differs",
            Self::Release(error) => error.code(),
        }
    }

    fn guilty(&self) -> Guilty {
        Guilty::Repository
    }
}

impl Assignment {
    /// Reads a finished refresh of the director.
    ///
    /// # Errors
    /// Metadata that is not for this device and hardware, that delegates, or offers twice.
    pub fn read(
        director: &Trusted,
        own: &DeviceId,
        hardware: &HardwareId,
    ) -> Result<Self, DirectorError> {
        let targets = director.set().targets();
        if targets.delegations.is_some() {
            return Err(DirectorError::Delegates);
        }
        let named = targets.common.extra.get(DEVICE_MEMBER);
        is_own(named.and_then(Value::as_str), own)?;
        if targets.targets.len() > 1 {
            return Err(DirectorError::TwoOffers(targets.targets.len()));
        }
        let offer = targets.targets.iter().next().map(|(path, file)| {
            let offer = Offer::read(path, file)?;
            is_own(Some(offer.terms.device.as_str()), own)?;
            if offer.terms.hardware != *hardware {
                return Err(offer.wrong_hardware(hardware));
            }
            Ok(offer)
        });
        Ok(Self {
            offer: offer.transpose()?,
        })
    }

    /// What is offered, if anything.
    pub fn offer(&self) -> Option<&Offer> {
        self.offer.as_ref()
    }
}

fn is_own(found: Option<&str>, own: &DeviceId) -> Result<(), DirectorError> {
    if found == Some(own.as_str()) {
        return Ok(());
    }
    let found = found.map_or_else(|| "nobody".to_string(), |name| alloc::format!("\"{name}\""));
    let own = own.clone();
    Err(DirectorError::WrongDevice { found, own })
}

impl Offer {
    fn read(path: &TargetPath, file: &TargetFile) -> Result<Self, DirectorError> {
        let wrong = |what: String| DirectorError::Terms {
            path: path.clone(),
            what,
        };
        let custom = file.custom.as_ref();
        let terms = custom
            .and_then(|custom| custom.member(CUSTOM_MEMBER))
            .ok_or_else(|| wrong("it has no terms".to_string()))?;
        let terms: Terms = serde_json::from_slice(&json::compact(terms))
            .map_err(|error| wrong(error.to_string()))?;
        if terms.format != 1 {
            return Err(wrong(alloc::format!(
                "its format is {}, expected 1",
                terms.format
            )));
        }
        Ok(Self {
            path: path.clone(),
            file: file.clone(),
            terms,
        })
    }

    /// What is offered.
    pub fn path(&self) -> &TargetPath {
        &self.path
    }

    /// Its SHA-256.
    pub fn sha256(&self) -> Option<Digest> {
        self.file.hashes.sha256
    }

    /// On which terms.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whether the image repository's description of the file is the same, and `fits` says that
    /// it is for the offered hardware.
    ///
    /// # Errors
    /// In what they differ.
    pub fn compare(
        &self,
        target: &TrustedTarget,
        fits: impl FnOnce(&HardwareId) -> bool,
    ) -> Result<(), DirectorError> {
        let differ = |what| {
            let path = self.path.clone();
            Err(DirectorError::Differ { what, path })
        };
        if *target.path() != self.path {
            return differ("path");
        }
        if target.file().length != self.file.length {
            return differ("length");
        }
        if target.file().hashes != self.file.hashes {
            return differ("digests");
        }
        if !fits(&self.terms.hardware) {
            return Err(self.wrong_hardware(&self.terms.hardware));
        }
        Ok(())
    }

    /// The release, where both repositories say the same of it.
    ///
    /// # Errors
    /// In what they differ; a description that is none.
    pub fn agree(&self, target: TrustedTarget) -> Result<Agreed, DirectorError> {
        let release = Release::of_target(&target)?;
        self.compare(&target, |hardware| {
            release.for_hardware(hardware).next().is_some()
        })?;
        let index = self.terms.rollback_index;
        if index.is_some_and(|index| index != release.rollback_index) {
            let path = self.path.clone();
            let what = "rollback index";
            return Err(DirectorError::Differ { what, path });
        }
        Ok(Agreed {
            target,
            release,
            begin_before: self.terms.begin_before,
        })
    }

    fn wrong_hardware(&self, own: &HardwareId) -> DirectorError {
        DirectorError::Hardware {
            path: self.path.clone(),
            own: own.clone(),
        }
    }
}

impl Terms {
    /// As the `custom` of an offer.
    pub(crate) fn to_custom(&self) -> Value {
        let text = serde_json::to_vec(self).expect("terms have no maps and no floats");
        let terms = json::parse(&text).expect("what serde_json writes, we read");
        Value::Object(Map::from([(CUSTOM_MEMBER.to_string(), terms)]))
    }
}

impl Agreed {
    /// The image repository's target.
    pub fn target(&self) -> &TrustedTarget {
        &self.target
    }

    /// Its description.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// The device may not begin from then on.
    pub fn begin_before(&self) -> Option<UtcTime> {
        self.begin_before
    }
}
