//! The statements that write a group: one for each table, with all rows in arrays, all of them on
//! their way at once.

use futures_util::future::BoxFuture;

use super::Fault;
use super::group::Out;
use super::rows::word;
use super::session::{Session, in_order};
use crate::rollout::RolloutId;
use crate::store::{News, Standing};

const COUNTERS: &str = "UPDATE store SET devices = $1, record_versions = $2";
const DEVICES: &str = "INSERT INTO device SELECT * FROM unnest($1::int[], $2::text[], $3::bool[], \
     $4::bytea[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bytea[], \
     $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[]) \
     ON CONFLICT (number) DO UPDATE SET enrolled = excluded.enrolled, \
     certificate = excluded.certificate, not_after = excluded.not_after, \
     enrolled_at = excluded.enrolled_at, revoked_at = excluded.revoked_at, \
     seen_at = excluded.seen_at, inventory = excluded.inventory, \
     inventory_seq = excluded.inventory_seq, inventory_time = excluded.inventory_time, \
     receipts = excluded.receipts, events = excluded.events";
/// Of rows that are there: what a report changes.
const SEEN: &str = "UPDATE device d SET seen_at = w.seen_at, inventory = w.inventory, \
     inventory_seq = w.inventory_seq, inventory_time = w.inventory_time, \
     receipts = w.receipts, events = w.events \
     FROM unnest($1::int[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[], \
     $7::bigint[]) AS w(number, seen_at, inventory, inventory_seq, inventory_time, receipts, \
     events) WHERE d.number = w.number";
const INVENTORIES: &str = "INSERT INTO inventory SELECT * FROM unnest($1::int[], $2::bytea[]) \
     ON CONFLICT (device) DO UPDATE SET bytes = excluded.bytes";
const RECEIPTS: &str = "INSERT INTO receipt SELECT * FROM unnest($1::int[], $2::int[], \
     $3::bigint[], $4::bigint[], $5::bytea[], $6::bytea[]) ON CONFLICT (device, slot) DO UPDATE \
     SET seq = excluded.seq, at = excluded.at, digest = excluded.digest, bytes = excluded.bytes";
const EVENTS: &str = "INSERT INTO event SELECT * FROM unnest($1::int[], $2::int[], $3::bigint[], \
     $4::bigint[], $5::text[], $6::bytea[]) ON CONFLICT (device, slot) DO UPDATE SET \
     seq = excluded.seq, at = excluded.at, what = excluded.what, digest = excluded.digest";
const TAGS: &str = "INSERT INTO tags SELECT * FROM unnest($1::int[], $2::bytea[]) \
     ON CONFLICT (device) DO UPDATE SET bytes = excluded.bytes";
const ROLLOUTS: &str = "INSERT INTO rollout SELECT * FROM unnest($1::text[], $2::bytea[]) \
     ON CONFLICT (name) DO UPDATE SET bytes = excluded.bytes";
const DEPLOYMENTS: &str = "INSERT INTO deployment \
     SELECT * FROM unnest($1::text[], $2::int[], $3::bytea[]) \
     ON CONFLICT (rollout, device) DO UPDATE SET bytes = excluded.bytes";
const RECORDS_GONE: &str = "DELETE FROM record r \
     USING unnest($1::text[], $2::text[]) AS w(kind, key) \
     WHERE r.kind = w.kind AND r.key = w.key";
const RECORDS: &str = "INSERT INTO record SELECT * FROM unnest($1::text[], $2::text[], \
     $3::bigint[], $4::bytea[]) ON CONFLICT (kind, key) DO UPDATE SET \
     version = excluded.version, bytes = excluded.bytes";
/// One row for each kind, and for each rollout: a few, whatever the length of the group.
const NEWS: &str = "INSERT INTO news (what, rollout, devices, seqs) \
     SELECT what, rollout, array_agg(device), array_agg(seq) \
     FROM unnest($1::smallint[], $2::text[], $3::int[], $4::bigint[]) \
     AS w(what, rollout, device, seq) GROUP BY what, rollout";
const NOTIFY: &str = "SELECT pg_notify('ampoule', '')";

/// All of them, to be prepared before they are sent.
pub(super) const ALL: [&str; 13] = [
    COUNTERS,
    DEVICES,
    SEEN,
    INVENTORIES,
    RECEIPTS,
    EVENTS,
    TAGS,
    ROLLOUTS,
    DEPLOYMENTS,
    RECORDS_GONE,
    RECORDS,
    NEWS,
    NOTIFY,
];

impl Out {
    /// Writes everything, within the transaction that is open on `session`, and then does what
    /// `end` does. Everything is prepared.
    pub(super) async fn write(
        &self,
        session: &Session,
        end: Vec<BoxFuture<'_, Result<(), Fault>>>,
    ) -> Result<(), Fault> {
        let mut calls: Vec<BoxFuture<'_, Result<(), Fault>>> = vec![
            Box::pin(self.counters(session)),
            Box::pin(self.rows(session)),
            Box::pin(self.seen(session)),
            Box::pin(self.inventories(session)),
            Box::pin(self.receipts(session)),
            Box::pin(self.events(session)),
            Box::pin(self.tags(session)),
            Box::pin(self.rollouts(session)),
            Box::pin(self.deployments(session)),
            Box::pin(self.records_gone(session)),
            Box::pin(self.records(session)),
            Box::pin(self.tell(session)),
            Box::pin(self.notify(session)),
        ];
        calls.extend(end);
        in_order(calls).await
    }

    async fn counters(&self, session: &Session) -> Result<(), Fault> {
        let Some((devices, versions)) = self.counters else {
            return Ok(());
        };
        let (devices, versions) = (devices.cast_signed(), versions.cast_signed());
        session.send(COUNTERS, &[&devices, &versions]).await
    }

    async fn rows(&self, session: &Session) -> Result<(), Fault> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = || self.rows.values();
        let numbers: Vec<i32> = rows().map(|row| row.number.cast_signed()).collect();
        let names: Vec<&str> = rows().map(|row| row.device.as_str()).collect();
        let enrolled: Vec<bool> = rows()
            .map(|row| row.standing == Standing::Enrolled)
            .collect();
        let certificates: Vec<&[u8]> = rows().map(|row| &row.certificate.as_bytes()[..]).collect();
        let ends: Vec<i64> = rows().map(|row| row.not_after).collect();
        let enrolled_at: Vec<i64> = rows().map(|row| row.enrolled_at).collect();
        let revoked_at: Vec<Option<i64>> = rows().map(|row| row.revoked_at).collect();
        let seen_at: Vec<Option<i64>> = rows().map(|row| row.seen_at).collect();
        let inventories: Vec<Option<&[u8]>> = rows()
            .map(|row| row.inventory.as_ref().map(|digest| &digest.as_bytes()[..]))
            .collect();
        let seqs: Vec<i64> = rows().map(|row| row.inventory_seq.cast_signed()).collect();
        let times: Vec<i64> = rows().map(|row| row.inventory_time).collect();
        let receipts: Vec<i64> = rows().map(|row| row.receipts.cast_signed()).collect();
        let events: Vec<i64> = rows().map(|row| row.events.cast_signed()).collect();
        session
            .send(
                DEVICES,
                &[
                    &numbers,
                    &names,
                    &enrolled,
                    &certificates,
                    &ends,
                    &enrolled_at,
                    &revoked_at,
                    &seen_at,
                    &inventories,
                    &seqs,
                    &times,
                    &receipts,
                    &events,
                ],
            )
            .await
    }

    async fn seen(&self, session: &Session) -> Result<(), Fault> {
        if self.seen.is_empty() {
            return Ok(());
        }
        let rows = || self.seen.values();
        let numbers: Vec<i32> = rows().map(|row| row.number.cast_signed()).collect();
        let seen_at: Vec<Option<i64>> = rows().map(|row| row.seen_at).collect();
        let inventories: Vec<Option<&[u8]>> = rows()
            .map(|row| row.inventory.as_ref().map(|digest| &digest.as_bytes()[..]))
            .collect();
        let seqs: Vec<i64> = rows().map(|row| row.inventory_seq.cast_signed()).collect();
        let times: Vec<i64> = rows().map(|row| row.inventory_time).collect();
        let receipts: Vec<i64> = rows().map(|row| row.receipts.cast_signed()).collect();
        let events: Vec<i64> = rows().map(|row| row.events.cast_signed()).collect();
        session
            .send(
                SEEN,
                &[
                    &numbers,
                    &seen_at,
                    &inventories,
                    &seqs,
                    &times,
                    &receipts,
                    &events,
                ],
            )
            .await
    }

    async fn inventories(&self, session: &Session) -> Result<(), Fault> {
        if self.inventories.is_empty() {
            return Ok(());
        }
        let devices: Vec<i32> = self.inventories.keys().map(|n| n.cast_signed()).collect();
        let bytes: Vec<&[u8]> = self.inventories.values().map(Vec::as_slice).collect();
        session.send(INVENTORIES, &[&devices, &bytes]).await
    }

    async fn receipts(&self, session: &Session) -> Result<(), Fault> {
        if self.receipts.is_empty() {
            return Ok(());
        }
        let places = || self.receipts.keys();
        let devices: Vec<i32> = places().map(|(device, _)| device.cast_signed()).collect();
        let slots: Vec<i32> = places().map(|(_, slot)| slot.cast_signed()).collect();
        let receipts = || self.receipts.values();
        let seqs: Vec<i64> = receipts().map(|one| one.seq.cast_signed()).collect();
        let times: Vec<i64> = receipts().map(|one| one.at).collect();
        let digests: Vec<&[u8]> = receipts().map(|one| &one.digest.as_bytes()[..]).collect();
        let bytes: Vec<&[u8]> = receipts().map(|one| one.bytes.as_slice()).collect();
        session
            .send(
                RECEIPTS,
                &[&devices, &slots, &seqs, &times, &digests, &bytes],
            )
            .await
    }

    async fn events(&self, session: &Session) -> Result<(), Fault> {
        if self.events.is_empty() {
            return Ok(());
        }
        let places = || self.events.keys();
        let devices: Vec<i32> = places().map(|(device, _)| device.cast_signed()).collect();
        let slots: Vec<i32> = places().map(|(_, slot)| slot.cast_signed()).collect();
        let events = || self.events.values();
        let seqs: Vec<i64> = events().map(|one| one.seq.cast_signed()).collect();
        let times: Vec<i64> = events().map(|one| one.at).collect();
        let words: Vec<&str> = events().map(|one| word(one.what)).collect();
        let digests: Vec<Option<&[u8]>> = events()
            .map(|one| one.digest.as_ref().map(|digest| &digest.as_bytes()[..]))
            .collect();
        session
            .send(EVENTS, &[&devices, &slots, &seqs, &times, &words, &digests])
            .await
    }

    async fn tags(&self, session: &Session) -> Result<(), Fault> {
        if self.tags.is_empty() {
            return Ok(());
        }
        let devices: Vec<i32> = self.tags.keys().map(|n| n.cast_signed()).collect();
        let bytes: Vec<&[u8]> = self.tags.values().map(Vec::as_slice).collect();
        session.send(TAGS, &[&devices, &bytes]).await
    }

    async fn rollouts(&self, session: &Session) -> Result<(), Fault> {
        if self.rollouts.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.rollouts.keys().map(RolloutId::as_str).collect();
        let bytes: Vec<&[u8]> = self.rollouts.values().map(Vec::as_slice).collect();
        session.send(ROLLOUTS, &[&names, &bytes]).await
    }

    async fn deployments(&self, session: &Session) -> Result<(), Fault> {
        if self.deployments.is_empty() {
            return Ok(());
        }
        let keys = || self.deployments.keys();
        let names: Vec<&str> = keys().map(|(name, _)| name.as_str()).collect();
        let devices: Vec<i32> = keys().map(|(_, device)| device.cast_signed()).collect();
        let bytes: Vec<&[u8]> = self.deployments.values().map(Vec::as_slice).collect();
        session.send(DEPLOYMENTS, &[&names, &devices, &bytes]).await
    }

    async fn records_gone(&self, session: &Session) -> Result<(), Fault> {
        let gone = self.records.iter().filter(|(_, kept)| kept.is_none());
        let (kinds, keys): (Vec<&str>, Vec<&str>) = gone
            .map(|((kind, key), _)| (kind.as_str(), key.as_str()))
            .unzip();
        if kinds.is_empty() {
            return Ok(());
        }
        session.send(RECORDS_GONE, &[&kinds, &keys]).await
    }

    async fn records(&self, session: &Session) -> Result<(), Fault> {
        let (mut kinds, mut keys) = (Vec::new(), Vec::new());
        let (mut versions, mut all) = (Vec::new(), Vec::new());
        for ((kind, key), kept) in &self.records {
            if let Some((version, bytes)) = kept {
                kinds.push(kind.as_str());
                keys.push(key.as_str());
                versions.push(version.cast_signed());
                all.push(bytes.as_slice());
            }
        }
        if kinds.is_empty() {
            return Ok(());
        }
        session
            .send(RECORDS, &[&kinds, &keys, &versions, &all])
            .await
    }

    /// Tells the other servers; they look once a second.
    async fn tell(&self, session: &Session) -> Result<(), Fault> {
        if self.news.is_empty() {
            return Ok(());
        }
        let (mut what, mut rollouts) = (Vec::new(), Vec::new());
        let (mut devices, mut seqs) = (Vec::new(), Vec::new());
        for news in &self.news {
            let (kind, device, rollout, seq) = news.columns();
            what.push(kind);
            devices.push(device);
            rollouts.push(rollout);
            seqs.push(seq);
        }
        session
            .send(NEWS, &[&what, &rollouts, &devices, &seqs])
            .await
    }

    /// And wakes them where it is urgent. Not for reports, of which there are thousands: a
    /// notification takes a lock that all commits of the database share.
    async fn notify(&self, session: &Session) -> Result<(), Fault> {
        let waits = |news: &News| matches!(news, News::Inventory(_) | News::Receipt(..));
        if self.news.iter().all(waits) {
            return Ok(());
        }
        session.ask(NOTIFY, &[]).await.map(drop)
    }
}
