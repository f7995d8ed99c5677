//! One million simulated devices: CPU and memory of the rollout decision for all of them.

use std::process::Command;

use serde_json::Value;

use crate::shell::{self, Fault, Outcome};
use crate::table::{self, Table};

const DEVICES: &str = "1000000";

pub(super) fn run() -> Outcome {
    let program = super::measure()?;
    shell::heading("deciding two rollouts with a cap per ward for 1,000,000 devices, one core");
    let out = shell::read(Command::new(program).args(["rollout", DEVICES]))?;
    let told: Value = serde_json::from_str(&out)
        .map_err(|error| Fault::new("measure said something else").because(error))?;
    let locks = &told["locks"];
    let mut shown = Table::new(&["look", "time", "longest part", "changes"]);
    let looks = told["looks"].as_array().into_iter().flatten();
    let looks = looks.map(|look| (format!("after {} devices answered", look["news"]), look));
    let first = ("the first: of all devices".to_owned(), &told["begin"]);
    let with_locks = (
        format!("after {} took locks", locks["count"]),
        &locks["look"],
    );
    let halt = ("after a halt: offers taken back".to_owned(), &told["halt"]);
    for (name, look) in [first].into_iter().chain(looks).chain([with_locks, halt]) {
        let millis = |name: &str| format!("{:.1} ms", look[name].as_f64().unwrap_or(0.0) / 1e3);
        let changes = look["changes"].to_string();
        shown.row([name, millis("micros"), millis("longest_micros"), changes]);
    }
    println!("{}", shown.to_text());
    println!(
        "for comparison, a look that goes over the whole fleet: {} ms",
        told["whole_ms"]
    );
    println!(
        "a lock, beside those offers: median {} µs, at most {} µs (without the store)",
        locks["median_micros"], locks["most_micros"]
    );
    println!(
        "memory: {} for the devices, {} at most",
        table::bytes(told["fleet_bytes"].as_u64().unwrap_or(0)),
        table::bytes(told["peak_bytes"].as_u64().unwrap_or(0))
    );
    for round in told["polls"].as_array().into_iter().flatten() {
        let devices = round["devices"].as_f64().unwrap_or(0.0);
        let micros = |name: &str| round[name].as_f64().unwrap_or(f64::NAN);
        println!(
            "director, {devices} devices, files kept for {}: {:.1} µs for a first poll, {:.1} µs for the next; 24 polls of \
             all in a day: {:.0} CPU-seconds",
            round["places"],
            micros("first_micros"),
            micros("again_micros"),
            (micros("first_micros") + 23.0 * micros("again_micros")) * devices / 1e6
        );
    }
    let test = &told["test"];
    println!(
        "sequential test, {} runs: halted by mistake {} (stated {}), missed {} (stated {}, exact {})",
        test["runs"],
        test["false_halts"],
        test["false_halts_stated"],
        test["missed_halts"],
        test["missed_halts_stated"],
        test["missed_halts_exact"]
    );
    Ok(())
}
