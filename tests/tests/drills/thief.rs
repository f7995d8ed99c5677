//! Who has some keys, all that is public, and the server's place.

use std::path::{Path, PathBuf};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::metadata::{
    Envelope, MetaFile, Payload, RoleKeys, RoleType, Root, Snapshot, TargetFile, Targets, Timestamp,
};
use ampoule_protocol::name::RoleName;
use ampoule_protocol::paths;
use ampoule_protocol::repo::Draft;
use ampoule_protocol::sign::{Ed25519Key, Sign};
use ampoule_protocol::version::MetaVersion;
use ampoule_signer::keys::locate;
use ampoule_signer::keys::secrets::FromFile;

use crate::site::{Site, image};
use crate::stage::Stage;

/// What the server's program is started with in the thief's place.
pub(crate) const CONFIG: &str = "thief.toml";
/// The thief's tree.
const TREE: &str = "thief/published";
/// A version that no honest server reaches.
pub(crate) const FAR: u64 = 1 << 40;

/// The thief, with a copy of the tree as it was published when they came.
pub(crate) struct Thief {
    folder: PathBuf,
    keys: Vec<(String, Box<dyn Sign>)>,
}

impl Thief {
    /// Takes these keys of `keys/`, and the tree; the server's TLS key they have anyway.
    pub(crate) fn with(stage: &Stage, keys: &[&str]) -> Self {
        let site = &stage.site;
        let folder = site.file(TREE);
        let _ = std::fs::remove_dir_all(&folder);
        copy(&site.file("release/published"), &folder);
        // The newest timestamp is one that the server signed itself: it lies on the same disk.
        let stores = ["store-2", "store"].map(|store| site.file(store).join("timestamp.json"));
        let newest = stores.iter().find(|file| file.exists());
        let newest = newest.expect("the server has signed one");
        std::fs::copy(newest, folder.join("metadata/timestamp.json")).expect("copied");
        if !site.file(CONFIG).exists() {
            take_place(site);
        }
        let keys = keys.iter();
        let keys = keys.map(|name| ((*name).to_owned(), open(site, name)));
        Self {
            folder,
            keys: keys.collect(),
        }
    }

    fn metadata(&self, name: &str) -> PathBuf {
        self.folder.join(paths::METADATA_DIR).join(name)
    }

    fn read<T: Payload>(&self, name: &str) -> T {
        let bytes = std::fs::read(self.metadata(name)).expect(name);
        let envelope = Envelope::parse(&bytes).expect("metadata");
        T::from_signed(envelope.unverified()).expect("metadata")
    }

    /// Signs with those of these keys that the thief has, or with a key of the thief's own.
    fn sign(&self, payload: &impl Payload, names: &[&str]) -> Vec<u8> {
        let mut draft = Draft::new(payload);
        for name in names {
            if *name == "mallory" {
                draft.sign(&mallory()).expect("a key in memory");
            }
            for (_, key) in self.keys.iter().filter(|(held, _)| held == name) {
                draft.sign(key.as_ref()).expect("a key in memory");
            }
        }
        draft.to_bytes()
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.metadata(name), bytes).expect("written");
    }

    /// The next root, by which the thief's own key signs everything.
    pub(crate) fn forge_root(&self, signers: &[&str]) {
        let mut version = 1;
        while self
            .metadata(&format!("{}.root.json", version + 1))
            .exists()
        {
            version += 1;
        }
        let mut root: Root = self.read(&format!("{version}.root.json"));
        let key = mallory().public_key().to_key();
        for role in RoleType::ALL {
            root.roles.insert(role, RoleKeys::new(vec![key.id()], 1));
        }
        root.keys.insert(key.id(), key);
        let expires = root.common.expires;
        root.common.bump(expires).expect("a next version");
        let name = format!("{}.root.json", root.common.version);
        self.put(&name, &self.sign(&root, signers));
    }

    /// A next version of the product in which every release and artifact is the thief's, signed by
    /// `holders`; and a snapshot and a timestamp that name it.
    pub(crate) fn forge_release(&self, holders: &[&str]) {
        let product = RoleName::parse("infusion-pump").expect("a role");
        let timestamp: Timestamp = self.read(paths::TIMESTAMP_FILE);
        let file = paths::snapshot_file(Some(timestamp.snapshot.version));
        let snapshot: Snapshot = self.read(&file);
        let listed = snapshot.role(&product).expect("the product").version;
        let file = paths::role_file(&product, Some(listed));
        let mut role: Targets = self.read(&file);
        rename_release(&mut role);
        let expires = role.common.expires;
        role.common.bump(expires).expect("a next version");
        let bytes = self.sign(&role, holders);
        self.put(&paths::role_file(&product, Some(role.version())), &bytes);
        let named = (
            Snapshot::meta_name(&product),
            MetaFile::of(role.version(), &bytes),
        );
        self.publish(Some(named), None);
    }

    /// The timestamp as it is, with a version that is far ahead.
    pub(crate) fn drive_timestamp(&self) {
        let mut timestamp: Timestamp = self.read(paths::TIMESTAMP_FILE);
        timestamp.common.version = MetaVersion::new(FAR).expect("above 0");
        self.put(
            paths::TIMESTAMP_FILE,
            &self.sign(&timestamp, &["timestamp", "timestamp-2"]),
        );
    }

    /// The snapshot as it is, with a version that is far ahead, and a timestamp that names it.
    pub(crate) fn drive_snapshot(&self) {
        self.publish(None, Some(FAR));
    }

    fn publish(&self, named: Option<(String, MetaFile)>, version: Option<u64>) {
        let mut timestamp: Timestamp = self.read(paths::TIMESTAMP_FILE);
        let file = paths::snapshot_file(Some(timestamp.snapshot.version));
        let mut snapshot: Snapshot = self.read(&file);
        snapshot.meta.extend(named);
        let expires = snapshot.common.expires;
        snapshot.common.bump(expires).expect("a next version");
        if let Some(version) = version {
            snapshot.common.version = MetaVersion::new(version).expect("above 0");
        }
        let bytes = self.sign(&snapshot, &["snapshot", "snapshot-2"]);
        self.put(&paths::snapshot_file(Some(snapshot.version())), &bytes);
        timestamp.snapshot = MetaFile::of(snapshot.version(), &bytes);
        let expires = timestamp.common.expires;
        timestamp.common.bump(expires).expect("a next version");
        self.put(
            paths::TIMESTAMP_FILE,
            &self.sign(&timestamp, &["timestamp", "timestamp-2"]),
        );
    }
}

/// Lets the newest release be another one, which nobody made: version 9.9.9, above every floor.
fn rename_release(role: &mut Targets) {
    let mut release = role
        .targets
        .iter()
        .filter(|(path, _)| path.base_name().starts_with("release-"));
    let (path, target) = release.next_back().expect("a release");
    let (path, target) = (path.clone(), target.clone());
    let custom = target.custom.expect("a description");
    let text = ampoule_protocol::json::canonical(&custom);
    let text = String::from_utf8(text).expect("text");
    let evil = text
        .replace("\"version\":\"1.0.0\"", "\"version\":\"9.9.9\"")
        .replace("\"version\":\"2.0.0\"", "\"version\":\"9.9.9\"")
        .replace("\"rollback_index\":1", "\"rollback_index\":99")
        .replace("\"rollback_index\":2", "\"rollback_index\":99")
        .replace(&own(1), &own(66))
        .replace(&own(2), &own(66));
    assert_ne!(text, evil);
    let custom = ampoule_protocol::json::parse(evil.as_bytes()).expect("JSON");
    let renamed = path
        .as_str()
        .replace("1.0.0", "9.9.9")
        .replace("2.0.0", "9.9.9");
    let renamed = renamed.parse().expect("a path");
    let target = TargetFile::new(4, Digest::of(b"evil")).with_custom(custom);
    role.targets.insert(renamed, target);
}

/// The digest of an image of the example, as it is written.
fn own(seed: u8) -> String {
    Digest::of(&image(seed)).to_string()
}

/// Configures the thief's server as the one that was stolen, TLS key and all. It serves the timestamp
/// that lies in its tree, well signed or not, and knows the device.
fn take_place(site: &Site) {
    let text = String::from_utf8(site.read("server.toml")).expect("text");
    let text = text
        .replace("release/published", TREE)
        .replace("path = \"store\"", "path = \"thief/store\"")
        .replace("admin.sock", "thief.sock");
    let start = text.find("[timestamp]").expect("a section");
    let end = text.find("[store]").expect("a section");
    let text = format!("{}{}", &text[..start], &text[end..]);
    site.write(CONFIG, text.as_bytes());
    site.server("enroll --certificate identity/device.pem --config thief.toml pump-0042");
}

/// The thief's own key.
fn mallory() -> Ed25519Key {
    Ed25519Key::from_seed(&[66; 32]).expect("a seed")
}

fn open(site: &Site, name: &str) -> Box<dyn Sign> {
    let path = site.file(&format!("keys/{name}.key"));
    let source = locate(&path).expect("a key file");
    let mut passphrase = FromFile::new(site.file("passphrase"));
    source.open(&mut passphrase).expect("it opens")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}
