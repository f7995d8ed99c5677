//! The file of `ampoule-in-place`: what the device gives to components that are rewritten in place.

use std::path::Path;

use super::ConfigError;
use super::read::read_file;
use super::table::{Faults, Table};
use crate::in_place::InPlaceConfig;

/// Memory of a patch, unless told otherwise; the bounds of `limits.patch_memory_max`.
const MEMORY: u64 = 16 << 20;
/// Scratch of a patch, unless told otherwise: what `ampoule-delta pairs` asks for by itself.
const SCRATCH: u64 = 1 << 20;
/// No device gives more.
const SCRATCH_MAX: u64 = 1 << 30;

/// Reads what the file says of one component. Relative paths in it are below its own folder.
///
/// # Errors
/// All that is wrong with the file at once, or that it does not name the component.
pub fn in_place(path: &Path, component: &str) -> Result<InPlaceConfig, ConfigError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    read_file(path, |document, faults| {
        let mut top = Table::new("", 0, Some(document));
        top.need("component", faults);
        let mut wanted = None;
        for table in top.tables("component", faults) {
            let at = table.at();
            let (name, config) = one(table, folder, faults);
            if name.as_deref() == Some(component) && wanted.replace(config).is_some() {
                faults.add(at, format!("component \"{component}\" stands twice"));
            }
        }
        top.finish(faults);
        if wanted.is_none() {
            faults.add(0, format!("component \"{component}\" is not in it"));
        }
        wanted
    })
}

fn one(
    mut table: Table<'_, '_>,
    folder: &Path,
    faults: &mut Faults<'_>,
) -> (Option<String>, InPlaceConfig) {
    let name = table.needed_text("name", faults).map(|(_, name)| name);
    let config = InPlaceConfig {
        image: folder.join(table.needed_path("image", faults)),
        state: folder.join(table.needed_path("state", faults)),
        memory_max: table.number("memory_max", MEMORY, 1 << 20..=1 << 30, faults),
        scratch_max: table.number("scratch_max", SCRATCH, 4096..=SCRATCH_MAX, faults),
        restart: table.flag("restart", false, faults),
    };
    table.finish(faults);
    (name, config)
}
