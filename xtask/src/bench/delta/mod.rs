//! `cargo xtask bench delta`: our patches beside those of the field's tools, in one run.
//!
//! Each tool makes a patch of each pair and applies it, one process at a time; what comes out is
//! compared byte for byte. Time and peak memory are those of the process as the kernel counts them.
//! CPU seconds are what to compare on a busy machine; wall time is shown too.
//!
//! Invariants:
//! - A figure stands only beside an apply that gave the right bytes.
//! - What is left out is said, with the reason.

mod big;
mod budget;
mod kept;
mod measured;
mod peers;
mod report;

use std::path::{Path, PathBuf};

use crate::shell::{self, Fault, Outcome};
use crate::workspace;
use kept::Kept;
use measured::{Ended, Row};
use peers::{PEERS, Peer, Tools};

const HELP: &str = "\
cargo xtask bench delta [options]

Patches of each pair, ours beside the peers': bytes, CPU and wall seconds and peak memory to make
and to apply. A pair is two files, NAME.old and NAME.new, in one folder.

  --pairs DIR        the folder (default: target/corpus/pairs; docs/DELTA-FRIENDLY.md says what
                     to put there)
  --only NAME,..     these pairs only
  --peers NAME,..    these tools only
  --fast             leave out the slow: slow peers altogether, and pairs above 32 MiB
  --slow-max MIB     leave a slow peer (bsdiff, detools, hdiffpatch, bsdiff-crate) out for images
                     above this (default 100)
  --stop-after SECS  stop a tool that makes or applies for longer (default 600); the table says so
  --keep             take peers' rows for pairs of the same lengths from the last result.csv;
                     ours are always measured
  --big              a sparse image of over 4 GiB instead of the pairs: made, applied, compared

Installs the Debian packages time, bsdiff, xdelta3, zstd and python3-venv, and hdiffpatch and
detools from PyPI into target/peers, where they are missing. Leaves result.csv and result.md in
target/bench/delta.";

/// What was asked for.
#[derive(Debug)]
struct Options {
    pairs: PathBuf,
    only: Option<Vec<String>>,
    peers: Option<Vec<String>>,
    fast: bool,
    slow_max_mib: u64,
    stop_after: u64,
    keep: bool,
    big: bool,
}

/// An old and a new image.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    name: String,
    old: PathBuf,
    new: PathBuf,
    old_len: u64,
    new_len: u64,
}

/// Pairs above this are left out by `--fast`.
const FAST_MAX: u64 = 32 << 20;

/// Runs the measurement.
pub(super) fn run(arguments: &[String]) -> Outcome {
    if arguments
        .iter()
        .any(|word| word == "--help" || word == "-h")
    {
        println!("{HELP}");
        return Ok(());
    }
    let options = Options::parse(arguments)?;
    if options.big {
        return big::run();
    }
    let pairs = options.chosen_pairs()?;
    let peers = options.chosen_peers()?;
    let folder = room()?;
    let tools = Tools::set_up(&peers)?;
    let mut kept = Kept::open(&folder, options.keep)?;
    let mut rows = Vec::new();
    for pair in &pairs {
        shell::heading(&format!(
            "{}: {} -> {} bytes",
            pair.name, pair.old_len, pair.new_len
        ));
        for &peer in &peers {
            let row = measure(&options, &folder, &tools, &mut kept, pair, peer)?;
            println!("{}", report::line(&row));
            rows.push(row);
        }
    }
    let text = format!("{}\n{}", report::machine()?, report::text(&pairs, &rows));
    println!("{text}");
    kept::write(&folder.join("result.md"), &text)
}

fn measure(
    options: &Options,
    folder: &Path,
    tools: &Tools,
    kept: &mut Kept,
    pair: &Pair,
    peer: &'static Peer,
) -> Outcome<Row> {
    if let Some(row) = kept.row(pair, peer) {
        return Ok(row);
    }
    let ended = match options.why_not(pair, peer) {
        Some(why) => Ended::LeftOut(why),
        None => measured::pair(tools, peer, pair, folder, options.stop_after)?,
    };
    let row = Row::new(pair, peer, ended);
    kept.add(pair, &row)?;
    Ok(row)
}

impl Options {
    fn parse(arguments: &[String]) -> Outcome<Self> {
        let mut options = Self {
            pairs: workspace::target().join("corpus/pairs"),
            only: None,
            peers: None,
            fast: false,
            slow_max_mib: 100,
            stop_after: 600,
            keep: false,
            big: false,
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                let missing = || Fault::usage(format!("{word} needs a value"));
                words.next().cloned().ok_or_else(missing)
            };
            match word.as_str() {
                "--pairs" => options.pairs = value()?.into(),
                "--only" => options.only = Some(listed(&value()?)),
                "--peers" => options.peers = Some(listed(&value()?)),
                "--slow-max" => {
                    let mib = value()?;
                    let wrong = |_| Fault::usage(format!("\"{mib}\" is not a number of MiB"));
                    options.slow_max_mib = mib.parse().map_err(wrong)?;
                }
                "--stop-after" => {
                    let seconds = value()?;
                    let wrong = |_| Fault::usage(format!("\"{seconds}\" is not a number of s"));
                    options.stop_after = seconds.parse().map_err(wrong)?;
                }
                "--fast" => options.fast = true,
                "--keep" => options.keep = true,
                "--big" => options.big = true,
                other => return Err(Fault::usage(format!("bench delta takes no \"{other}\""))),
            }
        }
        Ok(options)
    }

    /// The pairs of the folder, the smallest first.
    fn chosen_pairs(&self) -> Outcome<Vec<Pair>> {
        let mut pairs = pairs_in(&self.pairs)?;
        if let Some(only) = &self.only {
            if let Some(unknown) = only.iter().find(|n| !pairs.iter().any(|p| p.name == **n)) {
                return Err(Fault::usage(format!("there is no pair \"{unknown}\"")));
            }
            pairs.retain(|pair| only.contains(&pair.name));
        }
        let (small, large): (Vec<_>, Vec<_>) = pairs
            .into_iter()
            .partition(|pair| !self.fast || pair.new_len.max(pair.old_len) <= FAST_MAX);
        for pair in large {
            println!("left out by --fast: {} ({} bytes)", pair.name, pair.new_len);
        }
        Ok(small)
    }

    fn chosen_peers(&self) -> Outcome<Vec<&'static Peer>> {
        let Some(asked) = &self.peers else {
            return Ok(PEERS
                .iter()
                .filter(|peer| !(self.fast && peer.slow))
                .collect());
        };
        let find = |name: &String| {
            PEERS.iter().find(|peer| peer.name == *name).ok_or_else(|| {
                let known: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
                Fault::usage(format!(
                    "no tool \"{name}\"; there are {}",
                    known.join(", ")
                ))
            })
        };
        asked.iter().map(find).collect()
    }

    fn why_not(&self, pair: &Pair, peer: &Peer) -> Option<String> {
        let too_long = pair.new_len.max(pair.old_len) > self.slow_max_mib << 20;
        (peer.slow && too_long).then(|| format!("above --slow-max {}", self.slow_max_mib))
    }
}

fn listed(value: &str) -> Vec<String> {
    value.split(',').map(str::to_owned).collect()
}

fn pairs_in(folder: &Path) -> Outcome<Vec<Pair>> {
    let cannot = |e| {
        Fault::new(format!("cannot list \"{}\"", folder.display()))
            .because(e)
            .hint("name a folder of NAME.old and NAME.new with --pairs; docs/DELTA-FRIENDLY.md")
    };
    let mut pairs = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)?.flatten() {
        let old = entry.path();
        let new = old.with_extension("new");
        if old.extension().is_none_or(|end| end != "old") || !new.is_file() {
            continue;
        }
        let len = |path: &Path| {
            std::fs::metadata(path)
                .map(|found| found.len())
                .map_err(cannot)
        };
        let name = old
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let (old_len, new_len) = (len(&old)?, len(&new)?);
        pairs.push(Pair {
            name,
            old,
            new,
            old_len,
            new_len,
        });
    }
    pairs.sort_by(|a, b| (a.new_len, &a.name).cmp(&(b.new_len, &b.name)));
    if pairs.is_empty() {
        return Err(Fault::new(format!(
            "\"{}\" holds no pair",
            folder.display()
        )));
    }
    Ok(pairs)
}

/// The folder that measuring happens in.
fn room() -> Outcome<PathBuf> {
    let folder = workspace::target().join("bench/delta");
    std::fs::create_dir_all(&folder)
        .map_err(|e| Fault::new(format!("cannot make \"{}\"", folder.display())).because(e))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Outcome<Options> {
        Options::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_slow_peer_is_left_out_for_a_long_image_and_it_is_said() {
        let options = parsed(&["--slow-max", "1"]).expect("it parses");
        let len = (1 << 20) + 1;
        let pair = Pair {
            name: "a".into(),
            old: PathBuf::new(),
            new: PathBuf::new(),
            old_len: 5,
            new_len: len,
        };
        let of = |name: &str| PEERS.iter().find(|peer| peer.name == name).expect("known");
        assert!(options.why_not(&pair, of("bsdiff")).is_some());
        assert!(options.why_not(&pair, of("ours-small")).is_none());
        let short = Pair {
            new_len: len - 1,
            ..pair
        };
        assert!(options.why_not(&short, of("bsdiff")).is_none());
    }

    #[test]
    fn what_is_unknown_is_a_wrong_command_line() {
        assert!(parsed(&["--slow-max", "x"]).is_err_and(|fault| fault.is_usage()));
        assert!(parsed(&["--pears", "x"]).is_err_and(|fault| fault.is_usage()));
        let named = parsed(&["--peers", "ours-small,nobody"]).expect("it parses");
        assert!(named.chosen_peers().is_err());
    }
}
