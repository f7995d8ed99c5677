//! A staged rollout by the real server, met by devices that use the real trust rules over real
//! mTLS: what is offered, halted, killed, resumed, aborted, and what devices believe of it.

use std::collections::BTreeMap;

use ampoule_protocol::client::{Answer, Find, LocalName, Refresh, Search, Step, Trusted};
use ampoule_protocol::device::Outcome;
use ampoule_protocol::digest::Digest;
use ampoule_protocol::director::{self, Agreed, Assignment};
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::metadata::{RoleKeys, RoleType, Root};
use ampoule_protocol::name::HardwareId;
use ampoule_protocol::sign::Sign as _;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::UpdateStart;
use serde_json::Value;

use crate::common::tree::{days, key, sign};
use crate::common::{Device, Server, World, run, said, text, until};

/// Key 3 signs the director's root, key 4 is online.
pub fn with_director() -> World {
    let mut world = World::new();
    let mut root = Root::new(days(365));
    for role in RoleType::ALL {
        let seed = if role == RoleType::Root { 3 } else { 4 };
        let key = key(seed).public_key().to_key();
        root.roles.insert(role, RoleKeys::new(vec![key.id()], 1));
        root.keys.insert(key.id(), key);
    }
    std::fs::create_dir(world.path("director")).unwrap();
    std::fs::write(world.path("director/1.root.json"), sign(&root, &[3])).unwrap();
    let pem = key(4).to_pkcs8_pem();
    std::fs::write(world.path("director.key"), pem.as_bytes()).unwrap();
    world.director = "[director]\nkey = \"director.key\"\nroots = \"director\"\n\
                      caps = \"ward=2\"\n"
        .into();
    world.limits = "requests_per_minute = 1000000\nrequests_burst = 1000000".into();
    world
}

/// A device in a fleet, as far as trust goes.
pub struct InFleet {
    pub device: Device,
    /// By repository and name.
    stored: BTreeMap<(&'static str, LocalName), Vec<u8>>,
    roots: BTreeMap<&'static str, Vec<u8>>,
}

impl InFleet {
    pub fn new(world: &World, name: &str) -> Self {
        let read = |name: &str| std::fs::read(world.path(name)).unwrap();
        Self {
            device: world.enroll(name),
            stored: BTreeMap::new(),
            roots: BTreeMap::from([
                ("image", read("published/metadata/1.root.json")),
                ("director", read("director/1.root.json")),
            ]),
        }
    }

    fn refresh(&mut self, server: &Server, repository: &'static str, lengths: Lengths) -> Trusted {
        let start = UpdateStart::new(Some(days(0)), UtcTime::EPOCH);
        let mut refresh = Refresh::begin(&self.roots[repository], start, lengths).unwrap();
        loop {
            let step = refresh.step().unwrap();
            if step == Step::Done {
                return refresh.finish().unwrap();
            }
            let found = self.turn(server, repository, step);
            refresh.answer(found.answer()).unwrap();
        }
    }

    fn turn(&mut self, server: &Server, repository: &'static str, step: Step) -> Turn {
        let found = match step {
            Step::Load(name) => self.stored.get(&(repository, name)).cloned(),
            Step::Store(name, bytes) => {
                self.stored.insert((repository, name), bytes);
                return Turn::Stored;
            }
            Step::Fetch(wanted) => {
                let path = format!("/tuf/{repository}/metadata/{}", wanted.file);
                let mut reply = self.device.client(server).get(&path);
                // One among others may be behind on a loaded machine, and says so.
                until("the server is not behind", || {
                    let behind = reply.status == 503 && reply.problem() == "server-behind";
                    if behind {
                        reply = self.device.client(server).get(&path);
                    }
                    !behind
                });
                match reply.status {
                    200 => Some(reply.body),
                    404 => None,
                    _ => panic!("{path}: {reply:?}"),
                }
            }
            Step::Done => unreachable!("asked before"),
        };
        found.map_or(Turn::NotFound, Turn::Bytes)
    }

    /// The release on which director and image repository agree, if one is offered.
    pub fn poll(&mut self, server: &Server) -> Option<Agreed> {
        let hardware = HardwareId::parse("pump-mk3").unwrap();
        let trusted = self.refresh(server, "director", director::LENGTHS);
        let assignment = Assignment::read(&trusted, &self.device.id, &hardware).unwrap();
        let offer = assignment.offer()?.clone();
        let mut trusted = self.refresh(server, "image", Lengths::DEFAULT);
        let mut find = Find::new(offer.path().clone());
        loop {
            let step = find.step(&trusted).unwrap();
            if step == Step::Done {
                break;
            }
            let found = self.turn(server, "image", step);
            find.answer(&mut trusted, found.answer()).unwrap();
        }
        Some(offer.agree(find.found().unwrap().clone()).unwrap())
    }

    pub fn report(&self, server: &Server) {
        let reply = self.device.client(server);
        let reply = reply.post("/device/v1/inventory", &self.device.inventory(1));
        assert_eq!(reply.status, 200);
    }

    pub fn ends(&self, server: &Server, outcome: Outcome) {
        let receipt = self.device.receipt_of(1, Some("2.4.1"), outcome);
        let reply = self
            .device
            .client(server)
            .post("/device/v1/receipts", &receipt);
        assert_eq!(reply.status, 200);
    }
}

enum Turn {
    Bytes(Vec<u8>),
    NotFound,
    Stored,
}

impl Turn {
    fn answer(&self) -> Answer<'_> {
        match self {
            Self::Bytes(bytes) => Answer::Bytes(bytes),
            Self::NotFound => Answer::NotFound,
            Self::Stored => Answer::Stored,
        }
    }
}

pub fn ctl(world: &World, args: &[&str]) -> Result<Value, String> {
    let config = world.path("server.toml");
    let mut all = args.to_vec();
    all.extend(["--config", text(&config), "--json"]);
    let output = run(&all);
    if !output.status.success() {
        return Err(said(&output));
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

pub fn write_plan(world: &World, digest: &Digest, more: &str) -> String {
    let plan = format!(
        "name = \"r1\"\nrelease = \"infusion-pump/release-2.4.1.toml\"\nsha256 = \"{digest}\"\n\
         filter = \"hardware = pump-mk3\"\nauthor = \"alice\"\n{more}\n\
         [[step]]\ncount = 1\n[[step]]\nshare = \"100%\"\n"
    );
    std::fs::write(world.path("plan.toml"), plan).unwrap();
    text(&world.path("plan.toml")).to_owned()
}

fn stage(world: &World) -> String {
    let shown = ctl(world, &["rollout", "show", "r1"]).unwrap();
    shown["status"]["stage"]["stage"].as_str().unwrap().into()
}

#[test]
fn a_staged_rollout_halts_survives_kill_resumes_and_is_aborted() {
    let mut world = with_director();
    let digest = world.tree.publish_release("2.4.1", 17);
    let mut devices: Vec<InFleet> = ["pump-1", "pump-2", "pump-3"]
        .map(|name| InFleet::new(&world, name))
        .into();
    let server = world.start();
    for device in &mut devices {
        let id = device.device.id.to_string();
        assert!(device.poll(&server).is_none(), "nothing is offered yet");
        device.report(&server);
        ctl(&world, &["device", "tag", &id, "region=EU", "ward=w7"]).unwrap();
    }
    let plan = write_plan(&world, &digest, "");
    let schedule = ctl(&world, &["rollout", "dry-run", &plan]).unwrap();
    assert_eq!(schedule["steps"].as_array().unwrap().len(), 2, "{schedule}");
    ctl(&world, &["rollout", "create", &plan]).unwrap();

    // One device of three, then the others: a step opens when the one before was good.
    let mut first = None;
    until("the first device is offered the release", || {
        first = devices
            .iter_mut()
            .position(|device| device.poll(&server).is_some());
        first.is_some()
    });
    let first = devices.remove(first.unwrap());
    let others = devices
        .iter_mut()
        .all(|device| device.poll(&server).is_none());
    assert!(others, "the step has one device");
    let name = devices[0].device.id.to_string();
    let why = ctl(&world, &["rollout", "why", &name]).unwrap();
    assert_eq!(why[0]["reason"]["why"], "later-step", "{why}");
    first.ends(&server, Outcome::Committed);
    until("the others are offered the release", || {
        devices
            .iter_mut()
            .all(|device| device.poll(&server).is_some())
    });

    // One of them fails: the other's offer is taken back, also across a kill of the server.
    devices[0].ends(&server, Outcome::Reverted);
    until("the rollout halts", || stage(&world) == "halted");
    until("the last offer is taken back", || {
        devices[1].poll(&server).is_none()
    });
    server.kill();
    let server = world.start();
    assert_eq!(stage(&world), "halted");
    assert!(
        devices[1].poll(&server).is_none(),
        "and its metadata does not go back"
    );
    let name = devices[1].device.id.to_string();
    let why = ctl(&world, &["rollout", "why", &name]).unwrap();
    assert_eq!(why[0]["reason"]["why"], "halted", "{why}");

    ctl(&world, &["rollout", "resume", "r1"]).unwrap();
    until("it is offered again", || devices[1].poll(&server).is_some());
    ctl(&world, &["rollout", "abort", "r1"]).unwrap();
    until("it is taken back for ever", || {
        devices[1].poll(&server).is_none()
    });
    let refused = ctl(&world, &["rollout", "resume", "r1"]).unwrap_err();
    assert!(
        refused.contains("a rollout that is aborted cannot be resumed"),
        "{refused}"
    );
    server.stop();
}

/// Goal: a look thinks about whoever changed, and whoever a rollout could not ask is asked when it can.
/// Catches: a report, or what an operator says of a device, that no look hears of.
#[test]
fn who_becomes_one_of_those_is_asked() {
    let mut world = with_director();
    let digest = world.tree.publish_release("2.4.1", 17);
    let mut devices = ["pump-1", "pump-2"].map(|name| InFleet::new(&world, name));
    let server = world.start();
    devices[0].report(&server);
    ctl(&world, &["device", "tag", "pump-2", "region=EU"]).unwrap();
    let plan = format!(
        "name = \"r1\"\nrelease = \"infusion-pump/release-2.4.1.toml\"\nsha256 = \"{digest}\"\n\
         filter = \"region = EU\"\nauthor = \"alice\"\n[[step]]\nshare = \"100%\"\n"
    );
    std::fs::write(world.path("plan.toml"), plan).unwrap();
    let plan = text(&world.path("plan.toml")).to_owned();
    ctl(&world, &["rollout", "create", &plan]).unwrap();
    for (name, reason) in [("pump-1", "filter"), ("pump-2", "never-reported")] {
        let why = ctl(&world, &["rollout", "why", name]).unwrap();
        assert_eq!(why[0]["reason"]["objection"], reason, "{why}");
    }
    ctl(&world, &["device", "tag", "pump-1", "region=EU"]).unwrap();
    devices[1].report(&server);
    for device in &mut devices {
        until("each is offered the release", || {
            device.poll(&server).is_some()
        });
    }
    server.stop();
}

/// Goal: reports that were acknowledged and are gone are noticed, and what they would have stopped
/// does not go on. Method: the engine's folder is put back as it was before the receipt that halted
/// the rollout, as a log that lost its end looks to sled. Catches: no mark beside the engine; a mark
/// that nobody compares; rollouts that run on; a warning at each start for ever.
#[test]
fn a_store_that_lost_its_end_says_so_and_halts_rollouts() {
    let mut world = with_director();
    let digest = world.tree.publish_release("2.4.1", 17);
    let mut device = InFleet::new(&world, "pump-1");
    let server = world.start();
    device.report(&server);
    ctl(&world, &["device", "tag", "pump-1", "region=EU"]).unwrap();
    let plan = write_plan(&world, &digest, "");
    ctl(&world, &["rollout", "create", &plan]).unwrap();
    until("it is offered", || device.poll(&server).is_some());
    let said = server.stop();
    assert!(!said.contains("lost its end"), "{said}");
    let (engine, older) = (world.path("state/store"), world.path("older"));
    copy(&engine, &older);

    let server = world.start();
    device.ends(&server, Outcome::Reverted);
    until("the rollout halts", || stage(&world) == "halted");
    server.kill();
    std::fs::remove_dir_all(&engine).unwrap();
    copy(&older, &engine);

    let server = world.start();
    let shown = ctl(&world, &["rollout", "show", "r1"]).unwrap();
    let why = &shown["status"]["stage"]["why"];
    assert_eq!(why["why"], "store-lost-its-end", "{shown}");
    until("the offer is taken back", || device.poll(&server).is_none());
    let said = server.stop();
    assert!(said.contains("the store lost its end: "), "{said}");
    assert!(said.contains("1 rollouts were halted"), "{said}");

    let server = world.start();
    assert_eq!(stage(&world), "halted");
    let said = server.stop();
    assert!(!said.contains("lost its end"), "told once: {said}");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, to).unwrap();
        }
    }
}

#[test]
fn what_is_not_the_release_or_not_for_the_device_is_not_offered() {
    let mut world = with_director();
    let digest = world.tree.publish_release("2.4.1", 17);
    let mut device = InFleet::new(&world, "pump-1");
    let mut other = InFleet::new(&world, "pump-2");
    let server = world.start();
    device.report(&server);
    let plan = write_plan(&world, &Digest::of(b"another build"), "");
    let refused = ctl(&world, &["rollout", "create", &plan]).unwrap_err();
    assert!(
        refused.contains("it is another release"),
        "promoted by digest: {refused}"
    );
    let plan = write_plan(&world, &digest, "approvals = 1");
    let made = ctl(&world, &["rollout", "create", &plan]).unwrap();
    let digest = made["plan_digest"].as_str().unwrap().to_owned();
    let why = ctl(&world, &["rollout", "why", "pump-1"]).unwrap();
    assert_eq!(why[0]["reason"]["objection"], "no-region", "{why}");
    ctl(&world, &["device", "tag", "pump-1", "region=EU"]).unwrap();
    let own = [
        "rollout", "approve", "r1", "--by", "alice", "--plan", &digest,
    ];
    assert!(ctl(&world, &own).unwrap_err().contains("cannot approve it"));
    assert!(device.poll(&server).is_none());
    ctl(
        &world,
        &["rollout", "approve", "r1", "--by", "bob", "--plan", &digest],
    )
    .unwrap();
    until("it is offered", || device.poll(&server).is_some());
    assert!(
        other.poll(&server).is_none(),
        "each device has a director of its own"
    );

    // What was signed for one device is not believed by another.
    let hardware = HardwareId::parse("pump-mk3").unwrap();
    let trusted = device.refresh(&server, "director", director::LENGTHS);
    let replayed = Assignment::read(&trusted, &other.device.id, &hardware).unwrap_err();
    assert_eq!(
        replayed.to_string(),
        "the director's targets are for \"pump-1\", this is \"pump-2\""
    );
    server.stop();
}
