//! U-Boot's environment with its own boot counter (`doc/api/bootcount.rst`).
//!
//! | variable | meaning |
//! |---|---|
//! | `ampoule_default` | `a` or `b`: the default |
//! | `ampoule_trial` | the slot that is armed |
//! | `upgrade_available` | 1 while one is armed: only then U-Boot counts and saves |
//! | `bootcount`, `bootlimit` | boots of the trial that were begun, and that are allowed |
//! | `altbootcmd` | the board's: what is run when there were too many |
//!
//! U-Boot counts before the kernel starts, so a hanging kernel is counted. It drops to its prompt
//! when the limit is passed and `altbootcmd` is unset: then nothing is armed here.

use std::rc::Rc;

use super::env::Env;
use super::env_store::EnvStore;
use super::{EnvSettings, Loader, Running, WorldError};
use crate::machine::{BootView, Slot};
use crate::ports::Storage;

/// The variable that says which slot is the default; other worlds with variables use it too.
pub(super) const DEFAULT: &str = "ampoule_default";
const TRIAL: &str = "ampoule_trial";
const ARMED: &str = "upgrade_available";
const COUNT: &str = "bootcount";
const LIMIT: &str = "bootlimit";
const FALLBACK: &str = "altbootcmd";

/// U-Boot's environment with variables of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UbootSettings {
    /// Where the environment is.
    pub env: EnvSettings,
    /// Who says which slot runs.
    pub running: Running,
}

pub(super) struct Uboot {
    storage: Rc<dyn Storage>,
    store: EnvStore,
    running: Running,
}

impl Uboot {
    pub(super) fn new(storage: Rc<dyn Storage>, settings: UbootSettings) -> Self {
        let store = EnvStore::new(Rc::clone(&storage), settings.env);
        Self {
            storage,
            store,
            running: settings.running,
        }
    }
}

/// The slot that a value names.
pub(super) fn slot_of(value: Option<&str>) -> Option<Slot> {
    [Slot::A, Slot::B]
        .into_iter()
        .find(|slot| value == Some(slot.as_str()))
}

fn armed(env: &Env, default: Slot) -> Option<(Slot, u32)> {
    let is_counting = env
        .value(ARMED)
        .is_some_and(|value| !matches!(value, "" | "0"));
    let slot = slot_of(env.value(TRIAL)).filter(|slot| is_counting && *slot != default)?;
    let left = match env.number(LIMIT, 10) {
        // U-Boot does not limit then.
        None | Some(0) => u32::MAX,
        Some(limit) => limit.saturating_sub(env.number(COUNT, 10).unwrap_or(0)),
    };
    Some((slot, left))
}

fn rest(env: &mut Env, default: Slot) {
    env.set(DEFAULT, default.as_str());
    env.set(ARMED, "0");
    env.set(COUNT, "0");
    env.unset(TRIAL);
}

fn default_of(env: &Env) -> Slot {
    slot_of(env.value(DEFAULT)).unwrap_or(Slot::A)
}

impl Loader for Uboot {
    fn view(&self) -> Result<BootView, WorldError> {
        let env = self.store.read()?.env;
        let default = default_of(&env);
        let running = self.running.slot(self.storage.as_ref())?;
        Ok(BootView {
            running,
            default,
            armed: armed(&env, default),
        })
    }

    fn settle(&mut self) -> Result<(), WorldError> {
        self.store.settle()
    }

    fn arm(&mut self, slot: Slot, attempts: u32) -> Result<(), WorldError> {
        if !self.store.read()?.env.is_set(FALLBACK) {
            let what = "do not set altbootcmd: U-Boot would stop at its prompt after the last boot";
            return Err(WorldError::unprepared(self.store.path(), what));
        }
        self.store.edit(|env| {
            env.set(DEFAULT, default_of(env).as_str());
            env.set(TRIAL, slot.as_str());
            env.set(ARMED, "1");
            env.set(COUNT, "0");
            env.set(LIMIT, &attempts.to_string());
        })
    }

    fn disarm(&mut self) -> Result<(), WorldError> {
        self.store.edit(|env| rest(env, default_of(env)))
    }

    fn commit(&mut self, slot: Slot) -> Result<(), WorldError> {
        self.store.edit(|env| rest(env, slot))
    }
}
