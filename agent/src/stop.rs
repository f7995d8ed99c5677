//! The wish to end, as a signal brings it.
//!
//! `SIGTERM` and `SIGINT` are noted, and wake whoever waits; what is under way comes to its next
//! checkpoint. A second one ends the process at once: every state on disk is one to go on from.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// The exit code after a second signal.
const IMPATIENT: i32 = 1;

/// Whether this process was asked to end.
pub struct Stop {
    asked: Arc<AtomicBool>,
    /// Gets a byte with each signal.
    wake: UnixStream,
}

impl Stop {
    /// Listens to `SIGTERM` and `SIGINT` from now on.
    ///
    /// # Errors
    /// As the system says.
    pub fn on_signals() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let (wake, sender) = UnixStream::pair()?;
        for signal in [SIGTERM, SIGINT] {
            // In this order: the first signal sets the flag, the second one finds it set.
            flag::register_conditional_shutdown(signal, IMPATIENT, Arc::clone(&asked))?;
            flag::register(signal, Arc::clone(&asked))?;
            low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        Ok(Self { asked, wake })
    }

    /// Whether a signal came.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Waits so long, or until a signal comes.
    pub fn wait(&self, time: Duration) {
        if time.is_zero() || self.is_asked() {
            return;
        }
        // The one byte may be read only once: afterwards the flag says it.
        let waited = self.wake.set_read_timeout(Some(time));
        if waited.is_err() {
            std::thread::sleep(time);
            return;
        }
        let _ = (&self.wake).read(&mut [0]);
    }
}
