//! Plain HTTP GET with a bound on length, pace and stall.

use std::io::Read;
use std::time::Duration;

use ampoule_agent::net::{NetError, Pace, Paced};
use ampoule_protocol::name::RoleName;

/// As a device would be set up, but quicker to give up.
const PACE: Pace = Pace {
    bytes_per_sec_min: 1024,
    window: Duration::from_secs(10),
};
const STALL: Duration = Duration::from_secs(10);

/// The path of a target with each segment percent-encoded. Names of metadata files are encoded
/// already and go as they are.
pub(crate) fn encode(path: &str) -> String {
    let segments = path
        .split('/')
        .map(|segment| match RoleName::parse(segment) {
            Ok(name) => name.file_stem(),
            Err(_) => String::new(),
        });
    segments.collect::<Vec<_>>().join("/")
}

/// At most `max_len` bytes of `name` below `base`, which may or may not end in a slash.
pub(crate) fn get(base: &str, name: &str, max_len: u64) -> Result<Option<Vec<u8>>, NetError> {
    let url = format!("{}/{name}", base.trim_end_matches('/'));
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_recv_response(Some(STALL))
        .timeout_per_read(Some(STALL))
        .build()
        .into();
    let failed = |error: ureq::Error| NetError::new("network-failed", error.to_string());
    let mut answer = agent.get(&url).call().map_err(failed)?;
    match answer.status().as_u16() {
        200 => {}
        // Some file servers say 403 where there is no file.
        403 | 404 => return Ok(None),
        status => return Err(NetError::status(status, None, None)),
    }
    let mut bytes = Vec::new();
    let body = answer.body_mut().with_config().limit(u64::MAX).reader();
    Paced::until_end(body, max_len.saturating_add(1), PACE).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_len {
        return Err(NetError::too_long(max_len));
    }
    Ok(Some(bytes))
}
