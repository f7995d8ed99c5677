//! `measure checkins`: acknowledged check-ins of a large fleet, through the server's own writer and
//! store, as fast as they are acknowledged.
//!
//! What is measured is what a request waits for: the queue, the group, the transaction, the disk.
//! HTTP and TLS are measured elsewhere.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use ampoule_server::store::writer::Writer;
use ampoule_server::store::{Write, Written};
use serde_json::{Value, json};

use crate::engines::Engine;
use crate::postgres::Cluster;
use crate::process::own_cpu_time;
use crate::sqlite::Sqlite;

/// Check-ins that wait at a time, each of another device.
const WAITING: u64 = 512;
/// Devices do not check in by their number: the next one is so far away. Shares no factor with the
/// size of the fleet, so that each has its turn.
const STRIDE: u64 = 61_803;
/// The longest run, in seconds.
const SECONDS_MAX: u64 = 60;
/// Bytes of an inventory.
const INVENTORY_LEN: usize = 300;
/// Writes of one group, as the server has it by default.
const GROUP_LEN_MAX: usize = 512;
const QUEUE_LEN: usize = 4096;
/// What docs/guide/server.md tells operators to give PostgreSQL: pages of the fleet stay in memory,
/// and checkpoints are so far apart that few pages are logged whole. Durability is as it comes.
const POSTGRES: &str = "shared_buffers = 512MB\nmax_wal_size = 4GB\nwal_compression = on\n\
     checkpoint_timeout = 15min\n";
/// Rounds at the most.
const ROUNDS_MAX: usize = 20;

/// What a check-in says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    /// What the one before said: nearly all of them.
    TheSame,
    /// Other software: a new inventory and an event.
    Else,
}

/// Fills each store with `devices`, then lets them check in by turns, `rounds` times `seconds`.
pub(crate) fn run(
    folder: &Path,
    devices: u64,
    seconds: u64,
    rounds: usize,
) -> Result<Value, Box<dyn Error>> {
    let cluster = Cluster::with(POSTGRES);
    let database = cluster.database_text();
    let engines = ["sled", "sqlite", &database].map(|word| Engine::parse(folder, word));
    for engine in &engines {
        fill(engine, devices)?;
    }
    let length = Duration::from_secs(seconds.min(SECONDS_MAX));
    let mut told = Vec::new();
    for (name, says) in [
        ("nothing new", Says::TheSame),
        ("other software", Says::Else),
    ] {
        for _ in 0..rounds.min(ROUNDS_MAX) {
            for engine in &engines {
                let mut figures = round(engine, devices, length, says)?;
                figures["engine"] = engine.name().into();
                figures["says"] = name.into();
                told.push(figures);
            }
        }
    }
    let mut sizes = json!({});
    for engine in &engines {
        sizes[engine.name()] = engine.bytes()?.into();
    }
    Ok(json!({ "rounds": told, "bytes": sizes, "sqlite": Sqlite::version() }))
}

fn fill(engine: &Engine, devices: u64) -> Result<(), Box<dyn Error>> {
    let open = engine.open()?;
    // Past the roster, which waits for the disk for each line.
    let store = open.store();
    let writes = (0..devices).map(|number| {
        Ok(Write::Enroll {
            device: device(number)?,
            certificate: Digest::of(&number.to_be_bytes()),
            not_after: i64::MAX,
            at: 0,
        })
    });
    let writes = writes.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    for group in writes.chunks(4096) {
        store.commit(group)?;
    }
    let first = (0..devices).map(|number| check_in(number, 1, Says::Else));
    let first = first.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    for group in first.chunks(1024) {
        store.commit(group)?;
    }
    open.close();
    Ok(())
}

/// Check-ins for so long on one store.
fn round(
    engine: &Engine,
    devices: u64,
    length: Duration,
    says: Says,
) -> Result<Value, Box<dyn Error>> {
    let open = engine.open()?;
    let before = open.seqs(devices)?.into_iter().max().unwrap_or(0);
    let failed = |error: &_| eprintln!("error: {error}");
    let store = open.store();
    let (writer, writing) = Writer::start(store, QUEUE_LEN, GROUP_LEN_MAX, |_| {}, failed)?;
    let cpu = own_cpu_time()?;
    let start = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let waiting = all_wait(&writer, devices, before, says, start + length);
    let mut waits = runtime.block_on(waiting)?;
    let took = start.elapsed();
    let groups = writer.counts().groups.count();
    drop(writer);
    writing.join();
    open.close();
    drop(open);
    // What was put off is paid for as well.
    let cpu = own_cpu_time()?.saturating_sub(cpu);
    let settled = start.elapsed();
    waits.sort_unstable();
    let count = waits.len();
    let at = |share: usize| waits[(count * share / 100).min(count - 1)].as_secs_f64() * 1e3;
    #[expect(clippy::cast_precision_loss)] // Counts of seconds, far below 2^52.
    let (count, groups) = (count as f64, groups as f64);
    Ok(json!({
        "per_sec": count / took.as_secs_f64(),
        "per_sec_settled": count / settled.as_secs_f64(),
        "p50_ms": at(50),
        "p99_ms": at(99),
        "cpu_us": cpu.as_secs_f64() * 1e6 / count,
        "group_len": count / groups,
    }))
}

/// `WAITING` devices at a time, each on its way through a share of the fleet; how long each waited.
async fn all_wait(
    writer: &Writer,
    devices: u64,
    before: u64,
    says: Says,
    until: Instant,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut waiting = tokio::task::JoinSet::new();
    for first in 0..WAITING {
        let writer = writer.clone();
        waiting.spawn(async move {
            let mut waits = Vec::new();
            let (mut turn, mut seq) = (first, before + 1);
            while Instant::now() < until {
                let write = check_in(turn * STRIDE % devices, seq, says)
                    .map_err(|error| error.to_string())?;
                let start = Instant::now();
                match writer.write(write).await {
                    Ok(Written::Done(_)) => waits.push(start.elapsed()),
                    other => return Err(format!("a check-in came to {other:?}")),
                }
                turn += WAITING;
                if turn >= devices {
                    (turn, seq) = (first, seq + 1);
                }
            }
            Ok(waits)
        });
    }
    let mut all = Vec::new();
    while let Some(waits) = waiting.join_next().await {
        all.extend(waits??);
    }
    Ok(all)
}

/// The number in a device's name.
pub(crate) fn number_of(device: &DeviceId) -> i64 {
    let digits = device.as_str().strip_prefix("pump-");
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(-1)
}

pub(crate) fn device(number: u64) -> Result<DeviceId, Box<dyn Error>> {
    Ok(DeviceId::parse(&format!("pump-{number:06}"))?)
}

pub(crate) fn check_in(number: u64, seq: u64, says: Says) -> Result<Write, Box<dyn Error>> {
    let changes = if says == Says::Else { seq } else { 1 };
    let mut bytes = format!("{{\"device\":\"pump-{number:06}\",\"seq\":{changes}}}").into_bytes();
    bytes.resize(INVENTORY_LEN, b' ');
    Ok(Write::Inventory {
        device: device(number)?,
        at: 1_800_000_000,
        seq,
        time: 1_800_000_000,
        digest: Digest::of(&bytes),
        bytes,
    })
}
