//! Boot control in a file, and the loader that obeys it.
//!
//! ```json
//! {"format":1,"default":"a","running":"a","armed":{"slot":"b","attempts_left":3}}
//! ```
//!
//! Where one update has several components, one of them leads and the others follow:
//!
//! ```json
//! {"format":1,"default":"a","running":"a",
//!  "armed":{"slot":"b","attempts_left":3,"with":{"component":"rootfs","slot":"b"}}}
//! ```
//!
//! A follower's armed slot is taken exactly while the leader runs the slot that is named: followers
//! are armed first and the leader last, so that one write activates all; the leader is committed or
//! disarmed first, and the followers go with it until their own turn comes.
//!
//! A missing file means slot a, nothing armed: a device as it left the factory. The loader takes
//! an armed slot while it has attempts left and counts one off *before* it is started; at 0 it
//! takes the default. A good bootloader of any other make does the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ampoule_protocol::name::ComponentName;
use serde::{Deserialize, Serialize};

use super::{BootError, project};
use crate::install::{Place, VerifiedImage};
use crate::machine::{BootView, BootViews, Slot};
use crate::ports::{BootControl, Storage, replace};

/// Bytes of a boot file that are read at most.
const BOOT_FILE_LEN_MAX: u64 = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    format: u32,
    default: Slot,
    running: Slot,
    armed: Option<Armed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Armed {
    slot: Slot,
    /// Of a follower: the leader's, as the loader saw it last.
    attempts_left: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    with: Option<Leader>,
}

/// Whom a follower follows, and in which slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Leader {
    pub(super) component: ComponentName,
    pub(super) slot: Slot,
}

impl Settings {
    fn follows(&self) -> Option<&Leader> {
        self.armed.as_ref()?.with.as_ref()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            format: 1,
            default: Slot::A,
            running: Slot::A,
            armed: None,
        }
    }
}

/// The boot files of all components.
pub struct FileBoot {
    storage: Rc<dyn Storage>,
    places: BTreeMap<ComponentName, Place>,
}

impl FileBoot {
    /// Of these places.
    pub fn new<'a>(storage: Rc<dyn Storage>, places: impl Iterator<Item = &'a Place>) -> Self {
        let places = places.map(|place| (place.component.clone(), place.clone()));
        Self {
            storage,
            places: places.collect(),
        }
    }

    /// Arms an image that runs with the leader's, and only with it.
    pub(super) fn follow(
        &mut self,
        image: &VerifiedImage,
        attempts: u32,
        leader: Option<Leader>,
    ) -> Result<(), BootError> {
        if self.view(image.component())?.running == image.slot() {
            return Err(BootError::Running {
                component: image.component().to_string(),
                slot: image.slot(),
            });
        }
        self.edit(image.component(), |settings| {
            settings.armed = Some(Armed {
                slot: image.slot(),
                attempts_left: attempts,
                with: leader,
            });
        })
    }

    /// Whether a component follows another one.
    pub(super) fn is_follower(&self, component: &ComponentName) -> bool {
        let settings = self
            .path(component)
            .and_then(|path| read(self.storage.as_ref(), path));
        settings.is_ok_and(|found| found.is_some_and(|found| found.follows().is_some()))
    }

    fn place(&self, component: &ComponentName) -> Result<&Place, BootError> {
        let place = self.places.get(component);
        place.ok_or_else(|| BootError::Unknown(component.to_string()))
    }

    fn path(&self, component: &ComponentName) -> Result<&PathBuf, BootError> {
        Ok(&self.place(component)?.boot_file)
    }

    fn edit(
        &self,
        component: &ComponentName,
        edit: impl FnOnce(&mut Settings),
    ) -> Result<(), BootError> {
        let path = self.path(component)?;
        let before = read(self.storage.as_ref(), path)?;
        let mut after = before.clone().unwrap_or_default();
        edit(&mut after);
        if before.as_ref() == Some(&after) {
            return Ok(());
        }
        write(self.storage.as_ref(), path, &after)
    }
}

impl BootControl for FileBoot {
    fn view(&self, component: &ComponentName) -> Result<BootView, BootError> {
        let settings = read(self.storage.as_ref(), self.path(component)?)?.unwrap_or_default();
        Ok(BootView {
            running: settings.running,
            default: settings.default,
            armed: settings
                .armed
                .map(|armed| (armed.slot, armed.attempts_left)),
        })
    }

    fn arm(&mut self, image: &VerifiedImage, attempts: u32) -> Result<(), BootError> {
        self.follow(image, attempts, None)
    }

    fn arm_all(&mut self, images: &[VerifiedImage], attempts: u32) -> Result<(), BootError> {
        let Some((leader, followers)) = images.split_first() else {
            return Ok(());
        };
        for image in followers {
            self.follow(image, attempts, Some(Leader::of(leader)))?;
        }
        self.arm(leader, attempts)
    }

    fn disarm_all(&mut self, components: &[ComponentName]) -> Result<(), BootError> {
        let mut components = components.to_vec();
        components.sort_by_key(|component| self.is_follower(component));
        components
            .iter()
            .try_for_each(|component| self.disarm(component))
    }

    fn commit_all(&mut self, slots: &[(ComponentName, Slot)]) -> Result<(), BootError> {
        let mut slots = slots.to_vec();
        slots.sort_by_key(|(component, _)| self.is_follower(component));
        slots
            .iter()
            .try_for_each(|(component, slot)| self.commit(component, *slot))
    }

    fn disarm(&mut self, component: &ComponentName) -> Result<(), BootError> {
        self.edit(component, |settings| settings.armed = None)
    }

    /// What an update module installed runs already: nobody boots it.
    fn commit(&mut self, component: &ComponentName, slot: Slot) -> Result<(), BootError> {
        let is_module = self.place(component)?.is_module();
        self.edit(component, |settings| {
            settings.default = slot;
            settings.armed = None;
            if is_module {
                settings.running = slot;
            }
        })
    }

    /// What runs what it should is projected again, and no attempt is counted.
    fn load_now(&mut self, components: &[ComponentName]) -> Result<(), BootError> {
        let storage = self.storage.as_ref();
        let mut due = Vec::new();
        for component in components {
            let place = self.place(component)?;
            let settings = read(storage, &place.boot_file)?.unwrap_or_default();
            let armed = settings.armed.as_ref().map(|armed| armed.slot);
            if armed.unwrap_or(settings.default) == settings.running {
                show(storage, place, settings.running)?;
            } else {
                due.push(place);
            }
        }
        // A leader that runs already is seen by those that follow it.
        let mut views = BootViews::new();
        for component in self.places.keys() {
            views.insert(component.clone(), self.view(component)?);
        }
        load_all(storage, &due, &views).map(|_| ())
    }
}

impl Leader {
    pub(super) fn of(image: &VerifiedImage) -> Self {
        Self {
            component: image.component().clone(),
            slot: image.slot(),
        }
    }
}

/// What the loader chose for one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loaded {
    /// The component.
    pub component: ComponentName,
    /// The slot to run.
    pub slot: Slot,
    /// What to start: the slot, the unpacked tree or the file.
    pub path: PathBuf,
    /// The attempts that are left, where this is a trial.
    pub attempts_left: Option<u32>,
}

/// Plays the boot loader for all components that have boot files: leaders first, then whoever goes
/// with them. `others` says what runs of the components that have a boot loader of their own.
///
/// # Errors
/// As [`load`].
pub fn load_all(
    storage: &dyn Storage,
    places: &[&Place],
    others: &BootViews,
) -> Result<Vec<Loaded>, BootError> {
    let mut views = others.clone();
    let mut loaded = BTreeMap::new();
    let (mut followers, mut leaders) = (Vec::new(), Vec::new());
    for place in places {
        let settings = read(storage, &place.boot_file)?.unwrap_or_default();
        match settings.follows() {
            Some(_) => followers.push(*place),
            None => leaders.push(*place),
        }
    }
    for place in leaders.into_iter().chain(followers) {
        let choice = load_with(storage, place, &views)?;
        let armed = choice.attempts_left.map(|left| (choice.slot, left));
        let view = BootView {
            running: choice.slot,
            default: choice.slot,
            armed,
        };
        views.insert(place.component.clone(), view);
        loaded.insert(&place.component, choice);
    }
    let in_order = places
        .iter()
        .filter_map(|place| loaded.remove(&place.component));
    Ok(in_order.collect())
}

/// Plays the boot loader for one component that follows no other: counts the attempt, then makes
/// the choice visible.
///
/// # Errors
/// Boot settings that cannot be read or written. A choice that cannot be made visible is no error
/// for a slot; for a tree or a file it is.
pub fn load(storage: &dyn Storage, place: &Place) -> Result<Loaded, BootError> {
    load_with(storage, place, &BootViews::new())
}

fn load_with(
    storage: &dyn Storage,
    place: &Place,
    leaders: &BootViews,
) -> Result<Loaded, BootError> {
    let before = read(storage, &place.boot_file)?.unwrap_or_default();
    let mut after = before.clone();
    after.running = match &mut after.armed {
        Some(Armed {
            slot,
            attempts_left,
            with: Some(leader),
        }) => {
            let view = leaders.get(&leader.component);
            // What is left is the leader's to count; a leader that is committed needs none.
            if let Some((_, left)) = view.and_then(|view| view.armed) {
                *attempts_left = left;
            }
            if view.is_some_and(|view| view.running == leader.slot) {
                *slot
            } else {
                after.default
            }
        }
        Some(armed) if armed.attempts_left > 0 => {
            armed.attempts_left -= 1;
            armed.slot
        }
        _ => after.default,
    };
    if after != before {
        write(storage, &place.boot_file, &after)?;
    }
    let path = show(storage, place, after.running)?;
    let trial = after
        .armed
        .as_ref()
        .filter(|armed| armed.slot == after.running);
    Ok(Loaded {
        component: place.component.clone(),
        slot: after.running,
        path,
        attempts_left: trial.map(|armed| armed.attempts_left),
    })
}

fn show(storage: &dyn Storage, place: &Place, slot: Slot) -> Result<PathBuf, BootError> {
    project::project(storage, place, slot).map_err(|source| BootError::Io {
        act: "obey",
        path: place.boot_file.clone(),
        source,
    })
}

fn read(storage: &dyn Storage, path: &Path) -> Result<Option<Settings>, BootError> {
    let bytes = storage
        .read(path, BOOT_FILE_LEN_MAX)
        .map_err(|source| BootError::Io {
            act: "read",
            path: path.to_owned(),
            source,
        })?;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    let settings = serde_json::from_slice(&bytes).map_err(|source| BootError::Malformed {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some(settings))
}

fn write(storage: &dyn Storage, path: &Path, settings: &Settings) -> Result<(), BootError> {
    let io = |source| BootError::Io {
        act: "write",
        path: path.to_owned(),
        source,
    };
    let bytes = serde_json::to_vec(settings).map_err(|error| io(error.into()))?;
    replace(storage, path, &bytes).map_err(io)
}
