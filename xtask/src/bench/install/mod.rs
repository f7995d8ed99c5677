//! An image of 256 MiB is installed: by the agent over loopback, and by the agent and its peers from
//! a file, to one medium that counts what is written.

mod medium;
mod ours;
mod peers;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::setup;
use crate::shell::{self, Fault, Outcome};
use crate::table::{self, Table, median};
use crate::workspace;
use crate::world::device::Device;
use crate::world::server::{self, Server};
use crate::world::signer::{self, Plan};
use crate::world::{Room, cannot};
use medium::{Medium, Taken};
use ours::Ours;

const ROUNDS: u32 = 3;
const DEVICE: &str = "bench-0001";

/// What one install took.
pub(crate) struct Installed {
    /// From the first request to the end of the trial.
    pub(crate) took: Duration,
    /// The greatest resident size of the agent, in bytes.
    pub(crate) peak_memory: u64,
    /// That while the next image came by a delta, where it did.
    pub(crate) peak_memory_delta: Option<u64>,
}

/// What a device is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Story {
    /// One image, whole.
    Full,
    /// And then the next one by a delta.
    FullThenDelta,
}

pub(super) fn run() -> Outcome {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(once(super::IMAGE_LEN, Story::Full)?);
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
    beside_peers()
}

/// Blocks of the next image that differ, of a hundred, each at a place of its own.
const CHANGED_PERCENT: u64 = 2;
/// Bytes of a block.
const BLOCK_LEN: usize = 4096;

/// All of them in turn, so that each sees the same machine.
fn beside_peers() -> Outcome {
    setup::install(&peers::PACKAGES)?;
    let programs = ["ampoule-server", "ampoule-signer", "ampoule-agent"];
    let room = super::room("install-ours", &programs)?;
    let image = super::noise(super::IMAGE_LEN);
    let first = room.write("sources/first.img", &image)?;
    let second = room.write("sources/second.img", changed(image))?;
    let files = workspace::target().join("bench/install-peers");
    let _ = fs::remove_dir_all(&files);
    let mut folders: Vec<PathBuf> = Vec::new();
    for (number, peer) in peers::ALL.iter().enumerate() {
        let folder = files.join(number.to_string());
        fs::create_dir_all(&folder).map_err(|e| cannot("make", &folder, &e))?;
        peer.prepare(&folder, &first)?;
        folders.push(folder);
    }
    let ours = Ours::prepare(room, &[&first, &second])?;
    let mut rows: Vec<(&str, Vec<Taken>)> =
        vec![("ours, full", Vec::new()), ("ours, delta", Vec::new())];
    rows.extend(peers::ALL.iter().map(|peer| (peer.name, Vec::new())));
    for _ in 0..ROUNDS {
        let [full, delta] = on_a_medium(|medium| ours.install(medium))?;
        rows[0].1.push(full);
        rows[1].1.push(delta);
        for (at, (peer, folder)) in peers::ALL.iter().zip(&folders).enumerate() {
            let taken = on_a_medium(|medium| peer.install(folder, medium, super::IMAGE_LEN));
            rows[2 + at].1.push(taken?);
        }
    }
    tell(&rows);
    Ok(())
}

/// A fresh one for each, so that nobody finds what another one left.
fn on_a_medium<T>(install: impl FnOnce(&Medium) -> Outcome<T>) -> Outcome<T> {
    let folder: &Path = &workspace::target().join("bench/install-medium");
    install(&Medium::make(folder)?)
}

/// The image with some of its blocks made anew.
fn changed(mut image: Vec<u8>) -> Vec<u8> {
    let step = usize::try_from(100 / CHANGED_PERCENT).unwrap_or(usize::MAX);
    for (number, block) in image.chunks_mut(BLOCK_LEN).enumerate() {
        // Not one in every so many: a patch must say where they are.
        let salt = number.wrapping_mul(0x9e37_79b9) >> 7;
        if salt.is_multiple_of(step) {
            for byte in block {
                *byte = byte.wrapping_mul(5).wrapping_add(0x3b) ^ salt.to_le_bytes()[0];
            }
        }
    }
    image
}

fn tell(rows: &[(&str, Vec<Taken>)]) {
    shell::heading("one image, from a file to a slot, until it is on the medium");
    let mut shown = Table::new(&["installed by", "wall", "CPU", "peak memory", "written"]);
    for (name, taken) in rows {
        let middle = |of: fn(&Taken) -> f64| median(taken.iter().map(of).collect());
        let most = |of: fn(&Taken) -> u64| taken.iter().map(of).max().unwrap_or(0);
        shown.row([
            (*name).to_owned(),
            format!("{:.2} s", middle(|taken| taken.wall.as_secs_f64())),
            format!("{:.2} s", middle(|taken| taken.cpu.as_secs_f64())),
            table::bytes(most(|taken| taken.peak)),
            table::bytes(most(|taken| taken.written)),
        ]);
    }
    println!("{}", shown.to_text());
}

/// One device installs an image of `len` bytes that do not compress, over loopback.
pub(crate) fn once(len: u64, story: Story) -> Outcome<Installed> {
    super::setup_packages()?;
    let programs = ["ampoule-server", "ampoule-signer", "ampoule-agent"];
    let room = super::room("install", &programs)?;
    let noise = super::noise(len);
    let image = room.write("sources/image.img", &noise)?;
    signer::ceremony(&room)?;
    release(&room, 1, &image)?;
    server::ready(&room, DEVICE)?;
    let server = Server::start(&room, &[])?;
    let device = Device::set_up(&room, DEVICE, server.address(), Path::new("/bin/true"))?;
    let start = Instant::now();
    let peak_memory = measured(&device, "full")?;
    let took = start.elapsed();
    let mut peak_memory_delta = None;
    if story == Story::FullThenDelta {
        let image = room.write("sources/next.img", changed(noise))?;
        release(&room, 2, &image)?;
        peak_memory_delta = Some(measured(&device, "delta")?);
    }
    server.stop()?;
    Ok(Installed {
        took,
        peak_memory,
        peak_memory_delta,
    })
}

/// The release of this number; from the second on with a delta.
fn release(room: &Room, number: u64, image: &Path) -> Outcome {
    let plan = Plan {
        version: &format!("1.{number}.0"),
        rollback_index: number,
        purpose: "To be measured.",
        image,
        with_delta: number > 1,
    };
    signer::release(room, &plan)
}

/// Lets the device take its update; the peak memory of that.
fn measured(device: &Device<'_>, via: &str) -> Outcome<u64> {
    let (ended, peak_memory) = device.update_measured()?;
    if ended.outcome != "committed" || ended.via != via {
        return Err(
            Fault::new(format!("the image was not installed by a {via}")).because(ended.detail),
        );
    }
    Ok(peak_memory)
}
