//! A private PostgreSQL: its own data folder and Unix socket, no port, gone with this process.
//!
//! The database runs under a shell that waits for the end of its standard input, which comes when
//! this process ends, however it ends. PostgreSQL refuses to run as root; then it runs as the user
//! `postgres` of the Debian package.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ampoule_server::store::postgres::Database;

const PATIENCE: Duration = Duration::from_mins(2);

/// A database server.
pub struct Cluster {
    folder: PathBuf,
    programs: PathBuf,
    /// Its standard input keeps the folder alive.
    keeper: Child,
    databases: AtomicU32,
}

impl Cluster {
    /// One that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    pub fn new() -> Self {
        Self::with("shared_buffers = 64MB\n")
    }

    /// With these lines in its configuration.
    pub fn with(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap().keep();
        let programs = programs();
        let root = is_root();
        if root {
            let chown = Command::new("chown").arg("postgres").arg(&folder).status();
            assert!(chown.unwrap().success());
        }
        // Ends what it started, and removes the folder, when its input ends.
        let script = r#"cat; kill -QUIT "$(head -n 1 data/postmaster.pid)"; cd /; rm -rf "$1""#;
        let keeper = Command::new("sh")
            .args(["-c", script, "keeper"])
            .arg(&folder)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let cluster = Self {
            folder,
            programs,
            keeper,
            databases: AtomicU32::new(0),
        };
        let data = cluster.data();
        cluster.run("initdb", |command| {
            command
                .args(["--auth", "trust", "--username", "ampoule", "--no-sync"])
                .args(["--encoding", "UTF8", "--locale", "C", "--pgdata"])
                .arg(&data);
        });
        let mut settings = std::fs::OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.conf"))
            .unwrap();
        let socket = cluster.folder.display();
        write!(
            settings,
            "listen_addresses = ''\nunix_socket_directories = '{socket}'\n\
             max_connections = 60\n{lines}"
        )
        .unwrap();
        cluster.start();
        cluster
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Runs a program of PostgreSQL as a user that it accepts.
    fn run(&self, program: &str, arguments: impl FnOnce(&mut Command)) {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .args([
                    "--reuid",
                    "postgres",
                    "--regid",
                    "postgres",
                    "--clear-groups",
                ])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        arguments(&mut command);
        let output = command.current_dir(&self.folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
    }

    /// Starts it and waits until it answers.
    pub fn start(&self) {
        let (data, log) = (self.data(), self.folder.join("log"));
        self.run("pg_ctl", |command| {
            command
                .args(["start", "--wait", "--timeout", "120", "--pgdata"])
                .arg(data)
                .arg("--log")
                .arg(log)
                // Or the database inherits the pipe that we wait on.
                .stdout(Stdio::null())
                .stderr(Stdio::null());
        });
    }

    /// Ends it as a power cut ends it: no checkpoint, no farewell.
    pub fn stop_immediately(&self) {
        let data = self.data();
        self.run("pg_ctl", |command| {
            command
                .args([
                    "stop",
                    "--mode",
                    "immediate",
                    "--timeout",
                    "120",
                    "--pgdata",
                ])
                .arg(data);
        });
    }

    /// An empty database, in the words of `server.toml`.
    pub fn database_text(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("fleet{number}");
        let folder = self.folder.clone();
        self.run("createdb", |command| {
            command
                .args(["--username", "ampoule", "--host"])
                .arg(folder)
                .arg(&name);
        });
        let socket = self.folder.display();
        format!("host={socket} user=ampoule dbname={name}")
    }

    /// An empty database.
    pub fn database(&self) -> Database {
        Database {
            config: self.database_text().parse().unwrap(),
            tls: None,
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A connection that says what it likes.
pub struct Raw {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Raw {
    pub fn open(config: &tokio_postgres::Config) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let connect = config.connect(tokio_postgres::NoTls);
        let (client, connection) = runtime.block_on(connect).unwrap();
        runtime.spawn(connection);
        Self { runtime, client }
    }

    pub fn run(&self, sql: &str) {
        self.runtime
            .block_on(self.client.batch_execute(sql))
            .unwrap();
    }
}

fn is_root() -> bool {
    let owner = Command::new("id").arg("-u").output().unwrap();
    owner.stdout == b"0\n"
}

/// The folder of the newest PostgreSQL that Debian installed.
fn programs() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|path| path.join("pg_ctl").exists())
        .collect();
    found.sort_by_key(|path| version(path));
    found
        .pop()
        .expect("PostgreSQL is not installed; \"cargo xtask test\" installs it")
}

fn version(programs: &Path) -> u32 {
    let name = programs.parent().and_then(Path::file_name);
    name.and_then(|name| name.to_str()?.parse().ok())
        .unwrap_or(0)
}

/// Until `done`, for as long as a loaded machine may need.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}
