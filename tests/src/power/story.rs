//! A device, what is around it, and how it must end, whatever is cut.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ampoule_agent::boot::{FileBoot, load_all};
use ampoule_agent::driver::DriverError;
use ampoule_agent::install::Place;
use ampoule_agent::machine::{BootView, BootViews, Phase, Slot};
use ampoule_agent::ports::BootControl;
use ampoule_protocol::release::Install;

use super::disk::SimDisk;
use super::life::{DATA_DIR, World, live, state};
use super::medium::Blob;
use super::modules::{call_in_place, is_in_place};
use super::repo::{VERSIONS, artifact, content};

/// Days after which an update that fell back too often is tried again.
const REST_DAYS: i64 = 2;
/// Lives after which a device whose power stays on must be where the story ends: each fall-back
/// costs one, and three in a row a day.
const LIVES_MAX: usize = 5;

/// One story of a device.
#[derive(Clone)]
pub struct Story {
    /// What it is called in the table.
    pub name: &'static str,
    /// The disk before.
    pub start: SimDisk,
    /// What is around the device.
    pub world: World,
    /// The same when the power stays on at last.
    pub after: World,
    /// The same with one release more.
    pub next: World,
    /// The version that ran before.
    pub old: u8,
    /// The version that runs in the end.
    pub new: u8,
    /// What else must hold after every cut; what is wrong, in words.
    pub holds: fn(&SimDisk) -> Vec<String>,
    /// What else must be so in the end.
    pub ends: fn(&SimDisk) -> Vec<String>,
    /// Whether a recovery image starts where nothing else does.
    pub has_recovery: bool,
    /// What happens; most of the time [`live`].
    pub act: fn(&SimDisk, &World) -> Result<(), DriverError>,
}

/// What never falls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// How many downgrade records were used, and the rollback floor, which falls by one alone.
    pub floor: (u64, u64),
    /// Versions of trusted metadata, by file.
    pub versions: BTreeMap<&'static str, u64>,
}

const METADATA: [&str; 5] = [
    "root.json",
    "timestamp.json",
    "snapshot.json",
    "targets.json",
    "infusion-pump.json",
];

impl Marks {
    /// Of this disk.
    pub fn of(disk: &SimDisk) -> Self {
        let folder = Path::new(DATA_DIR).join("metadata");
        let facts = state(disk).facts;
        let version = |name| {
            let found = disk.blob(&folder.join(name));
            (name, found.map_or(0, |blob| version_of(&blob)))
        };
        Self {
            floor: (facts.downgrades, facts.floor.0),
            versions: METADATA.into_iter().map(version).collect(),
        }
    }

    /// The higher of both, each for itself.
    pub fn raise(&mut self, other: &Self) {
        self.floor = self.floor.max(other.floor);
        for (name, version) in &other.versions {
            let mine = self.versions.entry(name).or_default();
            *mine = (*mine).max(*version);
        }
    }

    /// What fell, in words.
    fn fallen(&self, least: &Self) -> Vec<String> {
        let mut fallen = Vec::new();
        if self.floor < least.floor {
            fallen.push(format!(
                "the floor fell from {} to {}",
                least.floor.1, self.floor.1
            ));
        }
        for (name, version) in &least.versions {
            let found = self.versions.get(name).copied().unwrap_or(0);
            if found < *version {
                fallen.push(format!("{name} fell from version {version} to {found}"));
            }
        }
        fallen
    }
}

/// The version in a metadata file; remembered by its bytes, since states have most files in common.
fn version_of(blob: &Blob) -> u64 {
    thread_local! { static KNOWN: RefCell<HashMap<u64, u64>> = RefCell::default(); }
    let read = || {
        let value = serde_json::from_slice::<serde_json::Value>(&blob.bytes).ok();
        let version = value.and_then(|value| value["signed"]["version"].as_u64());
        version.unwrap_or(0)
    };
    let fingerprint = blob.fingerprint();
    KNOWN.with_borrow_mut(|known| *known.entry(fingerprint).or_insert_with(read))
}

/// The version whose bytes these are, of those that tests know.
pub fn which(component: &str, install: &Install, bytes: &[u8]) -> Option<u8> {
    thread_local! { static KNOWN: RefCell<HashMap<String, [Vec<u8>; 2]>> = RefCell::default(); }
    KNOWN.with_borrow_mut(|known| {
        VERSIONS.into_iter().find(|version| {
            let images = known
                .entry(format!("{component} {version} {install:?}"))
                .or_insert_with(|| {
                    [
                        content(component, *version),
                        artifact(install, component, *version),
                    ]
                });
            images.iter().any(|image| image == bytes)
        })
    })
}

impl Story {
    /// What is wrong with this disk, just powered; nothing fell below `least`.
    pub fn look(&self, disk: &SimDisk, least: &Marks) -> Vec<String> {
        let mut wrong = Marks::of(disk).fallen(least);
        wrong.extend((self.holds)(disk));
        let booted = match self.booted(&disk.fork()) {
            Ok(booted) => booted,
            Err(_) if self.has_recovery => return wrong,
            Err(why) => {
                wrong.push(why);
                return wrong;
            }
        };
        let first = booted.first().copied().unwrap_or(0);
        if booted.iter().any(|version| *version != first) {
            wrong.push(format!("components of versions {booted:?} boot together"));
        }
        let views: Vec<BootView> = self.world.booted().map(|place| view(disk, place)).collect();
        let is_armed = views.iter().any(|view| view.armed.is_some());
        let plan = state(disk).phase.plan().cloned();
        // What a module installs is not a loader's to choose: it is there until it is taken back.
        let is_tried = self.world.booted().next().is_none() && plan.is_some();
        if first != self.old && first != self.new && !is_armed && !is_tried {
            wrong.push(format!("version {first} boots"));
        }
        let state = state(disk);
        let floor = state.facts.floor.0;
        // What was acted on is trusted durably: release N came with version N + 1 of its metadata.
        let begun = state.phase.plan().map_or(0, |plan| plan.rollback_index.0);
        for name in &METADATA[2..] {
            let found = Marks::of(disk).versions[name];
            if begun.max(floor) > 0 && found <= begun.max(floor) {
                wrong.push(format!("{name} has version {found}, and more was acted on"));
            }
        }
        // It falls with the commit of a downgrade, and after it.
        let falls = state
            .phase
            .plan()
            .is_some_and(|plan| plan.downgrade.is_some());
        for (place, view) in self.world.booted().zip(&views).filter(|_| !falls) {
            let default = Self::in_slot(disk, place, view.default);
            // The default that was damaged is so until another is committed.
            let is_below = |version: u8| floor > version.into();
            if default.map_or(!self.has_recovery, is_below) {
                wrong.push(format!(
                    "the floor {floor} is above the default {default:?}"
                ));
            }
        }
        wrong
    }

    /// The versions that the loader starts.
    fn booted(&self, disk: &SimDisk) -> Result<Vec<u8>, String> {
        let places: Vec<&Place> = self.world.booted().collect();
        disk.guard(Vec::new());
        let loaded = load_all(disk, &places, &BootViews::new());
        let loaded = loaded.map_err(|error| format!("nothing boots: {error}"))?;
        let starts = |(place, choice): (&&Place, &ampoule_agent::boot::Loaded)| {
            let path = match place.install {
                Install::Tree => choice.path.join("app"),
                Install::Slot | Install::File | Install::Module(_) => choice.path.clone(),
            };
            let bytes = disk.content(&path);
            let bytes = bytes.ok_or_else(|| format!("\"{}\" is missing", path.display()))?;
            which(place.component.as_str(), &place.install, &bytes)
                .ok_or_else(|| format!("\"{}\" boots and is no whole image", path.display()))
        };
        let booted = places.iter().zip(&loaded).map(starts);
        let modules = self.world.places.iter().filter(|place| place.is_module());
        booted
            .chain(modules.map(|place| seen(disk, place)))
            .collect()
    }

    fn in_slot(disk: &SimDisk, place: &Place, slot: Slot) -> Option<u8> {
        let bytes = disk.content(place.slot_path(slot))?;
        which(place.component.as_str(), &place.install, &bytes)
    }

    /// How it went on; what is wrong where it did not end as it must. The first life is `first`,
    /// since somebody may look at it more closely.
    pub fn rests_well(
        &self,
        disk: &SimDisk,
        first: impl FnOnce(&SimDisk) -> Result<(), DriverError>,
    ) -> Vec<String> {
        let mut world = self.after.clone();
        let mut lived = first(disk);
        let mut wrong = self.ended_wrong(disk);
        for life in 1..LIVES_MAX {
            if wrong.is_empty() {
                break;
            }
            if life == 3 {
                world.days += REST_DAYS;
            }
            lived = (self.act)(disk, &world);
            wrong = self.ended_wrong(disk);
        }
        if let Err(error) = lived {
            wrong.push(format!("the agent does not run: {error}"));
        }
        wrong.extend(disk.sins());
        wrong
    }

    fn ended_wrong(&self, disk: &SimDisk) -> Vec<String> {
        let mut wrong = Vec::new();
        match self.booted(&disk.fork()) {
            Ok(booted) if booted.iter().all(|version| *version == self.new) => {}
            Ok(booted) => wrong.push(format!("versions {booted:?} run in the end")),
            Err(why) => wrong.push(why),
        }
        for place in &self.world.places {
            if place.install != Install::Slot && seen(disk, place) != Ok(self.new) {
                wrong.push(format!("programs see another {}", place.component));
            }
        }
        wrong.extend((self.ends)(disk));
        let state = state(disk);
        if state.phase != Phase::Idle {
            wrong.push(format!("it rests in {}", state.phase.as_str()));
        }
        if !self.after.is_deaf && !self.after.shelf.is_bundle && !state.facts.outbox.is_empty() {
            wrong.push("a receipt was not sent".to_owned());
        }
        if state.facts.floor.0 != u64::from(self.new) {
            wrong.push(format!("the floor is {}", state.facts.floor));
        }
        let views = self.world.booted().map(|place| view(disk, place));
        if views.into_iter().any(|view| view.armed.is_some()) {
            wrong.push("something stays armed".to_owned());
        }
        wrong
    }

    /// The next release installs, and what was there before does not stand in its way.
    pub fn next_update_works(&self, disk: &SimDisk) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Err(error) = live(disk, &self.next) {
            wrong.push(format!("the next update fails: {error}"));
        }
        match self.booted(&disk.fork()) {
            Ok(booted)
                if booted
                    .iter()
                    .all(|version| *version == self.new.max(self.newest()) + 1) => {}
            other => wrong.push(format!("the next update does not install: {other:?}")),
        }
        wrong.extend(disk.sins());
        wrong
    }

    /// The newest version that the story's own world offers.
    fn newest(&self) -> u8 {
        let tree = &self.world.shelf.tree;
        let first = self.world.places.first();
        let is_there = |version: &u8| {
            let name = first.map(|place| format!("{}-{version}.leaves", place.component));
            let name = name.unwrap_or_default();
            tree.keys().any(|path| path.ends_with(&name))
        };
        VERSIONS.filter(is_there).max().unwrap_or(0)
    }
}

/// The version that programs see of a component that is no slot.
fn seen(disk: &SimDisk, place: &Place) -> Result<u8, String> {
    let path = match place.install {
        Install::Tree => place.visible.join("app"),
        Install::Slot | Install::File | Install::Module(_) => place.visible.clone(),
    };
    let whole = |disk: &SimDisk| {
        let bytes = disk.content(&path);
        let bytes = bytes.ok_or_else(|| format!("\"{}\" is missing", path.display()))?;
        which(place.component.as_str(), &place.install, &bytes)
            .ok_or_else(|| format!("\"{}\" is seen and is not whole", path.display()))
    };
    if !is_in_place(place) {
        return whole(disk);
    }
    // Half of it is allowed to be there for as long as the old one can be had back without a network.
    whole(disk).or_else(|_| {
        let disk = disk.fork();
        let back = call_in_place(&disk, place, "ArtifactRollback");
        back.map_err(|error| format!("there is no way back: {error}"))?;
        whole(&disk)
    })
}

fn view(disk: &SimDisk, place: &Place) -> BootView {
    let boot = FileBoot::new(std::rc::Rc::new(disk.clone()), std::iter::once(place));
    let view = boot.view(&place.component);
    view.unwrap_or(BootView {
        running: Slot::A,
        default: Slot::A,
        armed: None,
    })
}
