//! One tool on one pair: the cost of making and of applying, and whether the bytes are right.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::Pair;
use super::peers::{Peer, Tools};
use crate::shell::{self, Fault, Outcome};

/// What a process took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cost {
    /// Seconds until it ended.
    pub(super) wall: f64,
    /// Seconds of all processors, in its own code and in the kernel for it.
    pub(super) cpu: f64,
    /// Its greatest resident size, in KiB.
    pub(super) peak_kib: u64,
}

/// What a tool reached on a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figures {
    pub(super) patch: u64,
    pub(super) make: Cost,
    pub(super) apply: Cost,
}

/// How a measurement ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ended {
    Done(Figures),
    LeftOut(String),
    Failed(String),
}

/// One tool on one pair.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) pair: String,
    pub(super) peer: &'static Peer,
    pub(super) ended: Ended,
}

impl Row {
    pub(super) fn new(pair: &Pair, peer: &'static Peer, ended: Ended) -> Self {
        let pair = pair.name.clone();
        Self { pair, peer, ended }
    }

    pub(super) fn figures(&self) -> Option<&Figures> {
        match &self.ended {
            Ended::Done(figures) => Some(figures),
            Ended::LeftOut(_) | Ended::Failed(_) => None,
        }
    }
}

/// Makes the patch, applies it, compares; a step that takes longer than `stop_after` seconds is
/// stopped, and that is what is told of the tool.
pub(super) fn pair(
    tools: &Tools,
    peer: &'static Peer,
    pair: &Pair,
    folder: &Path,
    stop_after: u64,
) -> Outcome<Ended> {
    if let Some(why) = Tools::missing(peer) {
        return Ok(Ended::LeftOut(why));
    }
    let (patch, made) = (folder.join("patch"), folder.join("made"));
    for path in [&patch, &made] {
        let _ = std::fs::remove_file(path);
    }
    let mut steps = [
        ("making", tools.make(peer, pair, &patch)),
        ("applying", tools.apply(peer, pair, &patch, &made)),
    ];
    let mut costs = Vec::new();
    for (verb, command) in &mut steps {
        match cost(&mut stopped(command, stop_after), folder)? {
            Ok(cost) => costs.push(cost),
            Err(why) if why == STOPPED => {
                return Ok(Ended::LeftOut(format!(
                    "{verb} {STOPPED_AFTER} {stop_after} s"
                )));
            }
            Err(why) => return Ok(Ended::Failed(format!("{verb}: {why}"))),
        }
    }
    let [make, apply] = costs[..] else {
        unreachable!("each step left a cost or ended the row");
    };
    if !same(&pair.new, &made)? {
        return Ok(Ended::Failed("what it made differs".into()));
    }
    let patch_len = std::fs::metadata(&patch).map_or(0, |found| found.len());
    for path in [&patch, &made] {
        let _ = std::fs::remove_file(path);
    }
    Ok(Ended::Done(Figures {
        patch: patch_len,
        make,
        apply,
    }))
}

/// What [`cost`] says of a command that [`stopped`] stopped.
const STOPPED: &str = "it was stopped";
/// What the table says of it.
pub(super) const STOPPED_AFTER: &str = "was stopped after";
/// What `timeout` of coreutils exits with then.
const STOPPED_CODE: i32 = 124;

/// The command with a limit of so many seconds.
fn stopped(command: &Command, seconds: u64) -> Command {
    let mut limited = Command::new("timeout");
    limited.arg(seconds.to_string());
    limited.arg(command.get_program()).args(command.get_args());
    limited
}

/// Runs a command under `time`; what it took, or the last line of its complaint.
pub(super) fn cost(command: &mut Command, folder: &Path) -> Outcome<Result<Cost, String>> {
    let figures = folder.join("time");
    let mut timed = Command::new("time");
    timed.arg("-o").arg(&figures).args(["-f", "%U %S %M"]);
    timed.arg(command.get_program()).args(command.get_args());
    timed.stdout(Stdio::null());
    let start = Instant::now();
    let finished = shell::finish(&mut timed)?;
    let wall = start.elapsed().as_secs_f64();
    if finished.code == Some(STOPPED_CODE) {
        return Ok(Err(STOPPED.to_owned()));
    }
    if finished.code != Some(0) {
        let last = finished.err.lines().rfind(|line| !line.trim().is_empty());
        return Ok(Err(last.unwrap_or("no word").to_owned()));
    }
    let told = std::fs::read_to_string(&figures)
        .map_err(|e| Fault::new("time left no figures").because(e))?;
    let read = || {
        let mut words = told.lines().last()?.split_whitespace();
        let user: f64 = words.next()?.parse().ok()?;
        let system: f64 = words.next()?.parse().ok()?;
        let peak_kib = words.next()?.parse().ok()?;
        Some(Cost {
            wall,
            cpu: user + system,
            peak_kib,
        })
    };
    let cost = read().ok_or_else(|| Fault::new("time said something else").because(&told))?;
    Ok(Ok(cost))
}

/// Whether two files hold the same bytes.
pub(super) fn same(left: &Path, right: &Path) -> Outcome<bool> {
    const PIECE: usize = 1 << 20;
    let open = |path: &Path| {
        File::open(path)
            .map_err(|e| Fault::new(format!("cannot open \"{}\"", path.display())).because(e))
    };
    let (left_file, right_file) = (open(left)?, open(right)?);
    let len = |file: &File| file.metadata().map_or(0, |found| found.len());
    if len(&left_file) != len(&right_file) {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; PIECE], vec![0; PIECE]);
    let fill = |file: &File, piece: &mut [u8]| {
        let mut done = 0;
        let mut file = file;
        while done < piece.len() {
            match file.read(&mut piece[done..]) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(e) => return Err(Fault::new("cannot compare two images").because(e)),
            }
        }
        Ok(done)
    };
    loop {
        let (in_a, in_b) = (fill(&left_file, &mut a)?, fill(&right_file, &mut b)?);
        if in_a != in_b || a[..in_a] != b[..in_b] {
            return Ok(false);
        }
        if in_a == 0 {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Meant to catch: a limit that is not passed on, and one that counts as a failure.
    #[test]
    fn what_takes_too_long_is_stopped_and_said_to_be() {
        let folder = std::env::temp_dir().join(format!("ampoule-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut command = Command::new("sleep");
        command.arg("3600");
        let told = cost(&mut stopped(&command, 1), &folder);
        std::fs::remove_dir_all(&folder).expect("it was made above");
        assert_eq!(told.expect("it can be run"), Err(STOPPED.to_owned()));
    }
}
