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
        let Some(audit) = self.audit.get() else {
            return Ok(());
        };
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
                    let device = &state.devices.get(*device as usize)?.device;
                    let record = Record::new(act_of(row), "server").about("device", device);
                    let release = state.book.rollout(rollout)?.release.target.sha256;
                    let record = record.digest(release).with("rollout", rollout);
                    let record = record.with("phase", row.phase).with("attempt", row.attempt);
                    Some(record.with("taken", row.taken_at.is_some()))
                }
            };
            changes.iter().filter_map(record).collect()
        };
        for group in records.chunks(GROUP_LEN_MAX) {
            audit.record_all(group.to_vec(), now).await?;
        }
        Ok(())
    }
}

fn act_of(row: &Deployment) -> Act {
    match row.phase {
        Phase::Offered => Act::Offer,
        Phase::Committed | Phase::Failed | Phase::Withdrawn => Act::OfferEnd,
    }
}
