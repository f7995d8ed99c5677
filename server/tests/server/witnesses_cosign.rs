//! The audit log and its second parties, from end to end: the server, the witness's own command
//! with its own key and memory, and a reader who believes neither alone.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::common::people::{ctl, program, with_door};
use crate::common::{Server, World, said, text};

/// The hospital's machine.
struct Witness<'a> {
    world: &'a World,
    name: String,
    key: String,
}

impl<'a> Witness<'a> {
    fn new(world: &'a World, name: &str) -> Self {
        let file = world.path(&format!("{name}.key"));
        let full = format!("{name}.example/audit");
        let made = ctl(
            &world.path(name),
            &["audit", "witness-key", &full, text(&file)],
            "",
        );
        assert!(made.status.success(), "{}", said(&made));
        Self {
            world,
            name: name.to_owned(),
            key: String::from_utf8(made.stdout).unwrap().trim().to_owned(),
        }
    }

    fn file(&self, what: &str) -> PathBuf {
        self.world.path(&format!("{}.{what}", self.name))
    }

    /// Looks at a copy of the log, and brings what it cosigned to the server.
    fn looks(&self, copy: &Path, out: &Path, more: &[&str]) -> Output {
        let (key, state) = (self.file("key"), self.file("seen"));
        let mut args = vec!["audit", "witness", text(copy)];
        args.extend(["--witness-key", text(&key), "--state", text(&state)]);
        args.extend(["--out", text(out)]);
        args.extend(more);
        ctl(&self.world.path(&self.name), &args, "")
    }
}

/// How a program with a certificate of its own finds the server.
struct Way([String; 8]);

impl Way {
    fn new(world: &World, server: &Server) -> Self {
        let (cert, key, _) = program(world, "auditor", "witness-1");
        let url = format!("https://localhost:{}", server.operators.unwrap().port());
        let ca = world.path("ca.pem");
        let words = ["--server", &url, "--ca", text(&ca)].map(str::to_owned);
        let shown = ["--cert", text(&cert), "--cert-key", text(&key)].map(str::to_owned);
        Self([words, shown].concat().try_into().unwrap())
    }

    fn words(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    fn fetch(&self, world: &World, copy: &Path) {
        let args = [vec!["audit", "fetch", text(copy)], self.words()].concat();
        let fetched = ctl(&world.path("reader"), &args, "");
        assert!(fetched.status.success(), "{}", said(&fetched));
    }
}

fn verify(world: &World, copy: &Path, more: &[&str]) -> Output {
    let args = [&["audit", "verify", text(copy), "--json"][..], more].concat();
    ctl(&world.path("reader"), &args, "")
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Goal: a witness's word goes from its machine to the server, and from there with every copy to a
/// reader, who can ask for so many of the witnesses that it names. A server that was set back to an
/// older state and goes on tells a second history: the witness refuses to cosign it, and the server
/// refuses the witness's earlier word, loudly.
/// Catches: a door that takes notes of strangers, or any note without asking whether the log begins
/// with it; a cosignature that is lost when the log goes on or the server restarts; a reader that
/// is satisfied with fewer witnesses than it asked for; a witness that forgets.
#[test]
fn what_witnesses_have_seen_reaches_the_reader_and_a_second_history_does_not() {
    let mut world = with_door(World::new());
    let world_for_keys = World::new();
    let hospital = Witness::new(&world_for_keys, "hospital");
    let quality = Witness::new(&world_for_keys, "quality");
    let stranger = Witness::new(&world_for_keys, "stranger");
    let known = [&hospital.key, &quality.key];
    let section = format!("[audit]\nwitnesses = {known:?}\n");
    world.director.push_str(&section);
    world.enroll("pump-1");
    let server = world.start();
    let way = Way::new(&world, &server);
    let (copy, out) = (world.path("copy"), world.path("note"));
    way.fetch(&world, &copy);
    let both = ["--witness", &hospital.key, "--witness", &quality.key];
    let none = verify(&world, &copy, &both);
    assert_eq!(none.status.code(), Some(1));
    assert!(
        said(&none).contains("0 of the 2 witnesses"),
        "{}",
        said(&none)
    );

    let send = [&["--send"][..], &way.words()].concat();
    let looked = hospital.looks(&copy, &out, &send);
    assert!(looked.status.success(), "{}", said(&looked));
    let refused = stranger.looks(&copy, &out, &send);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("bad-cosignature"),
        "{}",
        said(&refused)
    );

    // The newest checkpoint carries it while nothing else happens; then one beside it does.
    let fresh = world.path("fresh");
    way.fetch(&world, &fresh);
    let note = std::fs::read_to_string(fresh.join("checkpoint")).unwrap();
    assert!(note.contains("hospital.example/audit"), "{note}");
    assert!(!note.contains("stranger"), "{note}");
    world.enroll("pump-2");
    way.fetch(&world, &copy);
    let note = std::fs::read_to_string(copy.join("checkpoint")).unwrap();
    assert!(!note.contains("hospital.example/audit"), "{note}");
    let one = [&both[..], &["--witnesses-min", "1"]].concat();
    let seen = verify(&world, &copy, &one);
    assert!(seen.status.success(), "{}", said(&seen));
    let told: Value = serde_json::from_slice(&seen.stdout).unwrap();
    let cosigned = told["cosigned"].as_array().unwrap();
    assert_eq!(cosigned.len(), 1, "{told}");
    assert_eq!(cosigned[0]["witness"], "hospital.example/audit");
    let unseen = told["size"].as_u64().unwrap() - cosigned[0]["size"].as_u64().unwrap();
    assert!(unseen > 0, "{told}");
    let bound = |max: u64| {
        let max = max.to_string();
        let args = [&one[..], &["--unseen-max", &max]].concat();
        verify(&world, &copy, &args).status.code()
    };
    assert_eq!((bound(unseen), bound(unseen - 1)), (Some(0), Some(1)));
    assert_eq!(verify(&world, &copy, &both).status.code(), Some(1));

    // The second one looks, the server restarts, and both are still published.
    assert!(quality.looks(&copy, &out, &send).status.success());
    server.stop();
    let before = world.path("before");
    copy_folder(&world.path("state/audit"), &before);
    let server = world.start();
    world.enroll("pump-5");
    let way = Way::new(&world, &server);
    way.fetch(&world, &copy);
    let seen = verify(&world, &copy, &both);
    assert!(seen.status.success(), "{}", said(&seen));
    let send = [&["--send"][..], &way.words()].concat();
    let again = hospital.looks(&copy, &out, &send);
    assert!(again.status.success(), "{}", said(&again));
    let last_word = world.path("last-word");
    std::fs::copy(&out, &last_word).unwrap();
    server.stop();

    // The older state is put back, and the server goes on from it.
    std::fs::remove_dir_all(world.path("state/audit")).unwrap();
    copy_folder(&before, &world.path("state/audit"));
    let server = world.start();
    world.enroll("pump-3");
    world.enroll("pump-4");
    let way = Way::new(&world, &server);
    let other = world.path("other");
    way.fetch(&world, &other);
    let send = [&["--send"][..], &way.words()].concat();
    let refused = hospital.looks(&other, &out, &send);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("the log is not what was signed"),
        "{}",
        said(&refused)
    );
    let args = [vec!["audit", "submit", text(&last_word)], way.words()].concat();
    let refused = ctl(&world.path("reader"), &args, "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("other-history"),
        "{}",
        said(&refused)
    );
    // And whoever has an older copy finds out alone.
    let args = [vec!["audit", "fetch", text(&copy)], way.words()].concat();
    assert_eq!(ctl(&world.path("reader"), &args, "").status.code(), Some(1));
    server.kill();
}
