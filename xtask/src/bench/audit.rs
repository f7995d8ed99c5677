//! A million entries of the audit log: written durably, and verified in bounded memory.

use std::process::Command;

use serde_json::Value;

use crate::shell::{self, Fault, Outcome};
use crate::table::{self, Table};
use crate::workspace;

pub(super) fn run() -> Outcome {
    let program = super::measure()?;
    shell::heading("an audit log, 512 entries a checkpoint, then every entry and hash verified");
    let mut shown = Table::new(&["entries", "written", "verified", "peak memory"]);
    for entries in ["10000", "100000", "1000000"] {
        let folder = workspace::target()
            .join("bench")
            .join("audit")
            .join(entries);
        // A log that is there would be gone on with.
        let _ = std::fs::remove_dir_all(&folder);
        let tell = |words: &[&str]| -> Outcome<Value> {
            let mut command = Command::new(&program);
            command
                .args(["audit", words[0]])
                .arg(&folder)
                .args(&words[1..]);
            let out = shell::read(&mut command)?;
            serde_json::from_str(&out)
                .map_err(|error| Fault::new("measure said something else").because(error))
        };
        let written = tell(&["write", entries])?;
        let verified = tell(&["verify"])?;
        shown.row([
            entries.to_owned(),
            format!("{} ms", written["ms"]),
            format!("{} ms", verified["ms"]),
            table::bytes(verified["peak_bytes"].as_u64().unwrap_or(0)),
        ]);
        let _ = std::fs::remove_dir_all(&folder);
    }
    println!("{}", shown.to_text());
    Ok(())
}
