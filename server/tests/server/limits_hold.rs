//! Slow and silent peers are cut, and an end in order lets open requests finish.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::common::World;
use crate::common::tree::{IMAGE_LEN, image_byte};

const SELF: &str = "/device/v1/self";

fn impatient() -> World {
    let mut world = World::new();
    world.limits = "handshake_timeout_secs = 1\nheader_timeout_secs = 1\n\
                    body_timeout_secs = 1\nwrite_stall_secs = 1\nwrite_rate_min = 100000"
        .into();
    world
}

#[test]
fn slow_peers_are_cut() {
    let world = impatient();
    let device = world.enroll("pump-1");
    let server = world.start();
    let client = device.client(&server);

    // Says nothing at all.
    let mut silent = TcpStream::connect(server.address).unwrap();
    silent
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    assert_eq!(
        silent.read(&mut [0]).unwrap(),
        0,
        "the handshake has a limit"
    );

    // Sends a head byte by byte.
    let mut slow = client.connect().unwrap();
    let begun = Instant::now();
    let mut sent = 0;
    while slow
        .stream
        .write_all(b"G")
        .and_then(|()| slow.stream.flush())
        .is_ok()
    {
        sent += 1;
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "still taken after {sent} bytes"
        );
        std::thread::sleep(Duration::from_millis(50));
    }

    // Sends half a body.
    let mut slow = client.connect().unwrap();
    slow.send(
        "POST",
        "/device/v1/inventory",
        &[("content-length", "100")],
        b"{",
    )
    .unwrap();
    let answer = slow.reply("POST").unwrap();
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (408, "body-slow")
    );

    // Idles between two requests.
    let mut idle = client.connect().unwrap();
    assert_eq!(idle.ask("GET", SELF, &[], b"").unwrap().status, 200);
    assert!(idle.is_cut(), "an idle connection ends");
    server.stop();
}

#[test]
fn a_slow_reader_is_cut_and_a_steady_one_is_not() {
    let world = impatient();
    let device = world.enroll("pump-1");
    let server = world.start();
    let client = device.client(&server);
    let image = format!("/tuf/image/{}", world.tree.image_path);

    let mut stalled = client.connect().unwrap();
    stalled.send("GET", &image, &[], b"").unwrap();
    let mut steady = client.connect().unwrap();
    steady.send("GET", &image, &[], b"").unwrap();
    // For a good while the one takes nothing and the other some.
    let mut taken = vec![0; 1 << 20];
    for _ in 0..40 {
        steady.stream.read_exact(&mut taken).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut rest = Vec::new();
    let _ = stalled.stream.read_to_end(&mut rest);
    assert!(
        rest.len() < IMAGE_LEN,
        "the reader that stalled got everything"
    );
    let mut whole = Vec::new();
    steady
        .stream
        .sock
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let _ = steady.stream.read_to_end(&mut whole);
    let got = 40 * taken.len() + whole.len();
    assert!(
        got >= IMAGE_LEN,
        "the steady reader got {got} of {IMAGE_LEN}"
    );
    server.stop();
}

#[test]
fn the_end_lets_open_requests_finish() {
    let world = World::new();
    let device = world.enroll("pump-1");
    let server = world.start();
    let client = device.client(&server);
    let mut download = client.connect().unwrap();
    download
        .send(
            "GET",
            &format!("/tuf/image/{}", world.tree.image_path),
            &[],
            b"",
        )
        .unwrap();
    let mut idle = client.connect().unwrap();
    assert_eq!(idle.ask("GET", SELF, &[], b"").unwrap().status, 200);

    server.signal("TERM");
    assert!(idle.is_cut(), "idle connections end at once");
    crate::common::until("no new connection", || {
        client
            .connect()
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    let reply = download.reply("GET").unwrap();
    assert_eq!(reply.body.len(), IMAGE_LEN);
    assert!(
        reply
            .body
            .iter()
            .enumerate()
            .all(|(at, byte)| *byte == image_byte(at))
    );
    let (code, said) = server.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("note: ended\n"), "{said}");
}

#[test]
fn one_device_cannot_take_all_connections() {
    let mut world = World::new();
    world.limits = "connections_per_device_max = 2".into();
    let (greedy, other) = (world.enroll("pump-1"), world.enroll("pump-2"));
    let server = world.start();
    let client = greedy.client(&server);
    let mut held: Vec<_> = (0..2).map(|_| client.connect().unwrap()).collect();
    for connection in &mut held {
        assert_eq!(connection.ask("GET", SELF, &[], b"").unwrap().status, 200);
    }
    let third = client.get(SELF);
    assert_eq!(
        (third.status, third.problem().as_str()),
        (429, "too-many-requests")
    );
    assert_eq!(other.client(&server).get(SELF).status, 200);
    drop(held);
    crate::common::until("a place is free again", || client.get(SELF).status == 200);
    server.stop();
}
