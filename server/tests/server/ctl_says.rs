//! `ampoule-ctl`, as a person meets it: what it says when something is wrong, word by word, and a
//! day's work over the real door.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use ampoule_protocol::digest::Digest;
use serde_json::{Value, json};

use crate::common::people::{Api, CTL, Person, ctl, first, hire, program, with_door};
use crate::common::{Device, Server, World, said, text, until};
use crate::rollout_reaches_devices::with_director;

/// Standard error and the exit code; nothing may be on standard output.
fn fails(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = ctl(folder, args, "");
    assert!(output.stdout.is_empty(), "{args:?}");
    (output.status.code(), said(&output))
}

/// Golden.
#[test]
fn what_is_wrong_is_one_line_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let one = |args: &[&str], expected: &str| {
        assert_eq!(
            fails(folder, args),
            (Some(1), expected.to_owned()),
            "{args:?}"
        );
    };
    one(
        &["whoami"],
        "error: no server is known: say --server, or log in\n",
    );
    one(
        &["whoami", "--server", "http://x"],
        "error: \"http://x\" is not an address like \"https://server.example:9443\"\n",
    );
    one(
        &["whoami", "--server", "https://x"],
        "error: no --ca is given: the authority that issued the server's certificate\n",
    );
    one(
        &["whoami", "--server", "https://x", "--ca", "nowhere.pem"],
        "error: failed to read \"nowhere.pem\"\ncaused by: entity not found\n",
    );
    one(
        &["audit", "verify", "nowhere"],
        "error: no --key is given, and \"nowhere/key\" is not there\n",
    );
    one(
        &["audit", "verify", "nowhere", "--key", "a+b"],
        "error: \"a+b\" cannot be used\n\
         caused by: a key cannot be used: no verifier key, expected NAME+ID+KEY\n",
    );
    for args in [&[][..], &["fly"], &["rollout", "approve", "r1"], &["login"]] {
        assert_eq!(fails(folder, args).0, Some(2), "{args:?}");
    }
    for args in [&["--help"][..], &["rollout", "--help"], &["--version"]] {
        assert_eq!(ctl(folder, args, "").status.code(), Some(0), "{args:?}");
    }
}

/// Catches: a log that is not found to be edited, a first bad index that is not named, a copy that
/// is replaced by another history.
#[test]
fn a_log_is_copied_verified_witnessed_and_found_out() {
    let world = with_door(World::new());
    world.enroll("pump-1");
    let server = world.start();
    let (cert, key, _) = program(&world, "auditor", "mirror-1");
    let (home, copy) = (world.path("ctl"), world.path("copy"));
    let url = format!("https://localhost:{}", server.operators.unwrap().port());
    let ca = world.path("ca.pem");
    let asks = [
        "--server",
        &url,
        "--ca",
        text(&ca),
        "--cert",
        text(&cert),
        "--cert-key",
        text(&key),
    ];
    let fetch = [&["audit", "fetch", text(&copy)][..], &asks].concat();
    let fetched = ctl(&home, &fetch, "");
    assert!(fetched.status.success(), "{}", said(&fetched));
    let verify = |more: &[&str]| {
        let args = [&["audit", "verify", text(&copy), "--json"][..], more].concat();
        ctl(&home, &args, "")
    };
    let verified = verify(&[]);
    assert!(verified.status.success(), "{}", said(&verified));
    let told: Value = serde_json::from_slice(&verified.stdout).unwrap();
    let size = told["size"].as_u64().unwrap();
    assert!(size >= 3, "{told}");

    // A second party cosigns; a reader asks for it; the log grows; what was seen is its beginning.
    let (witness, state) = (world.path("witness.key"), world.path("seen"));
    let made = ctl(
        &home,
        &["audit", "witness-key", "hospital.example/w", text(&witness)],
        "",
    );
    let vkey = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let checkpoint = copy.join("checkpoint");
    let before = world.path("before");
    std::fs::copy(&checkpoint, &before).unwrap();
    let cosign = [
        "audit",
        "witness",
        text(&copy),
        "--witness-key",
        text(&witness),
        "--state",
        text(&state),
        "--out",
        text(&checkpoint),
    ];
    let cosigned = ctl(&home, &cosign, "");
    assert!(cosigned.status.success(), "{}", said(&cosigned));
    assert!(verify(&["--witness", &vkey]).status.success());
    let login = [&["whoami"][..], &asks].concat();
    assert!(ctl(&home, &login, "").status.success());
    world.enroll("pump-2");
    assert!(ctl(&home, &fetch, "").status.success());
    let grown = verify(&["--from", text(&before)]);
    let told: Value = serde_json::from_slice(&grown.stdout).unwrap();
    assert!(
        told["size"].as_u64().unwrap() > size && told["checkpoints"] == 1,
        "{told}"
    );
    assert_eq!(
        verify(&["--witness", &vkey]).status.code(),
        Some(1),
        "not cosigned yet"
    );

    // One letter of entry 1 is changed.
    let entries = copy
        .join("tile/entries/000.p")
        .join(told["size"].to_string());
    let mut bytes = std::fs::read(&entries).unwrap();
    let wanted = b"\"index\":1,";
    let at = bytes
        .windows(wanted.len())
        .position(|part| part == wanted)
        .unwrap();
    bytes[at + wanted.len() - 2] = b'9';
    std::fs::write(&entries, bytes).unwrap();
    let found = verify(&[]);
    assert_eq!(found.status.code(), Some(1));
    let key = std::fs::read_to_string(copy.join("key")).unwrap();
    let found = verify(&["--key", key.trim()]);
    assert_eq!(
        said(&found),
        format!(
            "error: the audit log in {copy:?} does not verify\n\
             caused by: the log is not what was signed, from entry 1 on\n\
             caused by: entry 1 is not the one that its tile has the hash of: it was edited, moved \
             or deleted\n\
             hint: keep the folder as it is: it is evidence\n"
        )
    );
    server.stop();
}

/// Bob's desk: a server with a device and a release, and his account.
struct Desk {
    world: World,
    server: Server,
    bob: Person,
    home: PathBuf,
    release: Digest,
    device: Device,
}

impl Desk {
    fn new() -> Self {
        let mut world = with_door(with_director());
        let release = world.tree.publish_release("2.4.1", 17);
        let device = world.enroll("pump-1");
        let server = world.start();
        let client = device.client(&server);
        let reply = client.post("/device/v1/inventory", &device.inventory(1));
        assert_eq!(reply.status, 200);
        let api = Api::new(&world, &server);
        let mut root = first(&world, &api);
        let roles = ["fleet-operator", "safety-officer"];
        let bob = hire(&api, &mut root, "bob", &roles);
        let home = world.path("bob");
        Self {
            world,
            server,
            bob,
            home,
            release,
            device,
        }
    }

    fn ctl(&self, args: &[&str], lines: &str) -> Output {
        ctl(&self.home, args, lines)
    }

    fn json(&self, args: &[&str], lines: &str) -> Value {
        let output = self.ctl(&[args, &["--json"]].concat(), lines);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// With a recovery code, so that the codes of the authenticator are left.
    fn login(&mut self, password: &str) -> Output {
        let port = self.server.operators.unwrap().port();
        let url = format!("https://localhost:{port}");
        let ca = self.world.path("ca.pem");
        let ca = ["--ca", text(&ca)];
        let login = [&["login", "bob", "--recovery", "--server", &url][..], &ca].concat();
        let recovery = self.bob.recovery.pop().unwrap();
        self.ctl(&login, &format!("{password}\n{recovery}\n"))
    }

    /// A plan of this author, in a file.
    fn plan(&self, author: &str) -> String {
        let release = self.release;
        let plan = format!(
            "name = \"r1\"\nrelease = \"infusion-pump/release-2.4.1.toml\"\nsha256 = \"{release}\"\n\
             filter = \"hardware = pump-mk3\"\nauthor = \"{author}\"\napprovals = 1\n\
             [[step]]\nshare = \"100%\"\n"
        );
        std::fs::write(self.world.path("plan.toml"), plan).unwrap();
        text(&self.world.path("plan.toml")).to_owned()
    }
}

#[test]
fn a_person_logs_in_tags_a_device_and_leaves() {
    let mut desk = Desk::new();
    let wrong = desk.login("wrong password");
    assert_eq!(
        said(&wrong),
        "error: the server refused: name, password or code is wrong (login-refused)\n"
    );
    let password = desk.bob.password.clone();
    let entered = desk.login(&password);
    assert!(entered.status.success(), "{}", said(&entered));
    let profile = std::fs::metadata(desk.home.join("ctl.json")).unwrap();
    let mode = profile.permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "whoever reads it is bob");
    assert_eq!(desk.json(&["whoami"], "")["name"], "account:bob");
    assert_eq!(desk.json(&["device", "list"], "")[0]["device"], "pump-1");
    let tagged = desk.json(&["device", "tag", "pump-1", "region=EU", "ward=w7"], "");
    assert_eq!(tagged["tags"], json!({"region": "EU", "ward": "w7"}));
    until("the list has what was said", || {
        let listed = desk.ctl(&["device", "list"], "");
        let listed = String::from_utf8(listed.stdout).unwrap();
        listed.contains("pump-1  enrolled") && listed.contains("region=EU ward=w7")
    });
    assert!(desk.ctl(&["logout"], "").status.success());
    let gone = desk.ctl(&["whoami"], "");
    assert_eq!(
        said(&gone),
        "error: the server refused: log in, or come with a client certificate of an operator \
         (nobody)\nhint: log in with \"ampoule-ctl login ACCOUNT\"\n"
    );
    desk.server.stop();
}

/// Meant to catch: a decommission that is no more than a revocation; one without a code.
#[test]
fn a_device_is_taken_out_of_use_for_ever() {
    let mut desk = Desk::new();
    let password = desk.bob.password.clone();
    assert!(desk.login(&password).status.success());
    let open = desk.device.client(&desk.server);
    assert_eq!(open.get("/device/v1/self").status, 200);
    let shown = desk.json(&["device", "show", "pump-1"], "");
    let certificate = shown["certificate"].as_str().unwrap().to_owned();
    let end = |desk: &Desk, certificate: &str, code: &str| {
        let args = [
            "device",
            "decommission",
            "pump-1",
            "--certificate",
            certificate,
        ];
        desk.ctl(&args, &format!("{code}\n"))
    };
    let other = Digest::of(b"another").to_string();
    let refused = said(&end(&desk, &other, "000000"));
    assert!(refused.contains("(other-digest)"), "{refused}");
    let refused = said(&end(&desk, &certificate, "000000"));
    assert!(refused.contains("(code-refused)"), "{refused}");
    assert_eq!(open.get("/device/v1/self").status, 200, "nothing happened");

    let code = desk.bob.code();
    let mut done = end(&desk, &certificate, &code);
    if said(&done).contains("(code-refused)") {
        // A step of the clock ended between the two of us.
        let code = desk.bob.code();
        done = end(&desk, &certificate, &code);
    }
    let told = String::from_utf8(done.stdout).unwrap();
    assert_eq!(told, "decommissioned pump-1\n");
    assert_eq!(open.get("/device/v1/self").problem(), "device-revoked");
    let pem = desk.device.dir.join("device.pem");
    let again = desk.ctl(&["device", "enroll", text(&pem)], "");
    assert!(
        said(&again).contains("was decommissioned"),
        "{}",
        said(&again)
    );
    let shown = desk.ctl(&["device", "show", "pump-1"], "");
    assert!(
        shown.status.success(),
        "its record is kept: {}",
        said(&shown)
    );
    let folder = desk.world.path("state/audit");
    let log = desk.ctl(&["audit", "show", text(&folder), "--count", "1000"], "");
    let log = String::from_utf8(log.stdout).unwrap();
    let act = log.lines().find(|line| line.contains("decommission"));
    let act = act.unwrap_or_else(|| panic!("{log}"));
    assert!(
        act.contains("account:bob") && act.contains("pump-1"),
        "{act}"
    );
    desk.server.stop();
}

/// A colleague's plan: tried, made, read, approved with a code, watched, paused.
#[test]
fn a_plan_is_tried_approved_watched_and_paused() {
    let mut desk = Desk::new();
    let password = desk.bob.password.clone();
    assert!(desk.login(&password).status.success());
    let path = desk.plan("ci-1");
    // The release is cleared for some regions: a device that is nowhere gets nothing.
    let steps = || {
        let tried = desk.json(&["rollout", "dry-run", &path], "");
        tried["steps"].as_array().unwrap().len()
    };
    assert_eq!(steps(), 0);
    desk.json(&["device", "tag", "pump-1", "region=EU", "ward=w7"], "");
    until("the device has a place in the plan", || steps() == 1);
    let refused = desk.ctl(&["rollout", "create", &path], "");
    assert_eq!(
        said(&refused),
        "error: the server refused: the plan names \"ci-1\" as its author, and you are \
         account:bob (other-author)\n"
    );
    let (cert, key, _) = program(&desk.world, "release-engineer", "ci-1");
    let ci = ["--cert", text(&cert), "--cert-key", text(&key)];
    let create = [&["rollout", "create", &path][..], &ci].concat();
    let made = desk.json(&create, "");
    let digest = made["plan_digest"].as_str().unwrap().to_owned();

    let approve =
        |plan: &str, code: &str| desk.ctl(&["approve", "r1", "--plan", plan], &format!("{code}\n"));
    let unread = said(&approve(&Digest::of(b"another").to_string(), "000000"));
    assert!(unread.contains("(other-digest)"), "{unread}");
    assert_eq!(
        said(&approve(&digest, "000000")),
        "error: the server refused: the code is wrong, was used before, or is from another time \
         (code-refused)\nhint: each code is good once: wait for the next one\n"
    );
    let code = desk.bob.code();
    let lines = format!("{code}\n");
    let approved = desk.json(&["approve", "r1", "--plan", &digest], &lines);
    assert_eq!(approved["status"]["stage"]["stage"], "running");

    let mut watching = std::process::Command::new(CTL)
        .args(["rollout", "watch", "r1"])
        .env("AMPOULE_CTL_DIR", &desk.home)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let paused = desk.json(&["rollout", "pause", "r1"], "");
    assert_eq!(paused["status"]["stage"]["stage"], "paused");
    let ended = watching.wait().unwrap();
    assert!(ended.success(), "a paused rollout is at rest");
    let why = desk.ctl(&["rollout", "why", "pump-1"], "");
    assert!(String::from_utf8(why.stdout).unwrap().starts_with("r1: "));
    let shown = desk.ctl(&["rollout", "show", "r1"], "");
    let shown = String::from_utf8(shown.stdout).unwrap();
    let told = shown.contains("author     ci-1") && shown.contains("approved   bob");
    assert!(told, "{shown}");
    desk.server.stop();
}
