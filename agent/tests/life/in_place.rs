//! A component whose image is rewritten where it stands, by the real program `ampoule-in-place`.
//!
//! Cuts inside of it are enumerated on a simulated disk (`tests/tests/power`, stories "update, delta
//! in place"); here the program, its file of settings and the agent meet.

use std::os::unix::fs::PermissionsExt;

use ampoule_agent::machine::Phase;
use ampoule_delta::{DiffOptions, diff_in_place};
use ampoule_protocol::release::Install;

use crate::repo::Item;
use crate::world::{World, noise};

fn module() -> Install {
    Install::parse("module:in-place").expect("a word")
}

/// The image of a version: mostly the same, not of the same length.
fn image(version: u8) -> Vec<u8> {
    let mut image = noise(7, 40_000 + usize::from(version % 2) * 9_000);
    for at in (0..image.len()).step_by(7_000) {
        image[at] = version;
    }
    image
}

fn payload(olds: &[u8], new: u8) -> Vec<u8> {
    let options = DiffOptions::default();
    let mut files = Vec::new();
    for (number, old) in olds.iter().enumerate() {
        for (from, to, ending) in [(*old, new, "forward"), (new, *old, "back")] {
            let (from, to) = (image(from), image(to));
            let patch = diff_in_place(&from, &to, &options, 16 << 10, &mut |_| {});
            files.push((format!("{number}.{ending}"), patch.expect("a patch")));
        }
    }
    archive(&files)
}

/// A device that left the factory with version 0 in a file.
fn world() -> World {
    let world = World::of(&[("controller", module())]);
    let put = |name: &str, text: &str| std::fs::write(world.path(name), text).expect("writes");
    put(
        "in-place.toml",
        "[[component]]\nname = \"controller\"\nimage = \"controller.img\"\nstate = \"in-place.d\"\n",
    );
    let program = env!("CARGO_BIN_EXE_ampoule-in-place");
    let config = world.path("in-place.toml");
    let config = config.display();
    put(
        "in-place",
        &format!("#!/bin/sh\nAMPOULE_IN_PLACE={config} exec {program} \"$@\"\n"),
    );
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(world.path("in-place"), mode).expect("sets");
    std::fs::write(world.path("controller.img"), image(0)).expect("writes");
    world
}

fn publish(world: &mut World, version: &str, index: u64, payload: &[u8]) {
    let item = Item {
        ending: "tar",
        ..Item::new("controller", module(), payload)
    };
    world.repo.release_of(version, index, &[item]);
    world.serve();
}

fn found(world: &World) -> Vec<u8> {
    std::fs::read(world.path("controller.img")).expect("reads")
}

#[test]
fn an_image_goes_forward_and_a_bad_one_back() {
    let mut world = world();
    publish(&mut world, "1.1.0", 1, &payload(&[0], 1));
    let state = world.settle();
    assert_eq!(world.last_receipt()["outcome"], "committed");
    assert!(found(&world) == image(1));
    assert_eq!(state.facts.floor.0, 1);
    assert!(!world.path("in-place.d").join("pair").exists());

    publish(&mut world, "1.2.0", 2, &payload(&[0, 1], 2));
    world.bends.borrow_mut().healthy = false;
    let state = world.settle();
    assert_eq!(world.last_receipt()["outcome"], "reverted");
    assert!(found(&world) == image(1), "to the last byte and no further");
    assert_eq!((state.facts.floor.0, &state.phase), (1, &Phase::Idle));
}

/// Meant to catch a module that finds out after the first write that there is no way back.
#[test]
fn nothing_is_written_that_could_not_be_taken_back() {
    for (what, spoil) in spoilers() {
        let mut world = world();
        publish(&mut world, "1.1.0", 1, &spoil(payload(&[0], 1)));
        world.settle();
        let receipt = world.last_receipt();
        assert_eq!(receipt["code"], "module-failed", "{what}");
        let detail = receipt["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains(what), "{what}: {detail}");
        assert!(found(&world) == image(0), "{what}");
    }
}

type Spoil = fn(Vec<u8>) -> Vec<u8>;

/// What the receipt names, and how a payload comes to it.
fn spoilers() -> [(&'static str, Spoil); 4] {
    [
        ("0.back", |payload| {
            // The last byte of the way back, in front of the archive's padding.
            let mut files = files(&payload);
            let last = files[1].1.len() - 1;
            files[1].1[last] ^= 1;
            archive(&files)
        }),
        ("no way back", |payload| archive(&files(&payload)[..1])),
        ("does not lead back", |payload| {
            let mut files = files(&payload);
            let (first, rest) = files.split_at_mut(1);
            rest[0].1.clone_from(&first[0].1);
            archive(&files)
        }),
        ("none of the 1 images", |_| payload(&[3], 1)),
    ]
}

fn files(payload: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(payload);
    let entries = archive.entries().expect("an archive");
    entries
        .map(|entry| {
            let mut entry = entry.expect("an entry");
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).expect("reads");
            let name = entry.path().expect("a name").display().to_string();
            (name, content)
        })
        .collect()
}

fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let added = archive.append_data(&mut header, name, content.as_slice());
        added.expect("in memory");
    }
    archive.into_inner().expect("in memory")
}

#[test]
fn bounds_and_links_of_the_device_count() {
    let mut world = world();
    let config = world.path("in-place.toml");
    let text = std::fs::read_to_string(&config).expect("reads");
    std::fs::write(&config, format!("{text}scratch_max = 4096\n")).expect("writes");
    publish(&mut world, "1.1.0", 1, &payload(&[0], 1));
    world.settle();
    let detail = world.last_receipt()["detail"].to_string();
    assert!(detail.contains("bytes of scratch"), "{detail}");
    assert!(found(&world) == image(0));

    // With room, and by a link as partitions have.
    std::fs::write(
        &config,
        text.replace("controller.img", "by-label/controller"),
    )
    .expect("writes");
    std::fs::create_dir(world.path("by-label")).expect("makes");
    let link = world.path("by-label/controller");
    std::os::unix::fs::symlink("../controller.img", link).expect("links");
    publish(&mut world, "1.1.1", 2, &payload(&[0], 1));
    world.settle();
    assert_eq!(world.last_receipt()["outcome"], "committed");
    assert!(found(&world) == image(1));
}

#[test]
fn faults_of_its_file_are_told_at_once() {
    let mut world = world();
    let text = "[[component]]\nname = \"controller\"\nimage = 3\nscratch_max = 1\nroom = 2\n";
    std::fs::write(world.path("in-place.toml"), text).expect("writes");
    publish(&mut world, "1.1.0", 1, &payload(&[0], 1));
    world.settle();
    let detail = world.last_receipt()["detail"].to_string();
    assert!(detail.contains("has 4 faults"), "{detail}");
    assert!(detail.contains("component.scratch_max"), "{detail}");
}
