//! The loop of a device that looks after itself: check, wait, check again.

use std::time::Duration;

use super::{Driver, DriverError, Rest};

/// How the loop came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The device is to be restarted by somebody else.
    RestartDue,
    /// The device restarts.
    Restarting,
    /// The process was asked to end; the journal says where to go on.
    Stopped,
}

impl End {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RestartDue => "restart-due",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
        }
    }
}

impl Driver {
    /// Looks for updates and installs them until a restart is due, or the clock port says that
    /// the process is to end.
    ///
    /// # Errors
    /// See [`DriverError`].
    pub fn run(&mut self) -> Result<End, DriverError> {
        let mut rest = self.start()?;
        let mut next_check = Duration::ZERO;
        let mut waited = Duration::ZERO;
        loop {
            if self.is_to_stop() {
                return Ok(End::Stopped);
            }
            rest = match rest {
                Rest::Idle => {
                    self.sleep(next_check);
                    if self.is_to_stop() {
                        return Ok(End::Stopped);
                    }
                    let rest = self.check()?;
                    next_check = self.until_next_check();
                    waited = Duration::ZERO;
                    rest
                }
                Rest::Wait(time) => {
                    self.sleep(time);
                    waited += time;
                    // A wait for gates may last for days: what is recalled meanwhile is not begun.
                    if waited >= next_check && self.state().phase.is_waiting() {
                        self.check()?;
                        next_check = self.until_next_check();
                        waited = Duration::ZERO;
                    }
                    self.tick()?
                }
                Rest::RestartDue => return Ok(End::RestartDue),
                Rest::Restarting => return Ok(End::Restarting),
            };
        }
    }
}
