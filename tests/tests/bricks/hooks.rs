//! Nothing outside is asked to do anything for an update that is not whole.
//!
//! Catches: gates, commands or boot settings that are used before every part was read back.

use std::path::Path;

use ampoule_agent::machine::Slot;
use ampoule_tests::power::life::{live, state};
use ampoule_tests::power::stories;

#[test]
fn nothing_is_asked_or_armed_before_all_is_read_back() {
    let story = stories::components();
    let mut world = story.world.clone();
    let tree = std::rc::Rc::make_mut(&mut world.shelf.tree);
    // The last of three is not what was signed.
    let image = tree
        .iter_mut()
        .find(|(path, _)| path.ends_with("library-2.img"))
        .expect("the image");
    image.1[100] ^= 1;
    let disk = story.start.fork();
    let settings = |disk: &ampoule_tests::power::disk::SimDisk| {
        ["rootfs", "app", "library"]
            .map(|name| disk.content(Path::new(&format!("/boot/{name}.json"))))
    };
    let before = settings(&disk);
    live(&disk, &world).expect("it goes on");
    assert_eq!(settings(&disk), before, "the boot settings were touched");
    let report = state(&disk).facts;
    assert_eq!(report.floor.0, 1);
    let running = ampoule_tests::power::life::boot(&disk, &world).expect("powered");
    assert!(
        running.iter().all(|choice| choice.slot == Slot::B),
        "what ran before runs"
    );
    live(&disk, &story.world).expect("the server is mended");
    assert_eq!(state(&disk).facts.floor.0, 2);
}
