//! What is typed or configured wrongly: one `error:` line, a fitting exit code, nothing half done.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::common::{World, run, said, text};

#[test]
fn usage_is_2_and_refusal_is_1() {
    let world = World::new();
    let config = world.config();
    let config = text(&config);
    for (args, code) in [
        (vec!["--help"], 0),
        (vec!["--version"], 0),
        (vec![], 2),
        (vec!["fly"], 2),
        (vec!["run"], 2),
        (
            vec!["enroll", "--config", config, "--dir", "x", "../pump"],
            2,
        ),
        (vec!["enroll", "--config", config, "pump-1"], 2),
        (vec!["run", "--config", "/nowhere/server.toml"], 1),
        (vec!["device", "show", "nobody", "--config", config], 1),
        (vec!["device", "revoke", "nobody", "--config", config], 1),
    ] {
        let output = run(&args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            said(&output)
        );
        let said = said(&output);
        assert!(code == 0 || said.starts_with("error: "), "{args:?}: {said}");
        assert!(
            !said.contains("panicked") && !said.contains("backtrace"),
            "{said}"
        );
    }
    assert_eq!(
        run(&["run", "--config", config, "--check-config"])
            .status
            .code(),
        Some(0)
    );
}

#[test]
fn all_faults_of_a_configuration_are_named_at_once() {
    let world = World::new();
    let path = world.config();
    let good = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        good.replace("127.0.0.1:0", "here")
            .replace("\"published\"", "\"gone\""),
    )
    .unwrap();
    let output = run(&["run", "--config", text(&path), "--check-config"]);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    let lines: Vec<_> = said.lines().collect();
    assert!(
        lines.len() == 3
            && lines[0].ends_with("has 2 faults")
            && lines[1].starts_with("caused by: line 2:")
            && lines[2].starts_with("caused by: line 10:"),
        "{said}"
    );

    fs::write(&path, good).unwrap();
    fs::write(world.path("server.key"), "nonsense").unwrap();
    let output = run(&["run", "--config", text(&path), "--check-config"]);
    assert_eq!(output.status.code(), Some(1));
    fs::remove_file(world.path("server.key")).unwrap();
}

/// Catches: a configuration that is said to be without fault, and a server that then does not start.
#[test]
fn a_key_that_the_root_does_not_name_is_found_before_the_start() {
    let world = World::new();
    let config = world.config();
    let check = ["run", "--config", text(&config), "--check-config"];
    assert_eq!(run(&check).status.code(), Some(0));
    let other = crate::common::tree::key(9);
    fs::write(world.path("timestamp.key"), other.to_pkcs8_pem().as_bytes()).unwrap();
    let output = run(&check);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("timestamp"), "{}", said(&output));
    assert!(!world.path("state").join("timestamp.json").exists());
    let newest = world.path("published").join("metadata/timestamp.json");
    fs::write(newest, b"{}").unwrap();
    assert_eq!(run(&check).status.code(), Some(1));
}

#[test]
fn files_that_are_there_are_left_alone() {
    let world = World::new();
    let before = fs::read(world.path("ca.key")).unwrap();
    let folder = world.path("");
    let output = run(&["dev-ca", "--dir", text(&folder)]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(fs::read(world.path("ca.key")).unwrap(), before);

    let device = world.enroll("pump-1");
    let key = fs::read(device.dir.join("device.key")).unwrap();
    let config = world.config();
    let output = run(&[
        "enroll",
        "--config",
        text(&config),
        "--dir",
        text(&device.dir),
        "pump-1",
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(fs::read(device.dir.join("device.key")).unwrap(), key);
    let mode = fs::metadata(device.dir.join("device.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}
