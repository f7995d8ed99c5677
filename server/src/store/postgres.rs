//! The scale-out engine: PostgreSQL, shared by any number of servers.
//!
//! ```text
//!   writer thread -> commit -> [writing session]  one transaction a group, UNNEST statements
//!   reads         ----------> [reading session]
//!   turns         ----------> [turn session]      one server at a time decides about rollouts
//!   notifications <---------- [listening session]  "something changed", never what
//! ```
//!
//! Invariants:
//! - A group is one transaction with `synchronous_commit` on, and the server refuses a database
//!   that runs without `fsync`.
//! - A connection that breaks during a commit is not guessed about: the group's number is written
//!   in the same transaction, and the next connection reads it, behind the lock of the old one.
//! - What was told as news was committed before the mark that follows it.
//!
//! A database that restarts is waited for ([`PATIENCE`]); after that the group fails and the next
//! one tries again. Nothing is acknowledged meanwhile.

mod audit;
mod group;
mod link;
mod migrate;
mod news;
mod rows;
mod session;
mod tls;
mod turn;
mod write;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::Row;

use self::group::Group;
use self::link::Link;
use self::rows::column;
use self::session::{Session, Value};
use super::records::{Key, Kind, Record};
use super::{
    Capacity, DeviceRow, Event, Mark, News, Share, Store, StoreError, StoredReceipt, Turn, Write,
    Written,
};
use crate::audit::medium::Medium;
use crate::rollout::RolloutId;

/// How long a group waits for a database that restarts.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(200);
/// Rows that one statement reads.
const PAGE_LEN: i64 = 10_000;
const LAST_GROUP: &str = "SELECT last_group FROM writer WHERE id = $1 FOR UPDATE";
const COUNT_GROUP: &str = "UPDATE writer SET last_group = $2, at = now() WHERE id = $1";

/// Where the database is.
#[derive(Clone)]
pub struct Database {
    /// Address, user, name and password.
    pub config: tokio_postgres::Config,
    /// With it, TLS to this authority is demanded; without it the connection must stay on this
    /// machine.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // tokio-postgres leaves the password out.
        f.debug_struct("Database")
            .field("config", &self.config)
            .field("tls", &self.tls.is_some())
            .finish()
    }
}

/// A fleet in a database.
pub struct PostgresStore {
    link: Link,
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    /// Who we are among the writers of this database.
    writer: i64,
    writing: Mutex<Writing>,
    reading: Mutex<Option<Session>>,
    listening: Mutex<Option<Session>>,
    turning: Mutex<Option<Session>>,
    /// When we removed old news last.
    pruned: Mutex<Option<Instant>>,
    /// Counts notifications.
    told: Arc<AtomicU64>,
}

#[derive(Default)]
struct Writing {
    session: Option<Session>,
    /// Groups begun so far.
    groups: i64,
}

/// What ended an attempt.
#[derive(Debug)]
enum Fault {
    /// The database.
    Database(tokio_postgres::Error),
    /// It does not sync.
    Careless,
    /// What it gave.
    Store(StoreError),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Database(error) => Self::Database(error),
            Fault::Careless => Self::Careless,
            Fault::Store(error) => error,
        }
    }
}

impl Fault {
    /// Whether the database is well and only the news are gone.
    fn is_forgotten(&self) -> bool {
        matches!(self, Self::Store(StoreError::Forgotten))
    }

    fn passes(&self) -> bool {
        match self {
            Self::Database(error) => session::passes(error),
            Self::Careless | Self::Store(_) => false,
        }
    }
}

impl PostgresStore {
    /// Connects, brings the tables to the newest layout, and introduces this server.
    ///
    /// # Errors
    /// The database does not answer, does not sync, or has a layout that is newer than ours.
    pub fn open(database: Database, capacity: Capacity) -> Result<Self, StoreError> {
        let link = Link::start().map_err(|source| StoreError::File {
            act: "start a thread for",
            path: "the database".into(),
            source,
        })?;
        let mut writer = [0; 8];
        getrandom::fill(&mut writer).map_err(|error| StoreError::Damaged(error.to_string()))?;
        let inner = Arc::new(Inner {
            database,
            writer: i64::from_le_bytes(writer),
            writing: Mutex::default(),
            reading: Mutex::default(),
            listening: Mutex::default(),
            turning: Mutex::default(),
            pruned: Mutex::default(),
            told: Arc::default(),
        });
        let beginning = inner.clone();
        link.wait(async move { Ok(beginning.begin(capacity).await?) })?;
        Ok(Self { link, inner })
    }

    /// Runs a statement that reads, and makes something of each of its rows.
    fn read<T: Send + 'static>(
        &self,
        sql: &'static str,
        values: Vec<Box<dyn tokio_postgres::types::ToSql + Sync + Send>>,
        make: fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let inner = self.inner.clone();
        self.link.wait(async move {
            let values: Vec<Value<'_>> = values.iter().map(|value| &**value as Value<'_>).collect();
            let rows = inner.rows(sql, &values).await?;
            rows.iter().map(make).collect()
        })
    }

    /// `device, bytes` of these devices.
    fn of_devices(
        &self,
        sql: &'static str,
        devices: &[&DeviceRow],
    ) -> Result<HashMap<u32, Vec<u8>>, StoreError> {
        let numbers = devices.iter().map(|row| row.number.cast_signed());
        let numbers: Vec<i32> = numbers.collect();
        let mut found = HashMap::with_capacity(numbers.len());
        for page in numbers.chunks(usize::try_from(PAGE_LEN).unwrap_or(usize::MAX)) {
            let numbers: Box<dyn tokio_postgres::types::ToSql + Sync + Send> =
                Box::new(page.to_vec());
            found.extend(self.read(sql, vec![numbers], rows::deployment)?);
        }
        Ok(found)
    }
}

impl Inner {
    async fn begin(&self, capacity: Capacity) -> Result<(), Fault> {
        let mut writing = self.writing.lock().await;
        let session = self.session(&mut writing.session).await?;
        migrate::migrate(session, capacity).await?;
        let sql = "DELETE FROM writer WHERE at < now() - interval '30 days'";
        session.execute(sql, &[]).await?;
        let sql = "INSERT INTO writer (id, last_group) VALUES ($1, 0)";
        session.execute(sql, &[&self.writer]).await?;
        drop(writing);
        self.listen().await
    }

    /// A connection that works, as far as is known.
    async fn session<'a>(&self, place: &'a mut Option<Session>) -> Result<&'a mut Session, Fault> {
        if place.as_ref().is_some_and(Session::is_closed) {
            *place = None;
        }
        match place {
            Some(session) => Ok(session),
            None => Ok(place.insert(Session::open(&self.database, || {}).await?)),
        }
    }

    /// Reads; once more where the connection broke since it was used last.
    async fn rows(&self, sql: &'static str, values: &[Value<'_>]) -> Result<Vec<Row>, Fault> {
        let mut reading = self.reading.lock().await;
        let had_one = reading.is_some();
        match self.try_rows(&mut reading, sql, values).await {
            Err(fault) if fault.passes() && had_one => {
                *reading = None;
                self.try_rows(&mut reading, sql, values).await
            }
            other => other,
        }
    }

    async fn try_rows(
        &self,
        reading: &mut MutexGuard<'_, Option<Session>>,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Fault> {
        self.session(reading).await?.rows(sql, values).await
    }

    async fn commit(&self, writes: &[Write]) -> Result<Vec<Written>, Fault> {
        let mut writing = self.writing.lock().await;
        writing.groups += 1;
        let begun = Instant::now();
        // What a commit would have been answered with whose connection broke.
        let mut sent = None;
        loop {
            match self.attempt(&mut writing, writes, &mut sent).await {
                Err(fault) if fault.passes() && begun.elapsed() < PATIENCE => {
                    writing.session = None;
                    tokio::time::sleep(RETRY).await;
                }
                Err(fault) => {
                    writing.session = None;
                    return Err(fault);
                }
                Ok(written) => return Ok(written),
            }
        }
    }

    async fn attempt(
        &self,
        writing: &mut Writing,
        writes: &[Write],
        sent: &mut Option<Vec<Written>>,
    ) -> Result<Vec<Written>, Fault> {
        let number = writing.groups;
        let session = &*self.session(&mut writing.session).await?;
        session.prepare(&[LAST_GROUP, COUNT_GROUP]).await?;
        Group::prepare(session).await?;
        let mine: [Value<'_>; 1] = [&self.writer];
        // Where the connection before is still committing, the second waits until it has.
        let (begun, last, group) = tokio::join!(
            biased;
            session.batch("BEGIN"),
            session.ask(LAST_GROUP, &mine),
            Group::read(session, writes),
        );
        begun?;
        let (last, mut group) = (last?, group?);
        let last = last.first().map(|row| column::<i64>(row, 0)).transpose()?;
        if last == Some(number)
            && let Some(written) = sent.take()
        {
            session.batch("ROLLBACK").await?;
            return Ok(written);
        }
        let written = group.apply(writes)?;
        *sent = Some(written);
        let count: [Value<'_>; 2] = [&self.writer, &number];
        let end: Vec<BoxFuture<'_, _>> = vec![
            Box::pin(session.send(COUNT_GROUP, &count)),
            Box::pin(session.batch("COMMIT")),
        ];
        group.out.write(session, end).await?;
        Ok(sent.take().unwrap_or_default())
    }
}

macro_rules! values {
    ($($value:expr),*) => { vec![$(Box::new($value) as _),*] };
}

impl Store for PostgresStore {
    fn commit(&self, group: &[Write]) -> Result<Vec<Written>, StoreError> {
        let (inner, writes) = (self.inner.clone(), group.to_vec());
        self.link
            .wait(async move { Ok(inner.commit(&writes).await?) })
    }

    fn devices(&self) -> Result<Vec<DeviceRow>, StoreError> {
        let mut devices: Vec<DeviceRow> = Vec::new();
        loop {
            let after = devices.last().map_or(-1, |row| row.number.cast_signed());
            let values = values![after, PAGE_LEN];
            let page = self.read(rows::PAGE_OF_DEVICES, values, rows::device)?;
            if page.is_empty() {
                return Ok(devices);
            }
            devices.extend(page);
        }
    }

    fn inventory(&self, device: &DeviceRow) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT bytes FROM inventory WHERE device = $1";
        let found = self.read(sql, values![device.number.cast_signed()], bytes)?;
        Ok(found.into_iter().next())
    }

    fn receipts(&self, device: &DeviceRow) -> Result<Vec<StoredReceipt>, StoreError> {
        let sql = "SELECT seq, at, digest, bytes FROM receipt WHERE device = $1 ORDER BY seq";
        self.read(sql, values![device.number.cast_signed()], rows::receipt)
    }

    fn events(&self, device: &DeviceRow) -> Result<Vec<Event>, StoreError> {
        let sql = "SELECT seq, at, what, digest FROM event WHERE device = $1 ORDER BY seq";
        self.read(sql, values![device.number.cast_signed()], rows::event)
    }

    fn tags(&self, device: &DeviceRow) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT bytes FROM tags WHERE device = $1";
        let found = self.read(sql, values![device.number.cast_signed()], bytes)?;
        Ok(found.into_iter().next())
    }

    fn rollouts(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        self.read("SELECT bytes FROM rollout ORDER BY name", vec![], bytes)
    }

    fn deployments(&self, rollout: &RolloutId) -> Result<Vec<(u32, Vec<u8>)>, StoreError> {
        let sql = "SELECT device, bytes FROM deployment WHERE rollout = $1 ORDER BY device";
        let values = values![rollout.as_str().to_owned()];
        self.read(sql, values, rows::deployment)
    }

    fn record(&self, kind: &Kind, key: &Key) -> Result<Option<Record>, StoreError> {
        let sql = "SELECT key, version, bytes FROM record WHERE kind = $1 AND key = $2";
        let values = values![kind.as_str().to_owned(), key.as_str().to_owned()];
        Ok(self.read(sql, values, rows::record)?.into_iter().next())
    }

    fn records(
        &self,
        kind: &Kind,
        after: Option<&Key>,
        max: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let sql = "SELECT key, version, bytes FROM record WHERE kind = $1 AND key > $2 \
                   ORDER BY key LIMIT $3";
        // No key is empty, so all of them are behind the empty one.
        let after = after.map_or("", Key::as_str).to_owned();
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let values = values![kind.as_str().to_owned(), after, max];
        self.read(sql, values, rows::record)
    }

    fn record_kinds(&self) -> Result<Vec<Kind>, StoreError> {
        let sql = "SELECT DISTINCT kind FROM record ORDER BY kind";
        self.read(sql, vec![], |row| rows::kind(row, 0))
    }

    fn capacity(&self) -> Result<Capacity, StoreError> {
        let found = self.read(
            "SELECT receipts_max, events_max FROM store",
            vec![],
            |row| {
                Ok(Capacity {
                    receipts_max: column::<i32>(row, 0)?.cast_unsigned(),
                    events_max: column::<i32>(row, 1)?.cast_unsigned(),
                })
            },
        )?;
        let missing = || StoreError::Damaged("its sizes are missing".into());
        found.into_iter().next().ok_or_else(missing)
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn news(&self, since: Option<&Mark>) -> Result<(Vec<News>, Mark), StoreError> {
        let (inner, since) = (self.inner.clone(), since.cloned());
        self.link
            .wait(async move { Ok(inner.news(since.as_ref()).await?) })
    }

    fn told(&self) -> u64 {
        self.inner.told.load(Ordering::Relaxed)
    }

    fn some_devices(&self, numbers: &[u32]) -> Result<Vec<DeviceRow>, StoreError> {
        let numbers: Vec<i32> = numbers.iter().map(|number| number.cast_signed()).collect();
        self.read(rows::SOME_DEVICES, values![numbers], rows::device)
    }

    fn some_deployments(&self, wanted: &[Share]) -> Result<Vec<(Share, Vec<u8>)>, StoreError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let name = |share: &Share| share.0.as_str().to_owned();
        let rollouts: Vec<String> = wanted.iter().map(name).collect();
        let devices: Vec<i32> = wanted.iter().map(|share| share.1.cast_signed()).collect();
        let sql = "SELECT d.rollout, d.device, d.bytes FROM deployment d \
                   JOIN unnest($1::text[], $2::int[]) AS w(rollout, device) \
                   ON d.rollout = w.rollout AND d.device = w.device";
        self.read(sql, values![rollouts, devices], rows::share)
    }

    fn inventories(&self, devices: &[&DeviceRow]) -> Result<HashMap<u32, Vec<u8>>, StoreError> {
        let sql = "SELECT device, bytes FROM inventory WHERE device = ANY($1)";
        self.of_devices(sql, devices)
    }

    fn tags_of(&self, devices: &[&DeviceRow]) -> Result<HashMap<u32, Vec<u8>>, StoreError> {
        let sql = "SELECT device, bytes FROM tags WHERE device = ANY($1)";
        self.of_devices(sql, devices)
    }

    fn some_receipts(
        &self,
        wanted: &[(&DeviceRow, u64)],
    ) -> Result<Vec<(u32, StoredReceipt)>, StoreError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let devices = wanted.iter().map(|(row, _)| row.number.cast_signed());
        let seqs = wanted.iter().map(|(_, seq)| seq.cast_signed());
        let values = values![devices.collect::<Vec<i32>>(), seqs.collect::<Vec<i64>>()];
        let sql = "SELECT r.seq, r.at, r.digest, r.bytes, r.device FROM receipt r \
                   JOIN unnest($1::int[], $2::bigint[]) AS w(device, seq) \
                   ON r.device = w.device AND r.seq = w.seq";
        self.read(sql, values, |row| {
            Ok((column::<i32>(row, 4)?.cast_unsigned(), rows::receipt(row)?))
        })
    }

    fn turn(&self) -> Result<Option<Box<dyn Turn>>, StoreError> {
        turn::begin(self).map(Some)
    }

    fn audit_files(&self) -> Option<Box<dyn Medium>> {
        let files = audit::Files::new(self.link.door(), self.inner.clone());
        Some(Box::new(files))
    }
}

fn bytes(row: &Row) -> Result<Vec<u8>, StoreError> {
    Ok(column::<&[u8]>(row, 0)?.to_vec())
}
