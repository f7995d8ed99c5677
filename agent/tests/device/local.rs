//! The local interface of the real daemon: who may do what, what is told, and what a client that
//! misbehaves cannot do.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::gates::{Daemon, Ward};
use crate::kill::noise;

const CONSENT: &str = "[gates]\ninterval_secs = 600\n[gates.consent]\n[gates.postpone]\nboth = 1\n\
                       [poll]\ninterval_secs = 600\n";

struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    fn new(folder: &Path) -> Self {
        let stream = UnixStream::connect(folder.join("data/agent.sock")).expect("connects");
        let timeout = Some(Duration::from_mins(1));
        stream.set_read_timeout(timeout).expect("a time-out");
        Self {
            stream: BufReader::new(stream),
        }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"))
    }

    fn say(&mut self, text: &str) -> Value {
        let stream = self.stream.get_mut();
        stream.write_all(text.as_bytes()).expect("writes");
        stream.write_all(b"\n").expect("writes");
        self.line()
    }

    fn ask(&mut self, request: &Value) -> Value {
        self.say(&request.to_string())
    }
}

fn waiting(gates: &str) -> (Ward, Daemon) {
    let ward = Ward::new(gates);
    let daemon = ward.daemon();
    ward.until("waits", |ward| ward.status()["phase"] == "waiting");
    (ward, daemon)
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or("none")
}

/// Meant to catch: without the comparison in `Desk::plan_of` the stale digest is agreed to.
#[test]
fn a_person_reads_agrees_and_the_device_goes_on_at_once() {
    let (ward, _daemon) = waiting(CONSENT);
    let mut client = Client::new(ward.folder());
    let status = client.ask(&json!({ "do": "status" }))["ok"].clone();
    let update = &status["update"];
    assert_eq!(update["purpose"], "To be tested.");
    for name in [
        "risk_if_not_applied",
        "downtime_secs",
        "functions_unavailable",
    ] {
        assert!(!update[name].is_null(), "{name} is shown before");
    }
    assert_eq!(status["consent"]["needed"], true);
    assert_eq!(status["consent"]["agreed"], Value::Null);
    let gate = &status["gates"][0];
    assert_eq!(
        (&gate["gate"], &gate["answer"]),
        (&"consent".into(), &"no".into())
    );
    let stale = json!({ "do": "consent", "update": "00".repeat(32) });
    assert_eq!(code(&client.ask(&stale)), "other-update");
    let mut screen = Client::new(ward.folder());
    assert_eq!(
        screen.ask(&json!({ "do": "subscribe" })),
        json!({ "ok": {} })
    );
    let agree = json!({ "do": "consent", "update": update["digest"] });
    assert_eq!(client.ask(&agree), json!({ "ok": {} }));
    // The interval between questions is ten minutes; the word of a person does not wait for it.
    let mut seen = Vec::new();
    while !seen.contains(&"arming".to_owned()) {
        let event = screen.line();
        seen.extend(event["phase"].as_str().map(str::to_owned));
    }
    ward.until("arms", |ward| {
        !ward.status()["components"][0]["armed"].is_null()
    });
}

#[test]
fn putting_off_is_counted_over_restarts_of_the_agent() {
    let (ward, daemon) = waiting(CONSENT);
    let digest = ward.status()["update"]["digest"].clone();
    let mut client = Client::new(ward.folder());
    let postpone = json!({ "do": "postpone", "update": digest, "secs": 3600 });
    assert!(client.ask(&postpone)["ok"]["until"].is_string());
    assert_eq!(ward.status()["consent"]["postponements_left"], 0);
    drop(daemon);
    let _daemon = ward.daemon();
    ward.until("is up", |ward| {
        UnixStream::connect(ward.folder().join("data/agent.sock")).is_ok()
    });
    let mut client = Client::new(ward.folder());
    assert_eq!(code(&client.ask(&postpone)), "budget-used");
    let agree = json!({ "do": "consent", "update": digest });
    assert_eq!(client.ask(&agree), json!({ "ok": {} }));
    ward.until("is asked", |ward| {
        let gates = ward.status()["gates"].clone();
        gates[0]["answer"] == "yes" && gates[1]["gate"] == "postponed" && gates[1]["answer"] == "no"
    });
    assert!(ward.status()["components"][0]["armed"].is_null());
}

#[test]
fn the_command_line_speaks_to_the_daemon_or_for_itself() {
    let pin = {
        let folder = tempfile::tempdir().expect("a folder");
        let output = with_stdin(folder.path(), &["hash-pin"], "4711\n");
        output.trim().to_owned()
    };
    let gates = CONSENT.replace(
        "[gates.consent]\n",
        &format!("[gates.consent]\npin_hash = \"{pin}\"\n"),
    );
    let (ward, daemon) = waiting(&gates);
    let shown = ward.device.json(&["consent"]);
    assert_eq!(shown["update"]["purpose"], "To be tested.");
    let digest = shown["update"]["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    assert_eq!(
        ward.device.json(&["consent", &digest])["error"]["code"],
        "pin-needed"
    );
    let agree = [
        "--config",
        "agent.toml",
        "--json",
        "consent",
        &digest,
        "--pin-stdin",
    ];
    assert!(with_stdin(ward.folder(), &agree, "0000\n").contains("pin-wrong"));
    // Nobody but the command line is there.
    drop(daemon);
    assert_eq!(
        ward.device.json(&["postpone", "60"])["until"]
            .as_str()
            .map(str::len),
        Some(20)
    );
    assert_eq!(
        ward.device.json(&["postpone", "60"])["error"]["code"],
        "budget-used"
    );
    assert!(with_stdin(ward.folder(), &agree, "4711\n").contains("agreed"));
    assert_eq!(ward.status()["consent"]["agreed"]["by"], "uid 0");
    assert_eq!(
        ward.device.json(&["consent", "--withdraw"])["result"],
        "withdrawn"
    );
    assert_eq!(ward.status()["consent"]["agreed"], Value::Null);
}

fn with_stdin(folder: &Path, args: &[&str], text: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule-agent"));
    let command = command.current_dir(folder).args(args).stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(text.as_bytes()).expect("writes");
    drop(stdin);
    let output = child.wait_with_output().expect("ends");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Meant to catch: without `LINE_LEN_MAX` the endless line is taken to its end; without the look
/// at who has hung up, a crowd that came and went shuts out who comes after it.
#[test]
fn clients_that_misbehave_hold_nobody_up() {
    let (ward, daemon) = waiting(CONSENT);
    let mut client = Client::new(ward.folder());
    for text in [
        "",
        "{",
        "[]",
        "{\"do\":\"arm\"}",
        "{\"do\":\"status\",\"force\":true}",
        "\u{0}",
    ] {
        assert_eq!(code(&client.say(text)), "malformed", "{text:?}");
    }
    let mut endless = Client::new(ward.folder());
    let stream = endless.stream.get_mut();
    let wrote = (0..1000).all(|_| stream.write_all(&[b' '; 1024]).is_ok());
    assert!(!wrote || stream.read(&mut [0; 1]).is_ok_and(|count| count == 0));
    // Asks and never reads.
    let mut deaf = Client::new(ward.folder());
    let stream = deaf.stream.get_mut();
    stream.set_nonblocking(true).expect("nonblocking");
    for _ in 0..2_000 {
        let _ = stream.write_all(b"{\"do\":\"status\"}\n");
    }
    let crowd: Vec<Client> = (0..40).map(|_| Client::new(ward.folder())).collect();
    // Each answer is of a later look than the one before: by now the house is full.
    for _ in 0..4 {
        client.ask(&json!({ "do": "status" }));
    }
    // The daemon finds in one look that the crowd has left and that somebody came.
    let pid = rustix::process::Pid::from_child(&daemon.0);
    let signal = |signal| rustix::process::kill_process(pid, signal).expect("signals");
    until_state(&daemon, 'S');
    signal(rustix::process::Signal::STOP);
    until_state(&daemon, 'T');
    drop(crowd);
    let start = Instant::now();
    let mut client = Client::new(ward.folder());
    signal(rustix::process::Signal::CONT);
    assert_eq!(
        client.ask(&json!({ "do": "status" }))["ok"]["phase"],
        "waiting"
    );
    assert!(start.elapsed() < Duration::from_secs(20));
}

/// As the third word of `/proc/PID/stat` has it: S sleeps, T is stopped.
fn until_state(daemon: &Daemon, state: char) {
    let path = format!("/proc/{}/stat", daemon.0.id());
    let is_there = || {
        let stat = std::fs::read_to_string(&path).expect("runs");
        stat.contains(&format!(") {state} "))
    };
    while !is_there() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Another user: may not act, and is told how things are only where the device was told so.
#[test]
fn who_speaks_is_known_from_the_kernel() {
    assert!(
        rustix::process::getuid().is_root(),
        "run as root, as CI does"
    );
    for (others, may_read) in [("nothing", false), ("status", true)] {
        let (ward, _daemon) = waiting(&format!("{CONSENT}[local]\nothers = \"{others}\"\n"));
        open_to_all(ward.folder());
        let digest = ward.status()["update"]["digest"].clone();
        let said = |request: &Value| as_nobody(ward.folder(), request);
        let status = said(&json!({ "do": "status" }));
        assert_eq!(status.contains("\"phase\""), may_read, "{others}: {status}");
        for request in [
            json!({ "do": "consent", "update": digest }),
            json!({ "do": "postpone", "update": digest, "secs": 60 }),
            json!({ "do": "withdraw" }),
        ] {
            let answer = said(&request);
            let refused = answer.contains("not-allowed") || answer.is_empty();
            assert!(refused, "{others}: {answer}");
        }
        assert_eq!(ward.status()["consent"]["agreed"], Value::Null);
        assert_eq!(ward.status()["consent"]["postponements_left"], 1);
    }
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for path in [folder.to_owned(), folder.join("data")] {
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path, mode).expect("our own");
    }
}

/// One request by the user nobody; empty where the connection is refused or closed.
fn as_nobody(folder: &Path, request: &Value) -> String {
    let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ntry:\n s.connect(sys.argv[1])\n \
                  s.sendall((sys.argv[2]+'\\n').encode())\n print(s.makefile().readline())\n\
                  except OSError: pass\n";
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args(["/usr/bin/python3", "-c", script])
        .arg(folder.join("data/agent.sock"))
        .arg(request.to_string())
        .output()
        .expect("setpriv runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn the_service_manager_hears_that_it_is_ready_and_alive() {
    let ward = Ward::new(CONSENT);
    let path = ward.folder().join("notify");
    let socket = UnixDatagram::bind(&path).expect("binds");
    let timeout = Some(Duration::from_mins(1));
    socket.set_read_timeout(timeout).expect("a time-out");
    let mut command = ward.device.agent(&["daemon"]);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _daemon = Daemon(command.spawn().expect("runs"));
    let mut heard = Vec::new();
    let mut pings = 0;
    while pings < 5 || !heard.iter().any(|words| words == "STATUS=waiting 1.0.1") {
        let mut words = [0; 512];
        let count = socket.recv(&mut words).expect("words");
        let words = String::from_utf8_lossy(&words[..count]).into_owned();
        pings += u32::from(words == "WATCHDOG=1");
        heard.push(words);
    }
    assert_eq!(heard[0], "READY=1");
}

/// Systemd's own reader has nothing to say to the unit file.
#[test]
fn the_unit_file_is_read_by_systemd() {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = include_str!("../../../contrib/systemd/ampoule-agent.service");
    let unit = unit.replace(
        "/usr/bin/ampoule-agent",
        env!("CARGO_BIN_EXE_ampoule-agent"),
    );
    let path = folder.path().join("ampoule-agent.service");
    std::fs::write(&path, unit).expect("writes");
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(_) if std::env::var_os("AMPOULE_TEST_OFFLINE").is_some() => {
            println!("left out, there is no systemd-analyze: the unit file");
            return;
        }
        Err(error) => panic!("systemd-analyze: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// While an image comes in slowly the screen still has its answers, and progress.
#[test]
fn a_screen_is_served_while_an_image_is_filled() {
    let mut ward = Ward::new(CONSENT);
    ward.publish("1.0.2", 2, &noise(2, 6_000));
    ward.slow_down(Duration::from_millis(1));
    let _daemon = ward.daemon();
    ward.until("fills", |ward| ward.status()["phase"] == "filling");
    let start = Instant::now();
    let mut client = Client::new(ward.folder());
    assert_eq!(
        client.ask(&json!({ "do": "status" }))["ok"]["phase"],
        "filling"
    );
    assert!(start.elapsed() < Duration::from_secs(20));
}
