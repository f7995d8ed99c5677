//! The therapy interlock: a provider says `idle`, `active` or `unknown`; only `idle` is yes.
//!
//! Three ways to ask, each with a bound on time and bytes:
//!
//! - a Unix socket: one line of JSON out, one line back, a new connection each time:
//!   `{"ampoule":1,"ask":"therapy","id":7}` → `{"id":7,"therapy":"idle"}`. The `id` must come back,
//!   so that a provider that speaks without listening is not believed;
//! - a file that the provider keeps fresh: `idle`, or `idle 1234.5` with the seconds since boot at
//!   which it was written. Older than allowed, or from another boot, is unknown;
//! - a command: exit 0 is idle, 1 is active, anything else unknown; a word on its output must agree.
//!
//! Invariant: no answer is remembered. Each question is asked anew.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::Deserialize;

use super::command::run;
use super::{Answer, Gate, Question, quoted};
use crate::ports::Clock;
use crate::system::CommandLine;

/// Bytes of an answer: a word and a reason are expected.
const ANSWER_LEN_MAX: usize = 4096;
/// By how much a file may be younger than now: clocks are read one after the other.
const FUTURE_MAX: Duration = Duration::from_secs(2);

/// How a provider is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provider {
    /// By a Unix socket.
    Socket(PathBuf),
    /// By a file, and how old it may be.
    File(PathBuf, Duration),
    /// By a command.
    Command(CommandLine),
}

/// One interlock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterlockConfig {
    /// What it is called.
    pub name: String,
    /// How it is asked.
    pub provider: Provider,
    /// For how long it may think.
    pub timeout: Duration,
}

/// What a provider says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Therapy {
    Idle,
    Active,
    Unknown,
}

/// The gate of one interlock.
pub struct Interlock {
    config: InterlockConfig,
    clock: Rc<dyn Clock>,
    asked: u64,
}

impl Interlock {
    /// Asks nobody yet.
    pub fn new(config: InterlockConfig, clock: Rc<dyn Clock>) -> Self {
        Self {
            config,
            clock,
            asked: 0,
        }
    }
}

impl Gate for Interlock {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn ask(&mut self, _question: &Question) -> Answer {
        self.asked += 1;
        let timeout = self.config.timeout;
        let said = match &self.config.provider {
            Provider::Socket(path) => ask_socket(path, self.asked, timeout),
            Provider::File(path, age_max) => read_file(path, *age_max, self.clock.as_ref()),
            Provider::Command(command) => ask_command(command, timeout),
        };
        match said {
            Ok((Therapy::Idle, _)) => Answer::Yes,
            Ok((Therapy::Active, why)) => Answer::no(with_reason("therapy is active", &why)),
            Ok((Therapy::Unknown, why)) => {
                Answer::unknown(with_reason("the provider does not know", &why))
            }
            Err(what) => Answer::unknown(what),
        }
    }
}

fn with_reason(what: &str, why: &str) -> String {
    match quoted(why.as_bytes()) {
        why if why.is_empty() => what.to_owned(),
        why => format!("{what}: {why}"),
    }
}

/// What was said, and the provider's reason.
type Said = Result<(Therapy, String), String>;

fn word(said: &str) -> Option<Therapy> {
    match said {
        "idle" => Some(Therapy::Idle),
        "active" => Some(Therapy::Active),
        "unknown" => Some(Therapy::Unknown),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Line {
    id: u64,
    therapy: String,
    #[serde(default)]
    reason: String,
}

fn ask_socket(path: &Path, id: u64, timeout: Duration) -> Said {
    let deadline = Instant::now() + timeout;
    let fail = |what: &str, error: io::Error| format!("\"{}\" {what}: {error}", path.display());
    let mut stream = connect_to(path).map_err(|error| fail("does not answer", error))?;
    let question = format!("{{\"ampoule\":1,\"ask\":\"therapy\",\"id\":{id}}}\n");
    stream
        .set_write_timeout(Some(timeout))
        .and_then(|()| stream.write_all(question.as_bytes()))
        .map_err(|error| fail("does not listen", error))?;
    let line = read_line(&mut stream, deadline)
        .map_err(|error| fail("gave no answer", error))?
        .ok_or_else(|| {
            let secs = timeout.as_secs();
            format!("\"{}\" gave no answer in {secs} seconds", path.display())
        })?;
    parse_line(&line, id).ok_or_else(|| {
        format!(
            "\"{}\" spoke nonsense: \"{}\"",
            path.display(),
            quoted(&line)
        )
    })
}

/// Connects without waiting: a provider that does not take connections has a full queue.
fn connect_to(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// One line without its end; `None` where it is not whole at the deadline. Bytes after the line
/// make it nonsense: nobody asked for more.
fn read_line(stream: &mut UnixStream, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        stream.set_read_timeout(Some(left))?;
        let mut piece = [0; 512];
        match stream.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => line.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if is_late(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        if line.len() > ANSWER_LEN_MAX {
            return Err(io::Error::other("the answer is too long"));
        }
        if line.contains(&b'\n') {
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            return Ok(Some(line));
        }
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn parse_line(line: &[u8], id: u64) -> Option<(Therapy, String)> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let therapy = word(&line.therapy)?;
    (line.id == id).then_some((therapy, line.reason))
}

fn read_file(path: &Path, age_max: Duration, clock: &dyn Clock) -> Said {
    let fail = |what: String| format!("\"{}\" {what}", path.display());
    let (content, modified) =
        read_small(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
    let mut words = content.split_ascii_whitespace();
    let therapy = words.next().and_then(word);
    let stamp = words.next();
    let (Some(therapy), None) = (therapy, words.next()) else {
        return Err(fail(format!(
            "holds nonsense: \"{}\"",
            quoted(content.as_bytes())
        )));
    };
    let age = match stamp {
        Some(stamp) => age_since_boot(stamp, clock),
        None => age_of(modified, clock),
    };
    match age {
        Some(age) if age <= age_max => Ok((therapy, String::new())),
        Some(age) => Err(fail(format!(
            "is {} seconds old, expected at most {}",
            age.as_secs(),
            age_max.as_secs()
        ))),
        None => Err(fail("has no believable time".to_owned())),
    }
}

/// A small plain file and when it was modified, in Unix time. Opened without waiting: a pipe
/// without a writer would hold the agent for ever.
fn read_small(path: &Path) -> io::Result<(String, i64)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = open(path, flags, Mode::empty())?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut content = String::new();
    let limit = ANSWER_LEN_MAX as u64;
    std::fs::File::from(file)
        .take(limit)
        .read_to_string(&mut content)?;
    Ok((content, stat.st_mtime))
}

/// A stamp of seconds since boot: what a wall clock does makes no difference to it.
fn age_since_boot(stamp: &str, clock: &dyn Clock) -> Option<Duration> {
    let stamp = stamp.parse::<f64>().ok()?;
    let stamp = Duration::try_from_secs_f64(stamp).ok()?;
    age_between(stamp, clock.since_boot())
}

/// By the wall clock; a file from before this boot has no age that counts.
fn age_of(modified: i64, clock: &dyn Clock) -> Option<Duration> {
    let now = u64::try_from(clock.wall()?.unix()).ok()?;
    let modified = Duration::from_secs(u64::try_from(modified).ok()?);
    let now = Duration::from_secs(now);
    let age = age_between(modified, now)?;
    (age <= clock.since_boot()).then_some(age)
}

fn age_between(then: Duration, now: Duration) -> Option<Duration> {
    if then > now + FUTURE_MAX {
        return None;
    }
    Some(now.saturating_sub(then))
}

fn ask_command(command: &CommandLine, timeout: Duration) -> Said {
    let ended = run(command, timeout)?;
    let output = String::from_utf8_lossy(&ended.output);
    let said = output.split_ascii_whitespace().next();
    let by_code = match ended.code {
        Some(0) => Therapy::Idle,
        Some(1) => Therapy::Active,
        _ => Therapy::Unknown,
    };
    let by_word = match said {
        None => by_code,
        Some(said) => word(said).ok_or_else(|| {
            let said = quoted(&ended.output);
            format!("\"{}\" spoke nonsense: \"{said}\"", command[0])
        })?,
    };
    if by_word == by_code || by_word == Therapy::Active {
        return Ok((by_word, String::new()));
    }
    Err(format!(
        "\"{}\" contradicts itself: \"{}\" with exit code {:?}",
        command[0],
        quoted(&ended.output),
        ended.code
    ))
}

#[cfg(test)]
mod tests;
