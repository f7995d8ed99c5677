//! An image of over 4 GiB: made, applied, compared. Sparse, so that it needs little disk.
//!
//! Offsets beyond 32 bits are what this is after; the few megabytes that are no zeros are noise
//! and a table of it that moved.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use super::measured::{cost, same};
use super::peers::{PEERS, Tools};
use super::{Pair, room};
use crate::shell::{Fault, Outcome};
use crate::table::{self, Table};

/// A little more than 32 bits can count.
const LEN: u64 = (4 << 30) + (5 << 20) + 123;
/// Bytes of noise at each place.
const NOISE: u64 = 1 << 20;
/// Where the old image holds noise: at its start, around 4 GiB and at its end.
const PLACES: [u64; 4] = [4096, 1 << 31, (1 << 32) - 77, LEN - NOISE];
/// How far the noise has moved in the new image; the first stays.
const MOVED: [u64; 4] = [0, 12_345, 2_000_001, 0];

/// Runs the measurement, in both profiles.
pub(super) fn run() -> Outcome {
    let folder = room()?;
    let pair = make(&folder)?;
    println!(
        "old and new image: {LEN} bytes each, {} of them no zeros",
        NOISE * 4
    );
    let peers: Vec<_> = PEERS.iter().filter(|peer| peer.ours).collect();
    let tools = Tools::set_up(&peers)?;
    let mut shown = Table::new(&[
        "profile",
        "patch",
        "make cpu",
        "make wall",
        "make peak",
        "apply cpu",
        "apply wall",
        "apply peak",
    ]);
    let (patch, made) = (folder.join("patch"), folder.join("made"));
    for peer in peers {
        let failed =
            |verb: &str, why| Fault::new(format!("{verb} with {}", peer.name)).because(why);
        let make = cost(&mut tools.make(peer, &pair, &patch), &folder)?
            .map_err(|why| failed("making a patch", why))?;
        let apply = cost(&mut tools.apply(peer, &pair, &patch, &made), &folder)?
            .map_err(|why| failed("applying a patch", why))?;
        if !same(&pair.new, &made)? {
            return Err(Fault::new(format!("what {} made differs", peer.name)));
        }
        let mut cells = vec![
            peer.name.to_owned(),
            std::fs::metadata(&patch)
                .map_or(0, |found| found.len())
                .to_string(),
        ];
        for cost in [make, apply] {
            cells.push(format!("{:.1} s", cost.cpu));
            cells.push(format!("{:.1} s", cost.wall));
            cells.push(table::bytes(cost.peak_kib << 10));
        }
        shown.row(cells);
    }
    println!("{}", shown.to_text());
    for path in [&pair.old, &pair.new, &patch, &made] {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

fn make(folder: &Path) -> Outcome<Pair> {
    let noise = crate::bench::noise(NOISE * 4);
    let write = |name: &str, moved: [u64; 4]| -> std::io::Result<std::path::PathBuf> {
        let path = folder.join(name);
        let mut file = File::create(&path)?;
        file.set_len(LEN)?;
        for ((place, moved), bytes) in PLACES.into_iter().zip(moved).zip(noise.chunks(1 << 20)) {
            file.seek(SeekFrom::Start(place + moved))?;
            file.write_all(bytes)?;
        }
        Ok(path)
    };
    let cannot = |e| Fault::new("cannot write a sparse image").because(e);
    Ok(Pair {
        name: "big".into(),
        old: write("big.old", [0; 4]).map_err(cannot)?,
        new: write("big.new", MOVED).map_err(cannot)?,
        old_len: LEN,
        new_len: LEN,
    })
}
