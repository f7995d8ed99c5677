//! Durable check-ins of a fleet of 100,000 devices: the embedded store, SQLite with
//! synchronous=FULL, and PostgreSQL, in one run.
//!
//! All three stand behind the server's own writer: the same queue, the same 512 check-ins waiting,
//! groups of at most 512, one wait for the disk in each group, rows of the same length. Rounds take
//! turns, and medians are shown: a disk that others use is slow for all.

use std::process::Command;

use serde_json::Value;

use crate::setup::Needed;
use crate::shell::{self, Fault, Outcome};
use crate::table::{Table, median};
use crate::workspace;

const DEVICES: &str = "100000";
const SECONDS: &str = "10";
const ROUNDS: &str = "3";
const KILLS: &str = "200";

/// What is measured beside ours.
const PACKAGES: [Needed; 1] = [Needed {
    name: "postgresql",
    reason: "the engine for fleets that outgrow one machine",
}];

pub(super) fn run() -> Outcome {
    let told = measured("checkins", &[DEVICES, SECONDS, ROUNDS])?;
    let version = told["sqlite"].as_str().unwrap_or_default();
    let rounds = told["rounds"].as_array().cloned().unwrap_or_default();
    let mut shown = Table::new(&[
        "check-in",
        "store",
        "per second",
        "and settled",
        "p50 ms",
        "p99 ms",
        "a group",
        "CPU us each",
        "to SQLite",
    ]);
    for says in ["nothing new", "other software"] {
        let of = |engine: &str| -> Vec<Value> {
            let is_of = |row: &&Value| row["says"] == says && row["engine"] == engine;
            rounds.iter().filter(is_of).cloned().collect()
        };
        let peer = figure(&of("SQLite, FULL"), "per_sec");
        for engine in ["ours, embedded", "SQLite, FULL", "ours, PostgreSQL"] {
            shown.row(row(says, engine, &of(engine), peer));
        }
    }
    shell::heading(&format!(
        "durable check-ins, {DEVICES} devices, 512 waiting; SQLite {version}, WAL"
    ));
    println!("{}", shown.to_text());
    let devices = DEVICES.parse::<f64>().unwrap_or(f64::NAN);
    for (engine, bytes) in told["bytes"].as_object().into_iter().flatten() {
        let each = bytes.as_f64().unwrap_or(f64::NAN) / devices;
        println!("{engine}: {each:.0} bytes on the disk for each device");
    }
    println!(
        "\"settled\" counts the time until the store was closed in order. CPU is that of our process;"
    );
    println!("PostgreSQL has its own beside it.");
    println!(
        "budgets: embedded >= 20,000 per second and >= 1.5 times SQLite; PostgreSQL >= 15,000"
    );
    Ok(())
}

/// `cargo xtask bench kills`.
pub(super) fn kills() -> Outcome {
    let told = measured("kills", &[KILLS])?;
    let mut shown = Table::new(&["store", "kills", "acknowledged writes", "lost"]);
    for row in told.as_array().into_iter().flatten() {
        let number = |name: &str| row[name].as_u64().unwrap_or(u64::MAX).to_string();
        let engine = row["engine"].as_str().unwrap_or_default().to_owned();
        shown.row([
            engine,
            number("kills"),
            number("acknowledged"),
            number("lost"),
        ]);
    }
    shell::heading("SIGKILL while 64 devices check in, then the store is opened again");
    println!("{}", shown.to_text());
    println!("budget: 0 lost");
    Ok(())
}

fn measured(what: &str, words: &[&str]) -> Outcome<Value> {
    crate::setup::install(&PACKAGES)?;
    let measure = super::measure()?;
    let folder = workspace::target().join("bench").join(what);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)
        .map_err(|e| Fault::new(format!("cannot make \"{}\"", folder.display())).because(e))?;
    let mut command = Command::new(&measure);
    command.arg(what).arg(&folder).args(words);
    serde_json::from_str(&shell::read(&mut command)?)
        .map_err(|error| Fault::new("the measuring program said something else").because(error))
}

fn figure(rows: &[Value], name: &str) -> f64 {
    let all = rows
        .iter()
        .map(|row| row[name].as_f64().unwrap_or(f64::NAN));
    median(all.collect())
}

fn row(says: &str, engine: &str, rows: &[Value], peer: f64) -> [String; 9] {
    let per_sec = figure(rows, "per_sec");
    [
        says.to_owned(),
        engine.to_owned(),
        format!("{per_sec:.0}"),
        format!("{:.0}", figure(rows, "per_sec_settled")),
        format!("{:.1}", figure(rows, "p50_ms")),
        format!("{:.1}", figure(rows, "p99_ms")),
        format!("{:.0}", figure(rows, "group_len")),
        format!("{:.1}", figure(rows, "cpu_us")),
        format!("{:.2}", per_sec / peer),
    ]
}
