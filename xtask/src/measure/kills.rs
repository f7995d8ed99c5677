//! `measure kills`: kills a process that writes to a store, many times, and counts what it had
//! acknowledged and the store has not.
//!
//! The child checks devices in as fast as they are acknowledged and tells each acknowledgement
//! through its standard output, after it came. The parent kills it with SIGKILL after a number of
//! acknowledgements that differs from round to round, opens the store itself, and compares.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use ampoule_server::store::Written;
use ampoule_server::store::writer::Writer;
use serde_json::{Value, json};

use crate::checkins::{Says, check_in, device};
use crate::engines::Engine;
use crate::postgres::Cluster;

/// Devices that check in, all at a time.
const DEVICES: u64 = 64;
/// The most rounds.
const KILLS_MAX: u64 = 10_000;
/// Bytes of one acknowledgement: device and number.
const TOLD_LEN: usize = 16;

/// For each store: kills, acknowledged writes, lost ones.
pub(crate) fn run(folder: &Path, kills: u64) -> Result<Value, Box<dyn Error>> {
    let cluster = Cluster::new();
    let database = cluster.database_text();
    let mut rows = Vec::new();
    for word in ["sled", "sqlite", &database] {
        let engine = Engine::parse(folder, word);
        let (acknowledged, lost) = of_engine(folder, word, &engine, kills.min(KILLS_MAX))?;
        let row = json!({
            "engine": engine.name(),
            "kills": kills,
            "acknowledged": acknowledged,
            "lost": lost,
        });
        rows.push(row);
    }
    Ok(json!(rows))
}

fn of_engine(
    folder: &Path,
    word: &str,
    engine: &Engine,
    kills: u64,
) -> Result<(u64, u64), Box<dyn Error>> {
    enroll(engine)?;
    let (mut acknowledged, mut lost) = (0, 0);
    let mut newest = vec![0; usize::try_from(DEVICES)?];
    for kill in 0..kills {
        acknowledged += one_life(folder, word, 1 + kill * 37 % 1500, &mut newest)?;
        let open = engine.open()?;
        let found = open.seqs(DEVICES)?;
        for (found, newest) in found.iter().zip(&mut newest) {
            lost += u64::from(*found < *newest);
            // Written and not told, which is no loss.
            *newest = (*found).max(*newest);
        }
    }
    Ok((acknowledged, lost))
}

fn enroll(engine: &Engine) -> Result<(), Box<dyn Error>> {
    let open = engine.open()?;
    let writes = (0..DEVICES).map(|number| {
        Ok(ampoule_server::store::Write::Enroll {
            device: device(number)?,
            certificate: ampoule_protocol::digest::Digest::of(b"certificate"),
            not_after: i64::MAX,
            at: 0,
        })
    });
    let writes = writes.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    open.store().commit(&writes)?;
    open.close();
    Ok(())
}

/// Starts a writer and kills it after `patience` acknowledgements; how many it told.
fn one_life(
    folder: &Path,
    word: &str,
    patience: u64,
    newest: &mut [u64],
) -> Result<u64, Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["kills-child".as_ref(), folder.as_os_str()])
        .arg(word)
        .arg(newest.iter().max().copied().unwrap_or(0).to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut told = child.stdout.take().ok_or("the child has no output")?;
    let (mut count, mut one) = (0, [0; TOLD_LEN]);
    while told.read_exact(&mut one).is_ok() {
        let (number, seq) = one.split_at(8);
        let number = usize::try_from(u64::from_be_bytes(number.try_into()?))?;
        let seq = u64::from_be_bytes(seq.try_into()?);
        let of_device = newest.get_mut(number).ok_or("no such device")?;
        *of_device = seq.max(*of_device);
        count += 1;
        if count == patience {
            // What is in the pipe still was acknowledged, and is read on.
            child.kill()?;
        }
    }
    child.wait()?;
    if count < patience {
        return Err("the child ended by itself".into());
    }
    Ok(count)
}

/// Checks in until it is killed.
pub(crate) fn child(folder: &Path, word: &str, before: u64) -> Result<Value, Box<dyn Error>> {
    let open = Engine::parse(folder, word).open()?;
    let (writer, _writing) = Writer::start(open.store(), 4096, 512, |_| {}, |_| {})?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        for number in 0..DEVICES {
            let writer = writer.clone();
            all.spawn(async move {
                for seq in before + 1.. {
                    let write = check_in(number, seq, Says::Else).map_err(|e| e.to_string())?;
                    match writer.write(write).await {
                        Ok(Written::Done(_)) => {}
                        other => return Err(format!("a check-in came to {other:?}")),
                    }
                    let told = [number.to_be_bytes(), seq.to_be_bytes()].concat();
                    // One write below the length of a pipe's page is whole or not at all.
                    let mut out = std::io::stdout().lock();
                    let _ = out.write_all(&told).and_then(|()| out.flush());
                }
                Ok(())
            });
        }
        while let Some(done) = all.join_next().await {
            done.map_err(|error| error.to_string())??;
        }
        Ok::<_, String>(())
    })?;
    Err("the child was not killed".into())
}
