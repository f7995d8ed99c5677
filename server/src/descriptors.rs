//! Room for sockets: the soft limit of open descriptors is often 1,024, for programs that use
//! `select`. The server uses none and takes what the hard limit gives.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::log::Log;

/// Descriptors beyond the connections: listeners, the store, files being read.
const SPARE: u64 = 256;

/// Raises the soft limit as far as `connections_max` asks for, and says where that is not enough.
pub(crate) fn make_room(connections_max: usize, log: &Log) {
    let wanted = (connections_max as u64).saturating_add(SPARE);
    let found = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= wanted);
    if enough(found.current) {
        return;
    }
    let current = found.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = Rlimit {
        current: Some(current),
        maximum: found.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log.warn(format_args!(
            "failed to raise the limit of open files: {error}"
        ));
    } else if !enough(Some(current)) {
        log.warn(format_args!(
            "{current} files may be open, and {connections_max} connections are allowed; \
             raise the hard limit of open files or lower limits.connections_max"
        ));
    }
}
