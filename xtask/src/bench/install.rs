//! The agent installs one image of 256 MiB over loopback: throughput, and peak memory.

use std::time::{Duration, Instant};

use crate::shell::{self, Fault, Outcome};
use crate::table::{self, Table, median};
use crate::world::device::Device;
use crate::world::server::{self, Server, Settings};
use crate::world::signer::{self, Plan};

const ROUNDS: u32 = 3;
const DEVICE: &str = "bench-0001";

/// What one install took.
pub(crate) struct Installed {
    /// From the first request to the end of the trial.
    pub(crate) took: Duration,
    /// The greatest resident size of the agent, in bytes.
    pub(crate) peak_memory: u64,
}

pub(super) fn run() -> Outcome {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(once(super::IMAGE_LEN)?);
    }
    let seconds = median(
        rounds
            .iter()
            .map(|round| round.took.as_secs_f64())
            .collect(),
    );
    let peak = rounds
        .iter()
        .map(|round| round.peak_memory)
        .max()
        .unwrap_or(0);
    shell::heading("the agent installs the whole image, over loopback, into a slot in a file");
    let mut shown = Table::new(&[
        "image",
        "median time",
        "throughput",
        "peak memory",
        "rounds",
    ]);
    let throughput = f64::from(1 << 8) / seconds;
    shown.row([
        table::bytes(super::IMAGE_LEN),
        format!("{seconds:.2} s"),
        format!("{throughput:.0} MiB/s"),
        table::bytes(peak),
        ROUNDS.to_string(),
    ]);
    println!("{}", shown.to_text());
    Ok(())
}

/// One device installs one image of `len` bytes that do not compress.
pub(crate) fn once(len: u64) -> Outcome<Installed> {
    super::setup_packages()?;
    let programs = ["ampoule-server", "ampoule-signer", "ampoule-agent"];
    let room = super::room("install", &programs)?;
    let image = room.write("sources/image.img", super::noise(len))?;
    signer::ceremony(&room)?;
    let plan = Plan {
        version: "1.0.0",
        rollback_index: 1,
        purpose: "To be measured.",
        image: &image,
        with_delta: false,
    };
    signer::release(&room, &plan)?;
    server::make_ca(&room)?;
    let key = Some(signer::TIMESTAMP_KEY);
    let settings = Settings {
        tree: signer::TREE,
        timestamp_key: key,
        port: 0,
        more: "",
    };
    server::configure(&room, &settings)?;
    server::enroll(&room, DEVICE)?;
    let server = Server::start(&room, &[])?;
    let device = Device::set_up(
        &room,
        DEVICE,
        server.address(),
        std::path::Path::new("/bin/true"),
    )?;
    let start = Instant::now();
    let (ended, peak_memory) = device.update_measured()?;
    let took = start.elapsed();
    server.stop()?;
    if ended.outcome != "committed" {
        return Err(Fault::new("the image was not installed").because(ended.detail));
    }
    Ok(Installed { took, peak_memory })
}
