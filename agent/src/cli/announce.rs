//! The daemon's watch: the terminal, the local interface and the service manager are told.
//!
//! Between pieces of long work the interface is served from here, so that a device's screen has
//! its answer while an image is filled.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ampoule_protocol::time::UtcTime;
use serde_json::json;

use super::show;
use crate::driver::Watch;
use crate::gate::Asked;
use crate::local::{Interface, Notifier, Woken};
use crate::machine::State;
use crate::ports::Clock;
use crate::system::SystemClock;

/// Between two progress lines, and between two looks at the socket.
const INTERVAL: Duration = Duration::from_millis(250);
/// The longest wait before a look whether a signal came.
const SIGNAL_WAIT_MAX: Duration = Duration::from_millis(500);

/// Whoever is told what the daemon does.
#[derive(Clone)]
pub(super) struct Audience {
    interface: Rc<RefCell<Option<Interface>>>,
    pub(super) notifier: Rc<Notifier>,
}

impl Audience {
    pub(super) fn new(interface: Option<Interface>) -> Self {
        Self {
            interface: Rc::new(RefCell::new(interface)),
            notifier: Rc::new(Notifier::from_environment()),
        }
    }

    /// A clock that serves while it waits.
    pub(super) fn with_clock(self, clock: SystemClock) -> Box<dyn Clock> {
        Box::new(ServingClock {
            clock,
            audience: self,
        })
    }

    /// Serves for this long; whether somebody acted.
    fn wait(&self, time: Duration) -> Woken {
        self.notifier.alive();
        let mut interface = self.interface.borrow_mut();
        if let Some(interface) = interface.as_mut() {
            return interface.wait(time);
        }
        std::thread::sleep(time);
        Woken::Time
    }

    fn tell(&self, event: &str, what: serde_json::Value) {
        if let Some(interface) = self.interface.borrow_mut().as_mut() {
            interface.tell(event, what);
        }
    }
}

/// The system's clock, whose waits serve the local interface.
struct ServingClock {
    clock: SystemClock,
    audience: Audience,
}

impl Clock for ServingClock {
    fn wall(&self) -> Option<UtcTime> {
        self.clock.wall()
    }

    fn uptime(&self) -> Duration {
        self.clock.uptime()
    }

    fn since_boot(&self) -> Duration {
        self.clock.since_boot()
    }

    fn is_to_stop(&self) -> bool {
        self.clock.is_to_stop()
    }

    /// Ends early when a signal comes or somebody acts.
    fn sleep(&self, time: Duration) {
        let deadline = Instant::now() + time;
        while !self.is_to_stop() {
            let left = deadline.saturating_duration_since(Instant::now());
            let piece = left.min(SIGNAL_WAIT_MAX);
            let piece = piece.min(self.audience.notifier.wait_max());
            if left.is_zero() || self.audience.wait(piece) == Woken::Act {
                return;
            }
        }
    }
}

/// The daemon's watch.
pub(super) struct Announcer {
    screen: Box<dyn Watch>,
    audience: Audience,
    last: Instant,
}

impl Announcer {
    pub(super) fn new(screen: Box<dyn Watch>, audience: Audience) -> Self {
        Self {
            screen,
            audience,
            last: Instant::now(),
        }
    }
}

impl Watch for Announcer {
    fn phase(&mut self, state: &State) {
        self.screen.phase(state);
        let phase = state.phase.as_str();
        let update = state.phase.plan().map(show::plan);
        let version = state.phase.plan().map(|plan| format!(" {}", plan.version));
        let line = format!("{phase}{}", version.unwrap_or_default());
        self.audience.notifier.status(&line);
        let event = json!({ "phase": phase, "update": update });
        self.audience.tell("phase", event);
    }

    fn progress(&mut self, what: &str, done: u64, total: u64) {
        self.screen.progress(what, done, total);
        if self.last.elapsed() < INTERVAL && done < total {
            return;
        }
        self.last = Instant::now();
        self.audience.notifier.alive();
        let event = json!({ "what": what, "done": done, "total": total });
        self.audience.tell("progress", event);
        if let Some(interface) = self.audience.interface.borrow_mut().as_mut() {
            interface.pump();
        }
    }

    fn gates(&mut self, asked: &[Asked]) {
        if let Some(interface) = self.audience.interface.borrow_mut().as_mut() {
            interface.gates(asked);
        }
    }

    fn note(&mut self, text: &str) {
        self.screen.note(text);
        self.audience.tell("note", json!({ "text": text }));
    }
}
