//! One connection to the database, and what it needs before it may be trusted with a write.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, NoTls, Row, Socket, Statement};

use super::tls::Tls;
use super::{Database, Fault};

/// A value for a statement.
pub(super) type Value<'a> = &'a (dyn ToSql + Sync);

/// A lock that is held longer belongs to a connection that died without a word.
const SETTINGS: &str = "SET lock_timeout = '10s'; SET statement_timeout = '60s'; \
     SET idle_in_transaction_session_timeout = '20s'; SET timezone = 'UTC'";
/// For a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PREPARED: &str = "a group prepares what it sends";

/// A connection with the statements that were prepared on it.
pub(super) struct Session {
    client: Client,
    statements: Mutex<HashMap<&'static str, Statement>>,
}

impl Session {
    /// Connects; `told` is called at each notification.
    ///
    /// # Errors
    /// The database does not answer, or would acknowledge what its disk does not have.
    pub(super) async fn open(
        database: &Database,
        told: impl FnMut() + Send + 'static,
    ) -> Result<Self, Fault> {
        let mut config = database.config.clone();
        config.connect_timeout(CONNECT_TIMEOUT);
        config.application_name("ampoule-server");
        let client = if let Some(tls) = &database.tls {
            let (client, connection) = config.connect(Tls::of(tls.clone())).await?;
            tokio::spawn(follow(connection, told));
            client
        } else {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(follow(connection, told));
            client
        };
        client.batch_execute(SETTINGS).await?;
        let session = Self {
            client,
            statements: Mutex::default(),
        };
        session.demand_durability().await?;
        Ok(session)
    }

    /// What the database says is committed must be on its disk.
    async fn demand_durability(&self) -> Result<(), Fault> {
        let sql = "SELECT current_setting('fsync'), current_setting('full_page_writes'), \
                   current_setting('synchronous_commit')";
        let row = self.one(sql, &[]).await?;
        let (fsync, pages, commit): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
        if (fsync, pages) != ("on", "on") {
            return Err(Fault::Careless);
        }
        if !["on", "remote_apply"].contains(&commit) {
            self.batch("SET synchronous_commit = on").await?;
        }
        Ok(())
    }

    /// Runs statements without values.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Fault> {
        Ok(self.client.batch_execute(sql).await?)
    }

    fn known(&self, sql: &'static str) -> Option<Statement> {
        let statements = self
            .statements
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        statements.get(sql).cloned()
    }

    async fn prepared(&self, sql: &'static str) -> Result<Statement, Fault> {
        if let Some(known) = self.known(sql) {
            return Ok(known);
        }
        let statement = self.client.prepare(sql).await?;
        let mut statements = self
            .statements
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        statements.insert(sql, statement.clone());
        Ok(statement)
    }

    /// Prepares statements that are sent in a row later: one that had to be prepared first would
    /// fall behind those after it.
    pub(super) async fn prepare(&self, all: &[&'static str]) -> Result<(), Fault> {
        for sql in all {
            self.prepared(sql).await?;
        }
        Ok(())
    }

    /// The rows that a statement gives.
    pub(super) async fn rows(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Fault> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.query(&statement, values).await?)
    }

    /// The one row that a statement gives.
    pub(super) async fn one(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Row, Fault> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.query_one(&statement, values).await?)
    }

    /// Runs a statement that gives no rows; how many it changed.
    pub(super) async fn execute(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<u64, Fault> {
        let statement = self.prepared(sql).await?;
        Ok(self.client.execute(&statement, values).await?)
    }

    /// As [`Self::rows`], for a statement of [`Self::prepare`]: it is sent when this is polled
    /// first.
    pub(super) async fn ask(
        &self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Fault> {
        let statement = self.known(sql).expect(PREPARED);
        Ok(self.client.query(&statement, values).await?)
    }

    /// As [`Self::execute`], for a statement of [`Self::prepare`]: it is sent when this is polled
    /// first.
    pub(super) async fn send(&self, sql: &'static str, values: &[Value<'_>]) -> Result<(), Fault> {
        let statement = self.known(sql).expect(PREPARED);
        self.client.execute(&statement, values).await?;
        Ok(())
    }

    /// Whether the connection is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

/// Moves the connection's bytes until it ends.
async fn follow<S>(mut connection: tokio_postgres::Connection<Socket, S>, mut told: impl FnMut())
where
    S: tokio_postgres::tls::TlsStream + Unpin,
{
    loop {
        let message = poll_fn(|context| connection.poll_message(context)).await;
        match message {
            Some(Ok(AsyncMessage::Notification(_))) => told(),
            // Notices are words for people at a terminal.
            Some(Ok(_)) => {}
            // Whoever uses the client learns of it there.
            Some(Err(_)) | None => return,
        }
    }
}

/// Sends what each of `calls` sends, in this order, without waiting for answers in between, and then
/// waits for all of them. The error is that of the first which failed: those behind it only say
/// that the transaction was aborted, and a COMMIT among them was a ROLLBACK.
pub(super) async fn in_order(calls: Vec<BoxFuture<'_, Result<(), Fault>>>) -> Result<(), Fault> {
    let mut calls: Vec<_> = calls.into_iter().map(Some).collect();
    let mut failed: Option<(usize, Fault)> = None;
    poll_fn(|context| {
        let mut waits = false;
        for (place, slot) in calls.iter_mut().enumerate() {
            let Some(call) = slot else { continue };
            let Poll::Ready(done) = call.as_mut().poll(context) else {
                waits = true;
                continue;
            };
            *slot = None;
            if let Err(fault) = done
                && failed.as_ref().is_none_or(|(before, _)| place < *before)
            {
                failed = Some((place, fault));
            }
        }
        if waits {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    failed.map_or(Ok(()), |(_, fault)| Err(fault))
}

/// Whether the same may succeed on a new connection, or a moment later.
pub(super) fn passes(error: &tokio_postgres::Error) -> bool {
    let Some(state) = error.code() else {
        // The connection broke, or none was made.
        return true;
    };
    [
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::QUERY_CANCELED,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ]
    .contains(state)
}
