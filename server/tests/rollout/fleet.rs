//! A fleet in memory, a book, and a clock, bent in one line.

use std::collections::BTreeMap;
use std::sync::Arc;

use ampoule_protocol::device::{Outcome, RECEIPT_TYPE, Receipt};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::{DeviceId, HardwareId, ProductName, TargetPath};
use ampoule_protocol::release::{FileRef, ReleaseVersion};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::RollbackIndex;
use ampoule_server::rollout::cohort::CohortKey;
use ampoule_server::rollout::lock::{DEFAULT_GROUP, LockAsk, NotLocked};
use ampoule_server::rollout::permits::Cap;
use ampoule_server::rollout::plan::{ComponentFacts, RolloutId};
use ampoule_server::rollout::waits::waits;
use ampoule_server::rollout::why::why;
use ampoule_server::rollout::{
    Act, Agenda, Book, Change, DeviceFacts, Neighbours, Phase, Plan, Profile, ReleaseFacts,
    Rollout, Running, decide,
};

/// When every story begins: 2030-01-01T12:00:00Z.
pub(crate) const DAWN: i64 = 1_893_499_200;
/// How long a lock is held.
pub(crate) const LOCK_SECS: i64 = 1800;
/// Looks at one moment after which the book must have come to rest.
const LOOKS_MAX: usize = 100;

pub(crate) struct Fleet {
    pub(crate) devices: Vec<DeviceFacts>,
    pub(crate) book: Book,
    pub(crate) caps: Vec<Cap>,
    pub(crate) now: i64,
}

pub(crate) fn name(text: &str) -> RolloutId {
    RolloutId::parse(text).unwrap()
}

/// Release `version` of the pump, with rollback index `index`.
pub(crate) fn release(version: &str, index: u64) -> ReleaseFacts {
    ReleaseFacts {
        target: FileRef {
            path: TargetPath::parse(&format!("pump/release-{version}.toml")).unwrap(),
            length: 100,
            sha256: Digest::of(version.as_bytes()),
        },
        product: ProductName::parse("pump").unwrap(),
        version: version.into(),
        rollback_index: RollbackIndex(index),
        downtime_secs: 60,
        regions: ["EU", "US"].map(String::from).into(),
        components: vec![ComponentFacts {
            name: "rootfs".into(),
            hardware: [HardwareId::parse("mk3").unwrap()].into(),
            sha256: image(version),
            requires: BTreeMap::new(),
        }],
    }
}

fn image(version: &str) -> Digest {
    Digest::of(format!("image {version}").as_bytes())
}

fn profile(version: &str, floor: u64) -> Arc<Profile> {
    let running = Running {
        version: Some(version.into()),
        sha256: Some(image(version)),
    };
    Arc::new(Profile {
        product: ProductName::parse("pump").unwrap(),
        hardware: HardwareId::parse("mk3").unwrap(),
        running: BTreeMap::from([("rootfs".into(), running)]),
        floor: RollbackIndex(floor),
        agent: "0.1.0".into(),
    })
}

/// A plan; `more` is TOML before the steps, `steps` the steps.
pub(crate) fn plan(rollout: &str, version: &str, more: &str, steps: &str) -> Plan {
    let sha256 = Digest::of(version.as_bytes());
    let filter = if more.contains("filter") {
        ""
    } else {
        "filter = \"all\""
    };
    let text = format!(
        "name = \"{rollout}\"\nrelease = \"pump/release-{version}.toml\"\nsha256 = \"{sha256}\"\n\
         author = \"alice\"\n{filter}\n{more}\n{steps}"
    );
    Plan::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

pub(crate) fn steps(shares: &[&str]) -> String {
    let one = |share: &&str| format!("[[step]]\nshare = \"{share}\"\nbake_secs = 60\n");
    shares.iter().map(one).collect()
}

pub(crate) fn cap(tag: &str, max: u32) -> Cap {
    Cap {
        tag: tag.into(),
        max,
    }
}

impl Fleet {
    /// `count` pumps that run 1.0.0, in wards of four, in the EU.
    pub(crate) fn new(count: u32) -> Self {
        let mut fleet = Self {
            devices: Vec::new(),
            book: Book::default(),
            caps: Vec::new(),
            now: DAWN,
        };
        fleet.join(count);
        fleet
    }

    /// More of them, enrolled now.
    pub(crate) fn join(&mut self, count: u32) {
        let shared = profile("1.0.0", 1);
        for _ in 0..count {
            let number = u32::try_from(self.devices.len()).unwrap();
            let tags = [("region", "EU".into()), ("ward", (number / 4).to_string())];
            self.devices.push(DeviceFacts {
                number,
                device: DeviceId::parse(&format!("pump-{number:04}")).unwrap(),
                enrolled: true,
                enrolled_at: self.now,
                seen_at: Some(self.now),
                profile: Some(shared.clone()),
                tags: Arc::new(tags.map(|(tag, value)| (tag.into(), value)).into()),
            });
        }
    }

    pub(crate) fn set_tag(&mut self, device: u32, tag: &str, value: &str) {
        let tags = Arc::make_mut(&mut self.devices[device as usize].tags);
        tags.insert(tag.into(), value.into());
    }

    pub(crate) fn runs(&mut self, device: u32, version: &str, floor: u64) {
        self.devices[device as usize].profile = Some(profile(version, floor));
    }

    pub(crate) fn time(&self) -> UtcTime {
        UtcTime::from_unix(self.now)
    }

    pub(crate) fn start(&mut self, plan: Plan, release: ReleaseFacts, key: u8) {
        let rollout = Rollout::new(plan, release, CohortKey::new([key; 32]), self.time());
        self.book.add(rollout).unwrap();
    }

    /// Decides until nothing changes at this moment.
    pub(crate) fn look(&mut self) -> Vec<Change> {
        let mut all = Vec::new();
        for _ in 0..LOOKS_MAX {
            let now = self.time();
            let changes = decide(&mut self.book, &self.devices, &self.caps, now);
            if changes.is_empty() {
                return all;
            }
            all.extend(changes);
        }
        panic!("the book does not come to rest");
    }

    pub(crate) fn wait(&mut self, secs: i64) {
        self.now += secs;
    }

    /// The devices that are offered `rollout` now.
    pub(crate) fn offered(&self, rollout: &str) -> Vec<u32> {
        self.in_phase(rollout, Phase::Offered)
    }

    pub(crate) fn in_phase(&self, rollout: &str, phase: Phase) -> Vec<u32> {
        let rollout = self.book.rollout(&name(rollout)).unwrap();
        let rows = rollout.deployments().filter(|(_, row)| row.phase == phase);
        let mut devices: Vec<_> = rows.map(|(device, _)| device).collect();
        devices.sort_unstable();
        devices
    }

    /// The device takes its offer and says how it ended.
    pub(crate) fn answer(&mut self, device: u32, outcome: Outcome) {
        let now = self.time();
        self.book.taken(device, now);
        let Some((rollout, _)) = self.book.offer(device) else {
            return;
        };
        let version = rollout.release.version.clone();
        self.receipt(device, &version, outcome);
    }

    /// The device asks for a lock.
    pub(crate) fn lock(&mut self, device: u32) -> Result<(), NotLocked> {
        self.lock_as(device, DEFAULT_GROUP)
    }

    pub(crate) fn lock_as(&mut self, device: u32, group: &str) -> Result<(), NotLocked> {
        let ask = LockAsk {
            id: format!("{device:032x}"),
            group: group.into(),
            secs: u32::try_from(LOCK_SECS).unwrap(),
        };
        let now = self.time();
        let neighbours = Neighbours::of(self.caps.clone(), &self.devices);
        let world = (self.devices.as_slice(), &neighbours);
        self.book.lock(device, &ask, world, now).map(drop)
    }

    /// A receipt about `version`.
    pub(crate) fn receipt(&mut self, device: u32, version: &str, outcome: Outcome) {
        let now = self.time();
        let receipt = Receipt {
            kind: RECEIPT_TYPE.into(),
            format: 1,
            device: self.devices[device as usize].device.clone(),
            seq: 1,
            product: ProductName::parse("pump").unwrap(),
            hardware: HardwareId::parse("mk3").unwrap(),
            outcome,
            release: Some(ReleaseVersion::parse(version).unwrap()),
            before: Vec::new(),
            after: Vec::new(),
            floor: RollbackIndex(1),
            via: None,
            bytes_fetched: 0,
            attempts: 1,
            gates: Vec::new(),
            health: Vec::new(),
            bake_secs: 0,
            code: (outcome != Outcome::Committed).then(|| "health-bad".into()),
            detail: None,
            started: now,
            finished: now,
            clock_sane: true,
        };
        self.book.heard(device, &receipt, now);
        if outcome == Outcome::Committed {
            self.runs(device, version, 2);
        }
    }

    pub(crate) fn act(&mut self, rollout: &str, act: &Act) -> Result<(), String> {
        let now = self.time();
        let done = self.book.act(&name(rollout), act, now);
        done.map(drop).map_err(|refused| refused.to_string())
    }

    pub(crate) fn rollout(&self, rollout: &str) -> &Rollout {
        self.book.rollout(&name(rollout)).unwrap()
    }

    pub(crate) fn stage(&self, rollout: &str) -> &'static str {
        self.rollout(rollout).status.stage.as_str()
    }

    pub(crate) fn waits(&self, rollout: &str) -> Vec<String> {
        let world = (&self.book, self.devices.as_slice());
        let waits = waits(self.rollout(rollout), world, &self.agenda());
        waits.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn why(&self, rollout: &str, device: u32) -> String {
        let facts = &self.devices[device as usize];
        let rollout = self.rollout(rollout);
        why(&self.book, rollout, facts, &self.agenda()).to_string()
    }

    fn agenda(&self) -> Agenda {
        Agenda::of(&self.book, &self.devices, &self.caps, self.time())
    }
}
