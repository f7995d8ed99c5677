//! `[local]`: the local interface.

use std::path::Path;

use super::table::{Faults, Table};
use crate::local::{LocalConfig, Rights};

/// Bytes of a socket's path that the system takes, its end included.
const SOCKET_PATH_LEN_MAX: usize = 108;

pub(super) fn local(
    mut table: Table<'_, '_>,
    folder: &Path,
    data_dir: &Path,
    faults: &mut Faults<'_>,
) -> LocalConfig {
    let at = table.at();
    let socket = table.path("socket", faults).map(|path| folder.join(path));
    let socket = socket.unwrap_or_else(|| data_dir.join("agent.sock"));
    if socket.as_os_str().len() >= SOCKET_PATH_LEN_MAX {
        let what = "the path of the socket has more bytes than the system takes, name a shorter \"local.socket\"";
        faults.add(at, what);
    }
    let has_group = table.has("group_id");
    let group_id = table.number("group_id", 0, 1..=u64::from(u32::MAX) - 1, faults);
    let others = match table.text("others", faults) {
        None => Rights::Nothing,
        Some((_, text)) if text == "nothing" => Rights::Nothing,
        Some((_, text)) if text == "status" => Rights::Read,
        Some((at, _)) => {
            faults.add(at, "\"local.others\" is neither \"nothing\" nor \"status\"");
            Rights::Nothing
        }
    };
    table.finish(faults);
    LocalConfig {
        socket,
        group_id: u32::try_from(group_id).ok().filter(|_| has_group),
        others,
    }
}
