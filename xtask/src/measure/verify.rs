//! How long the client rules take over one role file, by the number of its targets.
//!
//! Measured as the device does it: bytes to envelope, canonical form, signatures, typed payload.
//! The bytes are made by the repository side of the same crate.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::key::KeyId;
use ampoule_protocol::metadata::{
    Delegations, Envelope, Listing, MetaFile, Payload, RoleKeys, RoleType, Root, Snapshot,
    SuccinctBins, TargetFile, Targets, Timestamp,
};
use ampoule_protocol::name::{RoleName, TargetPath};
use ampoule_protocol::repo::Draft;
use ampoule_protocol::sign::{Ed25519Key, Sign};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::KeyRing;
use serde_json::{Value, json};

/// Bins of the binned repository: `2^8`.
const BITS: u32 = 8;

type Made<T> = Result<T, Box<dyn Error>>;

/// One key that signs all, and the root that says so.
struct Signer {
    key: Ed25519Key,
    root: Root,
    expires: UtcTime,
}

impl Signer {
    fn new() -> Made<Self> {
        let key = Ed25519Key::from_seed(&[1; 32])?;
        let expires = UtcTime::from_unix(2_000_000_000);
        let mut root = Root::new(expires);
        let public = key.public_key().to_key();
        for role in RoleType::ALL {
            root.roles.insert(role, RoleKeys::new(vec![public.id()], 1));
        }
        root.keys.insert(public.id(), public);
        Ok(Self { key, root, expires })
    }

    fn key_id(&self) -> KeyId {
        self.key.public_key().to_key().id()
    }

    fn sign(&self, payload: &impl Payload) -> Made<Vec<u8>> {
        let mut draft = Draft::new(payload);
        draft.sign(&self.key)?;
        Ok(draft.to_bytes())
    }

    fn targets(&self, range: impl Iterator<Item = u32>) -> Made<Targets> {
        let mut targets = Targets::new(self.expires);
        for index in range {
            targets.targets.insert(path(index)?, target(index));
        }
        Ok(targets)
    }
}

fn path(index: u32) -> Made<TargetPath> {
    Ok(TargetPath::parse(&format!(
        "infusion-pump/component-{index:06}.img"
    ))?)
}

fn target(index: u32) -> TargetFile {
    TargetFile::new(u64::from(index) + 1, Digest::of(&index.to_be_bytes()))
}

/// Measures every file of a repository of 1,000 and of 100,000 targets.
pub(crate) fn run() -> Result<Value, Box<dyn Error>> {
    let signer = Signer::new()?;
    let mut rows = Vec::new();

    let root = signer.sign(&signer.root)?;
    rows.push(row::<Root>(&signer, RoleType::Root, "root", &root, 400)?);
    for (count, rounds) in [(1_000, 200), (100_000, 5)] {
        let bytes = signer.sign(&signer.targets(0..count)?)?;
        let name = format!("targets, {count} in one file");
        rows.push(row::<Targets>(
            &signer,
            RoleType::Targets,
            &name,
            &bytes,
            rounds,
        )?);
        if count == 1_000 {
            rows.extend(top(&signer, &bytes)?);
        }
    }
    rows.extend(binned(&signer, 1_000)?);
    rows.extend(binned(&signer, 100_000)?);
    Ok(Value::Array(rows))
}

/// Snapshot and timestamp above one targets file.
fn top(signer: &Signer, targets: &[u8]) -> Made<Vec<Value>> {
    let version = Targets::new(signer.expires).version();
    let mut snapshot = Snapshot::new(signer.expires);
    let name = Snapshot::meta_name(&RoleName::targets());
    snapshot.meta.insert(name, MetaFile::of(version, targets));
    let snapshot = signer.sign(&snapshot)?;
    let timestamp = Timestamp::new(signer.expires, MetaFile::of(version, &snapshot));
    let timestamp = signer.sign(&timestamp)?;
    Ok(vec![
        row::<Snapshot>(
            signer,
            RoleType::Snapshot,
            "snapshot, 1 role",
            &snapshot,
            400,
        )?,
        row::<Timestamp>(signer, RoleType::Timestamp, "timestamp", &timestamp, 400)?,
    ])
}

/// The same targets in `2^BITS` bins (TAP 15): what a client reads is the delegating file, the
/// snapshot of all bins, and one bin.
fn binned(signer: &Signer, count: u32) -> Made<Vec<Value>> {
    let bins = SuccinctBins {
        keys: RoleKeys::new(vec![signer.key_id()], 1),
        bit_length: BITS,
        name_prefix: "bin".into(),
    };
    let wanted = bins.bin_of(&path(0)?);
    let mut bin = Targets::new(signer.expires);
    for index in 0..count {
        let path = path(index)?;
        if bins.bin_of(&path) == wanted {
            bin.targets.insert(path, target(index));
        }
    }
    let bin = signer.sign(&bin)?;
    let mut snapshot = Snapshot::new(signer.expires);
    for index in 0..1 << BITS {
        let meta = MetaFile::of(Targets::new(signer.expires).version(), &bin);
        snapshot
            .meta
            .insert(Snapshot::meta_name(&bins.bin_name(index)), meta);
    }
    let mut delegations = Delegations::new();
    let public = signer.key.public_key().to_key();
    delegations.keys.insert(public.id(), public);
    delegations.roles = Listing::Bins(bins);
    let mut top = Targets::new(signer.expires);
    top.delegations = Some(delegations);
    let of = |what: &str| format!("{what}, {count} in {} bins", 1 << BITS);
    Ok(vec![
        row::<Targets>(
            signer,
            RoleType::Targets,
            &of("delegating"),
            &signer.sign(&top)?,
            400,
        )?,
        row::<Snapshot>(
            signer,
            RoleType::Snapshot,
            &of("snapshot"),
            &signer.sign(&snapshot)?,
            200,
        )?,
        row::<Targets>(signer, RoleType::Targets, &of("one bin"), &bin, 200)?,
    ])
}

/// Verifies `bytes` again and again; the median of `rounds`.
fn row<T: Payload>(
    signer: &Signer,
    role: RoleType,
    name: &str,
    bytes: &[u8],
    rounds: usize,
) -> Made<Value> {
    let ring = KeyRing::of_root(&signer.root, role);
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        let envelope = Envelope::parse(black_box(bytes))?;
        black_box(ring.verify::<T>(name, &envelope)?);
        times.push(start.elapsed());
    }
    times.sort();
    let median = times[rounds / 2].as_secs_f64() * 1e6;
    Ok(json!({ "file": name, "bytes": bytes.len(), "median_us": median, "rounds": rounds }))
}
