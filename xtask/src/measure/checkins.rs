//! `measure checkins`: acknowledged check-ins of a large fleet, through the server's own writer and
//! store, as fast as they are acknowledged.
//!
//! What is measured is what a request waits for: the queue, the group, the transaction, the disk.
//! HTTP and TLS are measured elsewhere.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use ampoule_server::config;
use ampoule_server::store::open::Opened;
use ampoule_server::store::sled::SledStore;
use ampoule_server::store::writer::Writer;
use ampoule_server::store::{Capacity, Store, Write, Written};
use serde_json::{Value, json};

use crate::process::cpu_time;

/// Check-ins that wait at a time, each of another device.
const WAITING: u64 = 512;
/// Devices do not check in by their number: the next one is so far away. Shares no factor with the
/// size of the fleet, so that each has its turn.
const STRIDE: u64 = 61_803;
/// The longest run, in seconds.
const SECONDS_MAX: u64 = 60;
/// Bytes of an inventory.
const INVENTORY_LEN: usize = 300;
const CAPACITY: Capacity = Capacity {
    receipts_max: 64,
    events_max: 64,
};
const CACHE_MIB: u64 = 256;

/// What a check-in says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// What the one before said: nearly all of them.
    TheSame,
    /// Other software: a new inventory and an event.
    Else,
}

/// Enrols `devices` in a new store in `folder`.
pub(crate) fn fill(folder: &Path, devices: u64) -> Result<Value, Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    // Without the roster, which waits for the disk for each line.
    let store = SledStore::open(&folder.join("store"), CAPACITY, CACHE_MIB)?;
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
    Ok(json!({ "devices": devices }))
}

/// Checks in for `seconds`; `says` is `same` or `else`.
pub(crate) fn run(
    folder: &Path,
    devices: u64,
    seconds: u64,
    says: &str,
) -> Result<Value, Box<dyn Error>> {
    let says = match says {
        "same" => Says::TheSame,
        "else" => Says::Else,
        other => return Err(format!("\"{other}\" is nothing to say").into()),
    };
    let config = config::Store {
        path: PathBuf::from(folder),
        engine: config::Engine::Sled,
        queue_len: 4096,
        group_len_max: 512,
        receipts_max: CAPACITY.receipts_max,
        events_max: CAPACITY.events_max,
        cache_mib: CACHE_MIB,
    };
    let store = Arc::new(Opened::open(&config, None)?);
    let before = store.devices()?.first().map_or(0, |row| row.inventory_seq);
    let (writer, writing) = Writer::start(
        store.clone(),
        config.queue_len,
        config.group_len_max,
        |_| {},
        |error| eprintln!("error: {error}"),
    )?;
    let cpu = cpu_time(std::process::id())?;
    let start = Instant::now();
    let until = start + Duration::from_secs(seconds.min(SECONDS_MAX));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut waits = runtime.block_on(all_wait(&writer, devices, before, says, until))?;
    let took = start.elapsed();
    let cpu = cpu_time(std::process::id())?.saturating_sub(cpu);
    drop(writer);
    writing.join();
    store.close();
    waits.sort_unstable();
    let count = waits.len();
    let at = |share: usize| waits[(count * share / 100).min(count - 1)].as_secs_f64() * 1e3;
    #[expect(clippy::cast_precision_loss)] // Counts of seconds, far below 2^52.
    let count = count as f64;
    Ok(json!({
        "per_sec": count / took.as_secs_f64(),
        "p50_ms": at(50),
        "p99_ms": at(99),
        "cpu_us": cpu.as_secs_f64() * 1e6 / count,
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

fn device(number: u64) -> Result<DeviceId, Box<dyn Error>> {
    Ok(DeviceId::parse(&format!("pump-{number:06}"))?)
}

fn check_in(number: u64, seq: u64, says: Says) -> Result<Write, Box<dyn Error>> {
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
