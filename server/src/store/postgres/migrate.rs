//! Brings the tables to the newest layout: numbered files, each applied once, in order.

use super::Fault;
use super::rows::column;
use super::session::Session;
use crate::store::{Capacity, StoreError};

/// The layouts; the number of one is its place, from 1.
const LAYOUTS: [&str; 2] = [include_str!("0001.sql"), include_str!("0002.sql")];
/// Keeps two servers that start at once from doing it both.
const LOCK: &str = "SELECT pg_advisory_xact_lock(x'616d706f756c65'::bigint)";
const TABLE: &str = "CREATE TABLE IF NOT EXISTS layout (\
     version integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())";

/// Applies what is missing, as one transaction.
///
/// # Errors
/// The layout is newer than this program, or the database failed.
pub(super) async fn migrate(session: &Session, capacity: Capacity) -> Result<(), Fault> {
    session.batch(&format!("BEGIN; {LOCK}; {TABLE}")).await?;
    let sql = "SELECT coalesce(max(version), 0) FROM layout";
    let found: i32 = column(&session.one(sql, &[]).await?, 0)?;
    let there = usize::try_from(found).unwrap_or(usize::MAX);
    if there > LAYOUTS.len() {
        session.batch("ROLLBACK").await?;
        let known = LAYOUTS.len();
        let what = format!("its layout is {found}, this server knows those up to {known}");
        return Err(StoreError::Damaged(what).into());
    }
    for (version, layout) in (1..).zip(LAYOUTS).skip(there) {
        session.batch(layout).await?;
        let sql = "INSERT INTO layout (version) VALUES ($1)";
        session.execute(sql, &[&version]).await?;
    }
    let sql = "INSERT INTO store (devices, record_versions, receipts_max, events_max) \
               VALUES (0, 0, $1, $2) ON CONFLICT (one) DO NOTHING";
    let sizes = [capacity.receipts_max, capacity.events_max].map(u32::cast_signed);
    session.execute(sql, &[&sizes[0], &sizes[1]]).await?;
    session.batch("COMMIT").await
}
