//! Tells the server: inventory at each check, receipts until they are acknowledged.

use std::time::Duration;

use ampoule_protocol::device::{Acknowledged, CheckedIn};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use ampoule_protocol::repo::RepoError;

use super::{Driver, DriverError};
use crate::machine::{Event, Report};
use crate::net::NetError;
use crate::probe::Records;

/// Bounds on the interval that a server may ask for: never a storm, never a stranded device.
const SERVER_INTERVAL_SECS: std::ops::RangeInclusive<u32> = 10..=86_400;

impl Driver {
    /// Sends what runs. What the server answers can change when the device comes again, and
    /// nothing else.
    pub(super) fn send_inventory(&mut self) -> Result<(), NetError> {
        self.tend_identity();
        let Ok(views) = self.views() else {
            return Ok(());
        };
        let mut running = self.running(&views);
        let components = views
            .keys()
            .map(|name| (name.clone(), running.remove(name)))
            .collect();
        let facts = &self.state.facts;
        let seq = facts.inventory_seq;
        let records = Records::new(self.ports.storage.clone(), &self.device.data_dir);
        // What cannot be read is not told; the probe itself says why.
        let probes = records.found().unwrap_or_default();
        let inventory = self
            .device
            .reporter
            .inventory(facts, components, seq, probes, self.now());
        let body = serde_json::to_vec(&inventory)
            .map_err(|error| NetError::new("inventory", error.to_string()))?;
        let answer = self.ports.network.post("inventory", &body)?;
        let answer: CheckedIn = serde_json::from_slice(&answer)
            .map_err(|error| NetError::new("answer-malformed", error.to_string()))?;
        let (low, high) = SERVER_INTERVAL_SECS.into_inner();
        let secs = answer.poll_interval_secs.map(|secs| secs.clamp(low, high));
        self.server_interval = secs.map(|secs| Duration::from_secs(secs.into()));
        Ok(())
    }

    /// A certificate that is not renewed today is renewed another day: nothing waits for it.
    fn tend_identity(&mut self) {
        let Some(now) = self.ports.clock.wall() else {
            return;
        };
        match self.ports.network.tend(now) {
            Ok(false) => {}
            Ok(true) => self.watch.note("the device's certificate was renewed"),
            Err(error) => self.watch.note(&format!(
                "the device's certificate was not renewed: {error}"
            )),
        }
    }

    /// Sends the receipts in the outbox, oldest first, until one is not taken.
    pub(super) fn send_reports(&mut self) -> Option<Event> {
        let mut acknowledged = Vec::new();
        for report in self.state.facts.outbox.clone() {
            let sent = self
                .signed(&report)
                .map_err(|error| error.to_string())
                .and_then(|bytes| self.send_receipt(&bytes).map_err(|error| error.to_string()));
            match sent {
                Ok(true) => acknowledged.push(report.seq),
                Ok(false) => {
                    self.watch.note("the server did not acknowledge a receipt");
                    break;
                }
                Err(error) => {
                    self.watch
                        .note(&format!("receipt {} is kept: {error}", report.seq));
                    break;
                }
            }
        }
        if acknowledged.is_empty() {
            return None;
        }
        // Something ended: what runs may have changed.
        if let Err(error) = self.send_inventory() {
            self.watch
                .note(&format!("the inventory was not taken: {error}"));
        }
        Some(Event::Acknowledged(acknowledged))
    }

    /// Who this device is.
    pub fn device(&self) -> &DeviceId {
        &self.device.reporter.device
    }

    /// The receipts that wait for an acknowledgement, oldest first: number and signed bytes.
    ///
    /// # Errors
    /// The key failed.
    pub fn receipts(&self) -> Result<Vec<(u64, Vec<u8>)>, RepoError> {
        let signed = |report: &Report| Ok((report.seq, self.signed(report)?));
        self.state.facts.outbox.iter().map(signed).collect()
    }

    /// Lets go of the receipts whose digests a server acknowledged by another way than the
    /// network; how many there were.
    ///
    /// # Errors
    /// The key or the journal failed.
    pub fn take_acknowledged(&mut self, digests: &[Digest]) -> Result<usize, DriverError> {
        let receipts = self.receipts()?;
        let acknowledged = receipts
            .iter()
            .filter(|(_, bytes)| digests.contains(&Digest::of(bytes)));
        let seqs: Vec<u64> = acknowledged.map(|(seq, _)| *seq).collect();
        let count = seqs.len();
        self.step(Event::Acknowledged(seqs))?;
        Ok(count)
    }

    fn send_receipt(&mut self, bytes: &[u8]) -> Result<bool, NetError> {
        let answer = self.ports.network.post("receipts", bytes)?;
        let answer: Acknowledged = serde_json::from_slice(&answer)
            .map_err(|error| NetError::new("answer-malformed", error.to_string()))?;
        Ok(answer.acknowledged.contains(&Digest::of(bytes)))
    }
}
