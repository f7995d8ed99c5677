//! The ports of a real machine: clock, health commands, restart command.

use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ampoule_protocol::device::Check;
use ampoule_protocol::time::UtcTime;

use crate::machine::{Fault, Health as Verdict};
use crate::ports::{Clock, Health, Restart, Restarted};
use crate::stop::Stop;
use crate::trust::BUILD_TIME;

/// How often a running command is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The clock of the system.
pub struct SystemClock {
    start: Instant,
    stop: Option<Stop>,
}

impl SystemClock {
    /// One that a signal wakes.
    pub fn stopped_by(stop: Stop) -> Self {
        Self {
            stop: Some(stop),
            ..Self::default()
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            stop: None,
        }
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Option<UtcTime> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let wall = UtcTime::from_unix(i64::try_from(since.as_secs()).ok()?);
        // A clock before this program was written is not sane: no battery, no time server yet.
        (wall >= BUILD_TIME).then_some(wall)
    }

    fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    fn since_boot(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let secs = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::new(secs, u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    fn sleep(&self, time: Duration) {
        match &self.stop {
            Some(stop) => stop.wait(time),
            None => std::thread::sleep(time),
        }
    }

    fn is_to_stop(&self) -> bool {
        self.stop.as_ref().is_some_and(Stop::is_asked)
    }
}

/// A command line of the configuration: program and arguments, no shell.
pub type CommandLine = Vec<String>;

/// How a command ended.
enum Ended {
    Well,
    Badly(String),
    TooLate,
}

/// Health commands and bake time.
pub struct HealthCommands {
    /// What is run; all must exit with 0.
    pub commands: Vec<CommandLine>,
    /// For how long each may run.
    pub timeout: Duration,
    /// How long good must last.
    pub bake_time: Duration,
    /// For how long after the start a failure is no verdict yet.
    pub settle_time: Duration,
    /// After this, silence is a bad verdict.
    pub silence_max: Duration,
    /// What was run for the last verdict, and how it ended.
    pub answers: Vec<Check>,
}

impl Health for HealthCommands {
    fn verdict(&mut self, trial_time: Duration) -> Verdict {
        self.answers.clear();
        for command in &self.commands {
            let ended = run(command, self.timeout);
            self.answers.push(check(command, &ended));
            let name = command.first().map_or("", String::as_str);
            match ended {
                Ended::Well => {}
                Ended::Badly(_) if trial_time < self.settle_time => return Verdict::Undecided,
                Ended::Badly(how) => {
                    let text = format!("health command \"{name}\" {how}");
                    return Verdict::Bad(Fault::device("health-bad", &text));
                }
                Ended::TooLate if trial_time < self.silence_max => return Verdict::Undecided,
                Ended::TooLate => {
                    let text = format!("health command \"{name}\" gave no answer");
                    return Verdict::Bad(Fault::device("health-silent", &text));
                }
            }
        }
        if trial_time < self.bake_time {
            return Verdict::Undecided;
        }
        Verdict::Good
    }

    fn answers(&self) -> (Vec<Check>, u64) {
        (self.answers.clone(), self.bake_time.as_secs())
    }
}

fn check(command: &CommandLine, ended: &Ended) -> Check {
    let detail = match ended {
        Ended::Well => String::new(),
        Ended::Badly(how) => how.clone(),
        Ended::TooLate => "gave no answer".to_owned(),
    };
    Check {
        name: command.join(" "),
        passed: matches!(ended, Ended::Well),
        detail,
    }
}

/// The restart command, or none: then somebody else restarts the device.
pub struct RestartCommand(pub Option<CommandLine>);

impl Restart for RestartCommand {
    fn restart(&mut self) -> Result<Restarted, io::Error> {
        let Some(command) = &self.0 else {
            return Ok(Restarted::Due);
        };
        match run(command, RESTART_TIMEOUT) {
            Ended::Well => Ok(Restarted::UnderWay),
            Ended::Badly(how) => Err(io::Error::other(format!("restart command {how}"))),
            Ended::TooLate => Err(io::Error::other("restart command did not end")),
        }
    }
}

/// For how long the restart command may run.
const RESTART_TIMEOUT: Duration = Duration::from_mins(1);

fn run(command: &CommandLine, timeout: Duration) -> Ended {
    let Some((program, arguments)) = command.split_first() else {
        return Ended::Badly("is empty".to_owned());
    };
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return Ended::Badly(format!("cannot be run: {error}")),
    };
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ended::Well,
            Ok(Some(status)) => return Ended::Badly(format!("ended with {status}")),
            Ok(None) if start.elapsed() < timeout => std::thread::sleep(LOOK_INTERVAL),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Ended::TooLate;
            }
        }
    }
}
