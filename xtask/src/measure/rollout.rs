//! `measure rollout DEVICES`: CPU and memory of the rollout decision for a whole fleet, and the
//! sequential test against chance; and what the director signs for a day's polls.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ampoule_protocol::device::{Outcome, RECEIPT_TYPE, Receipt};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::{DeviceId, HardwareId, ProductName, TargetPath};
use ampoule_protocol::release::{FileRef, ReleaseVersion};
use ampoule_protocol::sign::Ed25519Key;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::RollbackIndex;
use ampoule_server::config;
use ampoule_server::director::{Assigned, Director};
use ampoule_server::rollout::agenda::SLICE;
use ampoule_server::rollout::cohort::CohortKey;
use ampoule_server::rollout::lock::{DEFAULT_GROUP, LockAsk};
use ampoule_server::rollout::permits::Cap;
use ampoule_server::rollout::plan::ComponentFacts;
use ampoule_server::rollout::statistics::Test;
use ampoule_server::rollout::{
    Agenda, Book, DeviceFacts, Halt, Neighbours, Plan, Profile, ReleaseFacts, Rollout, Running,
    Share, decide,
};
use serde_json::{Value, json};

/// Devices whose files the director keeps where nothing is said.
const KEPT: u32 = 100_000;
/// Devices of a ward of eight that may be away at once.
const CAP: u32 = 2;
/// Devices that take a lock for themselves.
const LOCKS: usize = 100_000;
/// Runs of the sequential test at each rate.
const RUNS: u32 = 20_000;

pub(crate) fn run(devices: u32) -> Result<Value, Box<dyn Error>> {
    let before = resident()?;
    let fleet = fleet(devices)?;
    let held = resident()?.saturating_sub(before);
    let mut book = Book::default();
    let now = UtcTime::from_unix(1_893_499_200);
    book.add(rollout("first", "10%", now)?)?;
    book.add(rollout("second", "100%", now)?)?;
    let mut agenda = Agenda::new(caps(CAP).into(), SLICE);
    let begin = rest(&mut agenda, &mut book, &fleet, now);
    let looks: Vec<Value> = [0, 100, 10_000]
        .into_iter()
        .zip(1..)
        .map(|(news, secs)| news_of(news, (&mut agenda, &mut book), &fleet, now.plus_secs(secs)))
        .collect::<Result<_, _>>()?;
    let locks = locks((&mut agenda, &mut book), &fleet, now.plus_secs(60))?;
    let peak_bytes = peak()?;
    let mut anew = book.clone();
    let start = Instant::now();
    decide(&mut anew, &fleet, &caps(CAP), now.plus_secs(61));
    let whole = start.elapsed().as_millis();
    drop(anew);
    let halt = halted((&mut agenda, &mut book), &fleet, now.plus_secs(70));
    Ok(json!({
        "devices": devices,
        "fleet_bytes": held,
        "peak_bytes": peak_bytes,
        "begin": begin,
        "looks": looks,
        "whole_ms": whole,
        "locks": locks,
        "halt": halt,
        "polls": polls(devices)?,
        "test": chance()?,
    }))
}

/// Decides until nothing is left to do: how long that took in all, and its longest part, during which a
/// server does nothing else.
fn rest(agenda: &mut Agenda, book: &mut Book, fleet: &[DeviceFacts], now: UtcTime) -> Value {
    let (mut parts, mut changes) = (Vec::new(), 0);
    loop {
        let start = Instant::now();
        let count = agenda.decide(book, fleet, now).len();
        parts.push(start.elapsed());
        changes += count;
        if count == 0 && !agenda.is_behind() {
            break;
        }
    }
    let all: Duration = parts.iter().sum();
    json!({
        "micros": all.as_micros(),
        "parts": parts.len(),
        "longest_micros": parts.iter().max().map(Duration::as_micros),
        "changes": changes,
    })
}

/// So many devices answer their offers, and as many report that they were seen; the look after that.
fn news_of(
    news: usize,
    (agenda, book): (&mut Agenda, &mut Book),
    fleet: &[DeviceFacts],
    now: UtcTime,
) -> Result<Value, Box<dyn Error>> {
    let offered: Vec<u32> = (0_u32..)
        .take(fleet.len())
        .filter(|number| book.offer(*number).is_some())
        .take(news)
        .collect();
    for number in offered.iter().copied() {
        book.taken(number, now);
        book.heard(number, &committed(&fleet[number as usize], now)?, now);
        agenda.touch(number / 2);
    }
    let mut told = rest(agenda, book, fleet, now);
    told["news"] = offered.len().into();
    Ok(told)
}

fn committed(device: &DeviceFacts, now: UtcTime) -> Result<Receipt, Box<dyn Error>> {
    Ok(Receipt {
        kind: RECEIPT_TYPE.into(),
        format: 1,
        device: device.device.clone(),
        seq: 1,
        product: ProductName::parse("pump")?,
        hardware: HardwareId::parse("mk3")?,
        outcome: Outcome::Committed,
        release: Some(ReleaseVersion::parse("2.0.0")?),
        before: Vec::new(),
        after: Vec::new(),
        floor: RollbackIndex(1),
        via: None,
        bytes_fetched: 0,
        attempts: 1,
        gates: Vec::new(),
        health: Vec::new(),
        bake_secs: 0,
        code: None,
        detail: None,
        started: now,
        finished: now,
        clock_sane: true,
    })
}

/// A person halts everything: until the rollouts stand, and until each offer is taken back.
fn halted((agenda, book): (&mut Agenda, &mut Book), fleet: &[DeviceFacts], now: UtcTime) -> Value {
    let why = Halt::StoreLostItsEnd {
        found: 0,
        acknowledged: 0,
    };
    book.halt_all(&why, now);
    rest(agenda, book, fleet, now)
}

fn caps(max: u32) -> [Cap; 1] {
    [Cap {
        tag: "ward".into(),
        max,
    }]
}

/// Devices take locks beside the offers of their neighbours; the look after that.
fn locks(
    (agenda, book): (&mut Agenda, &mut Book),
    fleet: &[DeviceFacts],
    now: UtcTime,
) -> Result<Value, Box<dyn Error>> {
    let ask = LockAsk {
        id: "pump".into(),
        group: DEFAULT_GROUP.into(),
        secs: 3600,
    };
    // The offers have taken what there was.
    let neighbours = Neighbours::of(caps(2 * CAP).into(), fleet);
    let mut took = Vec::new();
    for device in fleet.iter().step_by(fleet.len().div_ceil(LOCKS).max(1)) {
        let start = Instant::now();
        book.lock(device.number, &ask, (fleet, &neighbours), now)?;
        took.push(start.elapsed());
    }
    took.sort();
    let look = rest(agenda, book, fleet, now);
    Ok(json!({
        "count": took.len(),
        "median_micros": took[took.len() / 2].as_micros(),
        "most_micros": took[took.len() - 1].as_micros(),
        "look": look,
    }))
}

fn fleet(devices: u32) -> Result<Vec<DeviceFacts>, Box<dyn Error>> {
    let running = Running {
        version: Some("1.0.0".into()),
        sha256: Some(Digest::of(b"one")),
    };
    let profile = Arc::new(Profile {
        product: ProductName::parse("pump")?,
        hardware: HardwareId::parse("mk3")?,
        running: [("rootfs".to_owned(), running)].into(),
        floor: RollbackIndex(1),
        agent: "0.1.0".into(),
    });
    let device = |number: u32| -> Result<DeviceFacts, Box<dyn Error>> {
        let tags = [
            ("region", "EU".to_owned()),
            ("ward", (number / 8).to_string()),
        ];
        Ok(DeviceFacts {
            number,
            device: DeviceId::parse(&format!("pump-{number:07}"))?,
            enrolled: true,
            enrolled_at: 0,
            seen_at: Some(0),
            profile: Some(profile.clone()),
            tags: Arc::new(tags.map(|(name, value)| (name.to_owned(), value)).into()),
        })
    };
    (0..devices).map(device).collect()
}

fn rollout(name: &str, share: &str, now: UtcTime) -> Result<Rollout, Box<dyn Error>> {
    let sha256 = Digest::of(name.as_bytes());
    let path = format!("pump/release-{name}.toml");
    let plan = Plan::parse(&format!(
        "name = \"{name}\"\nrelease = \"{path}\"\nsha256 = \"{sha256}\"\nauthor = \"a\"\n\
         filter = 'hardware = mk3 and version.rootfs < 2.0.0 and region in (EU, US)'\n\
         [[step]]\nshare = \"{share}\"\n"
    ))?;
    let release = ReleaseFacts {
        target: FileRef {
            path: TargetPath::parse(&path)?,
            length: 1,
            sha256,
        },
        product: ProductName::parse("pump")?,
        version: "2.0.0".into(),
        rollback_index: RollbackIndex(2),
        downtime_secs: 60,
        regions: ["EU".to_owned()].into(),
        components: vec![ComponentFacts {
            name: "rootfs".into(),
            hardware: [HardwareId::parse("mk3")?].into(),
            sha256: Digest::of(b"two"),
            requires: std::collections::BTreeMap::new(),
        }],
    };
    let key = CohortKey::new(*sha256.as_bytes());
    Ok(Rollout::new(plan, release, key, now))
}

/// What the director does in a poll of each device, twice: for all of them, and for as many as it
/// keeps in memory. The times of a device's own requests are in `measure load`.
fn polls(devices: u32) -> Result<Value, Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("ampoule-measure-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let key = folder.join("director.key");
    std::fs::write(
        &key,
        Ed25519Key::from_seed(&[7; 32])?.to_pkcs8_pem().as_bytes(),
    )?;
    let day = Duration::from_hours(24);
    let config = |places: u32| config::Director {
        key: key.clone(),
        roots: folder.clone(),
        expiry: day,
        content_expiry: 14 * day,
        signed_for_max: places as usize,
        lock: Duration::from_hours(1),
        caps: Vec::new(),
    };
    let told = [KEPT, devices].map(|places| {
        let director = Director::load(&config(places))?;
        Ok((
            places,
            [round(&director, devices)?, round(&director, devices)?],
        ))
    });
    std::fs::remove_dir_all(&folder)?;
    let told = told
        .into_iter()
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let one = |(places, micros): (u32, [f64; 2])| json!({ "devices": devices, "places": places, "first_micros": micros[0], "again_micros": micros[1] });
    Ok(told.into_iter().map(one).collect())
}

/// Microseconds of one device's timestamp.
fn round(director: &Director, devices: u32) -> Result<f64, Box<dyn Error>> {
    let now = UtcTime::from_unix(1_893_499_200);
    let nothing = Assigned {
        changed_at: now.unix() - 3600,
        offer: None,
    };
    let start = Instant::now();
    for number in 0..devices {
        let device = DeviceId::parse(&format!("pump-{number:07}"))?;
        let found = director.find(&device, &nothing, "metadata/timestamp.json", now)?;
        if found.is_none() {
            return Err("the director has no timestamp".into());
        }
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(devices))
}

/// Halts by chance, at the expected rate over ten times the needed devices, and misses at the
/// intolerable rate over the needed ones.
fn chance() -> Result<Value, Box<dyn Error>> {
    let test = Test {
        expected: Share::parse("0.5%")?,
        intolerable: Share::parse("3%")?,
        false_halt: Share::parse("1%")?,
        missed_halt: Share::parse("5%")?,
    };
    let needed = test.devices_needed().ok_or("the test tells nothing")?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut halts = |rate: f64, devices: u32| {
        let mut halted = 0;
        for _ in 0..RUNS {
            let mut failures = 0;
            for settled in 1..=devices {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64")]
                let uniform = (state >> 11) as f64 / (1_u64 << 53) as f64;
                failures += u32::from(uniform < rate);
                if test.halts(failures, settled) {
                    halted += 1;
                    break;
                }
            }
        }
        f64::from(halted) / f64::from(RUNS)
    };
    let false_halts = halts(0.005, 10 * needed);
    let missed = 1.0 - halts(0.03, needed);
    Ok(json!({
        "runs": RUNS,
        "devices_needed": needed,
        "false_halts": false_halts,
        "false_halts_stated": 0.01,
        "missed_halts": missed,
        "missed_halts_stated": 0.05,
        "missed_halts_exact": test.missed_halt(0.03, needed),
    }))
}

fn resident() -> Result<u64, Box<dyn Error>> {
    status("VmRSS:")
}

fn peak() -> Result<u64, Box<dyn Error>> {
    status("VmHWM:")
}

fn status(name: &str) -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    Ok(kib
        .ok_or("the system tells no memory")?
        .trim()
        .parse::<u64>()?
        * 1024)
}
