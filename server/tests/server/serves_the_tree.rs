//! The published tree over real mTLS: ranges, validators, caching, encodings, names.

use crate::common::World;
use crate::common::tree::{IMAGE_LEN, image_byte};

const IMMUTABLE: &str = "public, max-age=31536000, immutable";

#[test]
fn a_device_reads_the_tree() {
    let world = World::new();
    let device = world.enroll("pump-1");
    let server = world.start();
    let client = device.client(&server);
    let image = format!("/tuf/image/{}", world.tree.image_path);

    let root = client.get("/tuf/image/metadata/1.root.json");
    assert_eq!(root.status, 200);
    assert_eq!(
        root.body,
        std::fs::read(world.tree.metadata("1.root.json")).unwrap()
    );
    assert_eq!(root.header("cache-control"), IMMUTABLE);
    let timestamp = client.get("/tuf/image/metadata/timestamp.json");
    assert_eq!(timestamp.header("cache-control"), "no-cache");
    assert_eq!(
        timestamp.json()["signed"]["meta"]["snapshot.json"]["version"],
        1
    );
    assert_eq!(
        client.get("/tuf/image/metadata/2.root.json").problem(),
        "not-found"
    );

    let whole = client.get(&image);
    assert_eq!((whole.status, whole.body.len()), (200, IMAGE_LEN));
    assert!(
        whole
            .body
            .iter()
            .enumerate()
            .all(|(at, byte)| *byte == image_byte(at))
    );
    let etag = whole.header("etag").to_string();
    assert!(
        world.tree.image_path.contains(etag.trim_matches('"')),
        "the digest is the ETag"
    );

    let ask = |headers: &[(&str, &str)]| client.ask("GET", &image, headers, b"");
    let part = ask(&[("range", "bytes=1000000-1999999"), ("if-range", &etag)]);
    assert_eq!(part.status, 206);
    assert_eq!(
        part.header("content-range"),
        format!("bytes 1000000-1999999/{IMAGE_LEN}")
    );
    assert_eq!(part.body, whole.body[1_000_000..2_000_000]);
    assert_eq!(
        ask(&[("range", "bytes=-5")]).body,
        whole.body[IMAGE_LEN - 5..]
    );
    assert_eq!(
        ask(&[("range", "bytes=5-5"), ("if-range", "\"other\"")]).status,
        200
    );
    let outside = ask(&[("range", &format!("bytes={IMAGE_LEN}-"))]);
    assert_eq!(outside.problem(), "range-not-satisfiable");
    assert_eq!(outside.status, 416);
    assert_eq!(
        outside.header("content-range"),
        format!("bytes */{IMAGE_LEN}")
    );
    assert_eq!(ask(&[("if-none-match", &etag)]).status, 304);
    let head = client.ask("HEAD", &image, &[], b"");
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, IMAGE_LEN.to_string().as_str())
    );

    let squeezed = ask(&[("accept-encoding", "gzip, zstd"), ("range", "bytes=0-99")]);
    assert_eq!(
        squeezed.header("content-encoding"),
        "",
        "images are never encoded"
    );
    let squeezed = client.ask(
        "GET",
        "/tuf/image/metadata/1.root.json",
        &[("accept-encoding", "zstd")],
        b"",
    );
    assert_eq!(squeezed.header("content-encoding"), "zstd");
    assert_ne!(
        squeezed.header("etag"),
        root.header("etag"),
        "another form has another ETag"
    );
    assert_eq!(
        zstd::bulk::decompress(&squeezed.body, 1 << 20).unwrap(),
        root.body
    );

    for outside in [
        "/tuf/image/../server.toml",
        "/tuf/image/targets/..%2f..%2fserver.key",
        "/x",
    ] {
        assert_eq!(client.get(outside).problem(), "not-found", "{outside}");
    }
    assert_eq!(
        client.post("/tuf/image/metadata/1.root.json", b"").status,
        405
    );
    server.stop();
}
