//! The file that describes the command behind the device's key.

use std::path::Path;
use std::time::Duration;

use super::ConfigError;
use super::read::read_file;
use super::table::Table;
use crate::key::hook::Hook;

/// Unless told otherwise: a TPM takes a second at the most.
const TIMEOUT_SECS: u64 = 10;
/// A server waits no longer for a handshake.
const TIMEOUT_SECS_MAX: u64 = 60;

/// Reads the file.
///
/// # Errors
/// All that is wrong with it at once.
pub fn hook(path: &Path) -> Result<Hook, ConfigError> {
    read_file(path, |document, faults| {
        let mut top = Table::new("", 0, Some(document));
        let kind = top.needed_text("kind", faults);
        if let Some((at, kind)) = kind.filter(|(_, kind)| kind != "command") {
            faults.add(
                at,
                format!("\"{kind}\" is no kind of key, expected \"command\""),
            );
        }
        top.need("command", faults);
        let command = top.command("command", faults);
        let timeout: Duration =
            top.secs("timeout_secs", TIMEOUT_SECS, 1..=TIMEOUT_SECS_MAX, faults);
        top.finish(faults);
        command.map(|command| Hook { command, timeout })
    })
}
