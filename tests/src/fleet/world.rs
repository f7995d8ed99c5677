//! The loop: whoever is next wakes, and time is wherever that is.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::rc::Rc;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use ampoule_protocol::release::{FileRef, Install, Release as Described};
use ampoule_protocol::time::UtcTime;
use ampoule_server::rollout::{Stage, Tally};

use super::device::Device;
use super::disk::Common;
use super::observer::Observer;
use super::server::Server;
use super::{Campaign, Mistake, Options, Outcome, Release, Weather};
use crate::power::repo::{Catalogue, Shelf, artifact};
use crate::random::Random;
use crate::sim::DAWN;

/// A rollout that is not over by then is left as it is.
const CAMPAIGN_SECS_MAX: i64 = 5 * 86_400;
/// How long the server stays away when it died.
const AWAY_SECS_MAX: usize = 600;
/// After the last rollout devices get so many polls to settle.
const LAST_POLLS: i64 = 3;

/// What devices see of the world.
pub(super) struct Sky {
    pub(super) server: RefCell<Server>,
    pub(super) observer: RefCell<Observer>,
    pub(super) shelf: Shelf,
    pub(super) releases: Vec<(FileRef, Described)>,
    pub(super) director_root: Vec<u8>,
    pub(super) now: Cell<i64>,
    pub(super) weather: Weather,
    pub(super) mistake: Option<Mistake>,
    pub(super) seed: u64,
    pub(super) devices: u32,
    pub(super) poll_secs: u32,
    /// Signed images, by what they hold.
    images: HashMap<Digest, u8>,
}

/// What a device is called.
pub(super) fn name_of(number: u32) -> DeviceId {
    DeviceId::parse(&format!("pump-{number:06}")).expect("a name")
}

impl Sky {
    /// Which signed image these bytes are.
    pub(super) fn version_of(&self, content: &[u8]) -> Option<u8> {
        self.images.get(&Digest::of(content)).copied()
    }
}

/// Runs it.
///
/// # Panics
/// Where the server's store fails, which is no part of the simulation.
pub fn run(options: &Options) -> Outcome {
    let mut world = World::new(options);
    let campaigns = options.campaigns.iter();
    let campaigns: Vec<Campaign> = campaigns.map(|release| world.campaign(*release)).collect();
    world.settle();
    world.outcome(campaigns)
}

struct World {
    sky: Rc<Sky>,
    devices: Vec<Device>,
    queue: BinaryHeap<Reverse<(i64, u32)>>,
    random: Random,
    began: i64,
    look_secs: i64,
    next_look: i64,
    /// When a server that died comes back.
    back_at: i64,
}

impl World {
    fn new(options: &Options) -> Self {
        let began = UtcTime::parse(DAWN).expect("a time").unix();
        let catalogue = Catalogue {
            has_deltas: true,
            ..Catalogue::of_rootfs(4)
        };
        let (shelf, releases) = catalogue.publish_releases();
        let image = |version| Digest::of(&artifact(&Install::Slot, "rootfs", version));
        let mut server = Server::new(options.mistake);
        server.start();
        let sky = Rc::new(Sky {
            director_root: server.director_root.clone(),
            server: RefCell::new(server),
            observer: RefCell::new(Observer::new(options.devices)),
            shelf,
            releases,
            now: Cell::new(began),
            weather: options.weather,
            mistake: options.mistake,
            seed: options.seed,
            devices: options.devices,
            poll_secs: options.poll_secs,
            images: (0..5).map(|version| (image(version), version)).collect(),
        });
        let common = Rc::new(Common::default());
        let factory = artifact(&Install::Slot, "rootfs", 0);
        let mut queue = BinaryHeap::new();
        let make = |number: u32| {
            let mut device = Device::new(&sky, number, &common, &factory);
            sky.server.borrow().enrol(&device.id, number, began);
            queue.push(Reverse((began + device.first(options.poll_secs), number)));
            device
        };
        let devices = (0..options.devices).map(make).collect();
        Self {
            devices,
            queue,
            random: Random::new(options.seed),
            began,
            look_secs: options.look_secs,
            next_look: began,
            back_at: began,
            sky,
        }
    }

    fn now(&self) -> i64 {
        self.sky.now.get()
    }

    /// Spreads a release until it is done or halted.
    fn campaign(&mut self, release: Release) -> Campaign {
        self.bring_server_back();
        let begun = self.now();
        let (target, described) = &self.sky.releases[usize::from(release.version()) - 1];
        let plan = plan(release, target, self.sky.devices);
        self.sky
            .server
            .borrow()
            .add(&plan, target, described, begun);
        let until = begun + CAMPAIGN_SECS_MAX;
        let (mut stage, mut tally) = (Stage::Running, Tally::default());
        while self.now() < until && stage == Stage::Running {
            self.advance(self.now() + self.look_secs);
            let status = self.sky.server.borrow().status(release.as_str());
            if let Some(known) = status {
                (stage, tally) = known;
            }
        }
        let why = if let Stage::Halted { why } = &stage {
            Some(why.to_string())
        } else {
            let server = self.sky.server.borrow();
            server.waits(release.as_str(), self.now())
        };
        let observer = self.sky.observer.borrow();
        let spread = observer.committed_after(release.version(), begun);
        let at = |percent: usize| spread.get((spread.len() * percent).div_ceil(100).max(1) - 1);
        let committed = [50, 90, 100].map(|percent| at(percent).copied());
        Campaign {
            name: release.as_str(),
            stage: stage.as_str().to_owned(),
            why,
            must_halt: release.must_halt(),
            counts: [tally.offered, tally.committed, tally.failures, tally.silent],
            took_secs: self.now() - begun,
            committed_secs: committed[2].map(|_| committed.map(Option::unwrap_or_default)),
        }
    }

    fn settle(&mut self) {
        let until = self.now() + LAST_POLLS * i64::from(self.sky.poll_secs);
        self.advance(until);
        self.bring_server_back();
        self.sky.server.borrow_mut().look(self.now());
    }

    /// Goes on until `until`.
    fn advance(&mut self, until: i64) {
        loop {
            let wakes = self.queue.peek().map_or(i64::MAX, |Reverse((at, _))| *at);
            let next = wakes.min(self.next_look);
            if next > until {
                self.sky.now.set(until);
                return;
            }
            self.sky.now.set(next);
            if self.next_look <= wakes {
                self.look();
                self.next_look += self.look_secs;
            } else if let Some(Reverse((_, number))) = self.queue.pop() {
                self.wake(number);
            }
        }
    }

    fn wake(&mut self, number: u32) {
        let device = &mut self.devices[number as usize];
        let woken = device.wake(&self.sky);
        let (server, now) = (self.sky.server.borrow(), self.sky.now.get());
        let mut observer = self.sky.observer.borrow_mut();
        observer.look(device, &woken.state, woken.is_away, &server, now);
        if let Some(at) = woken.next {
            self.queue.push(Reverse((at, number)));
        }
    }

    fn look(&mut self) {
        let deaths = self.sky.weather.deaths;
        let now = self.now();
        if self.sky.server.borrow().is_up() {
            if deaths > 0 && self.random.one_in(deaths) {
                self.sky.server.borrow_mut().die();
                self.back_at = now + i64::try_from(self.random.below(AWAY_SECS_MAX)).unwrap_or(0);
            }
        } else if now >= self.back_at {
            self.sky.server.borrow_mut().start();
        }
        self.sky.server.borrow_mut().look(now);
    }

    fn bring_server_back(&mut self) {
        let mut server = self.sky.server.borrow_mut();
        if !server.is_up() {
            server.start();
        }
    }

    fn outcome(self, campaigns: Vec<Campaign>) -> Outcome {
        let server = self.sky.server.borrow();
        let mut observer = self.sky.observer.borrow_mut();
        let receipts = observer.audit(&self.devices, &server);
        let mut states: BTreeMap<String, u32> = BTreeMap::new();
        for device in &self.devices {
            let state = if device.is_dead {
                "dead".to_owned()
            } else {
                format!("run 2.{}.0", device.running)
            };
            *states.entry(state).or_default() += 1;
        }
        Outcome {
            campaigns,
            states,
            unsettled: u32::try_from(server.open_offers()).unwrap_or(u32::MAX),
            sins: observer.sins.clone(),
            violations: observer.sins_count,
            receipts,
            wakings: observer.wakings,
            cuts: observer.cuts,
            deaths: server.deaths,
            most_away: observer.most_away,
            secs: self.now() - self.began,
        }
    }
}

/// A tenth, a third, all; what a bad world breaks by itself is borne.
fn plan(release: Release, target: &FileRef, devices: u32) -> String {
    let (name, path, sha256) = (release.as_str(), &target.path, target.sha256);
    let borne = devices * 3 / 100 + 1;
    let steps = ["10%", "33%", "100%"].map(|share| {
        format!(
            "[[step]]\nshare = \"{share}\"\nbake_secs = 900\nsuccess_min = \"85%\"\nfailures_max = {borne}\n"
        )
    });
    format!(
        "name = \"{name}\"\nrelease = \"{path}\"\nsha256 = \"{sha256}\"\nauthor = \"the simulator\"\n\
         filter = 'all'\nattempts = 2\nbegin_within_secs = 7200\nanswer_within_secs = 10800\n{}",
        steps.concat()
    )
}
