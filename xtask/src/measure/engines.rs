//! The stores that are measured, each behind the same trait.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ampoule_server::config;
use ampoule_server::store::open::Opened;
use ampoule_server::store::postgres::Database;
use ampoule_server::store::{Capacity, Store};

use crate::sqlite::Sqlite;

pub(crate) const CAPACITY: Capacity = Capacity {
    receipts_max: 64,
    events_max: 64,
};
const CACHE_MIB: u64 = 256;

/// Which store, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The server's embedded default, in this folder, as the server opens it.
    Sled(PathBuf),
    /// The peer, in this file.
    Sqlite(PathBuf),
    /// The server's other engine: a connection string.
    Postgres(PathBuf, String),
}

/// A store that is open.
pub(crate) enum Open {
    Ours(Arc<Opened>),
    Peer(Arc<Sqlite>),
}

impl Engine {
    /// `sled`, `sqlite`, or a connection string, below `folder`.
    pub(crate) fn parse(folder: &Path, word: &str) -> Self {
        match word {
            "sled" => Self::Sled(folder.join("sled")),
            "sqlite" => Self::Sqlite(folder.join("sqlite.db")),
            database => Self::Postgres(folder.join("postgres"), database.to_owned()),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sled(_) => "ours, embedded",
            Self::Sqlite(_) => "SQLite, FULL",
            Self::Postgres(..) => "ours, PostgreSQL",
        }
    }

    pub(crate) fn open(&self) -> Result<Open, Box<dyn Error>> {
        let (path, engine) = match self {
            Self::Sqlite(path) => {
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                return Ok(Open::Peer(Arc::new(Sqlite::open(path, CAPACITY)?)));
            }
            Self::Sled(path) => (path, config::Engine::Sled),
            Self::Postgres(path, database) => {
                let database = Database {
                    config: database.parse()?,
                    tls: None,
                };
                (path, config::Engine::Postgres(Box::new(database)))
            }
        };
        let config = config::Store {
            path: path.clone(),
            engine,
            queue_len: 4096,
            group_len_max: 512,
            receipts_max: CAPACITY.receipts_max,
            events_max: CAPACITY.events_max,
            cache_mib: CACHE_MIB,
        };
        Ok(Open::Ours(Arc::new(Opened::open(&config, None)?)))
    }
}

impl Engine {
    /// Bytes that it takes on the disk.
    pub(crate) fn bytes(&self) -> Result<u64, Box<dyn Error>> {
        match self {
            Self::Sled(path) => files(path),
            Self::Sqlite(path) => path.parent().map_or(Ok(0), |folder| {
                let is_ours = |entry: &std::fs::DirEntry| {
                    entry.file_name().to_string_lossy().starts_with("sqlite.db")
                };
                let mut sum = 0;
                for entry in std::fs::read_dir(folder)?.flatten().filter(is_ours) {
                    sum += entry.metadata()?.len();
                }
                Ok(sum)
            }),
            Self::Postgres(_, database) => {
                let mut config: tokio_postgres::Config = database.parse()?;
                config.application_name("measure");
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(async {
                    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
                    let _connection = tokio::spawn(connection);
                    let query = "SELECT pg_database_size(current_database())";
                    let bytes: i64 = client.query_one(query, &[]).await?.get(0);
                    Ok(u64::try_from(bytes)?)
                })
            }
        }
    }
}

fn files(folder: &Path) -> Result<u64, Box<dyn Error>> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() {
            files(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(sum)
}

impl Open {
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Ours(store) => store.clone(),
            Self::Peer(store) => store.clone(),
        }
    }

    /// The last number that each device gave its inventory.
    pub(crate) fn seqs(&self, devices: u64) -> Result<Vec<u64>, Box<dyn Error>> {
        match self {
            Self::Peer(store) => (0..devices).map(|number| store.seq(number)).collect(),
            Self::Ours(store) => {
                let mut seqs = vec![0; usize::try_from(devices)?];
                for row in store.devices()? {
                    let number = usize::try_from(crate::checkins::number_of(&row.device))?;
                    if let Some(seq) = seqs.get_mut(number) {
                        *seq = row.inventory_seq;
                    }
                }
                Ok(seqs)
            }
        }
    }

    pub(crate) fn close(&self) {
        if let Self::Ours(store) = self {
            store.close();
        }
    }
}
