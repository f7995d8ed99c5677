//! A repository made, refreshed from and looked into, all in memory.
//!
//! Method: a four-role repository with one product role is built with `repo::Draft`; a client
//! drives `Refresh` and `Releases` over a map of files. Catches: a step asked out of order, a
//! file stored before it was believed, a threshold that counts ids, a floor that falls.

use std::collections::BTreeMap;

use ampoule_protocol::client::{Answer, Find, LocalName, Refresh, Releases, Search, Step, Trusted};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::error::Coded;
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::metadata::{
    DelegatedRole, Delegations, Listing, MetaFile, Payload, RoleKeys, RoleType, Root, Snapshot,
    TargetFile, Targets, Timestamp, Trusts,
};
use ampoule_protocol::name::{ProductName, RoleName, TargetPath};
use ampoule_protocol::paths;
use ampoule_protocol::repo::Draft;
use ampoule_protocol::sign::{Ed25519Key, Sign};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::{TrustError, UpdateStart};

const NOW: UtcTime = UtcTime::from_unix(1_795_000_000);
const RELEASE: &str = "infusion-pump/release-2.4.1.toml";

fn key(seed: u8) -> Ed25519Key {
    Ed25519Key::from_seed(&[seed; 32]).expect("a seed")
}

fn sign(payload: &impl Payload, keys: &[&Ed25519Key]) -> Vec<u8> {
    let mut draft = Draft::new(payload);
    for key in keys {
        draft.sign(*key).expect("a key in memory");
    }
    draft.to_bytes()
}

/// Root, targets, snapshot and timestamp share key 1; the product needs keys 2 and 3.
struct Repo {
    root: Root,
    targets: Targets,
    product: Targets,
    snapshot: Snapshot,
    timestamp: Timestamp,
    files: BTreeMap<String, Vec<u8>>,
}

impl Repo {
    fn new() -> Self {
        let expires = NOW.plus_secs(86_400);
        let mut root = Root::new(expires);
        let top = key(1).public_key().to_key();
        for role in RoleType::ALL {
            root.roles.insert(role, RoleKeys::new(vec![top.id()], 1));
        }
        root.keys.insert(top.id(), top);
        let mut delegations = Delegations::new();
        let holders = [key(2), key(3)].map(|key| key.public_key().to_key());
        let keyids = holders.iter().map(ampoule_protocol::key::Key::id).collect();
        delegations
            .keys
            .extend(holders.into_iter().map(|key| (key.id(), key)));
        delegations.roles = Listing::Roles(vec![DelegatedRole {
            name: RoleName::parse("infusion-pump").expect("a name"),
            keys: RoleKeys::new(keyids, 2),
            trusts: Trusts::Paths(vec!["infusion-pump/*".into()]),
            terminating: true,
        }]);
        let mut targets = Targets::new(expires);
        targets.delegations = Some(delegations);
        let mut product = Targets::new(expires);
        let path = TargetPath::parse(RELEASE).expect("a path");
        product
            .targets
            .insert(path, TargetFile::new(1, Digest::of(b"x")));
        let snapshot = Snapshot::new(expires);
        let nothing = MetaFile::of(snapshot.common.version, b"");
        let timestamp = Timestamp::new(expires, nothing);
        let files = BTreeMap::new();
        let mut repo = Self {
            root,
            targets,
            product,
            snapshot,
            timestamp,
            files,
        };
        repo.publish();
        repo
    }

    fn publish(&mut self) {
        let product_name = RoleName::parse("infusion-pump").expect("a name");
        let (one, two, three) = (key(1), key(2), key(3));
        let mut put = |name: String, bytes: &Vec<u8>| self.files.insert(name, bytes.clone());
        put(
            paths::root_file(self.root.common.version),
            &sign(&self.root, &[&one]),
        );
        for (role, payload, keys) in [
            (RoleName::targets(), &self.targets, vec![&one]),
            (product_name, &self.product, vec![&two, &three]),
        ] {
            let bytes = sign(payload, &keys);
            let version = payload.common.version;
            put(paths::role_file(&role, Some(version)), &bytes);
            let meta = MetaFile::of(version, &bytes);
            self.snapshot.meta.insert(Snapshot::meta_name(&role), meta);
        }
        let bytes = sign(&self.snapshot, &[&one]);
        let version = self.snapshot.common.version;
        put(paths::snapshot_file(Some(version)), &bytes);
        self.timestamp.snapshot = MetaFile::of(version, &bytes);
        put(
            paths::TIMESTAMP_FILE.into(),
            &sign(&self.timestamp, &[&one]),
        );
    }
}

/// A client's store, and the requests that it made.
#[derive(Default)]
struct Client {
    stored: BTreeMap<LocalName, Vec<u8>>,
    root: Vec<u8>,
    requests: Vec<String>,
}

impl Client {
    fn answer<E>(
        &mut self,
        repo: &Repo,
        step: Step,
        mut take: impl FnMut(Answer<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let found = match step {
            Step::Load(name) => self.stored.get(&name).cloned(),
            Step::Fetch(wanted) => {
                self.requests.push(wanted.file.clone());
                repo.files.get(&wanted.file).cloned()
            }
            Step::Store(name, bytes) => {
                if matches!(name, LocalName::Root(_)) {
                    self.root.clone_from(&bytes);
                }
                self.stored.insert(name, bytes);
                return take(Answer::Stored);
            }
            Step::Done => unreachable!("the loops below end there"),
        };
        take(found.as_deref().map_or(Answer::NotFound, Answer::Bytes))
    }

    fn refresh(&mut self, repo: &Repo) -> Result<Trusted, TrustError> {
        let start = UpdateStart::new(Some(NOW), UtcTime::EPOCH);
        let mut refresh = Refresh::begin(&self.root, start, Lengths::DEFAULT)?;
        loop {
            match refresh.step()? {
                Step::Done => return Ok(refresh.finish().expect("done")),
                step => self.answer(repo, step, |answer| refresh.answer(answer))?,
            }
        }
    }

    fn search(
        &mut self,
        repo: &Repo,
        trusted: &mut Trusted,
        search: &mut impl Search,
    ) -> Result<(), TrustError> {
        loop {
            match search.step(trusted)? {
                Step::Done => return Ok(()),
                step => self.answer(repo, step, |answer| search.answer(trusted, answer))?,
            }
        }
    }
}

fn client_of(repo: &Repo) -> Client {
    Client {
        root: repo.files["1.root.json"].clone(),
        ..Client::default()
    }
}

#[test]
fn a_release_is_found_with_as_few_requests_as_can_be() {
    let repo = Repo::new();
    let mut client = client_of(&repo);
    let mut trusted = client.refresh(&repo).expect("a good repository");
    let product = ProductName::parse("infusion-pump").expect("a name");
    let mut releases = Releases::new(product);
    client
        .search(&repo, &mut trusted, &mut releases)
        .expect("a good repository");
    let found = releases.found(&trusted);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path().as_str(), RELEASE);
    assert_eq!(found[0].role().as_str(), "infusion-pump");
    let asked = [
        "2.root.json",
        "timestamp.json",
        "1.snapshot.json",
        "1.targets.json",
    ];
    assert_eq!(
        client.requests,
        [&asked[..], &["1.infusion-pump.json"]].concat()
    );

    client.requests.clear();
    let mut trusted = client.refresh(&repo).expect("a good repository");
    let mut find = Find::new(TargetPath::parse(RELEASE).expect("a path"));
    client
        .search(&repo, &mut trusted, &mut find)
        .expect("a good repository");
    assert!(find.found().is_some());
    assert_eq!(
        client.requests,
        ["2.root.json", "timestamp.json"],
        "all else was stored"
    );
}

#[test]
fn one_of_two_product_keys_is_not_enough() {
    let mut repo = Repo::new();
    let product = repo.product.clone();
    // The same key twice, once under an id of its own choosing, is still one key.
    let delegations = repo.targets.delegations.as_mut().expect("there are some");
    let mut object = key(2).public_key().to_key().object().clone();
    object.insert("x-other".into(), true.into());
    let twin = ampoule_protocol::key::Key::from_map(object);
    let twin_id = twin.id();
    delegations.keys.insert(twin_id.clone(), twin);
    if let Listing::Roles(roles) = &mut delegations.roles {
        roles[0].keys.keyids.push(twin_id.clone());
    }
    repo.publish();
    let mut draft = Draft::new(&product);
    draft.sign(&key(2)).expect("signed");
    draft.sign_as(&key(2), twin_id).expect("signed");
    let bytes = draft.to_bytes();
    repo.snapshot.meta.insert(
        "infusion-pump.json".into(),
        MetaFile::of(product.version(), &bytes),
    );
    let snapshot = sign(&repo.snapshot, &[&key(1)]);
    repo.timestamp.snapshot = MetaFile::of(repo.snapshot.version(), &snapshot);
    repo.files.insert("1.infusion-pump.json".into(), bytes);
    repo.files.insert("1.snapshot.json".into(), snapshot);
    repo.files
        .insert("timestamp.json".into(), sign(&repo.timestamp, &[&key(1)]));

    let mut client = client_of(&repo);
    let mut trusted = client.refresh(&repo).expect("the top-level roles are good");
    let mut find = Find::new(TargetPath::parse(RELEASE).expect("a path"));
    let refused = client.search(&repo, &mut trusted, &mut find);
    let role = "infusion-pump".to_string();
    assert_eq!(
        refused,
        Err(TrustError::Unsigned {
            role,
            signed: 1,
            needed: 2
        })
    );
    assert!(find.found().is_none());
}

#[test]
fn a_replayed_timestamp_is_refused_and_the_floor_stays() {
    let mut repo = Repo::new();
    let mut client = client_of(&repo);
    let old = repo.files["timestamp.json"].clone();
    repo.timestamp
        .common
        .bump(NOW.plus_secs(86_400))
        .expect("a number");
    repo.publish();
    client.refresh(&repo).expect("a good repository");
    let trusted = client.stored[&LocalName::Timestamp].clone();
    repo.files.insert("timestamp.json".into(), old);
    let refused = client.refresh(&repo).expect_err("a replay");
    assert_eq!(refused.code(), "metadata-rollback");
    assert_eq!(client.stored[&LocalName::Timestamp], trusted);
}
