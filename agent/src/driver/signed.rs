//! Receipts whose signatures differ each time: what was signed first is kept, and sent.
//!
//! A server knows a receipt by its digest, and so does who carries receipts in a file. A key that repeats
//! itself makes the same bytes whenever it is asked; a TPM does not, so its first answer stays beside the
//! journal until the receipt is acknowledged. A file that was torn or lost is made again: then the server
//! has the receipt twice, with one number.

use std::path::PathBuf;

use ampoule_protocol::device::{REPORT_LEN_MAX, Receipt};
use ampoule_protocol::repo::RepoError;

use super::Driver;
use crate::machine::Report;
use crate::ports::replace;

impl Driver {
    /// The receipt of a report as it is sent, the same each time.
    ///
    /// # Errors
    /// The key failed.
    pub(super) fn signed(&self, report: &Report) -> Result<Vec<u8>, RepoError> {
        let key = self.device.key.as_ref();
        let receipt = self.device.reporter.receipt(report);
        if key.repeats() {
            return receipt.sign(key);
        }
        let (storage, path) = (&*self.ports.storage, self.signed_path(report));
        let kept = storage.read(&path, REPORT_LEN_MAX as u64).ok().flatten();
        let is_it = |bytes: &Vec<u8>| {
            Receipt::verify(bytes, key.public_key()).is_ok_and(|kept| kept == receipt)
        };
        if let Some(kept) = kept.filter(is_it) {
            return Ok(kept);
        }
        let signed = receipt.sign(key)?;
        // Sent all the same: a receipt that comes twice is better than one that never does.
        let _ = replace(storage, &path, &signed);
        Ok(signed)
    }

    /// Removes what was kept of reports that wait no longer.
    pub(super) fn forget_signed(&self, before: &[Report]) {
        if self.device.key.repeats() {
            return;
        }
        let outbox = &self.state.facts.outbox;
        for report in before {
            if !outbox.iter().any(|waiting| waiting.seq == report.seq) {
                // One that stays takes some bytes, and its number is not given again.
                let _ = self.ports.storage.remove(&self.signed_path(report));
            }
        }
    }

    fn signed_path(&self, report: &Report) -> PathBuf {
        let name = format!("receipt-{}.json", report.seq);
        self.device.data_dir.join(name)
    }
}
