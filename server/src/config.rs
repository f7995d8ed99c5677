//! The server's configuration: one TOML file, checked whole, all faults named with their lines.
//!
//! Relative paths are meant from the folder of the file. A fault is found before anything starts;
//! what could only show later (a port in use, a certificate that lapses) is not looked for here.
//! Every limit has a name, a default and a range; the field docs say what each stops.

mod audit;
mod blobs;
mod database;
mod enroll;
mod est;
mod operators;
mod reader;
mod secrets;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ampoule_protocol::fault::{Fault, Faults};
pub use audit::Audit;
pub use blobs::Blobs;
pub use enroll::Enroll;
pub use est::Est;
pub use operators::Operators;
use reader::{Document, Section};

use crate::error::ServerError;
use crate::rollout::permits::{CAPS_MAX, Cap};
use crate::store::postgres::Database;

/// Everything that `server.toml` says.
#[derive(Debug, Clone)]
pub struct Config {
    /// The listener for devices.
    pub devices: Devices,
    /// The door for the operator on this machine.
    pub admin: Admin,
    /// The door for operators elsewhere; absent where there is none.
    pub operators: Option<Operators>,
    /// The published tree.
    pub tree: Tree,
    /// The bucket that the tree comes from; absent where the signer publishes to the folder.
    pub blobs: Option<Blobs>,
    /// The online key; absent where the signer renews the timestamp.
    pub timestamp: Option<Timestamp>,
    /// The director; absent where devices live alone.
    pub director: Option<Director>,
    /// What the server must not lose.
    pub store: Store,
    /// The log of what happened.
    pub audit: Audit,
    /// The key that seals secrets; without one nothing that needs it is kept.
    pub secrets: Option<Secrets>,
    /// How `enroll` issues certificates.
    pub enroll: Enroll,
    /// Where devices enrol themselves; absent where only operators enrol them.
    pub est: Option<Est>,
    /// The bounds on what comes from outside.
    pub limits: Limits,
}

/// `[devices]`: the mTLS listener.
#[derive(Debug, Clone)]
pub struct Devices {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The server's certificate chain, PEM.
    pub certificate: PathBuf,
    /// The server's key, PEM.
    pub key: PathBuf,
    /// The authorities that issue device certificates, PEM.
    pub client_ca: PathBuf,
    /// Revoked certificates of those authorities, PEM.
    pub crl: Option<PathBuf>,
    /// What devices are told to wait between two polls.
    pub poll_interval_secs: u64,
    /// Threads that serve devices; each has its own listener and runtime.
    pub threads: usize,
}

/// `[admin]`: the operator's door on this machine.
#[derive(Debug, Clone)]
pub struct Admin {
    /// A Unix socket that only the server's user may open.
    pub socket: PathBuf,
}

/// `[tree]`: what the signer published.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The folder that holds `metadata/` and `targets/`.
    pub path: PathBuf,
    /// The root that the tree's root chain starts from; by default the lowest in the tree.
    pub root: Option<PathBuf>,
}

/// `[timestamp]`: the one online key.
#[derive(Debug, Clone)]
pub struct Timestamp {
    /// The key file, PKCS#8 PEM.
    pub key: PathBuf,
    /// How long a signed timestamp lives.
    pub expiry: Duration,
    /// How long before its end it is signed again.
    pub refresh_before: Duration,
}

/// `[director]`: which device gets what.
#[derive(Debug, Clone)]
pub struct Director {
    /// The online key, PKCS#8 PEM.
    pub key: PathBuf,
    /// The folder with the director's `N.root.json`, as the signer publishes it.
    pub roots: PathBuf,
    /// How long a signed timestamp lives.
    pub expiry: Duration,
    /// How long targets and snapshot live.
    pub content_expiry: Duration,
    /// Devices whose signed files are kept in memory; about 2 KiB each. For others each poll costs
    /// signatures.
    pub signed_for_max: usize,
    /// How many devices with the same value of a tag may be out of service at once.
    pub caps: Vec<Cap>,
    /// How long a device that asks for a permit by itself may be away.
    pub lock: Duration,
}

/// `[store]`: what the server must not lose.
#[derive(Debug, Clone)]
pub struct Store {
    /// A folder of the server's own.
    pub path: PathBuf,
    /// What keeps it.
    pub engine: Engine,
    /// Writes that may wait; more are answered 503.
    pub queue_len: usize,
    /// Writes of one group commit.
    pub group_len_max: usize,
    /// Receipts kept for one device; the oldest give way.
    pub receipts_max: u32,
    /// Events kept for one device; the oldest give way.
    pub events_max: u32,
    /// Memory for the store's pages.
    pub cache_mib: u64,
}

/// What keeps the store.
#[derive(Debug, Clone)]
pub enum Engine {
    /// Files in the store's folder, for one server.
    Sled,
    /// A PostgreSQL database, for any number of servers.
    Postgres(Box<Database>),
}

/// `[secrets]`: what seals second-factor seeds, tokens and keys.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// The key file; outside the store, the tree and every backup.
    pub key_file: PathBuf,
}

/// `[limits]`: bounds on what comes from outside.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections; more wait in the kernel's backlog.
    pub connections_max: usize,
    /// Open connections of one device; stops one broken device from taking them all.
    pub connections_per_device_max: usize,
    /// From accept to the end of the handshake; stops silent sockets.
    pub handshake_timeout: Duration,
    /// For one request head, and for idling between two; stops slow headers.
    pub header_timeout: Duration,
    /// Bytes of one request head.
    pub header_len_max: usize,
    /// Bytes of one request body; more is answered 413.
    pub body_len_max: usize,
    /// For one request body; stops slow bodies.
    pub body_timeout: Duration,
    /// For a peer that takes no byte at all.
    pub write_stall: Duration,
    /// Bytes per second that a peer must take while we wait for it; stops slow readers.
    pub write_rate_min: u64,
    /// Requests per minute of one device; more are answered 429.
    pub requests_per_minute: u32,
    /// Requests of one device at once, before the rate holds.
    pub requests_burst: u32,
    /// For open requests at shutdown.
    pub drain: Duration,
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, or has faults; all of them are in the error.
    pub fn load(path: &Path) -> Result<Self, ServerError> {
        let text = std::fs::read_to_string(path).map_err(ServerError::file("read", path))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let file = format!("configuration \"{}\"", path.display());
        Self::parse(&text, folder).map_err(|list| ServerError::Config(Faults::new(file, list)))
    }

    /// Checks `text`, whose relative paths are meant from `folder`.
    ///
    /// # Errors
    /// Every fault of the text, in the order of its lines.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Vec<Fault>> {
        let mut document = Document::parse(text, folder);
        let config = document.sections(|document| {
            let devices = Devices::read(&mut document.section("devices"));
            let enroll = Enroll::read(&mut document.section("enroll"), &devices.client_ca);
            let admin = Admin::read(&mut document.section("admin"));
            let tree = Tree::read(&mut document.section("tree"));
            let blobs = document.has("blobs");
            let blobs = blobs.then(|| Blobs::read(&mut document.section("blobs")));
            let timestamp = document.has("timestamp");
            let timestamp = timestamp.then(|| Timestamp::read(&mut document.section("timestamp")));
            let director = document.has("director");
            let director = director.then(|| Director::read(&mut document.section("director")));
            let store = Store::read(&mut document.section("store"));
            let audit = Audit::read(&mut document.section("audit"), &store.path);
            let secrets = document.has("secrets");
            let secrets = secrets.then(|| {
                Secrets::read(&mut document.section("secrets"), &[&store.path, &tree.path])
            });
            let est = document.has("est");
            let est = est.then(|| Est::read(&mut document.section("est")));
            let operators = Operators::of(document, secrets.is_some());
            let limits = Limits::read(&mut document.section("limits"));
            Self {
                devices,
                admin,
                operators,
                tree,
                blobs,
                timestamp,
                director,
                store,
                audit,
                secrets,
                enroll,
                est,
                limits,
            }
        });
        document.finish(config)
    }
}

impl Devices {
    fn read(from: &mut Section<'_, '_>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            listen: from.address("listen"),
            certificate: from.existing_file("certificate"),
            key: from.existing_file("key"),
            client_ca: from.existing_file("client_ca"),
            crl: from.has("crl").then(|| from.existing_file("crl")),
            poll_interval_secs: from.number("poll_interval_secs", 300, 1, 7 * 86_400),
            threads: from.number("threads", cores.min(64), 1, 256),
        }
    }
}

impl Admin {
    fn read(from: &mut Section<'_, '_>) -> Self {
        let socket = from.path("socket");
        // `sun_path` holds 108 bytes; a longer name fails only when the server starts.
        if socket.as_os_str().len() > 107 {
            from.fault(
                "socket",
                "is longer than the 107 bytes that a socket path may have",
            );
        }
        Self { socket }
    }
}

impl Tree {
    fn read(from: &mut Section<'_, '_>) -> Self {
        Self {
            path: from.existing_folder("path"),
            root: from.has("root").then(|| from.existing_file("root")),
        }
    }
}

impl Timestamp {
    fn read(from: &mut Section<'_, '_>) -> Self {
        let expiry = from.secs("expiry_secs", 86_400, 2, 31 * 86_400);
        let half = expiry.as_secs() / 2;
        let refresh_before = from.secs("refresh_before_secs", half, 1, 31 * 86_400);
        if refresh_before >= expiry {
            from.fault("refresh_before_secs", "must be shorter than expiry_secs");
        }
        Self {
            key: from.existing_file("key"),
            expiry,
            refresh_before,
        }
    }
}

impl Director {
    fn read(from: &mut Section<'_, '_>) -> Self {
        Self {
            key: from.existing_file("key"),
            roots: from.existing_folder("roots"),
            expiry: from.secs("expiry_secs", 86_400, 2, 31 * 86_400),
            content_expiry: from.secs("content_expiry_secs", 14 * 86_400, 2, 365 * 86_400),
            signed_for_max: from.number("signed_for_max", 100_000, 1, 100_000_000),
            caps: Self::caps(from),
            lock: from.secs("lock_secs", 3600, 60, 86_400),
        }
    }

    /// `"ward=2, patient=1"`.
    fn caps(from: &mut Section<'_, '_>) -> Vec<Cap> {
        if !from.has("caps") {
            return Vec::new();
        }
        let text = from.string("caps").unwrap_or_default();
        let cap = |part: &str| {
            let (tag, max) = part.trim().split_once('=')?;
            let max = max.trim().parse().ok().filter(|max| *max > 0)?;
            let tag = tag.trim().to_owned();
            (!tag.is_empty()).then_some(Cap { tag, max })
        };
        let caps: Option<Vec<Cap>> = text.split(',').map(cap).collect();
        caps.filter(|caps| caps.len() <= CAPS_MAX)
            .unwrap_or_else(|| {
                from.fault("caps", "is not a list like \"ward=2, patient=1\"");
                Vec::new()
            })
    }
}

impl Store {
    fn read(from: &mut Section<'_, '_>) -> Self {
        let engine = match from.has("engine").then(|| from.string("engine")).flatten() {
            None | Some("sled") => Engine::Sled,
            Some("postgres") => database::read(from),
            Some(_) => {
                from.fault("engine", "is neither \"sled\" nor \"postgres\"");
                Engine::Sled
            }
        };
        Self {
            path: from.path("path"),
            engine,
            queue_len: from.number("queue_len", 4096, 1, 1 << 20),
            group_len_max: from.number("group_len_max", 512, 1, 4096),
            receipts_max: from.number("receipts_max", 256, 1, 65_536),
            events_max: from.number("events_max", 64, 1, 65_536),
            cache_mib: from.number("cache_mib", 64, 8, 1 << 16),
        }
    }
}

impl Limits {
    fn read(from: &mut Section<'_, '_>) -> Self {
        Self {
            connections_max: from.number("connections_max", 10_000, 1, 1 << 20),
            connections_per_device_max: from.number("connections_per_device_max", 16, 1, 1 << 16),
            handshake_timeout: from.secs("handshake_timeout_secs", 5, 1, 300),
            header_timeout: from.secs("header_timeout_secs", 15, 1, 3600),
            // hyper does not read heads with a smaller buffer.
            header_len_max: from.number("header_len_max", 8192, 8192, 1 << 20),
            body_len_max: from.number("body_len_max", 65_536, 1024, 1 << 24),
            body_timeout: from.secs("body_timeout_secs", 20, 1, 3600),
            write_stall: from.secs("write_stall_secs", 20, 1, 3600),
            write_rate_min: from.number("write_rate_min", 1024, 0, 1 << 30),
            requests_per_minute: from.number("requests_per_minute", 600, 1, 10_000_000),
            requests_burst: from.number("requests_burst", 300, 1, 10_000_000),
            drain: from.secs("drain_secs", 30, 0, 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(folder: &Path) -> String {
        for name in ["server.pem", "server.key", "ca.pem", "timestamp.key"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        std::fs::create_dir_all(folder.join("published")).unwrap();
        r#"[devices]
listen = "127.0.0.1:0"
certificate = "server.pem"
key = "server.key"
client_ca = "ca.pem"
[admin]
socket = "admin.sock"
[tree]
path = "published"
[timestamp]
key = "timestamp.key"
[store]
path = "state"
"#
        .into()
    }

    #[test]
    fn short_configuration_has_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse(&good(folder.path()), folder.path()).unwrap();
        assert_eq!(config.limits.body_len_max, 65_536);
        let key = crate::pki::CaKey::File(folder.path().join("ca.key"));
        assert_eq!(config.enroll.ca_key, key);
        assert_eq!(
            config.timestamp.unwrap().refresh_before,
            Duration::from_hours(12)
        );
    }

    #[test]
    fn all_faults_are_named_with_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let text = good(folder.path())
            .replace("127.0.0.1:0", "localhost")
            .replace("\"server.pem\"", "7")
            .replace("\"ca.pem\"", "\"nowhere.pem\"")
            .replace(
                "path = \"state\"",
                "path = \"state\"\nqueue_len = 0\nquue = 1",
            )
            + "[extra]\n";
        let faults = Config::parse(&text, folder.path()).unwrap_err();
        let said: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "line 2: devices.listen \"localhost\" is not an address like \"0.0.0.0:8443\"",
                "line 3: devices.certificate is integer, expected string",
                "line 5: devices.client_ca \"nowhere.pem\" is not a file that can be read",
                "line 14: store.queue_len is 0, expected 1 to 1048576",
                "line 15: store.quue is not known here",
                "line 16: section [extra] is not known here",
            ]
        );
    }

    #[test]
    fn missing_sections_and_syntax_are_faults() {
        let faults = Config::parse("[devices\n", Path::new("")).unwrap_err();
        assert_eq!(faults[0].line, Some(1));
        let faults = Config::parse("", Path::new("")).unwrap_err();
        assert!(
            faults
                .iter()
                .any(|f| f.to_string() == "devices.listen is missing"),
            "{faults:?}"
        );
        assert!(
            faults
                .iter()
                .any(|f| f.to_string() == "tree.path is missing"),
            "{faults:?}"
        );
    }

    #[test]
    fn refresh_must_come_before_expiry() {
        let folder = tempfile::tempdir().unwrap();
        let text = good(folder.path()).replace(
            "[store]",
            "expiry_secs = 10\nrefresh_before_secs = 10\n[store]",
        );
        let faults = Config::parse(&text, folder.path()).unwrap_err();
        assert_eq!(
            faults[0].to_string(),
            "line 13: timestamp.refresh_before_secs must be shorter than expiry_secs"
        );
    }
}
