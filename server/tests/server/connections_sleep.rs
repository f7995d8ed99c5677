//! Connections that say nothing keep no buffers, and lose nothing by it.
//!
//! Goal: a sleeping connection answers as if it had not slept, and is watched as if it were awake.
//! Method: the server counts who sleeps; each story waits until it is asleep. Catches: a half head
//! that is lost when its connection falls asleep, a sleeper that outlives its revocation or keeps
//! the server from ending.

use std::io::Write as _;

use serde_json::Value;

use crate::common::people::{Api, program, with_door};
use crate::common::{Server, World, run, text, until};

const SELF: &str = "/device/v1/self";

struct Scene {
    world: World,
    server: Server,
    metrics: Api,
}

impl Scene {
    fn new() -> Self {
        Self::with("")
    }

    /// With these limits.
    fn with(limits: &str) -> Self {
        let mut world = with_door(World::new());
        limits.clone_into(&mut world.limits);
        let (_, _, certificate) = program(&world, "auditor", "prometheus");
        world.enroll("pump-1");
        let server = world.start();
        let metrics = Api::with(&world, &server, Some(certificate));
        Self {
            world,
            server,
            metrics,
        }
    }

    fn metric(&self, name: &str) -> u64 {
        let reply = self.metrics.call("GET", "/metrics", None, &Value::Null);
        let page = reply.ok();
        let page = page.as_str().unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        let value = line.unwrap_or_else(|| panic!("no {name} in {page}")).trim();
        value.parse().unwrap()
    }

    fn until_slept(&self, times: u64) {
        until("the connection has slept", || {
            self.metric("ampoule_connections_slept_total ") == times
        });
    }

    fn until_asleep(&self, count: u64) {
        until("the connections sleep", || {
            self.metric("ampoule_connections_asleep ") == count
        });
    }
}

#[test]
fn a_sleeper_answers_as_if_it_were_awake() {
    let scene = Scene::new();
    let device = scene.world.enroll("pump-2");
    let client = device.client(&scene.server);
    let mut connection = client.connect().unwrap();
    assert_eq!(connection.ask("GET", SELF, &[], b"").unwrap().status, 200);
    scene.until_slept(1);
    assert_eq!(connection.ask("GET", SELF, &[], b"").unwrap().status, 200);
    scene.until_slept(2);

    // Half of a head, and then silence: it sleeps again, and has not forgotten.
    let head = format!("GET {SELF} HTTP/1.1\r\nHost: localhost\r\n");
    connection.stream.write_all(head.as_bytes()).unwrap();
    connection.stream.flush().unwrap();
    scene.until_slept(3);
    connection.stream.write_all(b"\r\n").unwrap();
    connection.stream.flush().unwrap();
    assert_eq!(connection.reply("GET").unwrap().status, 200);

    // A body in two halves with a long breath between them is one request: nobody sleeps.
    let body = device.inventory(1);
    let (first, second) = body.split_at(body.len() / 2);
    let head = format!(
        "POST /device/v1/inventory HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection
        .stream
        .write_all(&[head.as_bytes(), first].concat())
        .unwrap();
    connection.stream.flush().unwrap();
    let mut other = client.connect().unwrap();
    assert_eq!(other.ask("GET", SELF, &[], b"").unwrap().status, 200);
    // The other one falls asleep, and came later.
    scene.until_asleep(1);
    connection.stream.write_all(second).unwrap();
    connection.stream.flush().unwrap();
    assert_eq!(connection.reply("POST").unwrap().status, 200);
    scene.server.stop();
}

/// Meant to catch: a sleeper that is not asked whether it is revoked. Idling ends nobody here,
/// or that would.
#[test]
fn a_sleeper_is_watched_and_does_not_keep_the_server() {
    let scene = Scene::with("header_timeout_secs = 3600");
    let config = scene.world.path("server.toml");
    let devices = ["pump-2", "pump-3"].map(|name| scene.world.enroll(name));
    let mut open = devices.map(|device| {
        let mut connection = device.client(&scene.server).connect().unwrap();
        assert_eq!(connection.ask("GET", SELF, &[], b"").unwrap().status, 200);
        connection
    });
    scene.until_asleep(2);
    let revoke = ["device", "revoke", "pump-2", "--config", text(&config)];
    assert!(run(&revoke).status.success());
    assert!(
        open[0].is_cut(),
        "a revoked device loses its connection asleep too"
    );
    scene.until_asleep(1);
    let said = scene.server.stop();
    assert!(open[1].is_cut());
    assert!(!said.contains("were cut"), "it ended in order: {said}");
}

#[test]
fn what_is_counted_is_what_happened() {
    let scene = Scene::new();
    let device = scene.world.enroll("pump-2");
    let client = device.client(&scene.server);
    let before = scene.metric("ampoule_store_writes_total ");
    let reply = client.post("/device/v1/inventory", &device.inventory(1));
    assert_eq!(reply.status, 200);
    assert_eq!(client.get("/nothing").status, 404);
    assert_eq!(scene.metric("ampoule_store_writes_total "), before + 1);
    assert_eq!(scene.metric("ampoule_devices{standing=\"enrolled\"} "), 2);
    assert_eq!(scene.metric("ampoule_devices_seen{within=\"5m\"} "), 1);
    assert_eq!(scene.metric("ampoule_answers_total{class=\"2xx\"} "), 1);
    assert_eq!(scene.metric("ampoule_answers_total{class=\"4xx\"} "), 1);
    let full = scene.metric("ampoule_handshakes_total{kind=\"full\"} ");
    let resumed = scene.metric("ampoule_handshakes_total{kind=\"resumed\"} ");
    assert_eq!((full, resumed), (1, 1));
    scene.server.stop();
}
