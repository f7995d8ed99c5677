//! What other servers changed.
//!
//! A row of news carries the number of its transaction. Transactions end in another order than
//! they begin, so that "all rows behind the last one that I saw" would skip some; instead a mark
//! names the oldest transaction that was still open, and everything from there on is read again.
//! What was told already is left out by its id.

use std::collections::BTreeSet;

use super::rows::{self, column};
use super::session::Session;
use super::{Fault, Inner};
use crate::store::{Mark, News, StoreError};

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
        }
    }
}

/// `id, what, device, rollout, seq`.
fn news(row: &tokio_postgres::Row) -> Result<News, StoreError> {
    let number = || Ok::<_, StoreError>(column::<i32>(row, 2)?.cast_unsigned());
    Ok(match column::<i16>(row, 1)? {
        1 => News::Device(number()?),
        2 => News::Inventory(number()?),
        3 => News::Tags(number()?),
        4 => News::Receipt(number()?, column::<i64>(row, 4)?.cast_unsigned()),
        5 => News::Rollout(rows::rollout(row, 3)?),
        6 => News::Deployment(rows::rollout(row, 3)?, number()?),
        other => return Err(StoreError::Damaged(format!("news of kind {other}"))),
    })
}

/// What came since `since`, on `session`; without a mark nothing did.
pub(super) async fn since(
    session: &mut Session,
    since: Option<&Mark>,
) -> Result<(Vec<News>, Mark), Fault> {
    let sql = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, \
               (extract(epoch from clock_timestamp()) * 1000)::bigint";
    let row = session.one(sql, &[]).await?;
    let mut mark = Mark {
        open: column(&row, 0)?,
        clock_millis: column(&row, 1)?,
        told: BTreeSet::new(),
    };
    let from = since.map_or(mark.open, |since| since.open);
    let sql = "SELECT id, what, device, rollout, seq, tx FROM news WHERE tx >= $1 ORDER BY id";
    let mut all = Vec::new();
    for row in session.rows(sql, &[&from]).await? {
        let id: i64 = column(&row, 0)?;
        if column::<i64>(&row, 5)? >= mark.open {
            mark.told.insert(id);
        }
        if !since.is_none_or(|since| since.told.contains(&id)) {
            all.push(news(&row)?);
        }
    }
    Ok((all, mark))
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
        let told = since(session, mark).await;
        if told.is_err() {
            *reading = None;
        }
        told
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
