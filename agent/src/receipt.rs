//! What the device says to the server: inventory, and receipts signed by its own key.
//!
//! A receipt is made from its report in the journal each time it is sent. Signatures of keys in files are
//! deterministic (Ed25519, RFC 6979), so it has the same digest every time, and repeats are harmless; of
//! other keys the driver keeps what was signed.

use ampoule_protocol::device::{
    BootProbe, Check, Installed as Named, Inventory, RECEIPT_TYPE, Receipt,
};
use ampoule_protocol::device::{REPORT_LIST_MAX, REPORT_TEXT_MAX};
use ampoule_protocol::name::{ComponentName, DeviceId, HardwareId, ProductName};
use ampoule_protocol::time::UtcTime;

use crate::machine::{Facts, Installed, Outcome, Report};
use crate::trust::BUILD_TIME;

/// Who reports.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// The device.
    pub device: DeviceId,
    /// What it is.
    pub product: ProductName,
    /// Its hardware.
    pub hardware: HardwareId,
}

impl Reporter {
    /// What runs now.
    pub fn inventory(
        &self,
        facts: &Facts,
        running: Vec<(ComponentName, Option<Installed>)>,
        seq: u64,
        boot_probes: Vec<BootProbe>,
        now: UtcTime,
    ) -> Inventory {
        Inventory {
            device: self.device.clone(),
            product: self.product.clone(),
            hardware: self.hardware.clone(),
            components: named(running),
            floor: facts.floor,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            patch_caps: ampoule_delta::Caps::all()
                .names()
                .map(str::to_owned)
                .collect(),
            time: now,
            seq,
            boot_probes,
        }
    }

    /// The receipt of a report.
    pub fn receipt(&self, report: &Report) -> Receipt {
        let fault = report.fault.as_ref();
        Receipt {
            kind: RECEIPT_TYPE.to_owned(),
            format: 1,
            device: self.device.clone(),
            seq: report.seq,
            product: self.product.clone(),
            hardware: self.hardware.clone(),
            outcome: report.outcome,
            release: report.version.clone(),
            before: named(report.before.clone()),
            after: named(report.after.clone()),
            floor: report.floor,
            via: report.via,
            bytes_fetched: report.fetched,
            attempts: report.boots,
            gates: report.answers.gates.clone(),
            health: health(report),
            bake_secs: report.answers.bake_secs,
            code: fault.map(|fault| fault.code.clone()),
            detail: fault.map(|fault| cut(&fault.text)),
            started: report.started,
            finished: report.ended,
            clock_sane: report.started >= BUILD_TIME && report.ended >= report.started,
        }
    }
}

fn health(report: &Report) -> Vec<Check> {
    let fault = report.fault.as_ref();
    let passed = match report.outcome {
        Outcome::Committed => true,
        Outcome::Reverted => false,
        Outcome::Refused | Outcome::Failed => return Vec::new(),
    };
    let mut checks = report.answers.health.clone();
    checks.truncate(REPORT_LIST_MAX - 1);
    checks.push(Check {
        name: "trial".to_owned(),
        passed,
        detail: fault.map(|fault| cut(&fault.text)).unwrap_or_default(),
    });
    checks
}

fn named(images: Vec<(ComponentName, Option<Installed>)>) -> Vec<Named> {
    let one = |(name, image): (ComponentName, Option<Installed>)| Named {
        name,
        sha256: image.as_ref().map(|image| image.sha256),
        version: image.and_then(|image| image.version),
    };
    images.into_iter().take(REPORT_LIST_MAX).map(one).collect()
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(REPORT_TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
