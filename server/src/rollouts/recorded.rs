//! What a look decided, for the audit log: who may leave service, who need not any more, and how
//! rollouts go on by themselves.

use ampoule_protocol::time::UtcTime;

use super::Rollouts;
use crate::audit::{Act, AuditError, Record};
use crate::rollout::{Change, Deployment, Phase};

/// Records that are handed over at once; a look at a large fleet makes as many as it has devices.
const GROUP_LEN_MAX: usize = 4096;

impl Rollouts {
    /// Writes changes down, and returns when that is durable. The book is ahead of the log by one
    /// look at most, and no device was told of that look.
    pub(super) async fn record(&self, changes: &[Change], now: UtcTime) -> Result<(), AuditError> {
        if self.audit.get().is_none() {
            return Ok(());
        }
        let records: Vec<Record> = {
            let state = self.state();
            let record = |change: &Change| match change {
                Change::Rollout(rollout) => {
                    let status = &rollout.status;
                    let record = Record::new(Act::RolloutStage, "server")
                        .about("rollout", &rollout.plan.name)
                        .digest(rollout.plan.digest())
                        .with("stage", &status.stage)
                        .with("step", status.step)
                        .with("tally", rollout.tally());
                    Some(record)
                }
                Change::Deployment {
                    rollout,
                    device,
                    row,
                } => {
                    let device = &state.device(*device)?.device;
                    let record = Record::new(act_of(row), "server").about("device", device);
                    let release = state.book.rollout(rollout)?.release.target.sha256;
                    let record = record.digest(release).with("rollout", rollout);
                    let record = record.with("phase", row.phase).with("attempt", row.attempt);
                    Some(record.with("taken", row.taken_at.is_some()))
                }
                // What a device does is written down with its name; what is left is a time that ran out.
                Change::Lock { device, .. } => {
                    let device = &state.device(*device)?.device;
                    let record = Record::new(Act::LockEnd, "server").about("device", device);
                    Some(record.with("why", "its time is over"))
                }
            };
            changes.iter().filter_map(record).collect()
        };
        for group in records.chunks(GROUP_LEN_MAX) {
            self.note_all(group.to_vec(), now).await?;
        }
        Ok(())
    }

    /// Writes down what was done, and returns when that is durable.
    pub(super) async fn note(&self, record: Record, now: UtcTime) -> Result<(), AuditError> {
        self.note_all(vec![record], now).await
    }

    async fn note_all(&self, records: Vec<Record>, now: UtcTime) -> Result<(), AuditError> {
        match self.audit.get() {
            Some(audit) => audit.record_all(records, now).await.map(drop),
            None => Ok(()),
        }
    }
}

fn act_of(row: &Deployment) -> Act {
    match row.phase {
        Phase::Offered => Act::Offer,
        Phase::Committed | Phase::Failed | Phase::Withdrawn => Act::OfferEnd,
    }
}
