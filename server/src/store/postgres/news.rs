//! What other servers changed.
//!
//! A row of news carries the number of its transaction. Transactions end in another order than
//! they begin, so that "all rows behind the last one that I saw" would skip some; instead a mark
//! names the oldest transaction that was still open, and everything from there on is read again.
//! What was told already is left out by its id.
//!
//! What everybody heard is removed after a while. A server that was away for longer, or that would
//! have to read more than reading everything anew costs, is told so ([`StoreError::Forgotten`]).

use std::time::{Duration, Instant};

use super::rows::{self, column};
use super::session::Session;
use super::{Fault, Inner};
use crate::store::{Mark, News, StoreError};

/// News are kept for so long.
const KEPT_MILLIS: i64 = 10 * 60 * 1000;
/// A mark is good for so long. A row carries the time at which its transaction began; the longest
/// is a turn, of a few minutes. So no row behind a good mark is gone.
const KNOWN_MILLIS: i64 = KEPT_MILLIS / 2;
/// Rows that are heard at once: a group's worth each. Beyond, everything is read anew.
const ROWS_MAX: i64 = 4096;
/// Rows that a mark remembers.
const TOLD_MAX: usize = 200_000;
/// Rows that one statement removes.
const PRUNED_MAX: i64 = 10_000;
/// How often each server removes what is old.
pub(super) const PRUNE_EVERY: Duration = Duration::from_mins(1);

impl News {
    pub(super) fn columns(&self) -> (i16, Option<i32>, Option<&str>, Option<i64>) {
        let number = |device: &u32| Some(device.cast_signed());
        match self {
            Self::Device(device) => (1, number(device), None, None),
            Self::Inventory(device) => (2, number(device), None, None),
            Self::Tags(device) => (3, number(device), None, None),
            Self::Receipt(device, seq) => (4, number(device), None, Some(seq.cast_signed())),
            Self::Rollout(name) => (5, None, Some(name.as_str()), None),
            Self::Deployment(name, device) => (6, number(device), Some(name.as_str()), None),
            Self::Lock(device) => (7, number(device), None, None),
        }
    }
}

/// The news of one row: `id, what, rollout, devices, seqs`.
fn read(row: &tokio_postgres::Row, all: &mut Vec<News>) -> Result<(), StoreError> {
    let devices: Vec<Option<i32>> = column(row, 3)?;
    let seqs: Vec<Option<i64>> = column(row, 4)?;
    let what: i16 = column(row, 1)?;
    for (device, seq) in devices.into_iter().zip(seqs) {
        let missing = || StoreError::Damaged("news of nobody".into());
        let device = || device.map(i32::cast_unsigned).ok_or_else(missing);
        all.push(match what {
            1 => News::Device(device()?),
            2 => News::Inventory(device()?),
            3 => News::Tags(device()?),
            4 => News::Receipt(device()?, seq.ok_or_else(missing)?.cast_unsigned()),
            5 => News::Rollout(rows::rollout(row, 2)?),
            6 => News::Deployment(rows::rollout(row, 2)?, device()?),
            7 => News::Lock(device()?),
            other => return Err(StoreError::Damaged(format!("news of kind {other}"))),
        });
    }
    Ok(())
}

/// What came since `since`, on `session`; without a mark nothing did.
pub(super) async fn since(
    session: &Session,
    since: Option<&Mark>,
) -> Result<(Vec<News>, Mark), Fault> {
    let sql = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, \
               (extract(epoch from clock_timestamp()) * 1000)::bigint";
    let row = session.one(sql, &[]).await?;
    let (open, clock_millis) = (column(&row, 0)?, column(&row, 1)?);
    let Some(since) = since else {
        let sql = "SELECT id, tx FROM news WHERE tx >= $1";
        let rows = session.rows(sql, &[&open]).await?;
        let told = rows
            .iter()
            .map(|row| Ok((column(row, 0)?, column(row, 1)?)));
        let told = told.collect::<Result<_, StoreError>>()?;
        let mark = Mark {
            open,
            told,
            clock_millis,
        };
        return Ok((Vec::new(), mark));
    };
    if clock_millis - since.clock_millis > KNOWN_MILLIS {
        return Err(StoreError::Forgotten.into());
    }
    let told: Vec<i64> = since.told.keys().copied().collect();
    let sql = "SELECT id, what, rollout, devices, seqs, tx FROM news \
               WHERE tx >= $1 AND id <> ALL($2) ORDER BY id LIMIT $3";
    let rows = session
        .rows(sql, &[&since.open, &told, &(ROWS_MAX + 1)])
        .await?;
    // A transaction that stays open for long makes the second grow.
    if rows.len() as u64 > ROWS_MAX.cast_unsigned() || told.len() > TOLD_MAX {
        return Err(StoreError::Forgotten.into());
    }
    let mut mark = Mark {
        open,
        told: since.told.clone(),
        clock_millis,
    };
    let mut all = Vec::new();
    for row in rows {
        mark.told.insert(column(&row, 0)?, column(&row, 5)?);
        read(&row, &mut all)?;
    }
    mark.told.retain(|_, tx| *tx >= open);
    Ok((all, mark))
}

/// Removes what everybody heard, or will be told that it is forgotten.
pub(super) async fn prune(session: &Session) -> Result<(), Fault> {
    let sql = "DELETE FROM news WHERE id IN (SELECT id FROM news ORDER BY id LIMIT $1) \
               AND at < now() - $2::bigint * interval '1 millisecond'";
    while session.execute(sql, &[&PRUNED_MAX, &KEPT_MILLIS]).await? == PRUNED_MAX.cast_unsigned() {}
    Ok(())
}

impl Inner {
    pub(super) async fn news(&self, mark: Option<&Mark>) -> Result<(Vec<News>, Mark), Fault> {
        if self
            .listening
            .lock()
            .await
            .as_ref()
            .is_none_or(Session::is_closed)
        {
            self.listen().await?;
        }
        let mut reading = self.reading.lock().await;
        let session = self.session(&mut reading).await?;
        let told = self.heard(session, mark).await;
        if matches!(&told, Err(fault) if !fault.is_forgotten()) {
            *reading = None;
        }
        told
    }

    async fn heard(
        &self,
        session: &Session,
        mark: Option<&Mark>,
    ) -> Result<(Vec<News>, Mark), Fault> {
        let told = since(session, mark).await?;
        let mut pruned = self.pruned.lock().await;
        if pruned.is_none_or(|at| at.elapsed() >= PRUNE_EVERY) {
            prune(session).await?;
            *pruned = Some(Instant::now());
        }
        Ok(told)
    }

    /// Opens the connection on which notifications come.
    pub(super) async fn listen(&self) -> Result<(), Fault> {
        let mut listening = self.listening.lock().await;
        let told = self.told.clone();
        let count = move || {
            told.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        };
        let session = Session::open(&self.database, count).await?;
        session.batch("LISTEN ampoule").await?;
        *listening = Some(session);
        Ok(())
    }
}
