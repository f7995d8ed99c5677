//! The configured state of the device, one generation for each version that runs.
//!
//! ```text
//!   dir/current ─► g-5f0c…     what programs look at
//!   dir/g-5f0c…                of the committed version: not written while another one is on trial
//!   dir/g-91ab…                of the version on trial: a copy, migrated by a hook
//! ```
//!
//! A new version gets a copy, which the hook migrates forward; the old one keeps what it had. So a
//! revert restores the state to the byte, by one link, and a migration that fails has touched
//! nothing. Which generation belongs to which version stands in the journal ([`Generations`]), in
//! the same write as the commit or the revert itself; folders that nobody names are removed.
//!
//! The link is set when the agent starts, and by `ampoule-agent state`, which a device runs at boot
//! before the programs that use the state.
//!
//! Gap: extended attributes and hard links are not copied.

mod copy;

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ampoule_protocol::error::{Coded, Guilty};
use ampoule_protocol::release::ReleaseVersion;

pub use copy::{FILES_MAX, LEN_MAX};

use crate::gate::command::{Ended, run};
use crate::machine::{Generation, Generations, Plan};
use crate::ports::Storage;
use crate::system::CommandLine;

/// The generation of a device as it left the factory.
const FACTORY: &str = "g-factory";

/// What the configuration says of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateConfig {
    /// The folder of the generations.
    pub dir: PathBuf,
    /// Migrates a copy: called with the version it came from (`none` where nobody knows), the
    /// version it goes to, and the folder; nothing where it is empty.
    pub migrate: CommandLine,
    /// For how long that may run.
    pub timeout: Duration,
}

/// A state that cannot be made ready for a new version.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The hook.
    #[error("the migration of the state to {to} {what}")]
    Migration {
        /// To which version.
        to: ReleaseVersion,
        /// How it ended.
        what: String,
    },
    /// The disk.
    #[error("failed to {act} the state in \"{dir}\"")]
    Io {
        /// What was tried.
        act: &'static str,
        /// Where.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Coded for StateError {
    fn code(&self) -> &'static str {
        match self {
            Self::Migration { .. } => "migration-failed",
            Self::Io { .. } => "state-io",
        }
    }

    fn guilty(&self) -> Guilty {
        Guilty::Device
    }
}

/// The generations of one device.
pub struct StateStore {
    storage: Rc<dyn Storage>,
    config: StateConfig,
}

impl StateStore {
    /// As the configuration says.
    pub fn new(storage: Rc<dyn Storage>, config: StateConfig) -> Self {
        Self { storage, config }
    }

    /// What there is before the first update: the folder that `current` names, or an empty one.
    ///
    /// # Errors
    /// As the storage says.
    pub fn adopt(&self) -> Result<Generations, StateError> {
        let found = self.storage.read_link(&self.config.dir.join("current"));
        let found = found.map_err(|error| self.io("find", error))?;
        let name = match found.as_deref().and_then(Path::to_str) {
            Some(name) if !name.contains('/') => name.to_owned(),
            Some(_) | None => FACTORY.to_owned(),
        };
        let made = self.storage.create_dir(&self.config.dir.join(&name));
        made.map_err(|error| self.io("make", error))?;
        Ok(Generations {
            committed: Generation {
                name,
                version: None,
            },
            trial: None,
        })
    }

    /// Makes the generation of `plan`: a copy of the committed one, migrated. Whole and durable
    /// under its name, or not there.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn make(&self, committed: &Generation, plan: &Plan) -> Result<(), StateError> {
        let name = name_of(plan);
        let (new, whole) = (
            self.config.dir.join(format!("{name}.new")),
            self.config.dir.join(&name),
        );
        let storage = self.storage.as_ref();
        let old = self.config.dir.join(&committed.name);
        let copied = storage
            .remove(&new)
            .and_then(|()| storage.remove(&whole))
            .and_then(|()| copy::copy(storage, &old, &new));
        copied.map_err(|error| self.io("copy", error))?;
        self.migrate(committed, plan, &new)?;
        // The hook is not asked whether it synced what it wrote.
        let renamed = copy::sync(storage, &new)
            .and_then(|()| storage.rename(&new, &whole))
            .and_then(|()| storage.sync_dir(&self.config.dir));
        renamed.map_err(|error| self.io("keep", error))
    }

    fn migrate(
        &self,
        committed: &Generation,
        plan: &Plan,
        folder: &Path,
    ) -> Result<(), StateError> {
        if self.config.migrate.is_empty() {
            return Ok(());
        }
        let from = committed.version.as_ref();
        let from = from.map_or_else(|| "none".to_owned(), ToString::to_string);
        let folder = std::path::absolute(folder).map_err(|error| self.io("find", error))?;
        let mut command = self.config.migrate.clone();
        command.extend([from, plan.version.to_string()]);
        command.push(folder.display().to_string());
        let what = match run(&command, self.config.timeout) {
            Ok(ended) if ended.code == Some(0) => return Ok(()),
            Ok(Ended {
                code: Some(code), ..
            }) => format!("exited with {code}"),
            Ok(Ended { code: None, .. }) => "was ended by a signal".to_owned(),
            Err(what) => what,
        };
        let to = plan.version.clone();
        Err(StateError::Migration { to, what })
    }

    /// Points `current` at a generation, as one act.
    ///
    /// # Errors
    /// As the storage says.
    pub fn show(&self, generation: &str) -> Result<(), StateError> {
        let link = self.config.dir.join("current");
        let beside = self.config.dir.join("current.new");
        let storage = self.storage.as_ref();
        let target = Path::new(generation);
        let shown = || {
            if storage.read_link(&link)?.as_deref() == Some(target) {
                return Ok(());
            }
            storage.remove(&beside)?;
            storage.symlink(target, &beside)?;
            storage.rename(&beside, &link)?;
            storage.sync_dir(&self.config.dir)
        };
        shown().map_err(|error| self.io("show", error))
    }

    /// Removes what no version owns any more.
    ///
    /// # Errors
    /// As the storage says.
    pub fn tidy(&self, known: &Generations) -> Result<(), StateError> {
        let is_kept = |name: &str| {
            let trial = known.trial.as_ref();
            name == known.committed.name || trial.is_some_and(|trial| trial.name == name)
        };
        let names = self.storage.list(&self.config.dir);
        let names = names.map_err(|error| self.io("list", error))?;
        for name in names.iter().filter(|name| name.starts_with("g-")) {
            if !is_kept(name) {
                let removed = self.storage.remove(&self.config.dir.join(name));
                removed.map_err(|error| self.io("tidy", error))?;
            }
        }
        Ok(())
    }

    fn io(&self, act: &'static str, source: io::Error) -> StateError {
        StateError::Io {
            act,
            dir: self.config.dir.clone(),
            source,
        }
    }
}

/// The generation of an update.
pub fn name_of(plan: &Plan) -> String {
    format!("g-{}", plan.digest().short())
}
