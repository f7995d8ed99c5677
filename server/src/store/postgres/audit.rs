//! The audit log of all servers of a database: the files of its folder as rows.
//!
//! What one append writes is gathered, and is one transaction under one lock when the log syncs its
//! root: there all of it, or nothing of it. Syncs before that have nothing to do. A server that
//! dies in its turn, or loses its connection, wrote nothing, and the lock is free at once.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::link::Door;
use super::rows::column;
use super::session::{Session, in_order};
use super::{Fault, Inner};
use crate::audit::medium::Medium;
use crate::store::StoreError;

const BEGIN: &str = "BEGIN; SELECT pg_advisory_xact_lock(x'6175646974'::bigint)";
const PUT: &str = "INSERT INTO audit_file SELECT * FROM unnest($1::text[], $2::bytea[]) \
     ON CONFLICT (path) DO UPDATE SET bytes = excluded.bytes";

/// The files.
pub(super) struct Files {
    door: Door,
    inner: Arc<Inner>,
    /// That of the last turn, for the next.
    idle: Option<Session>,
    /// That of this turn.
    turn: Option<Session>,
    /// Written in this turn.
    written: BTreeMap<String, Vec<u8>>,
}

impl Files {
    pub(super) fn new(door: Door, inner: Arc<Inner>) -> Self {
        Self {
            door,
            inner,
            idle: None,
            turn: None,
            written: BTreeMap::new(),
        }
    }

    fn rows<T: Send + 'static>(
        &self,
        sql: &'static str,
        path: &str,
        make: fn(&tokio_postgres::Row) -> Result<T, StoreError>,
    ) -> io::Result<Vec<T>> {
        let (inner, path) = (self.inner.clone(), path.to_owned());
        let rows = self.door.wait(async move {
            let rows = inner.rows(sql, &[&path]).await?;
            rows.iter().map(make).collect()
        });
        rows.map_err(io::Error::other)
    }
}

async fn begin(session: Session) -> Result<Session, Fault> {
    session.prepare(&[PUT]).await?;
    session.batch(BEGIN).await?;
    Ok(session)
}

async fn commit(session: Session, written: BTreeMap<String, Vec<u8>>) -> Result<Session, Fault> {
    let paths: Vec<&str> = written.keys().map(String::as_str).collect();
    let bytes: Vec<&[u8]> = written.values().map(Vec::as_slice).collect();
    let values: [super::session::Value<'_>; 2] = [&paths, &bytes];
    let calls: Vec<BoxFuture<'_, _>> = vec![
        Box::pin(session.send(PUT, &values)),
        Box::pin(session.batch("COMMIT")),
    ];
    in_order(calls).await?;
    Ok(session)
}

impl Medium for Files {
    fn read(&self, path: &str, len_max: usize) -> io::Result<Option<Vec<u8>>> {
        let bytes = if let Some(written) = self.written.get(path) {
            Some(written.clone())
        } else {
            let sql = "SELECT bytes FROM audit_file WHERE path = $1";
            let found = self.rows(sql, path, |row| Ok(column::<&[u8]>(row, 0)?.to_vec()))?;
            found.into_iter().next()
        };
        match bytes {
            Some(bytes) if bytes.len() > len_max => Err(io::ErrorKind::FileTooLarge.into()),
            other => Ok(other),
        }
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        let sql = "SELECT path FROM audit_file \
                   WHERE path = $1 OR starts_with(path, $1::text || '/') LIMIT 1";
        let found = self.rows(sql, path, |_| Ok(()))?;
        Ok(!found.is_empty())
    }

    /// Rows need no folder.
    fn make_folder(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.written.insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    /// The root's sync is that of everything.
    fn sync(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let bytes = self.written.remove(from);
        let bytes = bytes.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        self.written.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn sync_folder(&mut self, path: &str) -> io::Result<()> {
        if !path.is_empty() {
            return Ok(());
        }
        let written = std::mem::take(&mut self.written);
        let session = self.turn.take();
        let session = session.ok_or_else(|| io::Error::other("it is another server's turn"))?;
        let ended = self
            .door
            .wait(async move { Ok(commit(session, written).await?) });
        self.idle = Some(ended.map_err(io::Error::other)?);
        Ok(())
    }

    fn remove_folder(&mut self, path: &str) -> io::Result<()> {
        let sql = "DELETE FROM audit_file WHERE starts_with(path, $1::text || '/')";
        self.rows(sql, path, |_| Ok(())).map(drop)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn turn(&mut self) -> io::Result<()> {
        self.release();
        let (inner, idle) = (self.inner.clone(), self.idle.take());
        let begun = self.door.wait(async move {
            if let Some(session) = idle.filter(|session| !session.is_closed()) {
                match begin(session).await {
                    // It broke since it was used last.
                    Err(fault) if fault.passes() => {}
                    other => return Ok(other?),
                }
            }
            let fresh = Session::open(&inner.database, || {}).await?;
            Ok(begin(fresh).await?)
        });
        self.turn = Some(begun.map_err(io::Error::other)?);
        Ok(())
    }

    fn release(&mut self) {
        self.written.clear();
        let Some(session) = self.turn.take() else {
            return;
        };
        let ended = self.door.wait(async move {
            session.batch("ROLLBACK").await?;
            Ok(session)
        });
        // Where that fails the connection is gone, and its turn with it.
        self.idle = ended.ok();
    }
}
