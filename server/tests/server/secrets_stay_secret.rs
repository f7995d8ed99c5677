//! Planted secrets are in no file of the store, in no backup, and in no core file.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use ampoule_server::secrets::Sealer;
use ampoule_server::store::open::Opened;
use ampoule_server::store::records::{Expected, Key, Kind, RecordWrite};
use ampoule_server::store::{Store as _, Write};

use crate::common::{BINARY, World, run, text};
use crate::postgres::wait_until;

const PLANTED: &[u8] = b"JBSWY3DPEHPK3PXP-planted-second-factor-seed";

fn holds(path: &Path, secret: &[u8]) -> bool {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap();
        return entries.flatten().any(|entry| holds(&entry.path(), secret));
    }
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.windows(secret.len()).any(|part| part == secret)
}

/// Goal: who has the store's folder or a backup has no secret. The search itself is proven by a
/// record that is not sealed. Catches: a seal that only encodes.
#[test]
fn sealed_secrets_are_in_no_file_of_the_store_and_in_no_backup() {
    let world = World::new();
    let key = world.path("secret.key");
    assert!(run(&["secret-key", text(&key)]).status.success());
    let sealer = Sealer::open(&key).unwrap();
    let config = ampoule_server::config::Config::load(&world.config()).unwrap();
    let store = Opened::open(&config.store, None).unwrap();
    let record = |name: &str, bytes: Vec<u8>| {
        Write::Records(vec![RecordWrite {
            kind: Kind::parse("totp").unwrap(),
            key: Key::parse(name).unwrap(),
            expected: Expected::Any,
            bytes: Some(bytes),
        }])
    };
    let sealed = sealer.seal("totp/anna", PLANTED).unwrap();
    let open = b"in-the-open-to-prove-the-search".to_vec();
    store
        .commit(&[record("anna", sealed), record("open", open.clone())])
        .unwrap();
    store.close();
    drop(store);
    let backup = world.path("fleet.jsonl");
    let exported = run(&["export", text(&backup), "--config", text(&world.config())]);
    assert!(exported.status.success());
    assert!(
        holds(&world.path("state"), &open),
        "the search finds what is there"
    );
    assert!(!holds(&world.path("state"), PLANTED));
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes).into_bytes();
    assert!(
        holds(&backup, &hex(&open)),
        "the search finds what is there"
    );
    assert!(!holds(&backup, &hex(PLANTED)));
    let key_hex = std::fs::read_to_string(&key).unwrap();
    let key_hex = key_hex.trim().rsplit(' ').next().unwrap().as_bytes();
    assert!(!holds(&world.path("state"), key_hex) && !holds(&backup, key_hex));
}

/// Goal: a crash leaves no memory behind. Method: the server starts where core files
/// of any size are allowed and is ended by SIGABRT; its limit is read before. Catches: a server that does
/// not forbid them.
#[test]
fn a_crash_leaves_no_core_file() {
    let world = World::new();
    let config = world.config();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -c unlimited; exec \"$0\" run --config \"$1\" 2>/dev/null",
    ]);
    command
        .arg(BINARY)
        .arg(&config)
        .current_dir(world.path("."));
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let limits = format!("/proc/{}/limits", child.id());
    let forbidden = || {
        let text = std::fs::read_to_string(&limits).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        line.is_some_and(|line| line.split_whitespace().nth(4) == Some("0"))
    };
    wait_until("the limit of core files falls to nothing", forbidden);
    wait_until("the server listens", || world.path("admin.sock").exists());
    let killed = Command::new("kill")
        .args(["-s", "ABRT", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(6), "{status:?}");
    assert!(!status.core_dumped());
}

/// Catches: a key that is backed up with what it seals, one that others may read.
#[test]
fn a_key_in_the_wrong_place_is_a_fault() {
    let mut world = World::new();
    let key = world.path("secret.key");
    assert!(run(&["secret-key", text(&key)]).status.success());
    let check = |world: &World| {
        let output = run(&["run", "--check-config", "--config", text(&world.config())]);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    world.director = "[secrets]\nkey_file = \"secret.key\"".into();
    assert_eq!(check(&world), "");
    std::fs::create_dir(world.path("state")).unwrap();
    std::fs::copy(&key, world.path("state/secret.key")).unwrap();
    world.director = "[secrets]\nkey_file = \"state/secret.key\"".into();
    assert!(check(&world).contains("lies in a folder that is backed up with what it seals"));
    world.director = "[secrets]\nkey_file = \"ca.pem\"".into();
    assert!(check(&world).contains("may be read by others"));
}
