//! What the agent needs from the world, as small object-safe traits.
//!
//! Adapters know ports; the machine knows neither. The driver holds one of each in [`Ports`].

mod storage;

use std::io::Read;
use std::time::Duration;

use ampoule_protocol::client::Source;
use ampoule_protocol::device::Check;
use ampoule_protocol::name::ComponentName;
use ampoule_protocol::time::UtcTime;

pub use storage::{Access, Kind, Storage, StoredFile, replace};

use crate::boot::BootError;
use crate::gate::Gate;
use crate::install::VerifiedImage;
use crate::machine::{BootView, Health as Verdict, Slot};
use crate::net::NetError;

/// One of each port, for the driver.
pub struct Ports {
    /// Files and slots.
    pub storage: std::rc::Rc<dyn Storage>,
    /// The server.
    pub network: Box<dyn Network>,
    /// The boot loader's settings.
    pub boot: Box<dyn BootControl>,
    /// Wall and monotonic time.
    pub clock: Box<dyn Clock>,
    /// Whether the device works.
    pub health: Box<dyn Health>,
    /// Whether the device may be interrupted.
    pub gates: Vec<Box<dyn Gate>>,
    /// How a new image is started.
    pub restart: Box<dyn Restart>,
}

/// Fetches metadata: the port of [`crate::trust::Updater`].
pub trait Fetch {
    /// The bytes of `metadata/<name>`; `None` where the repository has no such file.
    ///
    /// # Errors
    /// More than `max_len` bytes, and whatever the network does.
    fn fetch(&mut self, name: &str, max_len: u64) -> Result<Option<Vec<u8>>, NetError>;

    /// What answers: a repository, unless it says otherwise.
    fn source(&self) -> Source {
        Source::Repository
    }
}

/// The server, as a device sees it.
pub trait Network: Fetch {
    /// A reader of the target file `name` (below `targets/`) that is `length` bytes long, from
    /// `offset` to its end. Gives up by an error on slow retrieval.
    ///
    /// # Errors
    /// Whatever the network does.
    fn target(
        &mut self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Box<dyn Read + '_>, NetError>;

    /// The bytes of the director's `metadata/<name>`; `None` where there is no such file.
    ///
    /// # Errors
    /// As [`Fetch::fetch`].
    fn director(&mut self, name: &str, max_len: u64) -> Result<Option<Vec<u8>>, NetError> {
        let _ = (name, max_len);
        Ok(None)
    }

    /// Keeps the device's identity good, where that is this port's to do: renews a certificate
    /// whose end is near. Whether it did.
    ///
    /// # Errors
    /// Whatever the network does; the certificate in use stays.
    fn tend(&mut self, now: UtcTime) -> Result<bool, NetError> {
        let _ = now;
        Ok(false)
    }

    /// Whether the target file `name` can be had here. Where only asking tells, it can.
    fn holds(&self, name: &str) -> bool {
        let _ = name;
        true
    }

    /// Whether targets lie on this device already: what a cut undoes is copied again, not fetched.
    fn is_at_hand(&self) -> bool {
        false
    }

    /// Posts JSON to `/device/v1/<path>`, and gives back the JSON that is answered.
    ///
    /// # Errors
    /// Whatever the network does, and any status but 200.
    fn post(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>, NetError>;
}

/// The boot loader's settings, of each component.
///
/// Every call is idempotent: the machine repeats it after a cut. Each is one atomic write.
pub trait BootControl {
    /// What runs, what is the default, and what is armed.
    ///
    /// # Errors
    /// Settings that cannot be read.
    fn view(&self, component: &ComponentName) -> Result<BootView, BootError>;

    /// Chooses the slot of a verified image for the next `attempts` boots.
    ///
    /// # Errors
    /// Settings that cannot be written; the running slot.
    fn arm(&mut self, image: &VerifiedImage, attempts: u32) -> Result<(), BootError>;

    /// Chooses the slots of all images of one update: in the next boot all of them run, or none.
    /// The last write is the one that counts; a component that has a boot loader of its own
    /// besides the one that leads is armed for itself.
    ///
    /// # Errors
    /// As [`BootControl::arm`].
    fn arm_all(&mut self, images: &[VerifiedImage], attempts: u32) -> Result<(), BootError> {
        images
            .iter()
            .try_for_each(|image| self.arm(image, attempts))
    }

    /// Takes an arming back: the next boot is the default's.
    ///
    /// # Errors
    /// Settings that cannot be written.
    fn disarm(&mut self, component: &ComponentName) -> Result<(), BootError>;

    /// Takes the armings of all these back, the one that leads first.
    ///
    /// # Errors
    /// Settings that cannot be written.
    fn disarm_all(&mut self, components: &[ComponentName]) -> Result<(), BootError> {
        components
            .iter()
            .try_for_each(|component| self.disarm(component))
    }

    /// Makes all these slots the default, the one that leads first.
    ///
    /// # Errors
    /// Settings that cannot be written.
    fn commit_all(&mut self, slots: &[(ComponentName, Slot)]) -> Result<(), BootError> {
        slots
            .iter()
            .try_for_each(|(component, slot)| self.commit(component, *slot))
    }

    /// Makes what is armed of these components, else their default, run and visible now, without a
    /// restart: files and trees, which no boot loader of its own chooses.
    ///
    /// # Errors
    /// Settings that cannot be written; a choice that cannot be made visible.
    fn load_now(&mut self, components: &[ComponentName]) -> Result<(), BootError> {
        let _ = components;
        Ok(())
    }

    /// What was out of order in the settings at this start, in sentences for people; it is mended.
    fn noticed(&self) -> Vec<String> {
        Vec::new()
    }

    /// Makes `slot` the default.
    ///
    /// # Errors
    /// Settings that cannot be written.
    fn commit(&mut self, component: &ComponentName, slot: Slot) -> Result<(), BootError>;
}

/// Wall and monotonic time.
pub trait Clock {
    /// The wall clock; `None` where there is none.
    fn wall(&self) -> Option<UtcTime>;
    /// Time since some moment after boot; never goes back.
    fn uptime(&self) -> Duration;
    /// Time since boot, suspension included, where the system tells it.
    fn since_boot(&self) -> Duration {
        self.uptime()
    }
    /// Waits so long, or until the process is to end.
    fn sleep(&self, time: Duration);
    /// Whether the process is to end at the next good place.
    fn is_to_stop(&self) -> bool {
        false
    }
}

/// Whether the device works.
pub trait Health {
    /// The verdict, `trial_time` after the trial began (in this boot).
    fn verdict(&mut self, trial_time: Duration) -> Verdict;

    /// What was run for the last verdict, with the results, and how long good must last, in
    /// seconds: for the receipt.
    fn answers(&self) -> (Vec<Check>, u64) {
        (Vec::new(), 0)
    }
}

/// What a restart came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restarted {
    /// The restart is under way; this process will end.
    UnderWay,
    /// Somebody else has to restart the device.
    Due,
}

/// How a new image is started.
pub trait Restart {
    /// Asks for it.
    ///
    /// # Errors
    /// A command that fails, in words.
    fn restart(&mut self) -> Result<Restarted, std::io::Error>;
}
