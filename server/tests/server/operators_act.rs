//! The operators' door, by story: from the first administrator to an approved rollout, and who is
//! refused on the way. All over real TLS, against the binary.

use ampoule_protocol::digest::Digest;
use serde_json::{Value, json};

use crate::common::people::{Api, Person, first, hire, program, with_door};
use crate::common::{Server, World, run, said, text, until};
use crate::devices_take_permits::locks;
use crate::rollout_reaches_devices::with_director;

struct Scene {
    world: World,
    server: Server,
    api: Api,
    digest: Digest,
}

impl Scene {
    fn new() -> Self {
        let mut world = with_door(with_director());
        let digest = world.tree.publish_release("2.4.1", 17);
        let device = world.enroll("pump-1");
        let server = world.start();
        let reply = device
            .client(&server)
            .post("/device/v1/inventory", &device.inventory(1));
        assert_eq!(reply.status, 200);
        let api = Api::new(&world, &server);
        Self {
            world,
            server,
            api,
            digest,
        }
    }

    fn get(&self, who: &Person, path: &str) -> crate::common::people::Reply {
        self.api.call("GET", path, Some(&who.session), &Value::Null)
    }

    fn post(&self, who: &Person, path: &str, body: &Value) -> crate::common::people::Reply {
        self.api.call("POST", path, Some(&who.session), body)
    }

    fn plan(&self, name: &str, author: &str, approvals: u32) -> Value {
        let plan = format!(
            "name = \"{name}\"\nrelease = \"infusion-pump/release-2.4.1.toml\"\n\
             sha256 = \"{}\"\nfilter = \"hardware = pump-mk3\"\nauthor = \"{author}\"\n\
             approvals = {approvals}\n[[step]]\nshare = \"100%\"\n",
            self.digest
        );
        json!({ "plan": plan })
    }

    fn audit(&self) -> Vec<Value> {
        audit_of(&self.world)
    }
}

/// What the audit log says, oldest first; read as anybody can who has the folder.
pub fn audit_of(world: &World) -> Vec<Value> {
    let folder = world.path("state/audit");
    let args = ["audit", "show", text(&folder), "--count", "1000", "--json"];
    let output = crate::common::people::ctl(&folder, &args, "");
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Catches: an approval that is not bound to what was read, a code that counts twice, an author
/// who approves, an approver who resumes, an act that is not written down.
#[test]
fn a_rollout_is_made_by_one_approved_by_another_and_resumed_by_a_third() {
    let scene = Scene::new();
    let mut root = first(&scene.world, &scene.api);
    let mut alice = hire(
        &scene.api,
        &mut root,
        "alice",
        &["fleet-operator", "safety-officer"],
    );
    let mut bob = hire(
        &scene.api,
        &mut root,
        "bob",
        &["fleet-operator", "safety-officer"],
    );

    // Alice makes it, in her own name, and not without an approval.
    let other = scene.plan("r1", "bob", 1);
    scene
        .post(&alice, "/api/v1/rollouts", &other)
        .refused(403, "other-author");
    let free = scene.plan("r1", "alice", 0);
    scene
        .post(&alice, "/api/v1/rollouts", &free)
        .refused(403, "no-approval");
    let made = scene
        .post(&alice, "/api/v1/rollouts", &scene.plan("r1", "alice", 1))
        .ok();
    let plan = made["plan_digest"].as_str().unwrap().to_owned();
    assert_eq!(made["status"]["stage"]["stage"], "awaiting");
    let again = scene.plan("r1", "alice", 1);
    scene
        .post(&alice, "/api/v1/rollouts", &again)
        .refused(409, "refused");

    // She does not approve it, though she may approve others'.
    let approve = "/api/v1/rollouts/r1/approve";
    let code = alice.code();
    let own = json!({"plan": plan, "code": code});
    scene.post(&alice, approve, &own).refused(403, "two-steps");

    // Bob does, for the very plan that he read, with a code that is used up by it.
    let wrong = json!({"plan": plan, "code": "000000"});
    scene
        .post(&bob, approve, &wrong)
        .refused(403, "code-refused");
    let session = bob.session.clone();
    let other = json!({"plan": Digest::of(b"another").to_string(), "code": bob.last_code()});
    scene
        .post(&bob, approve, &other)
        .refused(409, "other-digest");
    let approved = bob.with_code(|code| {
        let words = json!({"plan": plan, "code": code});
        scene.api.call("POST", approve, Some(&session), &words)
    });
    assert_eq!(approved.ok()["status"]["stage"]["stage"], "running");

    let shown = scene.get(&alice, "/api/v1/rollouts/r1?waits=true").ok();
    assert_eq!(shown["waits"][0]["wait"]["for"], "devices", "{shown}");

    // Anybody who may stop, stops, without a code. Neither of them lets it go on.
    let paused = scene
        .post(&bob, "/api/v1/rollouts/r1/pause", &json!({}))
        .ok();
    assert_eq!(paused["status"]["stage"]["stage"], "paused");
    for person in [&alice, &bob] {
        let words = json!({"plan": plan, "code": "000000"});
        let resume = "/api/v1/rollouts/r1/resume";
        scene.post(person, resume, &words).refused(403, "two-steps");
    }
    let why = scene.get(&alice, "/api/v1/devices/pump-1/why").ok();
    assert_eq!(why[0]["rollout"], "r1", "{why}");

    // A program has no second factor.
    let (_, _, ci) = program(&scene.world, "safety-officer", "ci-1");
    let ci = Api::with(&scene.world, &scene.server, Some(ci));
    assert_eq!(
        ci.call("GET", "/api/v1/rollouts", None, &Value::Null).ok()["items"][0]["name"],
        "r1"
    );
    ci.call("POST", approve, None, &wrong)
        .refused(403, "needs-person");

    // And all of it is in the log, before and after.
    let log = scene.audit();
    let told = |act: &str, by: &str| -> Vec<String> {
        let of = log
            .iter()
            .filter(|entry| entry["act"] == act && entry["by"] == by);
        of.map(|entry| entry["outcome"].as_str().unwrap().to_owned())
            .collect()
    };
    let made = told("rollout-create", "account:alice");
    assert_eq!(made, ["intended", "done", "intended", "refused"]);
    let approvals = told("rollout-approve", "account:bob");
    assert_eq!(approvals, ["refused", "intended", "done"]);
    assert_eq!(told("rollout-pause", "account:bob"), ["intended", "done"]);
    assert!(!told("publish", "server").is_empty() && !told("enroll", "local").is_empty());
    let text = serde_json::to_string(&log).unwrap();
    for secret in [
        &bob.password,
        &bob.session,
        &bob.last_code(),
        &bob.recovery[0],
    ] {
        assert!(!text.contains(secret.as_str()), "{secret} is in the log");
    }
    scene.server.stop();
}

/// Catches: a session that outlives its logout, its account's roles or its account; a hash of the
/// store that opens the door.
#[test]
fn a_session_ends_and_a_stolen_one_cannot_do_what_is_dangerous() {
    let scene = Scene::new();
    let mut root = first(&scene.world, &scene.api);
    let mut eve = hire(&scene.api, &mut root, "eve", &["security-analyst"]);
    let whoami = |session: Option<&str>| {
        scene
            .api
            .call("GET", "/api/v1/whoami", session, &Value::Null)
    };
    assert_eq!(whoami(Some(&eve.session)).ok()["name"], "account:eve");

    // Somebody has her session, and not her authenticator: reading is all that is left.
    let shown = scene.get(&eve, "/api/v1/devices/pump-1").ok();
    let certificate = shown["certificate"].clone();
    let revoke = "/api/v1/devices/pump-1/revoke";
    for code in ["", "123456", &eve.last_code()] {
        let words = json!({"certificate": certificate, "code": code});
        scene
            .post(&eve, revoke, &words)
            .refused(403, "code-refused");
    }
    let seen = scene.get(&eve, "/api/v1/devices/pump-1").ok();
    assert_eq!(seen["standing"], "enrolled");

    // Nobody, garbage, and the hash that a thief of the store finds.
    whoami(None).refused(401, "nobody");
    whoami(Some("")).refused(401, "no-session");
    whoami(Some(&eve.session.to_uppercase())).refused(401, "no-session");
    let hash = Digest::of(eve.session.as_bytes()).to_string();
    whoami(Some(&hash)).refused(401, "no-session");

    // Each login has a session of its own; a logout ends that one.
    let enter = |person: &mut Person| {
        let recovery = person.recovery.pop().unwrap();
        let words =
            json!({"account": person.name, "password": person.password, "recovery": recovery});
        let entered = scene.api.call("POST", "/api/v1/login", None, &words).ok();
        (entered["session"].as_str().unwrap().to_owned(), words)
    };
    let (second, words) = enter(&mut eve);
    scene
        .api
        .call("POST", "/api/v1/login", None, &words)
        .refused(401, "login-refused");
    scene
        .api
        .call("POST", "/api/v1/logout", Some(&eve.session), &json!({}))
        .ok();
    whoami(Some(&eve.session)).refused(401, "no-session");
    assert_eq!(whoami(Some(&second)).status, 200);

    // New roles end all sessions; so does disabling, and then nobody comes in.
    let mut ann = hire(&scene.api, &mut root, "ann", &["administrator"]);
    let change = |ann: &mut Person, act: &str, mut words: Value| {
        let session = ann.session.clone();
        let path = format!("/api/v1/accounts/eve/{act}");
        ann.with_code(|code| {
            words["code"] = code.into();
            scene.api.call("POST", &path, Some(&session), &words)
        })
    };
    let stale = json!({"roles": ["auditor"], "epoch": 0, "code": "000000"});
    scene
        .post(&root, "/api/v1/accounts/eve/roles", &stale)
        .refused(409, "other-epoch");
    change(
        &mut root,
        "roles",
        json!({"roles": ["auditor"], "epoch": 1}),
    )
    .ok();
    whoami(Some(&second)).refused(401, "no-session");
    let (third, _) = enter(&mut eve);
    let denied = scene.api.call("POST", revoke, Some(&third), &json!({}));
    denied.refused(403, "not-allowed");
    let (fourth, _) = enter(&mut eve);
    change(&mut ann, "standing", json!({"enabled": false, "epoch": 2})).ok();
    whoami(Some(&fourth)).refused(401, "no-session");
    let recovery = eve.recovery.pop().unwrap();
    let words = json!({"account": "eve", "password": eve.password, "recovery": recovery});
    scene
        .api
        .call("POST", "/api/v1/login", None, &words)
        .refused(401, "login-refused");

    // Nobody changes their own.
    let own = json!({"roles": ["safety-officer"], "epoch": 1, "code": "000000"});
    scene
        .post(&root, "/api/v1/accounts/root/roles", &own)
        .refused(403, "own-account");
    // Sessions, accounts and second factors survive the server.
    scene.server.kill();
    let server = scene.world.start();
    let api = Api::new(&scene.world, &server);
    let whoami = api.call("GET", "/api/v1/whoami", Some(&root.session), &Value::Null);
    assert_eq!(whoami.ok()["roles"][0], "administrator");
    server.stop();
}

/// Catches: guessing without an end, a lock that shows which names there are, a code that is
/// accepted a second time.
#[test]
fn guesses_are_counted_and_codes_are_used_once() {
    let scene = Scene::new();
    let mut root = first(&scene.world, &scene.api);
    let login = |account: &str, password: &str, code: &str| {
        let words = json!({"account": account, "password": password, "code": code});
        scene.api.call("POST", "/api/v1/login", None, &words)
    };
    // The code of the activation was used up by it.
    login("root", &root.password, &root.last_code()).refused(401, "login-refused");
    let password = root.password.clone();
    root.with_code(|code| login("root", &password, code)).ok();
    login("root", &root.password, &root.last_code()).refused(401, "login-refused");

    let mut bob = hire(&scene.api, &mut root, "bob", &["auditor"]);
    for _ in 0..5 {
        login("bob", "not his password", "000000").refused(401, "login-refused");
    }
    let code = bob.code();
    let locked = login("bob", &bob.password, &code);
    assert_eq!(locked.code(), "too-many-requests", "{locked:?}");
    // Whom there is not is refused in the same words, and nobody else rests.
    login("nobody", "not a password", "000000").refused(401, "login-refused");
    assert_eq!(scene.get(&root, "/api/v1/whoami").status, 200);
    let log = scene.audit();
    let refused = |name: &str| {
        let by = format!("account:{name}");
        let of = log
            .iter()
            .filter(|entry| entry["by"] == *by && entry["outcome"] == "refused");
        of.count()
    };
    assert_eq!((refused("bob"), refused("nobody")), (5, 0));

    // The first administrator is made once.
    let config = scene.world.path("server.toml");
    let second = run(&[
        "account",
        "create-first",
        "mallory",
        "--config",
        text(&config),
    ]);
    assert_eq!(second.status.code(), Some(1));
    assert!(
        said(&second).contains("is an administrator already"),
        "{}",
        said(&second)
    );
    scene.server.stop();
}

/// Catches: a site that sees another's devices.
#[test]
fn a_site_sees_its_own_devices_alone() {
    let scene = Scene::new();
    let south = scene.world.enroll("pump-2");
    let mut root = first(&scene.world, &scene.api);
    let session = root.session.clone();
    let made = root.with_code(|code| {
        let words = json!({"account": "north", "roles": ["site"], "site": "north", "code": code});
        scene
            .api
            .call("POST", "/api/v1/accounts", Some(&session), &words)
    });
    let north = Person::activate(
        &scene.api,
        "north",
        made.ok()["invitation"].as_str().unwrap(),
    );
    let (_, _, ci) = program(&scene.world, "fleet-operator", "ci-1");
    let ci = Api::with(&scene.world, &scene.server, Some(ci));
    for (device, site) in [("pump-1", "north"), ("pump-2", "south")] {
        let path = format!("/api/v1/devices/{device}/tags");
        ci.call("PUT", &path, None, &json!({"tags": {"site": site}}))
            .ok();
    }
    until("the tags are known", || {
        let list = scene.get(&north, "/api/v1/devices").ok();
        list["items"].as_array().unwrap().len() == 1
    });
    assert_eq!(scene.get(&north, "/api/v1/devices/pump-1").status, 200);
    scene
        .get(&north, "/api/v1/devices/pump-2")
        .refused(404, "not-found");
    scene
        .get(&north, "/api/v1/devices/pump-2/why")
        .refused(404, "not-found");
    // Nor is one named to it by what a rollout waits for.
    let plan = scene.plan("r1", "ci-1", 1);
    ci.call("POST", "/api/v1/rollouts", None, &plan).ok();
    let url = "/api/v1/rollouts/r1?waits=true";
    let shown = ci.call("GET", url, None, &Value::Null).ok();
    assert_eq!(shown["waits"][0]["wait"]["for"], "approvals");
    assert!(scene.get(&north, url).ok()["waits"].is_null());
    // Nor by who may be out of service.
    assert_eq!(locks(&south.client(&scene.server)), 200);
    let held = ci.call("GET", "/api/v1/permits", None, &Value::Null).ok();
    assert_eq!(held["items"][0]["device"], "pump-2", "{held}");
    assert_eq!(
        scene.get(&north, "/api/v1/permits").ok()["items"],
        json!([])
    );
    let all = ci
        .call("GET", "/api/v1/devices?limit=1", None, &Value::Null)
        .ok();
    assert_eq!(
        (&all["items"][0]["device"], &all["next"]),
        (&json!("pump-1"), &json!("pump-1"))
    );
    let rest = ci
        .call(
            "GET",
            "/api/v1/devices?limit=1&after=pump-1",
            None,
            &Value::Null,
        )
        .ok();
    assert_eq!(
        (&rest["items"][0]["device"], &rest["next"]),
        (&json!("pump-2"), &Value::Null)
    );
    ci.call("GET", "/api/v1/devices?limit=0", None, &Value::Null)
        .refused(400, "bad-request");
    scene.server.stop();
}
