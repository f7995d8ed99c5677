//! SIGTERM ends the daemon cleanly: at once while it waits, at a checkpoint while it fills.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ampoule_protocol::release::Install;
use serde_json::Value;

use crate::kill::{Device, noise};
use crate::repo::Repo;
use crate::server::{self, Fault, Server};

const SLOTS: &str = "install = \"slot\"\nslots = { a = \"a.img\", b = \"b.img\" }\n";

fn daemon(device: &Device) -> (Child, impl Iterator<Item = Value>) {
    let mut command = device.agent(&["daemon", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("runs");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let lines = lines.map(|line| serde_json::from_str(&line.expect("text")).expect("a JSON line"));
    (child, lines)
}

fn terminate(child: &Child) {
    let pid = child.id().to_string();
    let status = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(status.expect("kill runs").success());
}

/// Reads on to the end; gives the last line and the exit code.
fn end(mut child: Child, lines: impl Iterator<Item = Value>) -> (Value, Option<i32>) {
    let last = lines.last().expect("a last line");
    (last, child.wait().expect("ours").code())
}

fn stopped() -> (Value, Option<i32>) {
    let line = serde_json::json!({"event": "end", "result": "stopped"});
    (line, Some(0))
}

#[test]
fn a_daemon_that_waits_ends_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let repo = Repo::new();
    let server = server::start(folder.path(), repo.tree.clone());
    let device = Device::new(folder.path(), &server, repo.root(), SLOTS);
    let (child, mut lines) = daemon(&device);
    let phases: Vec<Value> = lines.by_ref().take(2).collect();
    assert_eq!(
        (&phases[0]["phase"], &phases[1]["phase"]),
        (&"checking".into(), &"idle".into())
    );
    // It waits for five minutes now.
    let start = Instant::now();
    terminate(&child);
    assert_eq!(end(child, lines), stopped());
    assert!(
        start.elapsed() < Duration::from_mins(1),
        "{:?}",
        start.elapsed()
    );
}

/// Planted: a fill that does not ask whether it is to stop goes on for a minute, and is torn.
#[test]
fn a_fill_stops_at_a_checkpoint_and_goes_on_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut repo = Repo::new();
    repo.release("1.0.0", 1, Install::Slot, &noise(1, 400_000));
    let server = server::start(folder.path(), repo.tree.clone());
    let device = Device::new(folder.path(), &server, repo.root(), SLOTS);
    server.world.lock().expect("alive").fault = Fault::Drips(Duration::from_micros(100));
    let (child, mut lines) = daemon(&device);
    let mut progress = lines.by_ref().filter(|line| line["event"] == "progress");
    let done = progress.find_map(|line| line["done"].as_u64().filter(|done| *done >= 4096));
    assert!(done.is_some(), "nothing came");
    terminate(&child);
    assert_eq!(end(child, lines), stopped());
    assert_eq!(device.json(&["status"])["phase"], "filling");
    server.world.lock().expect("alive").fault = Fault::None;
    device.settle();
    assert_eq!(
        device.json(&["status"])["components"][0]["version"],
        "1.0.0"
    );
    assert!(went_on(&server), "it began anew");
}

fn went_on(server: &Server) -> bool {
    let world = server.world.lock().expect("alive");
    let is_rest = |request: &&String| request.contains(".img ") && !request.ends_with(" 0-");
    world.requests.iter().any(|request| is_rest(&request))
}
