//! `receipts`: the way back of a device without a network.
//!
//! ```text
//! {"format":1,"device":"pump-0042","certificate":"-----BEGIN CERTIFICATE-----…"}
//! {"signatures":[…],"signed":{"_type":"ampoule-receipt",…}}
//! …
//! ```
//!
//! A line each, signed as they would be sent. They stay in the journal until a server says that it
//! has them: losing the stick loses nothing, and carrying it twice does no harm.

use ampoule_protocol::device::Acknowledged;
use serde_json::json;

use super::args::Args;
use super::open::{self, CliError, Half};
use super::show;
use super::watch::Screen;
use crate::config::Config;
use crate::disk::Disk;
use crate::driver::Driver;
use crate::ports::replace;

/// Bytes of what a server acknowledged.
const ACKNOWLEDGED_LEN_MAX: u64 = 1 << 20;

pub(super) fn run(args: &Args, config: &Config) -> Result<(), CliError> {
    let _lock = open::lock(&config.data_dir)?;
    let mut driver = open::driver(config, None, Box::new(Screen::new()), Half::Later)?;
    let (word, count) = match &args.acknowledged {
        Some(path) => ("acknowledged", acknowledge(&mut driver, path)?),
        None => ("written", write(args, config, &driver)?),
    };
    let waiting = driver.state().facts.outbox.len();
    if args.json {
        return Ok(show::document(&json!({ word: count, "waiting": waiting }))?);
    }
    println!("receipts {word}: {count}, waiting: {waiting}");
    Ok(())
}

fn write(args: &Args, config: &Config, driver: &Driver) -> Result<usize, CliError> {
    let receipts = driver
        .receipts()
        .map_err(crate::driver::DriverError::from)?;
    let certificate = read(&config.server.certificate)?;
    let head = json!({
        "format": 1,
        "device": driver.device().as_str(),
        "certificate": String::from_utf8_lossy(&certificate),
    });
    let mut text = head.to_string().into_bytes();
    for (_, receipt) in &receipts {
        text.push(b'\n');
        text.extend_from_slice(receipt);
    }
    text.push(b'\n');
    let path = args.file.clone().unwrap_or_default();
    replace(&Disk, &path, &text).map_err(|source| CliError::Write { path, source })?;
    Ok(receipts.len())
}

fn acknowledge(driver: &mut Driver, path: &std::path::Path) -> Result<usize, CliError> {
    let bytes = read(path)?;
    let acknowledged: Acknowledged =
        serde_json::from_slice(&bytes).map_err(|error| CliError::NotUnderstood {
            path: path.to_owned(),
            source: error,
        })?;
    Ok(driver.take_acknowledged(&acknowledged.acknowledged)?)
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, CliError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(ACKNOWLEDGED_LEN_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(source) => Err(CliError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}
