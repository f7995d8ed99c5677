//! Turns: one server at a time decides about rollouts.
//!
//! A turn is one transaction under one lock: what others decided is read in it, and what is decided
//! is written in it. A server that dies in its turn, or loses its connection, wrote nothing, and
//! the lock is free at once.

use std::sync::Arc;

use super::group::Group;
use super::session::Session;
use super::{Fault, Inner, PostgresStore, news};
use crate::store::{Mark, News, StoreError, Turn, Write, Written};

/// Held until the end of the transaction. A look at millions of devices takes a while.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '120s'; \
     SELECT pg_advisory_xact_lock(x'726f6c6c6f7574'::bigint)";

struct Held {
    handle: super::link::Door,
    inner: Arc<Inner>,
    /// Gone after the end.
    session: Option<Session>,
}

/// Waits for the turn.
pub(super) fn begin(store: &PostgresStore) -> Result<Box<dyn Turn>, StoreError> {
    let inner = store.inner.clone();
    let beginning = inner.clone();
    let session = store.link.wait(async move {
        let kept = beginning.turning.lock().await.take();
        let kept = kept.filter(|session| !session.is_closed());
        Ok(match kept {
            Some(session) => match take(session).await {
                Err(fault) if fault.passes() => take(fresh(&beginning).await?).await?,
                other => other?,
            },
            None => take(fresh(&beginning).await?).await?,
        })
    })?;
    Ok(Box::new(Held {
        handle: store.link.door(),
        inner,
        session: Some(session),
    }))
}

async fn fresh(inner: &Inner) -> Result<Session, Fault> {
    Session::open(&inner.database, || {}).await
}

async fn take(session: Session) -> Result<Session, Fault> {
    session.batch(BEGIN).await?;
    Ok(session)
}

impl Turn for Held {
    fn news(&mut self, since: Option<&Mark>) -> Result<(Vec<News>, Mark), StoreError> {
        let (session, since) = (self.session.take(), since.cloned());
        let (session, told) = self.handle.wait(async move {
            let session = session.ok_or(StoreError::Closed)?;
            let told = news::since(&session, since.as_ref()).await?;
            Ok((session, told))
        })?;
        self.session = Some(session);
        Ok(told)
    }

    fn finish(mut self: Box<Self>, writes: Vec<Write>) -> Result<Vec<Written>, StoreError> {
        let (session, inner) = (self.session.take(), self.inner.clone());
        self.handle.wait(async move {
            let session = session.ok_or(StoreError::Closed)?;
            Group::prepare(&session).await?;
            let mut group = Group::read(&session, &writes).await?;
            let written = group.apply(&writes)?;
            let commit = Box::pin(session.batch("COMMIT"));
            group.out.write(&session, vec![commit]).await?;
            *inner.turning.lock().await = Some(session);
            Ok(written)
        })
    }
}
