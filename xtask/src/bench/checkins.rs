//! Durable check-ins of a fleet of 100,000 devices, beside SQLite with synchronous=FULL, in one run.
//!
//! Both write the same rows in groups of up to 512 and wait for the disk before they answer, on the
//! same file system. Rounds alternate between the two, and medians are shown: a disk that others
//! use is slow for both.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::setup::Needed;
use crate::shell::{self, Fault, Outcome};
use crate::table::{Table, median};
use crate::workspace;

const DEVICES: &str = "100000";
const SECONDS: &str = "5";
const ROUNDS: usize = 3;

/// The peer.
const PACKAGES: [Needed; 1] = [Needed {
    name: "python3",
    reason: "its sqlite3 module is the peer of the store",
}];

pub(super) fn run() -> Outcome {
    crate::setup::install(&PACKAGES)?;
    let measure = super::measure()?;
    let folder = workspace::target().join("bench/checkins");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)
        .map_err(|e| Fault::new(format!("cannot make \"{}\"", folder.display())).because(e))?;
    println!("enrolling {DEVICES} devices in both");
    let ours = |words: &[&str]| {
        let mut command = Command::new(&measure);
        command.arg("checkins").arg(folder.join("ours")).args(words);
        told(&mut command)
    };
    let theirs = |words: &[&str]| {
        let mut command = Command::new("python3");
        command
            .arg(script())
            .arg(folder.join("sqlite.db"))
            .args(words);
        told(&mut command)
    };
    ours(&["fill", DEVICES])?;
    theirs(&["fill", DEVICES])?;
    let mut shown = Table::new(&[
        "check-in",
        "who",
        "per second",
        "p50 ms",
        "p99 ms",
        "CPU us each",
        "ratio",
    ]);
    let mut version = String::new();
    for (name, says) in [("nothing new", "same"), ("other software", "else")] {
        let words = ["run", DEVICES, SECONDS, says];
        let (mut rows, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            rows.push(ours(&words)?);
            peers.push(theirs(&words)?);
        }
        let told = peers[0]["version"].as_str();
        told.unwrap_or_default().clone_into(&mut version);
        let per_sec = |rows: &[Value]| figure(rows, "per_sec");
        let ratio = per_sec(&rows) / per_sec(&peers);
        shown.row(row(name, "ours", &rows, &format!("{ratio:.2}")));
        shown.row(row("", "SQLite", &peers, ""));
    }
    shell::heading(&format!(
        "durable check-ins, {DEVICES} devices, 512 waiting, beside SQLite {version} (WAL, FULL)"
    ));
    println!("{}", shown.to_text());
    println!(
        "budgets: >= 20,000 per second, >= 1.5 times SQLite; p50 and p99 are of a check-in for"
    );
    println!("         ours and of a group for SQLite");
    Ok(())
}

fn script() -> std::path::PathBuf {
    workspace::root().join(Path::new("xtask/src/bench/sqlite.py"))
}

fn told(command: &mut Command) -> Outcome<Value> {
    serde_json::from_str(&shell::read(command)?)
        .map_err(|error| Fault::new("the measuring program said something else").because(error))
}

fn figure(rows: &[Value], name: &str) -> f64 {
    let all = rows
        .iter()
        .map(|row| row[name].as_f64().unwrap_or(f64::NAN));
    median(all.collect())
}

fn row(name: &str, who: &str, rows: &[Value], ratio: &str) -> [String; 7] {
    [
        name.to_owned(),
        who.to_owned(),
        format!("{:.0}", figure(rows, "per_sec")),
        format!("{:.1}", figure(rows, "p50_ms")),
        format!("{:.1}", figure(rows, "p99_ms")),
        format!("{:.1}", figure(rows, "cpu_us")),
        ratio.to_owned(),
    ]
}
