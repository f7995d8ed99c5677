//! What becomes of certificates that are not the newest: taken up, retired, revoked, listed.

use std::time::{Duration, Instant};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::hex;
use ampoule_protocol::name::DeviceId;
use bytes::Bytes;

use super::ledger::{self, IssuedRecord, Page, Renewal, RevokedRecord};
use super::{CRL_AGE_MAX_SECS, Est};
use crate::http::problem::Problem;
use crate::identity::Identity;
use crate::pki::CrlEntry;
use crate::rollouts::Heard;
use crate::serve::Shared;
use crate::store::records::{Expected, Key, RecordWrite, TOGETHER_MAX};
use crate::store::{Standing, Write, Written};

/// Entries of a revocation list; 4 MB.
const CRL_ENTRIES_MAX: usize = 100_000;
/// An entry stays for so long after its certificate ended, in seconds: it must be in a list that was
/// issued after that (RFC 5280, section 3.3), and other people's clocks may be behind.
const OVER_AFTER_SECS: i64 = 2 * 24 * 3600;

/// Whether a certificate that is not the enrolled one is its successor; then it takes its place.
///
/// # Errors
/// The store failed.
pub async fn take_up(shared: &Shared, identity: &Identity) -> Result<bool, Problem> {
    let Some(est) = &shared.est else {
        return Ok(false);
    };
    let _turn = est.turn.lock().await;
    promote(shared, est, identity).await
}

/// [`take_up`] for a caller who has the turn.
pub(super) async fn promote(
    shared: &Shared,
    est: &Est,
    identity: &Identity,
) -> Result<bool, Problem> {
    let key = ledger::of_device(&identity.device);
    let known = shared.fleet.find(&identity.device);
    let is_enrolled = known.is_some_and(|device| device.row().standing == Standing::Enrolled);
    let waiting = ledger::read::<Renewal>(&*shared.store, Page::Renewals, &key)?;
    let is_next = waiting.is_some_and(|seen| seen.value.certificate == identity.digest);
    if !is_enrolled || !is_next {
        notice(shared, identity)?;
        return Ok(false);
    }
    let write = Write::Enroll {
        device: identity.device.clone(),
        certificate: identity.digest,
        not_after: identity.not_after,
        at: shared.now().unix(),
    };
    if let Written::Done(row) = shared.writer.write(write).await? {
        shared.rollouts.hear(Heard::Row(row));
    }
    ledger::write(shared, vec![ledger::remove(Page::Renewals, key)]).await?;
    retire(shared, &identity.device, Some(&identity.digest)).await?;
    est.forget_list();
    Ok(true)
}

/// A certificate that was ours and is replaced is used again: somebody copied the device's old
/// state, or the device was set back to it.
fn notice(shared: &Shared, identity: &Identity) -> Result<(), Problem> {
    let key = ledger::of_serial(&identity.serial);
    let seen = ledger::read::<RevokedRecord>(&*shared.store, Page::Revoked, &key)?;
    if seen.is_some_and(|seen| seen.value.device == identity.device) {
        shared.log.warn(format_args!(
            "device {} comes with the certificate {} that was replaced: its identity was copied, \
             or it was set back",
            identity.device,
            identity.digest.short(),
        ));
    }
    Ok(())
}

/// An operator revoked the device: nothing that was issued to it, or waits for it, serves any more.
///
/// # Errors
/// The store failed.
pub async fn revoked(shared: &Shared, device: &DeviceId) -> Result<(), Problem> {
    let Some(est) = &shared.est else {
        return Ok(());
    };
    let _turn = est.turn.lock().await;
    let pages = [Page::Renewals, Page::Tokens, Page::Requests];
    let gone = pages.map(|page| ledger::remove(page, ledger::of_device(device)));
    ledger::write(shared, gone.into()).await?;
    retire(shared, device, None).await?;
    est.forget_list();
    Ok(())
}

/// Moves what was issued to the device, but for `kept`, to the revocation list.
pub(super) async fn retire(
    shared: &Shared,
    device: &DeviceId,
    kept: Option<&Digest>,
) -> Result<(), Problem> {
    let prefix = format!("{device}/");
    let mut after = Key::parse(&prefix).expect("a device id fits");
    loop {
        let page = ledger::list::<IssuedRecord>(&*shared.store, Page::Issued, Some(&after))?;
        let own: Vec<_> = page
            .into_iter()
            .take_while(|(key, _)| key.as_str().starts_with(&prefix))
            .collect();
        let Some((last, _)) = own.last() else {
            return Ok(());
        };
        after = last.clone();
        let records: Vec<_> = own
            .iter()
            .filter(|(_, seen)| Some(&seen.value.certificate) != kept)
            .flat_map(|(key, seen)| {
                let entry = RevokedRecord {
                    device: device.clone(),
                    at: shared.now().unix(),
                    not_after: seen.value.not_after,
                    superseded: kept.is_some(),
                };
                let serial = key.as_str().strip_prefix(&prefix).unwrap_or_default();
                let serial = Key::parse(serial).expect("a part of a key is a key");
                [
                    ledger::change(Page::Revoked, serial, Expected::Any, Some(&entry)),
                    ledger::remove(Page::Issued, key.clone()),
                ]
            })
            .collect();
        for some in records.chunks(TOGETHER_MAX) {
            ledger::write(shared, some.to_vec()).await?;
        }
    }
}

/// The revocation list, PEM. Entries of certificates that ended by themselves a while ago go for
/// ever.
pub(super) async fn list(shared: &Shared, est: &Est) -> Result<Bytes, Problem> {
    let (pem, lapsed) = made(shared, est)?;
    if !lapsed.is_empty() {
        // They are left out of the list already; what stays now goes with the next list.
        let _ = ledger::write(shared, lapsed).await;
    }
    Ok(pem)
}

/// The list, and the end of some entries that need not be in it any more.
fn made(shared: &Shared, est: &Est) -> Result<(Bytes, Vec<RecordWrite>), Problem> {
    let age_max = Duration::from_secs(CRL_AGE_MAX_SECS);
    if let Some((made, pem)) = &*est.list_made()
        && made.elapsed() < age_max
    {
        return Ok((pem.clone(), Vec::new()));
    }
    let now = shared.now().unix();
    let (mut entries, mut lapsed, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let page = ledger::list::<RevokedRecord>(&*shared.store, Page::Revoked, after.as_ref())?;
        after = page.last().map(|(key, _)| key.clone());
        let ended = page.iter().filter(|(_, seen)| is_over(&seen.value, now));
        let room = TOGETHER_MAX.saturating_sub(lapsed.len());
        let ended = ended.map(|(key, _)| ledger::remove(Page::Revoked, key.clone()));
        lapsed.extend(ended.take(room));
        entries.extend(
            page.into_iter()
                .filter(|(_, seen)| !is_over(&seen.value, now))
                .map(|(key, seen)| CrlEntry {
                    serial: hex::decode(key.as_str()).unwrap_or_default(),
                    at: seen.value.at,
                    superseded: seen.value.superseded,
                }),
        );
        if after.is_none() {
            break;
        }
        if entries.len() >= CRL_ENTRIES_MAX {
            shared.log.trouble(
                "crl-long",
                format_args!(
                    "the revocation list names {} certificates and leaves others out; this server \
                     refuses them all the same",
                    entries.len()
                ),
            );
            break;
        }
    }
    let pem = est
        .authority
        .revocation_list(&entries, now)
        .map_err(|error| {
            shared
                .log
                .trouble("crl", format_args!("no revocation list: {error}"));
            Problem::unavailable("authority-failed", "the authority cannot sign now", 60)
        })?;
    let pem = Bytes::from(pem);
    *est.list_made() = Some((Instant::now(), pem.clone()));
    Ok((pem, lapsed))
}

/// Whether an entry need not be in lists any more.
fn is_over(entry: &RevokedRecord, now: i64) -> bool {
    entry.not_after.saturating_add(OVER_AFTER_SECS) < now
}

impl Est {
    fn list_made(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Bytes)>> {
        self.crl
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn forget_list(&self) {
        *self.list_made() = None;
    }
}
