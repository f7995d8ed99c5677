//! The device's key where no file has it: behind a command, on a PKCS#11 token, in a TPM. The whole way each
//! time: the key is made there, enrolled, shown in TLS, and signs a receipt.
//!
//! Catches a receipt that is signed anew each time, and one whose file stays for ever (`agent::driver::signed`).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SubjectPublicKeyInfo,
};

use crate::site::Site;
use crate::{Running, start};

/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// A key in a file that OpenSSL uses: a second program, which others wrote.
const OPENSSL: &str = r#"#!/bin/sh
set -eu
echo "$1" >> "$0.asked"
case $1 in
create)
    test -f "$0.pem" || openssl ecparam -name prime256v1 -genkey -noout -out "$0.pem"
    openssl pkey -in "$0.pem" -pubout ;;
sign) openssl dgst -sha256 -sign "$0.pem" | od -An -v -tx1 | tr -d ' \n' ;;
esac
"#;

/// A device whose key file describes this command, and which has no certificate yet.
fn device(command: &[&str]) -> Site {
    let site = Site::new();
    std::fs::remove_file(site.file("identity/device.pem")).expect("removed");
    describe(&site, command, 60);
    site
}

fn describe(site: &Site, command: &[&str], secs: u64) {
    let words: Vec<String> = command.iter().map(|word| format!("{word:?}")).collect();
    let text = format!(
        "kind = \"command\"\ncommand = [{}]\ntimeout_secs = {secs}\n",
        words.join(", ")
    );
    site.write("identity/device.key", text.as_bytes());
}

/// Written by a process of its own: a descriptor that writes here could be inherited by what another test's
/// thread starts, and then the script is "busy" (execve(2), `ETXTBSY`).
fn script(folder: &Path, text: &str) -> PathBuf {
    let (text_of, path) = (folder.join("hook.text"), folder.join("hook"));
    std::fs::write(&text_of, text).expect("written");
    let made = Command::new("install")
        .args(["-m", "700"])
        .args([&text_of, &path])
        .status();
    assert!(made.expect("install runs").success());
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn enroll(site: &Site) -> Running {
    let server = start(site);
    let token = site.server("enrolment token pump-0042 --config serving.toml");
    site.write("token", token.as_bytes());
    assert_eq!(site.agent("enroll pump-0042")["result"], "enrolled");
    server
}

/// Enrols, updates, and has its receipt believed.
fn enrols_and_updates(site: &Site) {
    let _server = enroll(site);
    assert_eq!(site.agent("install")["result"], "restart-due");
    site.agent("boot");
    assert_eq!(site.agent("install")["result"], "committed");
    let shown = site.server("device show --config serving.toml pump-0042");
    assert!(shown.contains("committed"), "{shown}");
    let key = String::from_utf8(site.read("identity/device.key")).expect("text");
    assert!(key.starts_with("kind"), "the file is left as it is: {key}");
}

#[test]
fn a_key_behind_a_command_enrols_and_updates() {
    let folder = tempfile::tempdir().expect("a folder");
    let hook = script(folder.path(), OPENSSL);
    let site = device(&[text(&hook)]);
    enrols_and_updates(&site);
    let asked = std::fs::read_to_string(folder.path().join("hook.asked")).expect("asked");
    assert_eq!(asked.matches("create").count(), 1, "{asked}");
    assert!(asked.matches("sign").count() >= 3, "{asked}");
}

/// A TPM signs the same receipt differently each time, and the server knows receipts by their digest.
#[test]
fn a_receipt_keeps_its_bytes_until_it_is_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = device(&[text(&script(folder.path(), OPENSSL))]);
    let server = enroll(&site);
    assert_eq!(site.agent("install")["result"], "restart-due");
    drop(server);
    site.agent("boot");
    assert_eq!(site.agent("install")["result"], "committed");
    site.agent("receipts first.tar");
    site.agent("receipts second.tar");
    assert_eq!(site.read("first.tar"), site.read("second.tar"));
    let kept = |site: &Site| {
        let names = std::fs::read_dir(site.file("data")).expect("the agent's folder");
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.starts_with("receipt-")).count()
    };
    assert_eq!(kept(&site), 1);
    site.server("receipts --config serving.toml --acknowledged acknowledged.json first.tar");
    let done = site.agent("receipts --acknowledged acknowledged.json");
    assert_eq!(done["acknowledged"], 1, "{done}");
    assert_eq!(kept(&site), 0);
}

#[test]
fn a_certificate_of_such_a_key_is_renewed() {
    let folder = tempfile::tempdir().expect("a folder");
    let hook = script(folder.path(), OPENSSL);
    let site = device(&[text(&hook)]);
    let made = Command::new(&hook).arg("create").output().expect("it runs");
    let public = String::from_utf8(made.stdout).expect("a PEM");
    old_certificate(&site, &public);
    site.server("enroll --config server.toml --certificate identity/device.pem pump-0042");
    let _server = start(&site);
    let old = site.read("identity/device.pem");
    assert_eq!(site.agent("install")["result"], "restart-due");
    let new = site.read("identity/device.pem");
    assert_ne!(new, old, "it was renewed");
    site.agent("check");
    site.write("identity/device.pem", &old);
    assert_eq!(site.refusal("check"), "server-forbids");
}

/// A certificate for `public` that has used up most of its life.
fn old_certificate(site: &Site, public: &str) {
    let pem = |name: &str| String::from_utf8(site.read(name)).expect("text");
    let key = KeyPair::from_pem(&pem("pki/ca.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&pem("pki/ca.pem"), key).expect("an authority");
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "pump-0042");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let day = Duration::from_hours(24);
    let now = std::time::SystemTime::now();
    params.not_before = (now - day * 300).into();
    params.not_after = (now + day * 30).into();
    let public = SubjectPublicKeyInfo::from_pem(public).expect("a key");
    let certificate = params.signed_by(&public, &issuer).expect("a certificate");
    site.write("identity/device.pem", certificate.pem().as_bytes());
}

/// Meant to catch: an agent that does not start, or hangs, for its key; a fault that is called the network's.
#[test]
fn a_command_that_fails_is_named_and_costs_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let hook = script(folder.path(), OPENSSL);
    let site = device(&[text(&hook)]);
    let _server = enroll(&site);
    for command in [
        &["/bin/false"][..],
        &["/nonexistent/hook"],
        &["/bin/sh", "-c", "yes"],
        &["/bin/sh", "-c", "echo 00"],
        &["/bin/sh", "-c", "kill -9 $$"],
        &["/bin/sh", "-c", "sleep 600"],
    ] {
        describe(&site, command, 1);
        assert_eq!(site.refusal("check"), "device-key", "{command:?}");
        // What needs no signature goes on.
        site.agent("status");
    }
    // One that has another key.
    let other = tempfile::tempdir().expect("a folder");
    let other = script(other.path(), OPENSSL);
    let made = Command::new(&other)
        .arg("create")
        .output()
        .expect("it runs");
    assert!(made.status.success());
    describe(&site, &[text(&other)], 60);
    assert_eq!(site.refusal("check"), "device-key");
    for nonsense in ["", "kind = \"tpm\"", "kind = \"command\"\ncommand = []\n"] {
        site.write("identity/device.key", nonsense.as_bytes());
        assert_eq!(site.refusal("check"), "identity", "{nonsense}");
    }
    describe(&site, &[text(&hook)], 60);
    site.agent("check");
}

/// Offline it may be left out; else it is an error that it is missing.
fn is_there(package: &str, found: bool) -> bool {
    let is_offline = std::env::var_os("AMPOULE_TEST_OFFLINE").is_some();
    assert!(
        found || is_offline,
        "the Debian package {package} is missing"
    );
    if !found {
        eprintln!("left out: {package} is not installed");
    }
    found
}

fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    let output = command.arg("--version").output();
    output.is_ok()
}

#[test]
fn a_key_on_a_token_enrols_and_updates() {
    let usual = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/softhsm/libsofthsm2.so",
    ];
    let module = usual.into_iter().find(|path| Path::new(path).is_file());
    if !is_there("softhsm2", module.is_some()) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("tokens")).expect("made");
    let conf = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\n",
        path("tokens").display()
    );
    std::fs::write(path("softhsm2.conf"), conf).expect("written");
    std::fs::write(path("pin"), "4711\n").expect("written");
    let conf = format!("SOFTHSM2_CONF={}", path("softhsm2.conf").display());
    let made = Command::new("env")
        .arg(&conf)
        .args([
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            "device",
        ])
        .args(["--so-pin", "12345678", "--pin", "4711"])
        .output()
        .expect("softhsm2-util comes with softhsm2");
    assert!(made.status.success(), "{made:?}");
    let pin = path("pin");
    let command = [
        "/usr/bin/env",
        &conf,
        env!("CARGO_BIN_EXE_pkcs11-under-test"),
        "--module",
        module.unwrap_or_default(),
        "--token",
        "device",
        "--key",
        "ampoule",
        "--pin-file",
        text(&pin),
    ];
    enrols_and_updates(&device(&command));
    let ask = |words: &[&str]| {
        let mut asked = Command::new(command[0]);
        asked.args(&command[1..]).args(words).stdin(Stdio::null());
        asked.output().expect("it runs")
    };
    let keys = [ask(&["create"]).stdout, ask(&["create"]).stdout];
    assert_eq!(keys[0], keys[1], "the key that is there stays");
    std::fs::write(path("pin"), "4712\n").expect("written");
    let refused = ask(&["sign"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot be logged in to"), "{said}");
}

/// A TPM in software; ended when dropped.
struct Tpm {
    program: Child,
    port: u16,
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

impl Tpm {
    fn start(folder: &Path) -> Self {
        let state = format!("dir={}", folder.display());
        for _ in 0..20 {
            // Its control port is the next one, for the library that speaks to it.
            let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = free.local_addr().expect("bound").port();
            let server = format!("type=tcp,port={port}");
            let control = format!("type=tcp,port={}", port.saturating_add(1));
            drop(free);
            let mut program = Command::new("swtpm")
                .args(["socket", "--tpm2", "--tpmstate", &state])
                .args(["--server", &server, "--ctrl", &control])
                .args(["--flags", "not-need-init,startup-clear"])
                .stderr(Stdio::null())
                .spawn()
                .expect("swtpm runs");
            let start = Instant::now();
            while start.elapsed() < PATIENCE && program.try_wait().expect("ours").is_none() {
                let control = ("127.0.0.1", port.saturating_add(1));
                if std::net::TcpStream::connect(control).is_ok() {
                    return Self { program, port };
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = program.kill();
            let _ = program.wait();
        }
        panic!("swtpm found no two ports that are free");
    }
}

/// With the script that we give to whoever has a TPM.
#[test]
fn a_key_in_a_tpm_enrols_and_updates() {
    if !is_there("swtpm", runs("swtpm")) || !is_there("tpm2-tools", runs("tpm2_sign")) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let tpm = Tpm::start(folder.path());
    let tcti = format!("TPM2TOOLS_TCTI=swtpm:host=127.0.0.1,port={}", tpm.port);
    let hook = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/keys/ampoule-tpm2-key");
    let command = ["/usr/bin/env", &tcti, text(&hook), "0x81010001"];
    enrols_and_updates(&device(&command));
    let create = || {
        let mut asked = Command::new(command[0]);
        asked.args(&command[1..]).arg("create");
        asked.output().expect("it runs").stdout
    };
    let key = create();
    assert!(!key.is_empty());
    assert_eq!(key, create(), "the key that is there stays");
}
