//! Plain HTTP GET with a bound, for peers that serve on loopback.

use std::io::Read;
use std::time::Duration;

use ampoule_protocol::name::RoleName;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// These bytes, within the bound.
    Bytes(Vec<u8>),
    /// 404, or 403 as some file servers say it.
    NotFound,
}

/// Longer than any answer on loopback takes.
const TIMEOUT: Duration = Duration::from_secs(30);

/// `name` below `base`, which may or may not end in a slash. Names of metadata files are
/// percent-encoded already and go as they are.
pub fn join(base: &str, name: &str) -> String {
    format!("{}/{name}", base.trim_end_matches('/'))
}

/// The path of a target with each segment percent-encoded.
pub fn encode(path: &str) -> String {
    let segments = path
        .split('/')
        .map(|segment| match RoleName::parse(segment) {
            Ok(name) => name.file_stem(),
            Err(_) => String::new(),
        });
    segments.collect::<Vec<_>>().join("/")
}

/// At most `max_len` bytes from `url`.
///
/// # Errors
/// Those of the network, other answers than 200 and 404, longer ones than allowed.
pub fn get(url: &str, max_len: u64) -> Result<Fetched, Box<dyn std::error::Error>> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .build()
        .into();
    let mut answer = agent.get(url).call()?;
    match answer.status().as_u16() {
        200 => {}
        403 | 404 => return Ok(Fetched::NotFound),
        status => return Err(format!("{url} is answered with {status}").into()),
    }
    let mut bytes = Vec::new();
    answer
        .body_mut()
        .as_reader()
        .take(max_len + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_len {
        return Err(format!("{url} is longer than {max_len} bytes").into());
    }
    Ok(Fetched::Bytes(bytes))
}
