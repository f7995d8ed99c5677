//! The words between device and server: inventory, receipts, and what the server answers.
//!
//! An inventory is plain JSON under mTLS. A receipt is signed by the device's own key, the one of
//! its client certificate, in the same envelope as metadata, so that it proves later what it
//! said then:
//!
//! ```json
//! {"signatures":[{"keyid":"…","sig":"…"}],
//!  "signed":{"_type":"ampoule-receipt","format":1,"device":"pump-0042","seq":7,"outcome":"committed",…}}
//! ```
//!
//! Every list and text has a bound; unknown members are ignored on reading.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Coded, Guilty};
use crate::json::{self, Value};
use crate::key::PublicKey;
use crate::metadata::{Envelope, EnvelopeError};
use crate::name::{ComponentName, DeviceId, HardwareId, ProductName};
use crate::release::ReleaseVersion;
use crate::repo::{Draft, RepoError};
use crate::sign::Sign;
use crate::time::UtcTime;
use crate::version::RollbackIndex;

/// Bytes of one inventory or receipt, as sent.
pub const REPORT_LEN_MAX: usize = 64 * 1024;
/// Items of any list in a report.
pub const REPORT_LIST_MAX: usize = 64;
/// Bytes of any text in a report.
pub const REPORT_TEXT_MAX: usize = 1024;

/// The `_type` of a receipt.
pub const RECEIPT_TYPE: &str = "ampoule-receipt";

/// What runs on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Who it is; must equal the id in the client certificate.
    pub device: DeviceId,
    /// What it is.
    pub product: ProductName,
    /// Its hardware.
    pub hardware: HardwareId,
    /// What runs, part by part.
    pub components: Vec<Installed>,
    /// The lowest rollback index that it accepts.
    pub floor: RollbackIndex,
    /// The version of the agent.
    pub agent_version: String,
    /// What it can do with a delta, by the names of a delta's caps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patch_caps: Vec<String>,
    /// The device's own time, which may be wrong.
    pub time: UtcTime,
    /// Counts reports of this device, so that a replayed one is seen.
    pub seq: u64,
    /// What was found out about its boot loaders, one of each component that was probed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_probes: Vec<BootProbe>,
}

/// What a trial boot of the running image proved of a boot loader: that its counter counts and its
/// fallback falls, or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootProbe {
    /// Whose boot loader.
    pub component: ComponentName,
    /// Whether it counts and falls back.
    pub passed: bool,
    /// What was seen.
    pub detail: String,
    /// Restarts that it took.
    pub restarts: u32,
    /// When it ended, by the device's clock.
    pub time: UtcTime,
}

/// One part that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Which part.
    pub name: ComponentName,
    /// The release that it came with; absent for what was there before the first update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<ReleaseVersion>,
    /// The digest of its image or artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// The server's answer to an inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedIn {
    /// The `seq` that is durable now.
    pub seq: u64,
    /// When to come again, in seconds; the device bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_interval_secs: Option<u32>,
}

/// How an update ended on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It runs, is healthy, and is the default.
    Committed,
    /// It ran and went back.
    Reverted,
    /// It was not begun: the repository's metadata or content was refused.
    Refused,
    /// It was begun and given up before the trial.
    Failed,
}

/// How the bytes came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// The whole artifact.
    Full,
    /// A delta from what was running.
    Delta,
    /// A bundle.
    Bundle,
}

/// One thing that was asked before or after: a gate or a health command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Whether it said yes.
    pub passed: bool,
    /// What else it said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// What became of one update, signed by the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// [`RECEIPT_TYPE`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// 1.
    pub format: u32,
    /// Who says so.
    pub device: DeviceId,
    /// Counts receipts of this device, from 1, without gaps.
    pub seq: u64,
    /// The product.
    pub product: ProductName,
    /// Its hardware.
    pub hardware: HardwareId,
    /// How it ended.
    pub outcome: Outcome,
    /// The release that it was about, where one was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseVersion>,
    /// What ran before.
    pub before: Vec<Installed>,
    /// What runs now.
    pub after: Vec<Installed>,
    /// The floor now.
    pub floor: RollbackIndex,
    /// How the bytes came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// Bytes that came over the wire for it.
    #[serde(default)]
    pub bytes_fetched: u64,
    /// Boots into the trial.
    #[serde(default)]
    pub attempts: u32,
    /// Gates that were asked.
    #[serde(default)]
    pub gates: Vec<Check>,
    /// Health commands that were run, and the verdict on the trial as the last of them.
    #[serde(default)]
    pub health: Vec<Check>,
    /// How long good had to last, in seconds.
    #[serde(default)]
    pub bake_secs: u64,
    /// The stable code of what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The sentence of what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When it began, by the device's clock.
    pub started: UtcTime,
    /// When it ended, by the device's clock.
    pub finished: UtcTime,
    /// The device's clock was sane throughout.
    #[serde(default)]
    pub clock_sane: bool,
}

/// The server's answer to receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Digests of the receipts (of their bytes as sent) that are durable now.
    pub acknowledged: Vec<Digest>,
}

/// What the server knows of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceView {
    /// Who.
    pub device: DeviceId,
    /// Whether it may speak.
    pub enrolled: bool,
    /// Its last inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<Inventory>,
    /// When that came, by the server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<UtcTime>,
    /// Its newest receipts, newest first, as many as the server keeps at hand.
    pub receipts: Vec<Receipt>,
}

/// A report that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// More than [`REPORT_LEN_MAX`] bytes.
    #[error("the report has {0} bytes, {REPORT_LEN_MAX} are allowed")]
    TooLong(usize),
    /// No JSON or no envelope.
    #[error("the report is not well-formed")]
    Envelope(#[from] EnvelopeError),
    /// An envelope around something else.
    #[error("the report is not of the expected form: {0}")]
    Form(String),
    /// A list or text beyond its bound.
    #[error("{0} is longer than a report allows")]
    Bound(&'static str),
    /// Not signed by the key that it must be signed by.
    #[error("the receipt is not signed by the device's own key")]
    Unsigned,
}

impl Coded for ReportError {
    fn code(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "report-too-long",
            Self::Envelope(_) | Self::Form(_) => "report-malformed",
            Self::Bound(_) => "report-bound",
            Self::Unsigned => "report-unsigned",
        }
    }

    fn guilty(&self) -> Guilty {
        Guilty::Device
    }
}

impl Inventory {
    /// Reads an inventory as sent.
    ///
    /// # Errors
    /// Anything that is not one, or beyond a bound.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReportError> {
        let value = parse_bounded(bytes)?;
        let inventory: Self = from_value(&value)?;
        list_fits("components", inventory.components.len())?;
        text_fits("agent_version", &inventory.agent_version)?;
        list_fits("patch_caps", inventory.patch_caps.len())?;
        for cap in &inventory.patch_caps {
            text_fits("patch_caps", cap)?;
        }
        list_fits("boot_probes", inventory.boot_probes.len())?;
        for probe in &inventory.boot_probes {
            text_fits("boot_probes", &probe.detail)?;
        }
        Ok(inventory)
    }
}

impl Receipt {
    /// The receipt signed by the device's own key, as it is sent.
    ///
    /// # Errors
    /// A key that fails.
    pub fn sign(&self, key: &dyn Sign) -> Result<Vec<u8>, RepoError> {
        let text = serde_json::to_vec(self).expect("a receipt has no maps and no floats");
        let value = json::parse(&text).expect("what serde_json writes, we read");
        let mut draft = Draft::of_value(value);
        draft.sign(key)?;
        Ok(draft.to_bytes())
    }

    /// Reads a receipt as sent, and believes it if `key` signed it.
    ///
    /// # Errors
    /// Anything that is not a receipt, beyond a bound, or not signed by `key`.
    pub fn verify(bytes: &[u8], key: &PublicKey) -> Result<Self, ReportError> {
        if bytes.len() > REPORT_LEN_MAX {
            return Err(ReportError::TooLong(bytes.len()));
        }
        let envelope = Envelope::parse(bytes)?;
        let message = envelope.signed_bytes();
        let signed = envelope
            .signatures()
            .iter()
            .filter_map(crate::metadata::Signature::bytes)
            .any(|signature| key.verify(&message, &signature));
        if !signed {
            return Err(ReportError::Unsigned);
        }
        let receipt: Self = from_value(envelope.unverified())?;
        if receipt.kind != RECEIPT_TYPE || receipt.format != 1 {
            return Err(ReportError::Form("not a receipt of format 1".to_string()));
        }
        receipt.check()?;
        Ok(receipt)
    }

    fn check(&self) -> Result<(), ReportError> {
        list_fits("before", self.before.len())?;
        list_fits("after", self.after.len())?;
        for (place, checks) in [("gates", &self.gates), ("health", &self.health)] {
            list_fits(place, checks.len())?;
            for check in checks {
                text_fits(place, &check.name)?;
                text_fits(place, &check.detail)?;
            }
        }
        self.code
            .iter()
            .try_for_each(|text| text_fits("code", text))?;
        self.detail
            .iter()
            .try_for_each(|text| text_fits("detail", text))
    }
}

fn parse_bounded(bytes: &[u8]) -> Result<Value, ReportError> {
    if bytes.len() > REPORT_LEN_MAX {
        return Err(ReportError::TooLong(bytes.len()));
    }
    json::parse(bytes).map_err(|error| ReportError::Envelope(error.into()))
}

fn from_value<T: for<'de> Deserialize<'de>>(value: &Value) -> Result<T, ReportError> {
    serde_json::from_slice(&json::compact(value))
        .map_err(|error| ReportError::Form(error.to_string()))
}

fn list_fits(place: &'static str, len: usize) -> Result<(), ReportError> {
    if len > REPORT_LIST_MAX {
        Err(ReportError::Bound(place))
    } else {
        Ok(())
    }
}

fn text_fits(place: &'static str, text: &str) -> Result<(), ReportError> {
    if text.len() > REPORT_TEXT_MAX {
        Err(ReportError::Bound(place))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::{Ed25519Key, P256Key};

    fn receipt() -> Receipt {
        Receipt {
            kind: RECEIPT_TYPE.to_string(),
            format: 1,
            device: DeviceId::parse("pump-0042").expect("an id"),
            seq: 7,
            product: ProductName::parse("infusion-pump").expect("a name"),
            hardware: HardwareId::parse("pump-mk3").expect("an id"),
            outcome: Outcome::Committed,
            release: Some(ReleaseVersion::parse("2.4.1").expect("a version")),
            before: Vec::new(),
            after: Vec::new(),
            floor: RollbackIndex(17),
            via: Some(Via::Delta),
            bytes_fetched: 812,
            attempts: 1,
            gates: Vec::new(),
            health: alloc::vec![Check {
                name: "x".into(),
                passed: true,
                detail: String::new()
            }],
            bake_secs: 30,
            code: None,
            detail: None,
            started: UtcTime::EPOCH,
            finished: UtcTime::EPOCH.plus_secs(60),
            clock_sane: true,
        }
    }

    #[test]
    fn a_receipt_proves_who_said_it() {
        let mine = Ed25519Key::from_seed(&[1; 32]).expect("a seed");
        let token = P256Key::from_scalar(&[2; 32]).expect("a scalar");
        for key in [&mine as &dyn Sign, &token] {
            let bytes = receipt().sign(key).expect("a key in memory");
            assert_eq!(Receipt::verify(&bytes, key.public_key()), Ok(receipt()));
        }
        let bytes = receipt().sign(&mine).expect("a key in memory");
        let refused = Receipt::verify(&bytes, token.public_key());
        assert_eq!(refused, Err(ReportError::Unsigned));
    }

    #[test]
    fn every_flipped_byte_is_refused() {
        let key = Ed25519Key::from_seed(&[1; 32]).expect("a seed");
        let bytes = receipt().sign(&key).expect("a key in memory");
        for at in 0..bytes.len() {
            let mut bent = bytes.clone();
            bent[at] ^= 1;
            if let Ok(read) = Receipt::verify(&bent, key.public_key()) {
                // The key id is a label; the key itself is given.
                assert_eq!(read, receipt(), "byte {at}");
            }
        }
    }

    #[test]
    fn bounds_hold() {
        let key = Ed25519Key::from_seed(&[1; 32]).expect("a seed");
        let mut long = receipt();
        long.detail = Some("x".repeat(REPORT_TEXT_MAX + 1));
        let bytes = long.sign(&key).expect("a key in memory");
        let refused = Receipt::verify(&bytes, key.public_key());
        assert_eq!(refused, Err(ReportError::Bound("detail")));
        assert_eq!(
            Inventory::parse(&alloc::vec![b' '; REPORT_LEN_MAX + 1]),
            Err(ReportError::TooLong(REPORT_LEN_MAX + 1))
        );
    }
}
