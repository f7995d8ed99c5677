//! Update modules: programs that speak the Update Modules v3 protocol install a component.
//!
//! A module is called `<program> <state> <work folder>`, in the work folder, once for each state;
//! an exit status other than 0 is the failure of the state. Modules written for Mender's client
//! run unchanged (mendersoftware/mender, `Documentation/update-modules-v3-file-api.md`).
//!
//! ```text
//!   artifact ─► (blocks checked, read back) ─► streams, or files ─► module
//! ```
//!
//! Off-spec, and stricter: the artifact is whole, checked and read back from the medium before the
//! module's `Download` sees its first byte; there it could only be checked afterwards. An artifact
//! whose name ends in `.tar` is the payload with several files, one stream for each; any other is
//! one stream under its own name. Augmented artifacts (parts that nobody signed) do not exist here.
//!
//! Which state comes next is the machine's to say ([`crate::machine::Track`]), and stands in the
//! journal before the module runs.
//!
//! Invariants:
//! - Every state has a time-out, and what overstays it is ended with its whole process group.
//! - What a module prints is read to a bound and never waited for.
//! - No path of a payload leads out of the work folder.
//!
//! Gap: a second signal that ends the agent at once leaves the module running; under a service
//! manager it is ended with the agent's control group.

mod error;
mod folder;
mod payload;
mod process;
mod stream;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use ampoule_protocol::name::{HardwareId, ProductName};

pub use error::ModuleError;

use crate::install::Place;
use crate::machine::{Part, Plan};
use crate::ports::Storage;
use folder::Folder;
use payload::Payload;
use process::Process;

/// What is to be downloaded, and to whom.
pub struct Order<'a> {
    /// The component.
    pub place: &'a Place,
    /// What it gets.
    pub part: &'a Part,
    /// The update.
    pub plan: &'a Plan,
    /// Of this product.
    pub product: &'a ProductName,
    /// On this hardware.
    pub hardware: &'a HardwareId,
    /// Where the artifact is, verified.
    pub storage: &'a dyn Storage,
}

/// Runs update modules: the port. States and questions by their names in the protocol.
pub trait Modules {
    /// Makes the work folder anew and runs the module's download state.
    ///
    /// # Errors
    /// A module that fails, breaks the protocol or takes too long; a disk that fails.
    fn download(&mut self, order: &Order<'_>) -> Result<(), ModuleError>;

    /// What the module answers, without white space around it.
    ///
    /// # Errors
    /// As [`Modules::download`].
    fn ask(&mut self, place: &Place, question: &'static str) -> Result<String, ModuleError>;

    /// Runs a state.
    ///
    /// # Errors
    /// As [`Modules::download`].
    fn call(&mut self, place: &Place, state: &'static str) -> Result<(), ModuleError>;

    /// Removes the work folder.
    ///
    /// # Errors
    /// A disk that fails.
    fn forget(&mut self, place: &Place) -> Result<(), ModuleError>;
}

/// Modules as programs of this machine.
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// With their work folders below `data_dir`.
    pub fn new(data_dir: &Path) -> Self {
        let folder = data_dir.join("modules");
        Self {
            // Modules are told an absolute path.
            folder: std::path::absolute(&folder).unwrap_or(folder),
        }
    }

    fn folder_of(&self, place: &Place) -> PathBuf {
        self.folder.join(place.component.as_str())
    }

    fn start(&self, place: &Place, state: &'static str) -> Result<Process, ModuleError> {
        Process::start(
            &place.options.program,
            state,
            &self.folder_of(place),
            place.options.timeout,
        )
    }
}

impl Modules for Programs {
    fn download(&mut self, order: &Order<'_>) -> Result<(), ModuleError> {
        let folder = Folder::make(&self.folder_of(order.place), order)?;
        let payload = Payload::of(order)?;
        let has_sizes = match self.ask(order.place, "ProvidePayloadFileSizes")?.as_str() {
            "" | "No" => false,
            "Yes" => true,
            other => return Err(ModuleError::answer("ProvidePayloadFileSizes", other)),
        };
        let state = if has_sizes {
            "DownloadWithFileSizes"
        } else {
            "Download"
        };
        folder.make_streams()?;
        let process = self.start(order.place, state)?;
        let served = stream::serve(process, &folder, &payload, has_sizes);
        folder.remove_streams()?;
        match served? {
            stream::Served::Streams => Ok(()),
            stream::Served::Unread => payload.store(&folder),
        }
    }

    fn ask(&mut self, place: &Place, question: &'static str) -> Result<String, ModuleError> {
        self.start(place, question)?.answer()
    }

    fn call(&mut self, place: &Place, state: &'static str) -> Result<(), ModuleError> {
        self.start(place, state)?.finish()
    }

    fn forget(&mut self, place: &Place) -> Result<(), ModuleError> {
        folder::remove(&self.folder_of(place))
    }
}
