//! RAUC's variables in U-Boot's environment, so that RAUC boot scripts (and U-Boot's own RAUC
//! boot method) go on working.
//!
//! `BOOT_ORDER="B A"`; `BOOT_B_LEFT`, hexadecimal, 3 where unset. The script takes the first of the
//! order that has boots left and counts one off before it starts it; when no slot has any, it gives
//! all of them 3 and resets.
//!
//! | | `BOOT_ORDER` | of the default | of the other |
//! |---|---|---|---|
//! | at rest | default first | 3 | 0: it may be half filled |
//! | armed | the other first | 3 | as many as asked for |
//!
//! The script also counts the default's boots down, so each start of the agent gives them back,
//! as RAUC's mark-good does. RAUC itself writes the boots left and then the order by two writes;
//! here both, and our `ampoule_default` (the order alone does not tell a trial from a default),
//! are one.

use std::rc::Rc;

use super::env::Env;
use super::env_store::EnvStore;
use super::uboot::{DEFAULT, slot_of};
use super::{EnvSettings, Loader, PerSlot, Running, WorldError};
use crate::machine::{BootView, Slot};
use crate::ports::Storage;

const ORDER: &str = "BOOT_ORDER";
/// Boots of a default; also what the script takes an unset variable for.
const LEFT_DEFAULT: u32 = 3;
/// The most that reads the same in base 16 and 10: some scripts compare without saying `0x`.
const LEFT_MAX: u32 = 9;

/// U-Boot's environment with RAUC's variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UbootRaucSettings {
    /// Where the environment is.
    pub env: EnvSettings,
    /// Who says which slot runs.
    pub running: Running,
    /// RAUC's `bootname` of each slot, mostly `A` and `B`.
    pub names: PerSlot<String>,
}

pub(super) struct UbootRauc {
    storage: Rc<dyn Storage>,
    store: EnvStore,
    running: Running,
    names: PerSlot<String>,
}

impl UbootRauc {
    pub(super) fn new(storage: Rc<dyn Storage>, settings: UbootRaucSettings) -> Self {
        let store = EnvStore::new(Rc::clone(&storage), settings.env);
        Self {
            storage,
            store,
            running: settings.running,
            names: settings.names,
        }
    }

    fn left_name(&self, slot: Slot) -> String {
        format!("BOOT_{}_LEFT", self.names.of(slot))
    }

    fn choice(&self, env: &Env) -> (Slot, Option<(Slot, u32)>) {
        let first = first_of(env.value(ORDER).unwrap_or(""), &self.names);
        let default = slot_of(env.value(DEFAULT)).or(first).unwrap_or(Slot::A);
        let armed = first.filter(|slot| *slot != default);
        let left = |slot| {
            env.number(&self.left_name(slot), 16)
                .unwrap_or(LEFT_DEFAULT)
        };
        (default, armed.map(|slot| (slot, left(slot))))
    }

    /// The order, with slots that are not ours (a rescue system) behind.
    fn choose(&self, env: &mut Env, first: Slot, left: u32, left_other: u32) {
        let order = order_of(env.value(ORDER).unwrap_or(""), &self.names, first);
        env.set(ORDER, &order);
        env.set(&self.left_name(first), &format!("{left:x}"));
        env.set(&self.left_name(first.other()), &format!("{left_other:x}"));
    }

    fn rest(&self, env: &mut Env, default: Slot) {
        env.set(DEFAULT, default.as_str());
        self.choose(env, default, LEFT_DEFAULT, 0);
    }
}

/// The first of an order that is one of ours.
pub(super) fn first_of(order: &str, names: &PerSlot<String>) -> Option<Slot> {
    order
        .split_ascii_whitespace()
        .find_map(|word| names.find(|name| name == word))
}

/// An order that begins with `first` and its other; those that are not ours stand behind.
pub(super) fn order_of(order: &str, names: &PerSlot<String>, first: Slot) -> String {
    let mut words = vec![names.of(first).as_str(), names.of(first.other()).as_str()];
    let is_foreign = |word: &&str| names.find(|name| name == word).is_none();
    words.extend(order.split_ascii_whitespace().filter(is_foreign));
    words.join(" ")
}

impl Loader for UbootRauc {
    fn view(&self) -> Result<BootView, WorldError> {
        let (default, armed) = self.choice(&self.store.read()?.env);
        let running = self.running.slot(self.storage.as_ref())?;
        Ok(BootView {
            running,
            default,
            armed,
        })
    }

    fn settle(&mut self) -> Result<(), WorldError> {
        self.store.settle()?;
        let view = self.view()?;
        // Where the other slot runs although it is not armed, the script gave the default up: its
        // boots are the last thing to take away.
        if view.armed.is_none() && view.running == view.default {
            self.store.edit(|env| self.rest(env, view.default))?;
        }
        Ok(())
    }

    fn arm(&mut self, slot: Slot, attempts: u32) -> Result<(), WorldError> {
        self.store.edit(|env| {
            let (default, _) = self.choice(env);
            env.set(DEFAULT, default.as_str());
            self.choose(env, slot, attempts.min(LEFT_MAX), LEFT_DEFAULT);
        })
    }

    fn disarm(&mut self) -> Result<(), WorldError> {
        self.store.edit(|env| {
            let (default, _) = self.choice(env);
            self.rest(env, default);
        })
    }

    fn commit(&mut self, slot: Slot) -> Result<(), WorldError> {
        self.store.edit(|env| self.rest(env, slot))
    }
}
