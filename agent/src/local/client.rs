//! The other end, for the command line.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::UNREAD_LEN_MAX;

/// For how long an answer is waited for: the agent may be in the middle of a slow read.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(2);

/// What came of speaking to the daemon.
#[derive(Debug)]
pub enum Spoken {
    /// Nobody listens.
    NoDaemon,
    /// This was the answer.
    Answer(Value),
}

/// Asks the daemon.
///
/// # Errors
/// A socket that is there and cannot be used, an answer that does not come or is none.
pub fn speak(socket: &Path, request: &Value) -> io::Result<Spoken> {
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(Spoken::NoDaemon),
                _ => Err(error),
            };
        }
    };
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut line = String::new();
    let limit = UNREAD_LEN_MAX as u64;
    BufReader::new(stream.take(limit)).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::Error::other("the agent closed the connection"));
    }
    Ok(Spoken::Answer(serde_json::from_str(&line)?))
}
