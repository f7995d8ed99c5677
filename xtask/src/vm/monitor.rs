//! The emulator's monitor (QMP): questions, and the news that the machine was reset.

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::machine::Heard;

/// For how long an answer is waited for.
const ANSWER_PATIENCE: Duration = Duration::from_mins(1);
/// How often the socket is looked for until it is there, and between two looks.
const LOOKS_MAX: u32 = 6000;
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// One connection.
pub(super) struct Monitor {
    stream: UnixStream,
    lines: Lines<BufReader<UnixStream>>,
}

impl Monitor {
    /// Connects as soon as the emulator listens there; `None` where it never does.
    pub(super) fn connect(socket: &Path) -> Option<Self> {
        let mut looks = 0;
        let stream = loop {
            if let Ok(stream) = UnixStream::connect(socket) {
                break stream;
            }
            looks += 1;
            if looks > LOOKS_MAX {
                return None;
            }
            std::thread::sleep(LOOK_INTERVAL);
        };
        stream.set_read_timeout(Some(ANSWER_PATIENCE)).ok()?;
        let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
        let _greeting = lines.next()?.ok()?;
        let mut monitor = Self { stream, lines };
        monitor.ask("qmp_capabilities", &json!({}))?;
        Some(monitor)
    }

    /// Asks; `None` where there is no answer, or an error.
    pub(super) fn ask(&mut self, what: &str, arguments: &Value) -> Option<Value> {
        let request = json!({ "execute": what, "arguments": arguments });
        writeln!(self.stream, "{request}").ok()?;
        // Events come in between.
        loop {
            let answer: Value = serde_json::from_str(&self.lines.next()?.ok()?).ok()?;
            if answer.get("error").is_some() {
                return None;
            }
            if let Some(told) = answer.get("return") {
                return Some(told.clone());
            }
        }
    }

    /// What the monitor for people prints.
    pub(super) fn told(&mut self, line: &str) -> String {
        let arguments = json!({ "command-line": line });
        let told = self.ask("human-monitor-command", &arguments);
        told.and_then(|told| told.as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    /// Asks again and again until `status` of the answer is `wanted`; whether it came to that.
    pub(super) fn wait_for(&mut self, what: &str, wanted: &str) -> bool {
        for _ in 0..LOOKS_MAX {
            match self.ask(what, &json!({})) {
                Some(told) if told["status"] == wanted => return true,
                Some(told) if told["status"] == "failed" => return false,
                None => return false,
                Some(_) => std::thread::sleep(LOOK_INTERVAL),
            }
        }
        false
    }
}

/// Listens on a second socket until the emulator ends, and hands on when the machine was reset.
pub(super) fn hear_resets(socket: PathBuf, tell: Sender<Heard>) {
    std::thread::spawn(move || {
        let Some(monitor) = Monitor::connect(&socket) else {
            return;
        };
        let _ = monitor.stream.set_read_timeout(None);
        for line in monitor.lines.map_while(Result::ok) {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["event"] == "RESET" && tell.send(Heard::Reset(time_of(&event))).is_err() {
                return;
            }
        }
    });
}

fn time_of(event: &Value) -> SystemTime {
    let part = |name: &str| event["timestamp"][name].as_u64().unwrap_or(0);
    let since = Duration::from_secs(part("seconds")) + Duration::from_micros(part("microseconds"));
    SystemTime::UNIX_EPOCH + since
}
