//! Time to verify each role file. Budget: 1 ms of CPU for 1,000 targets.

use std::process::Command;

use serde_json::Value;

use crate::shell::{self, Fault, Outcome};
use crate::table::{self, Table};

pub(super) fn run() -> Outcome {
    let program = super::measure()?;
    shell::heading("verifying a role file: parse, canonical form, one Ed25519 signature, payload");
    let out = shell::read(Command::new(program).arg("verify"))?;
    let rows: Value = serde_json::from_str(&out)
        .map_err(|error| Fault::new("measure said something else").because(error))?;
    let mut shown = Table::new(&["file", "length", "median", "rounds"]);
    for row in rows.as_array().into_iter().flatten() {
        let median = row["median_us"].as_f64().unwrap_or(f64::NAN);
        shown.row([
            row["file"].as_str().unwrap_or_default().to_owned(),
            table::bytes(row["bytes"].as_u64().unwrap_or(0)),
            format!("{:.3} ms", median / 1000.0),
            row["rounds"].to_string(),
        ]);
    }
    println!("{}", shown.to_text());
    Ok(())
}
