//! The same bytes to our device and to `sigstore-tuf`: the same verdict, or a reasoned difference.
//!
//! Method: an episode is a fresh repository, two devices that never heard of each other, and a few
//! steps. In each step the repository is bent at random, published, perhaps damaged as a file, and
//! both devices refresh and download. Compared are the verdict, the content, and the versions that
//! each trusts afterwards. Random worlds print their seed; [`SEEDS`] are run every time.

use ampoule_protocol::metadata::RoleType;
use ampoule_protocol::name::TargetPath;
use ampoule_protocol::time::UtcTime;
use ampoule_tests::random::Random;
use ampoule_tests::sim::{RepositorySimulator, TestKey, Tree, wrong_hashes};
use ampoule_tests::world::World;

use crate::sigstore::Peer;

/// Seeds that are run every time; one that once failed joins them.
const SEEDS: [u64; 4] = [1, 2, 3, 2030];
const EPISODES: usize = 150;
const STEPS_MAX: usize = 6;
const TARGETS: [&str; 3] = ["top.txt", "pump/a.img", "monitor/b.img"];

#[test]
fn fixed_seeds() {
    for seed in SEEDS {
        run(seed, EPISODES);
    }
}

#[test]
fn a_random_seed() {
    run(Random::seed("--test interop a_random_seed"), EPISODES);
}

/// Difference: at the very second of expiry we refuse and sigstore-tuf does not. The specification
/// wants the expiry "higher than the fixed update start time" (5.3.10); python-tuf does as we do.
#[test]
fn the_second_of_expiry() {
    let mut world = World::of(repository());
    let peer = Peer::new(&world.repo.tree["metadata/1.root.json"]);
    world.now = world.repo.timestamp.expires;
    assert_eq!(world.download_refusal("top.txt"), "metadata-expired");
    peer.download(&world.repo.tree, world.now, "top.txt")
        .expect("it refuses by now");
}

/// Difference: one key under two ids is one key to us (TAP 12) and two to sigstore-tuf.
#[test]
fn one_key_under_two_ids() {
    let mut world = World::of(repository());
    let key = TestKey::p256("thief");
    world
        .repo
        .set_keys(RoleType::Targets, &[key.clone(), key.listed_as("alias")], 2);
    world.repo.root.version += 1;
    world.repo.release();
    let peer = Peer::new(&world.repo.tree["metadata/1.root.json"]);
    assert_eq!(world.download_refusal("top.txt"), "metadata-unsigned");
    peer.download(&world.repo.tree, world.now, "top.txt")
        .expect("it refuses by now");
}

/// Difference: sigstore-tuf does not know succinct bins (TAP 15) and finds nothing in them.
#[test]
fn succinct_bins() {
    let mut world = World::new();
    let bins = world.repo.delegate_to_bins(3, "bin");
    let bin = bins
        .bin_of(&TargetPath::parse("file").expect("a path"))
        .to_string();
    world.repo.add_delegated_target(&bin, "file", b"in a bin");
    world.repo.release();
    let peer = Peer::new(&world.repo.tree["metadata/1.root.json"]);
    assert_eq!(world.download("file").expect("we know them"), b"in a bin");
    peer.download(&world.repo.tree, world.now, "file")
        .expect_err("it knows them by now");
}

fn run(seed: u64, episodes: usize) {
    let mut random = Random::new(seed);
    let (mut agreed, mut refused) = (0, 0);
    for episode in 0..episodes {
        let mut world = World::of(repository());
        let peer = Peer::new(&world.repo.tree["metadata/1.root.json"]);
        let mut story = Vec::new();
        for _ in 0..=random.below(STEPS_MAX) {
            story.push(bend(&mut world, &mut random));
            let target = *random.pick(&TARGETS);
            let ours = world.download(target);
            let theirs = peer.download(&world.repo.tree, world.now, target);
            let place = || format!("seed {seed}, episode {episode}, {target}: {story:?}");
            match (&ours, &theirs) {
                (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{}", place()),
                (Err(_), Err(_)) => refused += 1,
                (Ok(content), Err(_)) => {
                    // Difference: a delegated role that is stored and still named is not fetched
                    // again by us, and always by sigstore-tuf. Shown what we have, it agrees.
                    let tree = with_stored_roles(&world);
                    let theirs = peer.download(&tree, world.now, target);
                    assert_eq!(
                        theirs.as_ref().ok(),
                        Some(content),
                        "{}\n{theirs:?}",
                        place()
                    );
                }
                _ => panic!("{}\n  ours: {ours:?}\ntheirs: {theirs:?}", place()),
            }
            let trusted = world.trusted();
            let both = [
                ("root.json", trusted.root),
                ("timestamp.json", trusted.timestamp),
                ("snapshot.json", trusted.snapshot),
                ("targets.json", trusted.targets),
            ];
            for (file, ours_has) in both {
                assert_eq!(
                    ours_has,
                    peer.version(file),
                    "{file}: {}\n{ours:?}\n{theirs:?}",
                    place()
                );
            }
            agreed += 1;
        }
    }
    println!("seed {seed}: {agreed} verdicts agreed, {refused} of them refusals");
    assert!(
        refused * 10 > agreed && refused < agreed,
        "the mixture is one-sided"
    );
}

/// The tree, with the delegated roles that the device keeps.
fn with_stored_roles(world: &World) -> Tree {
    let mut tree = world.repo.tree.clone();
    for (role, version) in world.trusted().delegated {
        let stored = world.device.store.files[&format!("{role}.json")].clone();
        tree.insert(format!("metadata/{version}.{role}.json"), stored);
    }
    tree
}

fn repository() -> RepositorySimulator {
    let mut repo = RepositorySimulator::with_keys(TestKey::p256);
    repo.add_target("top.txt", b"at the top");
    for product in ["pump", "monitor"] {
        repo.add_product(product);
    }
    repo.add_delegated_target("pump", "pump/a.img", b"an image");
    repo.add_delegated_target("monitor", "monitor/b.img", b"another image");
    repo.publish();
    repo
}

/// One random change, published; says what it was.
fn bend(world: &mut World, random: &mut Random) -> String {
    let role = *random.pick(&RoleType::ALL);
    let repo = &mut world.repo;
    match random.below(20) {
        0..=4 => {
            repo.release();
            "release".into()
        }
        5 => back(repo, "timestamp", |repo| repo.timestamp.version -= 1),
        6 => back(repo, "snapshot", |repo| {
            repo.timestamp.version += 1;
            repo.snapshot.version -= 1;
        }),
        7 => back(repo, "targets", |repo| {
            repo.timestamp.version += 1;
            repo.snapshot.version += 1;
            repo.targets.version -= 1;
        }),
        8 => expire(world, role, random),
        9 => {
            let dropped = repo.signers(role).pop();
            repo.root.version += 1;
            repo.release();
            format!("{role} loses a signer ({})", dropped.is_some())
        }
        10 => {
            *repo.signers(role) = vec![TestKey::ed25519("mallory")];
            repo.root.version += 1;
            repo.release();
            format!("{role} signed by a stranger")
        }
        11 | 12 => {
            repo.rotate(role);
            repo.root.version += 1;
            repo.release();
            format!("{role} rotated")
        }
        13 => {
            let keys: Vec<TestKey> = (0..3)
                .map(|n| TestKey::p256(&format!("{role} {n}")))
                .collect();
            let old = repo.root.signers.clone();
            let threshold = 1 + random.below(4) as u64;
            repo.set_keys(role, &keys, threshold);
            if role == RoleType::Root {
                repo.root.signers.extend(old);
            }
            repo.root.version += 1;
            repo.release();
            format!("{role} needs {threshold} of 3")
        }
        14 => {
            repo.describe_files = !repo.describe_files;
            repo.release();
            "files described, or not".into()
        }
        15 => {
            repo.release();
            repo.link_targets = false;
            if let Some(file) = repo.snapshot.meta.get_mut("targets.json") {
                file.hashes = Some(wrong_hashes());
            }
            repo.publish();
            repo.link_targets = true;
            "a wrong digest of targets".into()
        }
        16 => {
            let secs = random.below(20 * 86_400);
            world.wait_secs(i64::try_from(secs).expect("days"));
            format!("{secs} seconds pass")
        }
        17 => damage(world, random),
        18 => swap(world, random),
        _ => {
            let files: Vec<String> = repo.tree.keys().cloned().collect();
            let file = random.pick(&files).clone();
            repo.tree.remove(&file);
            format!("{file} is missing")
        }
    }
}

/// A rollback. What was published under the older number stays what it was, and the numbers used
/// here are not used again: under one number there is one file, as in a repository that numbers by
/// itself. (Where a number is used twice the two clients differ by when they look at stored files.)
fn back(
    repo: &mut RepositorySimulator,
    what: &str,
    change: impl FnOnce(&mut RepositorySimulator),
) -> String {
    repo.release();
    let before = repo.clone();
    // Digests would be of the file as it is signed now, not of the older one.
    repo.describe_files = false;
    change(repo);
    repo.publish();
    repo.describe_files = before.describe_files;
    let (timestamp, snapshot) = (repo.timestamp.version, repo.snapshot.version);
    for (path, bytes) in before
        .tree
        .iter()
        .filter(|(path, _)| *path != "metadata/timestamp.json")
    {
        repo.tree.insert(path.clone(), bytes.clone());
    }
    repo.timestamp.version = timestamp.max(before.timestamp.version);
    repo.snapshot.version = snapshot.max(before.snapshot.version);
    repo.targets.version = before.targets.version;
    format!("{what} back")
}

fn expire(world: &mut World, role: RoleType, random: &mut Random) -> String {
    let now: UtcTime = world.now;
    // Not `now` itself: see `the_second_of_expiry`.
    let at = now.plus_secs(if random.one_in(2) { -1 } else { 1 });
    match role {
        RoleType::Root => world.repo.root.expires = at,
        RoleType::Timestamp => world.repo.timestamp.expires = at,
        RoleType::Snapshot => world.repo.snapshot.expires = at,
        RoleType::Targets => world.repo.targets.expires = at,
    }
    world.repo.root.version += 1;
    world.repo.release();
    format!("{role} expires at {at}, it is {now}")
}

/// One byte of one file.
fn damage(world: &mut World, random: &mut Random) -> String {
    world.repo.release();
    let files: Vec<String> = world.repo.tree.keys().cloned().collect();
    let file = random.pick(&files).clone();
    let bytes = world.repo.tree.get_mut(&file).expect("a file");
    let at = random.below(bytes.len());
    let mask = 1 << random.below(8);
    bytes[at] ^= mask;
    format!("{file}: byte {at} ^ {mask:#04x}")
}

/// One file in the place of another.
fn swap(world: &mut World, random: &mut Random) -> String {
    world.repo.release();
    let files: Vec<String> = world.repo.tree.keys().cloned().collect();
    let (from, to) = (random.pick(&files).clone(), random.pick(&files).clone());
    let bytes = world.repo.tree[&from].clone();
    world.repo.tree.insert(to.clone(), bytes);
    format!("{from} in the place of {to}")
}
