//! Rows on disk: `result.csv`, written as they come, so that a long run that ends early is not
//! lost, and peers that did not change need not run again.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use super::Pair;
use super::measured::{self, Cost, Ended, Figures, Row};
use super::peers::Peer;
use crate::shell::{Fault, Outcome};

const HEAD: &str = "pair,old,new,peer,patch,make_wall_s,make_cpu_s,make_peak_kib,apply_wall_s,\
                    apply_cpu_s,apply_peak_kib,note";

/// The rows of the last run, and where those of this one go.
pub(super) struct Kept {
    earlier: Vec<String>,
    file: File,
}

impl Kept {
    /// Begins a new `result.csv`; with `keep`, peers' rows of the last one stay.
    pub(super) fn open(folder: &Path, keep: bool) -> Outcome<Self> {
        let path = folder.join("result.csv");
        let cannot = |e| Fault::new(format!("cannot write \"{}\"", path.display())).because(e);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let earlier = text.lines().filter(|_| keep).map(str::to_owned).collect();
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(&path)
            .map_err(cannot)?;
        writeln!(file, "{HEAD}").map_err(cannot)?;
        let mut kept = Self { earlier, file };
        // Rows of pairs that this run does not touch stay in the file too.
        for line in kept.earlier.clone() {
            if line.contains(",ours-") || line == HEAD || line.contains(",,,") && !is_stopped(&line)
            {
                continue;
            }
            kept.append(&line)?;
        }
        Ok(kept)
    }

    /// The row of the last run, if it is about the same pair and not ours.
    pub(super) fn row(&self, pair: &Pair, peer: &'static Peer) -> Option<Row> {
        let begin = start(pair, peer);
        let line = self.earlier.iter().find(|line| line.starts_with(&begin))?;
        if is_stopped(line) {
            let why = line.rsplit(',').next()?.to_owned();
            return Some(Row::new(pair, peer, Ended::LeftOut(why)));
        }
        let mut cells = line[begin.len()..].split(',');
        let patch = cells.next()?.parse().ok()?;
        let mut cost = || {
            Some(Cost {
                wall: cells.next()?.parse().ok()?,
                cpu: cells.next()?.parse().ok()?,
                peak_kib: cells.next()?.parse().ok()?,
            })
        };
        let figures = Figures {
            patch,
            make: cost()?,
            apply: cost()?,
        };
        (!peer.ours).then(|| Row::new(pair, peer, Ended::Done(figures)))
    }

    /// Writes a row down.
    pub(super) fn add(&mut self, pair: &Pair, row: &Row) -> Outcome {
        let mut line = start(pair, row.peer);
        match &row.ended {
            Ended::Done(figures) => {
                let _ = write!(line, "{}", figures.patch);
                for cost in [figures.make, figures.apply] {
                    let _ = write!(line, ",{:.3},{:.2},{}", cost.wall, cost.cpu, cost.peak_kib);
                }
                line.push(',');
            }
            Ended::LeftOut(why) | Ended::Failed(why) => {
                let _ = write!(line, ",,,,,,,{}", why.replace([',', '\n'], ";"));
            }
        }
        self.append(&line)
    }

    fn append(&mut self, line: &str) -> Outcome {
        writeln!(self.file, "{line}").map_err(|e| Fault::new("cannot write a row").because(e))
    }
}

/// Whether a row says that the tool was stopped, which it would be again.
fn is_stopped(line: &str) -> bool {
    line.contains(measured::STOPPED_AFTER)
}

fn start(pair: &Pair, peer: &Peer) -> String {
    format!(
        "{},{},{},{},",
        pair.name, pair.old_len, pair.new_len, peer.name
    )
}

/// Writes a text beside the rows.
pub(super) fn write(path: &Path, text: &str) -> Outcome {
    std::fs::write(path, text)
        .map_err(|e| Fault::new(format!("cannot write \"{}\"", path.display())).because(e))
}
