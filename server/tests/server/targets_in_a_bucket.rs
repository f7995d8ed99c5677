//! A tree in a bucket: published there in order, brought to the server, its targets read through the
//! server or by links; against a real store that checks signatures.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::common::bucket::{Bucket, SECRET_KEY};
use crate::common::client::Client;
use crate::common::tree::{IMAGE_LEN, image_byte};
use crate::common::{World, run, said, text};

/// A world whose tree was made elsewhere, and goes to a bucket.
fn world() -> (World, Bucket) {
    let mut world = World::new();
    let made = world.path("made");
    std::fs::rename(world.path("published"), &made).unwrap();
    std::fs::create_dir(world.path("published")).unwrap();
    world.tree.folder = made;
    let bucket = Bucket::start(&world);
    (world, bucket)
}

fn push(world: &World) -> std::process::Output {
    let config = world.config();
    let folder = world.path("made");
    run(&[
        "tree",
        "push",
        text(&folder),
        "--config",
        text(&config),
        "--json",
    ])
}

fn pushed(world: &World) -> serde_json::Value {
    let output = push(world);
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_tree_in_a_bucket_reaches_devices() {
    let (mut world, bucket) = world();
    world.director = bucket.section(&world, SECRET_KEY, "");
    let first = pushed(&world);
    assert_eq!(first["there"], 0, "{first}");
    let again = pushed(&world);
    assert_eq!(
        (again["written"].as_u64(), &again["there"]),
        (Some(1), &4.into())
    );

    let device = world.enroll("pump-1");
    let server = world.start();
    assert!(
        !world.path("published/targets").exists(),
        "targets stay in the bucket"
    );
    let client = device.client(&server);
    assert_eq!(client.get("/tuf/image/metadata/1.root.json").status, 200);
    let image = format!("/tuf/image/{}", world.tree.image_path);
    let whole = client.get(&image);
    assert_eq!((whole.status, whole.body.len()), (200, IMAGE_LEN));
    let is_whole = |(at, byte): (usize, &u8)| *byte == image_byte(at);
    assert!(whole.body.iter().enumerate().all(is_whole));
    let etag = whole.header("etag").to_string();
    let ask = |headers: &[(&str, &str)]| client.ask("GET", &image, headers, b"");
    let part = ask(&[("range", "bytes=1000000-1999999"), ("if-range", &etag)]);
    assert_eq!(part.status, 206);
    assert_eq!(part.body, whole.body[1_000_000..2_000_000]);
    assert_eq!(
        ask(&[("range", "bytes=-5")]).body,
        whole.body[IMAGE_LEN - 5..]
    );
    assert_eq!(
        ask(&[("range", "bytes=99999999-")]).problem(),
        "range-not-satisfiable"
    );
    assert_eq!(ask(&[("if-none-match", &etag)]).status, 304);
    let head = client.ask("HEAD", &image, &[], b"");
    assert_eq!(head.header("content-length"), IMAGE_LEN.to_string());
    // A device that asks for links where none are given away is served as any other.
    assert_eq!(
        ask(&[("ampoule-links", "1"), ("range", "bytes=0-9")]).status,
        206
    );
    let missing = image.replace(".rootfs", ".other");
    assert_eq!(client.get(&missing).problem(), "not-found");
    assert_eq!(
        client.get("/tuf/image/targets/rootfs.img").problem(),
        "not-found"
    );

    world.tree.publish_next();
    pushed(&world);
    let deadline = Instant::now() + Duration::from_mins(1);
    let snapshot = |client: &Client| {
        let timestamp = client.get("/tuf/image/metadata/timestamp.json").json();
        timestamp["signed"]["meta"]["snapshot.json"]["version"].as_u64()
    };
    while snapshot(&client) != Some(2) {
        assert!(
            Instant::now() < deadline,
            "what was published does not come"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(
        client.get("/tuf/image/metadata/2.snapshot.json").status,
        200
    );
    server.stop();
}

#[test]
fn a_link_reads_one_target_for_a_while_and_nothing_else() {
    let (mut world, bucket) = world();
    world.director = bucket.section(&world, SECRET_KEY, "link_secs = 60");
    pushed(&world);
    let device = world.enroll("pump-1");
    let server = world.start();
    let client = device.client(&server);
    let image = format!("/tuf/image/{}", world.tree.image_path);
    let plain = client.ask("GET", &image, &[("range", "bytes=0-9")], b"");
    assert_eq!(plain.status, 206, "who does not ask for links gets none");

    let reply = client.ask("GET", &image, &[("ampoule-links", "1")], b"");
    assert_eq!(
        (reply.status, reply.header("cache-control")),
        (307, "no-store")
    );
    let link = reply.header("location");
    let host = format!("https://localhost:{}", bucket.address.port());
    let path = link.strip_prefix(&host).expect("it leads to the bucket");
    let store = Client::anonymous(bucket.address, &world.path("ca.pem"));
    let read = |path: &str| {
        let headers = [("range", "bytes=1000-1999")];
        let mut connection = store.connect().unwrap();
        let host = format!("localhost:{}", bucket.address.port());
        connection
            .ask_host("GET", path, &host, &headers, b"")
            .unwrap()
    };
    let part = read(path);
    assert_eq!(part.status, 206, "{part:?}");
    let expected: Vec<u8> = (1000..2000).map(image_byte).collect();
    assert_eq!(part.body, expected);
    assert_eq!(bucket.links.load(Ordering::Relaxed), 1);
    // Catches: a store that is open to everybody, which would make the above prove nothing.
    let (bare, _) = path.split_once('?').expect("it is signed");
    assert_eq!(read(bare).status, 403);
    let other = path.replace(&world.tree.image_path, "metadata/1.root.json");
    assert_ne!(other, path);
    assert_eq!(read(&other).status, 403);
    let longer = path.replace("X-Amz-Expires=60", "X-Amz-Expires=6000");
    assert_ne!(longer, path);
    assert_eq!(read(&longer).status, 403);
    assert!(!server.stop().contains("X-Amz"), "links are not logged");
}

#[test]
fn who_has_no_right_to_the_bucket_is_told_so_and_changes_nothing() {
    let (mut world, bucket) = world();
    world.director = bucket.section(&world, "another-secret", "");
    let refused = push(&world);
    assert_eq!(refused.status.code(), Some(1));
    let told = said(&refused);
    assert!(told.contains("error: failed to list"), "{told}");
    assert!(!told.contains("another-secret"), "{told}");
    assert_eq!(files_below(&world.path("s3/fleet")), 0);
    let Err(told) = crate::common::Server::try_start(&world.config()) else {
        panic!("it started without a tree");
    };
    assert!(told.contains("in the blob store"), "{told}");
}

fn files_below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => files_below(&path),
            _ => 1,
        })
        .sum()
}
