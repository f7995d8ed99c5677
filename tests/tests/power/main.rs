//! The power fails after each operation of an update, and again while the device recovers.
//!
//! Method: the real driver, journal, metadata store, boot control and installers live on a
//! [`disk::SimDisk`]. A scenario is run clean once and its storage operations are counted. Then,
//! for every `n`, the power fails after the `n`th, with everything that was not synced kept, lost,
//! torn, or kept as names alone; the device is booted until it rests. Afterwards:
//!
//! - the slot that boots holds a whole image, the old one or the one the scenario must end with;
//! - the running slot was never opened for writing;
//! - the floor and the metadata versions did not fall, and the floor is not above the default image;
//! - the next update installs.
//!
//! The last test plants the mistakes that this is meant to catch, and asks that it catches them.

mod device;
mod disk;

use std::path::Path;
use std::rc::Rc;

use ampoule_agent::boot::{FileBoot, load};
use ampoule_agent::machine::{BootView, Phase, Slot};
use ampoule_agent::ports::BootControl;
use ampoule_delta::{DiffOptions, diff};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::release::{Base, DeltaRef, FileRef, Release, ReleaseVersion};
use ampoule_tests::sim::{RepositorySimulator, Tree};
use device::{World, factory, live, metadata_versions, place, state};
use disk::{BrokenSync, SimDisk, Unsynced};

const PRODUCT: &str = "infusion-pump";

/// Images of a few blocks that differ in some places.
fn image(version: u8) -> Vec<u8> {
    let noise = |index: u32| Digest::of(&index.to_be_bytes()).as_bytes()[0];
    let mut image: Vec<u8> = (0..20_000u32).map(noise).collect();
    for at in (0..image.len()).step_by(3_000) {
        image[at] = version;
    }
    image
}

fn repository() -> RepositorySimulator {
    let mut repo = RepositorySimulator::new();
    repo.add_product(PRODUCT);
    repo
}

/// A tree with these releases, each with a delta from the one before where that is asked for.
fn tree(versions: &[u8], with_deltas: bool) -> Rc<Tree> {
    let mut repo = repository();
    repo.publish();
    for version in versions {
        let name = format!("2.{version}.0");
        repo.add_release(PRODUCT, &name, u64::from(*version), &image(*version));
        if with_deltas && *version > 1 {
            add_delta(&mut repo, *version);
        }
        repo.release();
    }
    Rc::new(repo.tree)
}

fn add_delta(repo: &mut RepositorySimulator, version: u8) {
    let (old, new) = (image(version - 1), image(version));
    let patch = diff(&old, &new, &DiffOptions::default(), &mut |_| {}).expect("a patch");
    let path = format!("{PRODUCT}/rootfs-{version}.delta");
    repo.add_delegated_target(PRODUCT, &path, &patch);
    let role = repo.delegated.get_mut(PRODUCT).expect("the product");
    let suffix = format!("release-2.{version}.0.toml");
    let named = role
        .targets
        .iter_mut()
        .find(|(path, _)| path.as_str().ends_with(&suffix));
    let (_, target) = named.expect("the release");
    let mut release = Release::from_custom(target.custom.as_ref()).expect("a description");
    release.components[0].deltas.push(DeltaRef {
        file: FileRef {
            path: path.parse().expect("a path"),
            length: patch.len() as u64,
            sha256: Digest::of(&patch),
        },
        base: Base {
            version: ReleaseVersion::parse(&format!("2.{}.0", version - 1)).expect("a version"),
            length: old.len() as u64,
            sha256: Digest::of(&old),
        },
        memory: 1 << 20,
        caps: Vec::new(),
    });
    target.custom = Some(release.to_custom().expect("a good description"));
}

/// One story of a device.
struct Scenario {
    name: &'static str,
    /// The disk before.
    start: SimDisk,
    world: World,
    /// The image that ran before.
    old: u8,
    /// The image that runs in the end when nothing fails.
    new: u8,
}

fn scenarios() -> Vec<Scenario> {
    let first = factory(&image(0));
    let healthy = |tree| World {
        tree,
        healthy: true,
    };
    let second = first.fork();
    live(&second, &healthy(tree(&[1], false))).expect("a clean life");
    let ill = World {
        tree: tree(&[1, 2], false),
        healthy: false,
    };
    let new = |name, start: &SimDisk, world: &World, old, new| Scenario {
        name,
        start: start.fork(),
        world: world.clone(),
        old,
        new,
    };
    vec![
        new(
            "first install, full",
            &first,
            &healthy(tree(&[1], false)),
            0,
            1,
        ),
        new(
            "second update, full",
            &second,
            &healthy(tree(&[1, 2], false)),
            1,
            2,
        ),
        new(
            "second update, delta",
            &second,
            &healthy(tree(&[1, 2], true)),
            1,
            2,
        ),
        new("trial bad, revert", &second, &ill, 1, 1),
    ]
}

/// The image in the slot that the loader takes, and the slot.
fn booted(disk: &SimDisk) -> (Slot, Vec<u8>) {
    let loaded = load(disk, &place()).expect("powered");
    let content = disk
        .content(place().slot_path(loaded.slot))
        .expect("a slot");
    (loaded.slot, content)
}

fn which(content: &[u8]) -> Option<u8> {
    (0..4).find(|version| content == image(*version))
}

/// Cuts after the `n`th operation, and perhaps once more, then checks everything that must hold.
fn cut(scenario: &Scenario, cuts: &[usize], unsynced: Unsynced) -> Result<(), String> {
    let disk = scenario.start.fork();
    let before = (state(&disk).facts.floor, metadata_versions(&disk));
    for more in cuts {
        let running = load(&disk, &place()).expect("powered").slot;
        disk.take_written();
        disk.cut_after(*more);
        live(&disk, &scenario.world).map_err(|error| error.to_string())?;
        let written = disk.take_written();
        disk.power_on(unsynced);
        // In the first boot nothing else can have run; later ones are checked by the fill itself.
        let one_boot = *more < 12;
        if one_boot
            && written
                .iter()
                .any(|path| path == place().slot_path(running))
        {
            return Err(format!("slot \"{running}\" was written while it ran"));
        }
        let (_, content) = booted(&disk);
        let runs = which(&content).ok_or("a torn image boots")?;
        if runs != scenario.old && runs != scenario.new && !is_trial(&disk) {
            return Err(format!("image {runs} boots"));
        }
        let floor = state(&disk).facts.floor;
        if floor < before.0 {
            return Err(format!("the floor fell to {floor}"));
        }
        if floor.0 > default_image(&disk) {
            return Err(format!("the floor {floor} is above the default image"));
        }
        let versions = metadata_versions(&disk);
        if let Some((name, _)) = before
            .1
            .iter()
            .find(|(name, version)| versions[*name] < **version)
        {
            return Err(format!("{name} fell to version {}", versions[name]));
        }
    }
    rests_well(scenario, &disk)?;
    // The costly one, for a third of the places.
    if cuts.iter().sum::<usize>() % 3 == 0 {
        next_update_works(scenario, &disk)?;
    }
    Ok(())
}

/// The image that boots when nothing is armed.
fn default_image(disk: &SimDisk) -> u64 {
    let default = view(disk).default;
    let content = disk.content(place().slot_path(default)).expect("a slot");
    which(&content).map_or(0, u64::from)
}

fn is_trial(disk: &SimDisk) -> bool {
    view(disk).armed.is_some()
}

fn view(disk: &SimDisk) -> BootView {
    let place = place();
    let boot = FileBoot::new(Rc::new(disk.clone()), std::iter::once(&place));
    boot.view(&place.component).expect("powered")
}

/// Once the power stays, the scenario ends as it does without a cut.
fn rests_well(scenario: &Scenario, disk: &SimDisk) -> Result<(), String> {
    // A fall-back costs one life: the power may have failed in a trial.
    for _ in 0..3 {
        live(disk, &scenario.world).map_err(|error| error.to_string())?;
    }
    let (_, content) = booted(disk);
    let state = state(disk);
    if which(&content) != Some(scenario.new) {
        return Err(format!(
            "image {:?} runs in the end: {state:?}",
            which(&content)
        ));
    }
    if state.phase != Phase::Idle {
        return Err(format!("it rests in {}", state.phase.as_str()));
    }
    if !state.facts.outbox.is_empty() {
        return Err("a receipt was not sent".to_owned());
    }
    let floor = state.facts.floor.0;
    if floor != u64::from(scenario.new) {
        return Err(format!("the floor is {floor}"));
    }
    Ok(())
}

fn next_update_works(scenario: &Scenario, disk: &SimDisk) -> Result<(), String> {
    thread_local! { static NEXT: Rc<Tree> = tree(&[1, 2, 3], true); }
    let world = World {
        tree: NEXT.with(Rc::clone),
        healthy: true,
    };
    live(disk, &world).map_err(|error| error.to_string())?;
    let (_, content) = booted(disk);
    if which(&content) != Some(3) {
        return Err(format!(
            "{}: the next update does not install",
            scenario.name
        ));
    }
    Ok(())
}

fn operations(scenario: &Scenario) -> usize {
    let disk = scenario.start.fork();
    let before = disk.operations();
    live(&disk, &scenario.world).expect("a clean life");
    disk.operations() - before
}

#[test]
fn a_cut_after_every_operation_in_every_outcome() {
    for scenario in scenarios() {
        let count = operations(&scenario);
        assert!(count > 50, "{}: only {count} operations", scenario.name);
        for n in 0..=count {
            for unsynced in Unsynced::ALL {
                cut(&scenario, &[n], unsynced).unwrap_or_else(|why| {
                    panic!(
                        "{}, cut after {n} of {count}, {unsynced:?}: {why}",
                        scenario.name
                    )
                });
            }
        }
        println!(
            "{}: {count} operations, {} cuts, 0 violations",
            scenario.name,
            (count + 1) * 4
        );
    }
}

#[test]
fn a_second_cut_inside_the_recovery_of_the_first() {
    for scenario in scenarios() {
        let count = operations(&scenario);
        let mut cuts = 0;
        for first in (0..=count).step_by(11) {
            for second in (0..60).step_by(13) {
                let unsynced = Unsynced::ALL[(first + second) % 4];
                cut(&scenario, &[first, second], unsynced).unwrap_or_else(|why| {
                    panic!(
                        "{}, cuts after {first} and {second}, {unsynced:?}: {why}",
                        scenario.name
                    )
                });
                cuts += 1;
            }
        }
        println!("{}: {cuts} double cuts, 0 violations", scenario.name);
    }
}

#[test]
fn a_missing_sync_is_caught() {
    let scenario = &scenarios()[1];
    let count = operations(scenario);
    for broken in [
        BrokenSync::Files,
        BrokenSync::Folder("/data".into()),
        BrokenSync::Folder("/boot".into()),
    ] {
        let start = scenario.start.fork();
        start.break_syncs(broken.clone());
        let planted = Scenario {
            start,
            world: scenario.world.clone(),
            ..*scenario
        };
        let passes = |n: usize, unsynced: Unsynced| {
            let cut = || cut(&planted, &[n], unsynced);
            matches!(
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(cut)),
                Ok(Ok(()))
            )
        };
        // From the end: what an update leaves behind is where a missing sync shows first.
        let is_caught = (0..=count)
            .rev()
            .any(|n| Unsynced::ALL.iter().any(|how| !passes(n, *how)));
        assert!(is_caught, "{broken:?}: nobody noticed");
    }
}

#[test]
fn the_slots_are_where_the_tests_think() {
    let disk = factory(&image(0));
    assert_eq!(booted(&disk).0, Slot::A);
    assert_eq!(disk.content(Path::new("/dev/b")), Some(Vec::new()));
}
