//! The statements that write a group: one for each table, with all rows in arrays.

use super::Fault;
use super::group::Out;
use super::rows::word;
use super::session::Session;
use crate::rollout::RolloutId;
use crate::store::Standing;

impl Out {
    /// Writes everything, within the transaction that is open on `session`.
    pub(super) async fn write(&self, session: &mut Session) -> Result<(), Fault> {
        if let Some((devices, versions)) = self.counters {
            let (devices, versions) = (devices.cast_signed(), versions.cast_signed());
            let sql = "UPDATE store SET devices = $1, record_versions = $2";
            session.execute(sql, &[&devices, &versions]).await?;
        }
        self.rows(session).await?;
        self.inventories(session).await?;
        self.receipts(session).await?;
        self.events(session).await?;
        self.tags(session).await?;
        self.rollouts(session).await?;
        self.records(session).await?;
        self.tell(session).await
    }

    async fn rows(&self, session: &mut Session) -> Result<(), Fault> {
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
        let sql = "INSERT INTO device SELECT * FROM unnest($1::int[], $2::text[], $3::bool[], \
             $4::bytea[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bytea[], \
             $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[]) \
             ON CONFLICT (number) DO UPDATE SET enrolled = excluded.enrolled, \
             certificate = excluded.certificate, not_after = excluded.not_after, \
             enrolled_at = excluded.enrolled_at, revoked_at = excluded.revoked_at, \
             seen_at = excluded.seen_at, inventory = excluded.inventory, \
             inventory_seq = excluded.inventory_seq, inventory_time = excluded.inventory_time, \
             receipts = excluded.receipts, events = excluded.events";
        session
            .execute(
                sql,
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
            .await?;
        Ok(())
    }

    async fn inventories(&self, session: &mut Session) -> Result<(), Fault> {
        if self.inventories.is_empty() {
            return Ok(());
        }
        let devices: Vec<i32> = self.inventories.keys().map(|n| n.cast_signed()).collect();
        let bytes: Vec<&[u8]> = self.inventories.values().map(Vec::as_slice).collect();
        let sql = "INSERT INTO inventory SELECT * FROM unnest($1::int[], $2::bytea[]) \
                   ON CONFLICT (device) DO UPDATE SET bytes = excluded.bytes";
        session.execute(sql, &[&devices, &bytes]).await?;
        Ok(())
    }

    async fn receipts(&self, session: &mut Session) -> Result<(), Fault> {
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
        let sql = "INSERT INTO receipt SELECT * FROM unnest($1::int[], $2::int[], $3::bigint[], \
             $4::bigint[], $5::bytea[], $6::bytea[]) ON CONFLICT (device, slot) DO UPDATE SET \
             seq = excluded.seq, at = excluded.at, digest = excluded.digest, \
             bytes = excluded.bytes";
        session
            .execute(sql, &[&devices, &slots, &seqs, &times, &digests, &bytes])
            .await?;
        Ok(())
    }

    async fn events(&self, session: &mut Session) -> Result<(), Fault> {
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
        let sql = "INSERT INTO event SELECT * FROM unnest($1::int[], $2::int[], $3::bigint[], \
             $4::bigint[], $5::text[], $6::bytea[]) ON CONFLICT (device, slot) DO UPDATE SET \
             seq = excluded.seq, at = excluded.at, what = excluded.what, \
             digest = excluded.digest";
        session
            .execute(sql, &[&devices, &slots, &seqs, &times, &words, &digests])
            .await?;
        Ok(())
    }

    async fn tags(&self, session: &mut Session) -> Result<(), Fault> {
        if self.tags.is_empty() {
            return Ok(());
        }
        let devices: Vec<i32> = self.tags.keys().map(|n| n.cast_signed()).collect();
        let bytes: Vec<&[u8]> = self.tags.values().map(Vec::as_slice).collect();
        let sql = "INSERT INTO tags SELECT * FROM unnest($1::int[], $2::bytea[]) \
                   ON CONFLICT (device) DO UPDATE SET bytes = excluded.bytes";
        session.execute(sql, &[&devices, &bytes]).await?;
        Ok(())
    }

    async fn rollouts(&self, session: &mut Session) -> Result<(), Fault> {
        if !self.rollouts.is_empty() {
            let names: Vec<&str> = self.rollouts.keys().map(RolloutId::as_str).collect();
            let bytes: Vec<&[u8]> = self.rollouts.values().map(Vec::as_slice).collect();
            let sql = "INSERT INTO rollout SELECT * FROM unnest($1::text[], $2::bytea[]) \
                       ON CONFLICT (name) DO UPDATE SET bytes = excluded.bytes";
            session.execute(sql, &[&names, &bytes]).await?;
        }
        if !self.deployments.is_empty() {
            let keys = || self.deployments.keys();
            let names: Vec<&str> = keys().map(|(name, _)| name.as_str()).collect();
            let devices: Vec<i32> = keys().map(|(_, device)| device.cast_signed()).collect();
            let bytes: Vec<&[u8]> = self.deployments.values().map(Vec::as_slice).collect();
            let sql = "INSERT INTO deployment \
                       SELECT * FROM unnest($1::text[], $2::int[], $3::bytea[]) \
                       ON CONFLICT (rollout, device) DO UPDATE SET bytes = excluded.bytes";
            session.execute(sql, &[&names, &devices, &bytes]).await?;
        }
        Ok(())
    }

    async fn records(&self, session: &mut Session) -> Result<(), Fault> {
        let gone = self.records.iter().filter(|(_, kept)| kept.is_none());
        let (kinds, keys): (Vec<&str>, Vec<&str>) = gone
            .map(|((kind, key), _)| (kind.as_str(), key.as_str()))
            .unzip();
        if !kinds.is_empty() {
            let sql = "DELETE FROM record r USING unnest($1::text[], $2::text[]) AS w(kind, key) \
                       WHERE r.kind = w.kind AND r.key = w.key";
            session.execute(sql, &[&kinds, &keys]).await?;
        }
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
        if !kinds.is_empty() {
            let sql = "INSERT INTO record SELECT * FROM unnest($1::text[], $2::text[], \
                 $3::bigint[], $4::bytea[]) ON CONFLICT (kind, key) DO UPDATE SET \
                 version = excluded.version, bytes = excluded.bytes";
            session
                .execute(sql, &[&kinds, &keys, &versions, &all])
                .await?;
        }
        Ok(())
    }

    /// Tells the other servers. Not for polls that change nothing: a notification takes a lock
    /// that all commits of the database share.
    async fn tell(&self, session: &mut Session) -> Result<(), Fault> {
        if self.news.is_empty() {
            return Ok(());
        }
        let (mut what, mut devices) = (Vec::new(), Vec::new());
        let (mut rollouts, mut seqs) = (Vec::new(), Vec::new());
        for news in &self.news {
            let (kind, device, rollout, seq) = news.columns();
            what.push(kind);
            devices.push(device);
            rollouts.push(rollout);
            seqs.push(seq);
        }
        let sql = "INSERT INTO news (what, device, rollout, seq) \
                   SELECT * FROM unnest($1::smallint[], $2::int[], $3::text[], $4::bigint[])";
        session
            .execute(sql, &[&what, &devices, &rollouts, &seqs])
            .await?;
        session.rows("SELECT pg_notify('ampoule', '')", &[]).await?;
        Ok(())
    }
}
