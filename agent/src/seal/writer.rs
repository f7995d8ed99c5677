//! Which walls a writer can stand, by its configuration.

use std::path::{Path, PathBuf};

use super::walls::{writer_alone, writer_with_programs};
use crate::config::Config;
use crate::gate::{Meter, Provider};
use crate::key;

/// Seals this process; to be called when everything is open that has to be, the network half and
/// the local socket above all. Gives what is missing of its walls, for the log.
///
/// A process without privileges that runs programs is left as it is: one of them may be a program
/// that gets some, such as `sudo`, and walls would take that from it.
pub fn seal(config: &Config) -> Vec<String> {
    if !runs_programs(config) {
        return writer_alone(&writes(config)).gaps();
    }
    if rustix::process::geteuid().is_root() {
        return writer_with_programs().gaps();
    }
    vec!["it is not confined: it runs programs of its configuration, and is not root".to_owned()]
}

/// Whether the configuration names any program.
fn runs_programs(config: &Config) -> bool {
    let gates = &config.gates;
    let by_command = |provider: &Provider| matches!(provider, Provider::Command(_));
    key::is_hook(&config.server.key)
        || !config.health.commands.is_empty()
        || config.restart.is_some()
        || !config.worlds.is_empty()
        || !gates.commands.is_empty()
        || gates
            .power
            .as_ref()
            .is_some_and(|power| matches!(power.meter, Meter::Command(..)))
        || gates
            .interlocks
            .iter()
            .any(|interlock| by_command(&interlock.provider))
        || gates
            .consent
            .as_ref()
            .is_some_and(|consent| consent.button.is_some())
        || config
            .state
            .as_ref()
            .is_some_and(|state| !state.migrate.is_empty())
        || config
            .places
            .iter()
            .any(|place| place.is_module() || !place.options.reload.is_empty())
}

/// The folders that are written in, and the devices.
fn writes(config: &Config) -> Vec<PathBuf> {
    let folder = |path: &Path| path.parent().map(Path::to_owned);
    let mut paths = vec![config.data_dir.clone()];
    paths.extend(config.state.as_ref().map(|state| state.dir.clone()));
    paths.extend(folder(&config.server.certificate));
    paths.extend(folder(&config.local.socket));
    for place in &config.places {
        paths.extend(folder(&place.visible));
        paths.extend(folder(&place.boot_file));
        for slot in &place.slots {
            // A device is written itself, and its folder is not.
            let is_device = slot.starts_with("/dev") && !slot.starts_with("/dev/shm");
            if is_device {
                paths.push(slot.clone());
            } else {
                paths.extend(folder(slot));
            }
        }
    }
    for path in &mut paths {
        // Beside a configuration that was named without its folder.
        if path.as_os_str().is_empty() {
            *path = PathBuf::from(".");
        }
    }
    paths.sort();
    paths.dedup();
    paths
}
