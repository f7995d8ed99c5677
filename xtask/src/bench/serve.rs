//! Requests per CPU-second of the server, beside nginx over the same mutual TLS, in one run.
//!
//! Both serve the same published tree with the same certificates to the same client. The server is
//! bound to the first processor and the client to the second; what is compared is the CPU time of
//! the server's process, which the kernel counts and a busy machine blurs little. Rounds alternate
//! between the two, and medians are shown.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::shell::{self, Fault, Outcome};
use crate::table::{self, Table, median};
use crate::world::server::{self, Server, Settings};
use crate::world::signer::{self, Plan};
use crate::world::{PRODUCT, Room, cannot};

const ROUNDS: usize = 3;
const SECONDS: &str = "4";
const NGINX_PORT: u16 = 19_443;
/// Connections that are held open, idle.
const IDLE: &str = "10000";
/// Descriptors that both servers and the client may open; the hard limit may be no higher.
const DESCRIPTORS: u32 = 20_000;
const DEVICE: &str = "bench-0001";

/// What is asked for, and how nginx does that at its best.
struct Case {
    name: &'static str,
    mode: &'static str,
    connections: &'static str,
    what: What,
    /// nginx 1.22 resumes cheapest from a cache of its own, and does a full handshake cheapest
    /// when it makes no tickets.
    nginx_cache: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Metadata,
    Image,
}

const CASES: [Case; 5] = [
    Case {
        name: "poll, full handshake",
        mode: "full",
        connections: "16",
        what: What::Metadata,
        nginx_cache: "off",
    },
    Case {
        name: "poll, resumed",
        mode: "resumed",
        connections: "16",
        what: What::Metadata,
        nginx_cache: "shared:tls:16m",
    },
    Case {
        name: "metadata, kept alive",
        mode: "keep-alive",
        connections: "16",
        what: What::Metadata,
        nginx_cache: "off",
    },
    Case {
        name: "metadata, HTTP/2",
        mode: "h2",
        connections: "16",
        what: What::Metadata,
        nginx_cache: "off",
    },
    Case {
        name: "image bytes",
        mode: "keep-alive",
        connections: "4",
        what: What::Image,
        nginx_cache: "off",
    },
];

pub(super) fn run() -> Outcome {
    let measure = super::measure()?;
    let room = super::room("serve", &["ampoule-server", "ampoule-signer"])?;
    let paths = make_tree(&room)?;
    let mut shown = Table::new(&["what", "ours", "nginx", "ratio", "unit"]);
    shell::heading(&format!("beside {}", nginx_version()?));
    for case in &CASES {
        let path = if case.what == What::Image {
            &paths.image
        } else {
            &paths.metadata
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let server = Server::start(&room, &["taskset", "-c", "0"])?;
            ours.push(load(
                &room,
                &measure,
                case,
                server.address(),
                path,
                server.process(),
            )?);
            server.stop()?;
            let nginx = Nginx::start(&room, case.nginx_cache)?;
            let address = format!("127.0.0.1:{NGINX_PORT}");
            theirs.push(load(&room, &measure, case, &address, path, nginx.0.id())?);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        let (unit, scale) = match case.what {
            What::Metadata => ("requests per CPU-second", 1.0),
            What::Image => ("MiB per CPU-second", f64::from(1 << 20)),
        };
        let figure = |value: f64| format!("{:.0}", value / scale);
        shown.row([
            case.name.to_owned(),
            figure(ours),
            figure(theirs),
            format!("{:.2}", ours / theirs),
            unit.to_owned(),
        ]);
    }
    shown.row(idle(&room, &measure, &paths.metadata)?);
    println!("{}", shown.to_text());
    println!(
        "budgets: full >= 2.3, resumed >= 3.0, kept alive >= 1.05 (HTTP/2 1.15), bytes >= 1.35,"
    );
    println!("         idle <= 24.0 KiB of memory in user land");
    Ok(())
}

/// The row of what an idle connection costs: less is better, the ratio is nginx to ours.
fn idle(room: &Room, measure: &Path, path: &str) -> Outcome<[String; 5]> {
    let server = Server::start(room, &["prlimit", &format!("--nofile={DESCRIPTORS}")])?;
    let ours = hold(room, measure, server.address(), path, server.process())?;
    server.stop()?;
    let nginx = Nginx::start(room, "off")?;
    let address = format!("127.0.0.1:{NGINX_PORT}");
    let theirs = hold(room, measure, &address, path, nginx.0.id())?;
    Ok([
        format!("{IDLE} idle connections"),
        format!("{:.1}", ours / 1024.0),
        format!("{:.1}", theirs / 1024.0),
        format!("{:.2}", theirs / ours),
        "KiB per connection".to_owned(),
    ])
}

/// Bytes of memory per idle connection.
fn hold(room: &Room, measure: &Path, address: &str, path: &str, process: u32) -> Outcome<f64> {
    let mut client = Command::new("prlimit");
    client
        .arg(format!("--nofile={DESCRIPTORS}"))
        .arg(measure)
        .args(["hold", address, path]);
    identify(room, &mut client);
    client.args([IDLE, &process.to_string()]);
    let told = told(&mut client)?;
    Ok(told["bytes_per_connection"].as_f64().unwrap_or(f64::NAN))
}

/// The certificates of the device that asks.
fn identify(room: &Room, client: &mut Command) {
    for file in ["ca.pem", "device.pem", "device.key"] {
        client.arg(room.path("device/identity").join(file));
    }
}

fn told(client: &mut Command) -> Outcome<Value> {
    serde_json::from_str(&shell::read(client)?)
        .map_err(|error| Fault::new("measure said something else").because(error))
}

/// Paths below the server's address.
struct Paths {
    metadata: String,
    image: String,
}

fn make_tree(room: &Room) -> Outcome<Paths> {
    println!(
        "making a published tree with an image of {}",
        table::bytes(super::IMAGE_LEN)
    );
    let image = room.write("sources/image.img", super::noise(super::IMAGE_LEN))?;
    signer::ceremony(room)?;
    let plan = Plan {
        version: "1.0.0",
        rollback_index: 1,
        purpose: "To be measured.",
        image: &image,
        with_delta: false,
    };
    signer::release(room, &plan)?;
    server::make_ca(room)?;
    // One device stands for many here: its own bounds are lifted.
    let more = "threads = 1\n\n[limits]\nrequests_per_minute = 10000000\n\
                requests_burst = 10000000\nconnections_per_device_max = 20000\n\
                connections_max = 20000\nheader_timeout_secs = 600\n";
    let settings = Settings {
        tree: signer::TREE,
        timestamp_key: None,
        port: 0,
        poll_interval_secs: 300,
        more,
    };
    server::configure(room, &settings)?;
    server::enroll(room, DEVICE)?;
    let blob = signer::published(room, "rootfs-1.0.0.img")?;
    let blob = blob
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    Ok(Paths {
        metadata: "/tuf/image/metadata/1.root.json".into(),
        image: format!("/tuf/image/targets/{PRODUCT}/{blob}"),
    })
}

/// Requests, or bytes, per second of the server's CPU.
fn load(
    room: &Room,
    measure: &Path,
    case: &Case,
    address: &str,
    path: &str,
    process: u32,
) -> Outcome<f64> {
    let mut client = Command::new("taskset");
    client
        .args(["-c", "1"])
        .arg(measure)
        .args(["load", case.mode, address, path]);
    identify(room, &mut client);
    client.args([case.connections, SECONDS, &process.to_string()]);
    let told = told(&mut client)?;
    let number = |name: &str| told[name].as_f64().unwrap_or(f64::NAN);
    if case.mode == "resumed" && number("resumed") < number("requests") * 0.9 {
        let (resumed, requests) = (&told["resumed"], &told["requests"]);
        return Err(Fault::new(format!(
            "only {resumed} of {requests} sessions were resumed"
        )));
    }
    let counted = if case.what == What::Image {
        number("bytes")
    } else {
        number("requests")
    };
    Ok(counted / number("server_cpu_secs"))
}

fn nginx_version() -> Outcome<String> {
    // It tells its version on standard error.
    let told = shell::finish(Command::new("nginx").arg("-v"))?.err;
    Ok(told.trim().trim_start_matches("nginx version: ").to_owned())
}

/// nginx with one worker on the first processor.
struct Nginx(Child);

impl Nginx {
    fn start(room: &Room, cache: &str) -> Outcome<Self> {
        let config = room.write("nginx/nginx.conf", config(room, cache))?;
        std::fs::create_dir_all(room.path("nginx/tmp"))
            .map_err(|e| cannot("make", &room.path("nginx/tmp"), &e))?;
        let mut command = Command::new("taskset");
        command
            .args(["-c", "0", "nginx", "-p"])
            .arg(room.path("nginx"))
            .arg("-c")
            .arg(&config);
        let child = command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| Fault::new("cannot start nginx").because(e))?;
        let nginx = Self(child);
        for _ in 0..100 {
            if std::net::TcpStream::connect(("127.0.0.1", NGINX_PORT)).is_ok() {
                return Ok(nginx);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(Fault::new("nginx does not listen").hint("see nginx/error.log in the bench's folder"))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // QUIT lets the master end its worker; a kill would leave it behind.
        let id = self.0.id().to_string();
        let _ = Command::new("kill").args(["-QUIT", &id]).status();
        let _ = self.0.wait();
    }
}

fn config(room: &Room, cache: &str) -> String {
    let pki = room.path("server/pki");
    let mut text = format!(
        "daemon off; worker_processes 1; pid nginx.pid; error_log error.log error;\n\
         worker_rlimit_nofile {DESCRIPTORS}; events {{ worker_connections {DESCRIPTORS}; multi_accept on; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;\n\
         keepalive_requests 1000000000; keepalive_timeout 600s; server_tokens off;\n\
         open_file_cache max=100 inactive=60s; default_type application/octet-stream;\n",
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{kind}_temp_path tmp/{kind};");
    }
    let _ = writeln!(
        text,
        "server {{ listen 127.0.0.1:{NGINX_PORT} ssl http2 backlog=4096; server_name localhost;\n\
         ssl_certificate {0}/server.pem; ssl_certificate_key {0}/server.key;\n\
         ssl_client_certificate {0}/ca.pem; ssl_verify_client on; ssl_protocols TLSv1.3;\n\
         ssl_session_tickets off; ssl_session_cache {cache}; ssl_session_timeout 1h;\n\
         ssl_buffer_size 16k; ssl_ecdh_curve X25519:P-256;\n\
         location /tuf/image/ {{ alias {1}/; }} }} }}",
        pki.display(),
        room.path(signer::TREE).display()
    );
    text
}
