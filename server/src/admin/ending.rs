//! The end of a device: it is revoked, its name is never enrolled again, and what is known of it is
//! kept.

use super::{Ask, EnrolmentAsk, Told, failed};
use crate::est::ledger::{self, Ended, Page};
use crate::fleet::Fleet;
use crate::serve::Shared;
use crate::store::records::{Expected, RecordWrite};
use crate::store::{Store, StoreError, Write};

/// The refusal of a question that would bring a decommissioned device back.
pub(super) fn refused(store: &dyn Store, ask: &Ask) -> Result<Option<Told>, StoreError> {
    let (Ask::Enroll { device, .. } | Ask::Enrolment(EnrolmentAsk::Token { device, .. })) = ask
    else {
        return Ok(None);
    };
    let ended = ledger::ended_at(store, device)?;
    Ok(ended.map(|_| Told::Failed {
        what: format!("{device} was decommissioned; a device gets another name to come back"),
    }))
}

/// What is kept of a device that is decommissioned.
pub(super) fn record_of(ask: &Ask, at: i64) -> Option<RecordWrite> {
    let Ask::Decommission { device } = ask else {
        return None;
    };
    let key = ledger::of_device(device);
    let ended = Ended { at };
    Some(ledger::change(
        Page::Ended,
        key,
        Expected::Any,
        Some(&ended),
    ))
}

/// What comes before a question is answered by a running server; an answer ends it here.
///
/// A device's end is written first: a server that dies in between leaves a device that nobody can
/// enrol, and not one that is thought to be gone.
pub(super) async fn before(shared: &Shared, ask: &Ask) -> Option<Told> {
    match refused(&*shared.store, ask) {
        Ok(None) => {}
        Ok(told) => return told,
        Err(error) => return Some(failed(&error)),
    }
    let Ask::Decommission { device } = ask else {
        return None;
    };
    // The store should not name devices that never were.
    shared.fleet.find(device)?;
    let record = record_of(ask, shared.now().unix())?;
    let written = ledger::write(shared, vec![record]).await;
    written.err().map(|error| failed(&error))
}

/// The roster should not name devices that never were.
pub(super) fn is_of_nobody(fleet: &Fleet, write: &Write) -> bool {
    matches!(write, Write::Revoke { device, .. } if fleet.find(device).is_none())
}
