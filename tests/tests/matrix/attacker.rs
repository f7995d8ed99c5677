//! Powers that can be stolen, and what is tried with them.

use std::collections::BTreeSet;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::downgrade::{self, Downgrade};
use ampoule_protocol::metadata::RoleType;
use ampoule_protocol::release::ReleaseVersion;
use ampoule_protocol::version::RollbackIndex;
use ampoule_tests::sim::{RepositorySimulator, TestKey};

use crate::fleet::{Fleet, PRODUCT, Served, address, offer};

/// What an attacker may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Power {
    /// One of three root keys.
    RootShare,
    /// The keys of targets.
    Targets,
    /// The snapshot key.
    Snapshot,
    /// The timestamp key.
    Timestamp,
    /// The director's online keys.
    Director,
    /// The server, with what is on it: the timestamp key and the director's.
    Server,
    /// The authority that devices know the server by.
    TlsCa,
    /// The network between.
    Network,
    /// Everything that was ever published.
    OldCopy,
}

impl Power {
    pub(crate) const ALL: [Self; 9] = [
        Self::RootShare,
        Self::Targets,
        Self::Snapshot,
        Self::Timestamp,
        Self::Director,
        Self::Server,
        Self::TlsCa,
        Self::Network,
        Self::OldCopy,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::RootShare => "root share",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
            Self::Director => "director",
            Self::Server => "server",
            Self::TlsCa => "TLS CA",
            Self::Network => "network",
            Self::OldCopy => "old copy",
        }
    }
}

/// Whether the attacker, with this side of the world and these powers, has what they want.
pub(crate) type Attack = fn(&Fleet, &Thief<'_>) -> bool;

pub(crate) const ATTACKS: &[(&str, Attack)] = &[
    ("arbitrary software", arbitrary_software),
    ("software below the floor", below_the_floor),
    ("older metadata", older_metadata),
    ("withhold for now", withhold),
    ("withhold unnoticed after expiry", freeze),
    ("choose among signed releases", choose),
    ("mix-and-match", mix_and_match),
    ("mixed bundles", mixed_bundles),
    ("wrong recipient", wrong_recipient),
    ("endless data", endless_data),
];

/// Carries the attack out.
pub(crate) fn comes_to_it(fleet: &Fleet, held: &BTreeSet<Power>, attack: Attack) -> bool {
    attack(fleet, &Thief { held })
}

/// Whoever holds these powers.
pub(crate) struct Thief<'a> {
    held: &'a BTreeSet<Power>,
}

impl Thief<'_> {
    fn has(&self, power: Power) -> bool {
        let on_server = matches!(power, Power::Timestamp | Power::Director);
        self.held.contains(&power) || (on_server && self.held.contains(&Power::Server))
    }

    /// Whether devices meet the thief where they think they meet the server.
    fn is_met(&self) -> bool {
        self.has(Power::Server) || (self.has(Power::TlsCa) && self.has(Power::Network))
    }

    /// What devices are served: the forgery where the thief is met, else the truth.
    fn serves(&self, fleet: &Fleet, forged: impl FnOnce() -> Served) -> Served {
        if self.is_met() {
            forged()
        } else {
            fleet.served()
        }
    }

    /// The image repository as the thief can sign it: with a key of their own where they lack one.
    pub(crate) fn image(&self, honest: &RepositorySimulator) -> RepositorySimulator {
        let mut forged = honest.clone();
        let own = || vec![TestKey::ed25519("mallory")];
        forged.root.signers = if self.has(Power::RootShare) {
            vec![TestKey::ed25519("root a"), TestKey::ed25519("mallory")]
        } else {
            own()
        };
        if !self.has(Power::Targets) {
            forged.targets.signers = own();
        }
        if !self.has(Power::Snapshot) {
            forged.snapshot.signers = own();
        }
        if !self.has(Power::Timestamp) {
            forged.timestamp.signers = own();
        }
        for role in forged.delegated.values_mut() {
            role.signers = own();
        }
        forged
    }

    /// The director likewise.
    pub(crate) fn director(&self, honest: &RepositorySimulator) -> RepositorySimulator {
        let mut forged = honest.clone();
        forged.root.signers = vec![TestKey::ed25519("mallory")];
        if !self.has(Power::Director) {
            let own = vec![TestKey::ed25519("mallory")];
            forged.targets.signers.clone_from(&own);
            forged.snapshot.signers.clone_from(&own);
            forged.timestamp.signers = own;
        }
        forged
    }
}

fn both(image: &RepositorySimulator, director: &RepositorySimulator) -> Served {
    Served {
        image: image.tree.clone(),
        director: director.tree.clone(),
    }
}

/// A release of the thief's own, signed by whatever roles can be made to say so.
fn forge_release(fleet: &Fleet, thief: &Thief<'_>, with_root: bool) -> Served {
    forge(fleet, thief, with_root, "9.9.9", |image| {
        image.add_release(PRODUCT, "9.9.9", 99, b"evil");
    })
}

/// A record of the thief's own that lets the device fall, likewise.
fn forge_record(fleet: &Fleet, thief: &Thief<'_>, with_root: bool) -> Served {
    forge(fleet, thief, with_root, "1.0.0", |image| {
        let version = |text| ReleaseVersion::parse(text).expect("a version");
        image.add_downgrade(&Downgrade {
            format: downgrade::FORMAT,
            kind: downgrade::KIND.into(),
            product: PRODUCT.parse().expect("a name"),
            serial: 1,
            devices: vec![crate::fleet::OWN.parse().expect("an id")],
            from: version("2.0.0"),
            to: version("1.0.0"),
            rollback_index: RollbackIndex(5),
            reason: "It pays.".into(),
            expires: fleet.now.plus_secs(86_400),
        });
    })
}

/// What `add` puts into the image repository, and an offer of `version`, signed by whatever roles
/// can be made to say so; root too where that is tried.
fn forge(
    fleet: &Fleet,
    thief: &Thief<'_>,
    with_root: bool,
    version: &str,
    add: impl FnOnce(&mut RepositorySimulator),
) -> Served {
    let mut image = thief.image(&fleet.image);
    // The holders of targets say who signs the product: here, the thief.
    let delegations = image.delegations("targets");
    let mallory = TestKey::ed25519("mallory");
    delegations
        .keys
        .insert(mallory.id.clone(), mallory.object.clone());
    if let ampoule_protocol::metadata::Listing::Roles(roles) = &mut delegations.roles {
        for role in roles {
            role.keys.keyids = vec![mallory.id.clone()];
            role.keys.threshold = 1;
        }
    }
    if with_root {
        let signers = image.root.signers.clone();
        for role in RoleType::ALL {
            image.set_keys(role, std::slice::from_ref(&mallory), 1);
        }
        image.root.signers = signers;
        image.root.version += 1;
        for signers in [
            &mut image.targets.signers,
            &mut image.snapshot.signers,
            &mut image.timestamp.signers,
        ] {
            *signers = vec![mallory.clone()];
        }
    }
    add(&mut image);
    image.release();
    let mut director = thief.director(&fleet.director);
    director.targets.targets.clear();
    offer(&mut director, &image, version, crate::fleet::OWN);
    director.release();
    both(&image, &director)
}

fn arbitrary_software(fleet: &Fleet, thief: &Thief<'_>) -> bool {
    [false, true].into_iter().any(|with_root| {
        let mut device = fleet.device.clone();
        let served = thief.serves(fleet, || forge_release(fleet, thief, with_root));
        let installed = device.update(&served, fleet.now);
        installed.is_ok_and(|image| image == Some(Digest::of(b"evil")))
    })
}

/// The device has committed release 2 and its floor; the thief offers release 1, signed as it was,
/// and with a record of their own that lets the floor fall.
fn below_the_floor(fleet: &Fleet, thief: &Thief<'_>) -> bool {
    let without_record = || {
        let mut director = thief.director(&fleet.director);
        director.targets.targets.clear();
        offer(&mut director, &fleet.image, "1.0.0", crate::fleet::OWN);
        director.release();
        both(&fleet.image, &director)
    };
    let comes_down = |forged: &dyn Fn() -> Served| {
        let mut device = fleet.device.clone();
        device.floor = RollbackIndex(6);
        let served = thief.serves(fleet, forged);
        let installed = device.update(&served, fleet.now);
        installed.is_ok_and(|image| image == Some(Digest::of(b"release one")))
    };
    comes_down(&without_record)
        || comes_down(&|| forge_record(fleet, thief, false))
        || comes_down(&|| forge_record(fleet, thief, true))
}

/// The device has seen everything new; the thief serves what was true before.
fn older_metadata(fleet: &Fleet, thief: &Thief<'_>) -> bool {
    let mut device = fleet.device.clone();
    device
        .update(&fleet.served(), fleet.now)
        .expect("an honest look");
    let (image, director) = (device.image.fingerprint(), device.director.fingerprint());
    let served = thief.serves(fleet, || fleet.old.clone());
    let _ = device.update(&served, fleet.now);
    image != device.image.fingerprint() || director != device.director.fingerprint()
}

fn withhold(fleet: &Fleet, thief: &Thief<'_>) -> bool {
    let mut device = fleet.device.clone();
    let before = device.director.fingerprint();
    if thief.is_met() || thief.has(Power::Network) {
        let _ = device.update_in_silence(fleet.now);
    } else {
        let _ = device.update(&fleet.served(), fleet.now);
    }
    before == device.director.fingerprint()
}

/// After all that the device knows has expired, it is told that there is still nothing new.
fn freeze(fleet: &Fleet, thief: &Thief<'_>) -> bool {
    let mut device = fleet.device.clone();
    let later = fleet.now.plus_secs(60 * 86_400);
    if !thief.is_met() {
        return false;
    }
    let mut director = thief.director(&fleet.director);
    director.targets.targets.clear();
    for expires in [
        &mut director.targets.expires,
        &mut director.snapshot.expires,
        &mut director.timestamp.expires,
    ] {
        *expires = later.plus_secs(86_400);
    }
    director.root.expires = later.plus_secs(86_400);
    // The director's own root lives for a year; here its file is the one that was signed so.
    device.director = with_lasting_root(fleet, &mut director, device.director);
    director.release();
    device.update(&both(&fleet.image, &director), later) == Ok(None)
}

/// A device that was made with a root of the director that does not expire in the story.
fn with_lasting_root(
    fleet: &Fleet,
    forged: &mut RepositorySimulator,
    device: ampoule_tests::device::Device,
) -> ampoule_tests::device::Device {
    let mut honest = fleet.director.clone();
    honest.root.expires = forged.root.expires;
    honest.publish_root();
    let root = honest.tree["metadata/1.root.json"].clone();
    let mut device = device;
    device.store.files.insert("root.json".into(), root);
    device
}

/// Release 2 is signed and above the floor; the director did not mean it for this device.
fn choose(fleet: &Fleet, thief: &Thief<'_>) -> bool {
    let mut device = fleet.device.clone();
    let served = thief.serves(fleet, || {
        let mut director = thief.director(&fleet.director);
        director.targets.targets.clear();
        offer(&mut director, &fleet.image, "2.0.0", crate::fleet::OWN);
        director.release();
        both(&fleet.image, &director)
    });
    let installed = device.update(&served, fleet.now);
    installed.is_ok_and(|image| image == Some(Digest::of(b"release two")))
}

/// A snapshot that joins the newest targets with an older role of the product.
fn mix_and_match(fleet: &Fleet, thief: &Thief<'_>) -> bool {
    let mut device = fleet.device.clone();
    let served = thief.serves(fleet, || {
        let mut image = thief.image(&fleet.image);
        let older = image.delegated[PRODUCT].version - 1;
        image.release();
        // What the holders signed stays as it is; only snapshot and timestamp are new.
        let honest = fleet.image.tree.clone();
        let version = fleet.image.targets.version;
        let meta = |version| ampoule_protocol::metadata::MetaFile {
            version: ampoule_protocol::version::MetaVersion::new(version).expect("above 0"),
            length: None,
            hashes: None,
            extra: ampoule_protocol::json::Map::new(),
        };
        image.link_targets = false;
        image
            .snapshot
            .meta
            .insert("targets.json".into(), meta(version));
        image
            .snapshot
            .meta
            .insert(format!("{PRODUCT}.json"), meta(older));
        image.publish();
        image.tree.extend(
            honest
                .into_iter()
                .filter(|(name, _)| name.contains("targets") || name.contains(PRODUCT)),
        );
        both(&image, &fleet.director)
    });
    let _ = device.update(&served, fleet.now);
    let snapshot = device.image.store.files.get("snapshot.json");
    snapshot.is_some_and(|bytes| {
        let value = ampoule_protocol::json::parse(bytes).expect("it was trusted");
        let meta = value
            .member("signed")
            .and_then(|signed| signed.member("meta"));
        let version = |name: &str| meta?.member(name)?.member("version")?.as_u64();
        let pair = (version("targets.json"), version(&format!("{PRODUCT}.json")));
        let newest = fleet.image.targets.version;
        pair == (
            Some(newest),
            Some(fleet.image.delegated[PRODUCT].version - 1),
        )
    })
}

/// Two releases at once.
fn mixed_bundles(fleet: &Fleet, thief: &Thief<'_>) -> bool {
    let mut device = fleet.device.clone();
    let served = thief.serves(fleet, || {
        let mut director = thief.director(&fleet.director);
        offer(&mut director, &fleet.image, "2.0.0", crate::fleet::OWN);
        director.release();
        both(&fleet.image, &director)
    });
    let installed = device.update(&served, fleet.now);
    installed.is_ok_and(|image| image != Some(Digest::of(b"release three")))
}

/// What was signed for this device is served to another one.
fn wrong_recipient(fleet: &Fleet, thief: &Thief<'_>) -> bool {
    let mut other = fleet.device.named("pump-0043");
    if !thief.is_met() {
        return false;
    }
    let mut replayed = fleet.director.clone();
    address(&mut replayed, crate::fleet::OWN);
    other
        .update(&both(&fleet.image, &replayed), fleet.now)
        .is_ok()
}

/// Files longer than their bounds.
fn endless_data(fleet: &Fleet, thief: &Thief<'_>) -> bool {
    let mut device = fleet.device.clone();
    let served = thief.serves(fleet, || {
        let mut served = fleet.served();
        for tree in [&mut served.director, &mut served.image] {
            let file = tree
                .get_mut("metadata/timestamp.json")
                .expect("it is served");
            file.resize(file.len() + (1 << 20), b' ');
        }
        served
    });
    let longest = |device: &ampoule_tests::device::Device| {
        device.store.files.values().map(Vec::len).max().unwrap_or(0)
    };
    let _ = device.update(&served, fleet.now);
    longest(&device.image).max(longest(&device.director)) > (1 << 19)
}
