//! The stories. A new one is a function here and a line in `tests/power/main.rs`.

use std::path::Path;

use ampoule_agent::driver::DriverError;
use ampoule_agent::journal::Journal;
use ampoule_protocol::release::{Activation, Install};
use ampoule_protocol::version::RollbackIndex;

use super::disk::SimDisk;
use super::life::{DATA_DIR, Gates, STATE_DIR, Trial, World, live, live_with_recovery, place};
use super::repo::{Catalogue, artifact, content};
use super::story::Story;

/// A disk as it leaves the factory: slot a holds version 0 of each component, slot b is empty.
fn factory(catalogue: &Catalogue) -> SimDisk {
    let disk = SimDisk::default();
    disk.plant("/boot/loader", b"");
    disk.plant("/data/made", b"");
    for (name, install) in &catalogue.components {
        let place = place(name, install.clone());
        disk.plant(&place.slots[0], &artifact(install, name, 0));
        disk.plant(&place.slots[1], &[]);
        match install {
            Install::Tree => {
                disk.plant(format!("/srv/{name}/a/app"), &content(name, 0));
                disk.plant_link(&format!("/srv/{name}/current"), "a");
            }
            Install::File | Install::Module(_) => disk.plant(&place.visible, &content(name, 0)),
            Install::Slot => {}
        }
    }
    disk
}

fn world(catalogue: &Catalogue) -> World {
    let places = catalogue.components.iter();
    World {
        shelf: catalogue.publish(),
        places: places
            .map(|(name, install)| {
                let mut place = place(name, install.clone());
                place.options.live = catalogue.activation == Activation::Live;
                place
            })
            .collect(),
        trial: Trial::Good,
        gates: Gates::None,
        stops_after: None,
        is_deaf: false,
        modules_restart: false,
        has_state: false,
        days: 0,
    }
}

/// The device lives from `before` on, where there is one, and then meets `catalogue`.
fn story(name: &'static str, before: Option<&Catalogue>, catalogue: &Catalogue) -> Story {
    let start = factory(catalogue);
    if let Some(before) = before {
        live(&start, &world(before)).expect("a clean life");
    }
    let old = before.map_or(0, |before| before.newest);
    Story {
        name,
        start: start.fork(),
        world: world(catalogue),
        after: world(catalogue),
        next: world(&catalogue.then()),
        old,
        new: catalogue.newest,
        holds: |_| Vec::new(),
        ends: |_| Vec::new(),
        has_recovery: false,
        act: live,
    }
}

impl Story {
    /// Bends what is around the device, now and when the power stays on.
    fn with(mut self, bend: impl Fn(&mut World)) -> Self {
        bend(&mut self.world);
        bend(&mut self.after);
        self
    }

    /// The update is not for long: the old version runs in the end.
    fn goes_back(mut self) -> Self {
        self.new = self.old;
        self
    }
}

fn first() -> Catalogue {
    Catalogue::of_rootfs(1)
}

fn with_deltas() -> Catalogue {
    Catalogue {
        has_deltas: true,
        ..first()
    }
}

/// A device as it left the factory takes its first release.
pub fn first_install() -> Story {
    story("first install, full", None, &first())
}

/// The second, into the slot that holds an older image.
pub fn full() -> Story {
    story("update, full", Some(&first()), &first().then())
}

/// By a patch against the running slot.
pub fn delta() -> Story {
    story("update, delta", Some(&with_deltas()), &with_deltas().then())
}

/// The system ends the process after each piece: checkpoints count.
pub fn full_in_pieces() -> Story {
    let story = story(
        "update, full, process ended at each piece",
        Some(&first()),
        &first().then(),
    );
    story.with(|world| world.stops_after = Some(1))
}

/// The new image says that it is ill.
pub fn trial_bad() -> Story {
    let story = story("trial bad, revert", Some(&first()), &first().then());
    story.with(|world| world.trial = Trial::Bad).goes_back()
}

/// The new image never starts its agent: the loader falls back, and tries no more than it must.
pub fn trial_hangs() -> Story {
    let story = story("trial hangs, fall back", Some(&first()), &first().then());
    story.with(|world| world.trial = Trial::Hangs).goes_back()
}

/// A tree: archive, folders, link.
pub fn tree() -> Story {
    let catalogue = Catalogue {
        components: vec![("rootfs", Install::Tree)],
        ..first()
    };
    story("update, tree", Some(&catalogue), &catalogue.then())
}

/// A single file.
pub fn file() -> Story {
    let catalogue = Catalogue {
        components: vec![("rootfs", Install::File)],
        ..first()
    };
    story("update, file", Some(&catalogue), &catalogue.then())
}

fn three() -> Catalogue {
    Catalogue {
        components: vec![
            ("rootfs", Install::Slot),
            ("app", Install::Tree),
            ("library", Install::File),
        ],
        ..first()
    }
}

/// A slot, a tree and a file in one release.
pub fn components() -> Story {
    story("three components", Some(&three()), &three().then())
}

/// The same, and the new images are ill.
pub fn components_bad() -> Story {
    let story = story(
        "three components, trial bad",
        Some(&three()),
        &three().then(),
    );
    story.with(|world| world.trial = Trial::Bad).goes_back()
}

/// A device without a network takes two releases from bundles.
pub fn bundle() -> Story {
    let catalogue = Catalogue {
        is_bundle: true,
        ..first()
    };
    story("bundle", Some(&catalogue), &catalogue.then())
}

/// A gate closes between arming and restart.
pub fn gate_closes() -> Story {
    let story = story("gate closes after arming", Some(&first()), &first().then());
    story.with(|world| world.gates = Gates::CloseOnce)
}

/// A person agrees.
pub fn consent() -> Story {
    let story = story("consent", Some(&first()), &first().then());
    story.with(|world| world.gates = Gates::Consent)
}

/// The server takes no receipt until the power stays on.
pub fn receipts() -> Story {
    let mut story = story("receipts kept, then sent", Some(&first()), &first().then());
    story.world.is_deaf = true;
    story
}

/// Root is rotated with the release: two roots are stored before anything else.
pub fn root_rotation() -> Story {
    let catalogue = Catalogue {
        has_new_root: true,
        ..first().then()
    };
    story("root rotated", Some(&first()), &catalogue)
}

/// The floor falls, once, by a signed record.
pub fn downgrade() -> Story {
    let catalogue = Catalogue {
        falls: Some((2, 1)),
        ..Catalogue::of_rootfs(2)
    };
    let mut story = story(
        "downgrade record",
        Some(&Catalogue::of_rootfs(2)),
        &catalogue,
    );
    story.new = 1;
    story
}

fn settings() -> Catalogue {
    Catalogue {
        components: vec![("settings", Install::Tree), ("library", Install::File)],
        activation: Activation::Live,
        ..first()
    }
}

/// A release of configuration and a drug library, which programs see without a restart.
pub fn config_release() -> Story {
    story(
        "config release, live",
        Some(&settings()),
        &settings().then(),
    )
}

/// The same, and health says no.
pub fn config_release_bad() -> Story {
    let story = story(
        "config release, live, trial bad",
        Some(&settings()),
        &settings().then(),
    );
    story.with(|world| world.trial = Trial::Bad).goes_back()
}

fn by_module() -> Catalogue {
    let install = Install::parse("module:text").expect("a word");
    Catalogue {
        components: vec![("text", install)],
        ..first()
    }
}

/// An update module installs it.
pub fn module() -> Story {
    story("update, module", Some(&by_module()), &by_module().then())
}

/// One that takes a restart, and is ill after it.
pub fn module_bad() -> Story {
    let story = story(
        "update, module that restarts, trial bad",
        Some(&by_module()),
        &by_module().then(),
    );
    let story = story.with(|world| world.trial = Trial::Bad);
    story.with(|world| world.modules_restart = true).goes_back()
}

fn in_place() -> Catalogue {
    let install = Install::parse("module:in-place").expect("a word");
    Catalogue {
        components: vec![("controller", install)],
        ..first()
    }
}

/// One image without a second slot is rewritten where it stands.
pub fn update_in_place() -> Story {
    story(
        "update, delta in place",
        Some(&in_place()),
        &in_place().then(),
    )
}

/// The same, and the new image is ill: it is rewritten back.
pub fn in_place_bad() -> Story {
    let story = story(
        "update, delta in place, trial bad",
        Some(&in_place()),
        &in_place().then(),
    );
    story.with(|world| world.trial = Trial::Bad).goes_back()
}

/// What the state of a device holds.
const STATE: &[u8] = b"rate = 3, as a nurse set it";

/// The configured state follows the version, and comes back with the old one.
pub fn state_bad() -> Story {
    let mut story = story("configured state, trial bad", None, &first());
    story
        .start
        .plant(format!("{STATE_DIR}/g-factory/settings"), STATE);
    story
        .start
        .plant_link(&format!("{STATE_DIR}/current"), "g-factory");
    story.next.has_state = true;
    story.holds = |disk| {
        let found = disk.content(&Path::new(STATE_DIR).join("current/settings"));
        let is_whole = found.as_deref() == Some(STATE);
        let wrong = (!is_whole).then(|| "the state that programs see is not whole".to_owned());
        wrong.into_iter().collect()
    };
    story.ends = story.holds;
    let story = story.with(|world| world.has_state = true);
    story.with(|world| world.trial = Trial::Bad).goes_back()
}

/// Neither slot boots; the recovery image fills one anew, and the device runs what it ran.
pub fn recovery() -> Story {
    let mut story = story("recovery, both slots damaged", Some(&first()), &first());
    let place = place("rootfs", Install::Slot);
    for slot in &place.slots {
        story.start.rot(slot);
    }
    story.has_recovery = true;
    story.act = live_with_recovery;
    story
}

/// A device that lost journal and floor is given its floor by a person, and goes on.
pub fn set_floor() -> Story {
    let mut story = story("set-floor after loss", Some(&first()), &first().then());
    for file in ["journal-0.json", "journal-1.json", "floor.json"] {
        story.start.rot(&Path::new(DATA_DIR).join(file));
    }
    story.act = restore_and_live;
    story
}

fn restore_and_live(disk: &SimDisk, world: &World) -> Result<(), DriverError> {
    // Refused where the floor is known, which is what a person is told who asks twice.
    let _ = Journal::restore_floor(disk, Path::new(DATA_DIR), RollbackIndex(1));
    live(disk, world)
}
