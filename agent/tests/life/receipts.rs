//! A receipt says what was asked and what was answered.

use ampoule_agent::boot::World as BootWorld;
use ampoule_agent::boot::world::{PerSlot, Running, SystemdBootSettings};
use ampoule_protocol::release::Install;

use crate::world::{World, noise};

#[test]
fn a_receipt_names_gates_health_commands_bake_time_and_attempts() {
    let mut world = World::new(&noise(0, 5_000));
    world
        .repo
        .release("1.0.0", 1, Install::Slot, &noise(1, 9_000));
    world.serve();
    world.settle();
    let receipt = world.last_receipt();
    assert_eq!(receipt["outcome"], "committed");
    assert_eq!(receipt["gates"][0]["name"], "therapy");
    assert_eq!(receipt["gates"][0]["passed"], true);
    assert_eq!(receipt["health"][0]["name"], "selftest --quick");
    assert_eq!(receipt["health"][0]["passed"], true);
    assert_eq!(receipt["health"][1]["name"], "trial");
    assert_eq!(receipt["bake_secs"], 30);
    assert_eq!(receipt["attempts"], 1);
    // And of one that came back.
    world
        .repo
        .release("1.1.0", 2, Install::Slot, &noise(2, 9_000));
    world.serve();
    world.bends.borrow_mut().healthy = false;
    world.settle();
    let receipt = world.last_receipt();
    assert_eq!(receipt["outcome"], "reverted");
    assert_eq!(receipt["health"][0]["passed"], false);
    assert_eq!(receipt["health"][1]["detail"], "it is ill");
}

fn systemd_boot(world: &World) -> SystemdBootSettings {
    let both = |a: &str, b: &str| PerSlot {
        a: a.to_owned(),
        b: b.to_owned(),
    };
    let (entries, words) = (
        both("pump-a", "pump-b"),
        both("ampoule.slot=a", "ampoule.slot=b"),
    );
    SystemdBootSettings {
        folder: world.path("entries"),
        entries: entries.clone(),
        words: words.clone(),
        slots: PerSlot {
            a: world.path("a"),
            b: world.path("b"),
        },
        running: Running::LoaderEntry {
            cmdline: world.path("cmdline"),
            words,
            path: world.path("selected"),
            entries,
        },
    }
}

/// The entry of slot b has the bytes of slot a's: the device mends it, and tells it once.
#[test]
fn boot_settings_that_were_out_of_order_are_mended_and_told_once() {
    let mut world = World::new(&noise(0, 5_000));
    let folder = world.folder.path().to_owned();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.join(name), bytes).expect("writes");
    };
    std::fs::create_dir(world.path("entries")).expect("a folder");
    let entry = "version 5\noptions quiet ampoule.slot=a\nlinux /linux\n";
    write("entries/pump-a.conf.off", entry.as_bytes());
    write("entries/pump-b.conf", entry.as_bytes());
    write("cmdline", b"quiet ampoule.slot=a\n");
    let selected = |file: &str| {
        let name = file.encode_utf16().flat_map(u16::to_le_bytes);
        let value: Vec<u8> = [6, 0, 0, 0].into_iter().chain(name).collect();
        write("selected", &value);
    };
    selected("pump-b.conf");
    world.loader = Some(BootWorld::SystemdBoot(systemd_boot(&world)));
    world.serve();
    world.settle();
    // The next boot goes by the entry that was made anew.
    selected("pump-a.conf");
    world.settle();
    let receipts = world.bends.borrow().receipts.clone();
    let told = |receipt: &&serde_json::Value| receipt["code"] == "boot-settings-mended";
    let told: Vec<_> = receipts.iter().filter(told).collect();
    let [receipt] = &told[..] else {
        panic!("told once, found {receipts:?}");
    };
    let text = receipt["detail"].as_str().unwrap_or_default();
    assert!(text.contains("slot \"a\" runs"), "{receipt}");
    assert!(
        text.contains("\"pump-b.conf\" starts slot \"a\""),
        "{receipt}"
    );
    assert!(world.path("entries/pump-a.conf").exists());
    assert!(!world.path("entries/pump-b.conf").exists());
}
