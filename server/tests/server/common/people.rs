//! People who operate: their accounts, authenticators and sessions, over the real door.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ampoule_protocol::time::UtcTime;
use ampoule_server::accounts::totp;
use data_encoding::BASE32_NOPAD;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType,
};
use serde_json::{Value, json};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

use super::{Server, World, run, said, text};

pub const CTL: &str = env!("CARGO_BIN_EXE_ampoule-ctl");

/// A world whose server has a key to seal with.
pub fn with_secrets(mut world: World) -> World {
    let key = "ampoule-key-1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
    let secrets = world.path("keys");
    std::fs::create_dir(&secrets).unwrap();
    let path = secrets.join("secret.key");
    std::fs::write(&path, key).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, mode).unwrap();
    world.director += "[secrets]\nkey_file = \"keys/secret.key\"\n";
    world
}

/// A world with an operators' door.
pub fn with_door(world: World) -> World {
    let mut world = with_secrets(world);
    world.director += "[operators]\nlisten = \"127.0.0.1:0\"\ncertificate = \"server.pem\"\n\
                       key = \"server.key\"\nclient_ca = \"ca.pem\"\n";
    world
}

/// What came back: a status, and JSON where it was that.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
}

impl Reply {
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("")
    }

    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{:?}", self.body);
        self.body
    }

    /// A refusal, as RFC 9457 has it.
    pub fn refused(self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.code()),
            (status, code),
            "{:?}",
            self.body
        );
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["type"], format!("urn:ampoule:problem:{code}"));
        assert!(!self.body["detail"].as_str().unwrap().is_empty());
    }
}

/// The API, as anybody can call it.
pub struct Api {
    agent: ureq::Agent,
    url: String,
}

impl Api {
    pub fn new(world: &World, server: &Server) -> Self {
        Self::with(world, server, None)
    }

    pub fn with(world: &World, server: &Server, client: Option<ClientCert>) -> Self {
        let ca = std::fs::read(world.path("ca.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::new_with_certs(&[
                Certificate::from_pem(&ca).unwrap()
            ]))
            .client_cert(client)
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .build();
        let port = server.operators.unwrap().port();
        Self {
            agent: config.new_agent(),
            url: format!("https://localhost:{port}"),
        }
    }

    pub fn call(&self, method: &str, path: &str, session: Option<&str>, body: &Value) -> Reply {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("content-type", "application/json");
        if let Some(session) = session {
            request = request.header("authorization", format!("Bearer {session}"));
        }
        let body = match method {
            "GET" => String::new(),
            _ => body.to_string(),
        };
        let mut response = self.agent.run(request.body(body).unwrap()).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        if response.status() != 200 {
            let kind = response.headers()["content-type"].to_str().unwrap();
            assert_eq!(kind, "application/problem+json", "{method} {path}: {text}");
        }
        Reply {
            status: response.status().as_u16(),
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        }
    }
}

/// Somebody with an authenticator.
pub struct Person {
    pub name: String,
    pub password: String,
    seed: Vec<u8>,
    used: u64,
    pub recovery: Vec<String>,
    pub session: String,
}

pub fn step_now() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    totp::step(UtcTime::from_unix(i64::try_from(since.as_secs()).unwrap()))
}

impl Person {
    /// Takes up an invitation, and logs in.
    pub fn activate(api: &Api, name: &str, invitation: &str) -> Self {
        let password = format!("{name}'s long password");
        let accept = json!({"account": name, "invitation": invitation, "password": password});
        let seed = api.call("POST", "/api/v1/accept", None, &accept).ok();
        let seed = BASE32_NOPAD
            .decode(seed["secret"].as_str().unwrap().as_bytes())
            .unwrap();
        let mut person = Self {
            name: name.into(),
            password,
            seed,
            used: 0,
            recovery: Vec::new(),
            session: String::new(),
        };
        let codes = person.with_code(|code| {
            let words = json!({"account": name, "invitation": invitation, "code": code});
            api.call("POST", "/api/v1/activate", None, &words)
        });
        let codes = codes.ok()["codes"].as_array().unwrap().clone();
        person.recovery = codes
            .iter()
            .map(|code| code.as_str().unwrap().into())
            .collect();
        // With a recovery code: codes of the authenticator are three a minute at most.
        let recovery = person.recovery.pop().unwrap();
        let words = json!({"account": name, "password": person.password, "recovery": recovery});
        let entered = api.call("POST", "/api/v1/login", None, &words).ok();
        person.session = entered["session"].as_str().unwrap().into();
        person
    }

    /// A code that was not used. Three are good at any time; who asks for more waits for the next.
    pub fn code(&mut self) -> String {
        waits("a code is left", || self.used <= step_now());
        self.used = (self.used + 1).max(step_now() - 1);
        self.last_code()
    }

    pub fn last_code(&self) -> String {
        totp::code(&self.seed, self.used)
    }

    /// Asks with a fresh code; once more where the server's clock, which ticks once a second, was
    /// not yet where ours is, or a step ended between the two of us.
    pub fn with_code(&mut self, mut ask: impl FnMut(&str) -> Reply) -> Reply {
        let code = self.code();
        let reply = ask(&code);
        if !matches!(reply.code(), "code-refused" | "login-refused") {
            return reply;
        }
        waits("its time has come for both", || self.used < step_now());
        let code = if self.used + 1 == step_now() {
            code
        } else {
            self.code()
        };
        ask(&code)
    }
}

/// Two steps at most, on a machine that has other things to do.
fn waits(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(3);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The first administrator, as the operator of the machine makes it.
pub fn first(world: &World, api: &Api) -> Person {
    let config = world.path("server.toml");
    let args = [
        "account",
        "create-first",
        "root",
        "--config",
        text(&config),
        "--json",
    ];
    let output = run(&args);
    assert!(output.status.success(), "{}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    Person::activate(api, "root", told["invitation"].as_str().unwrap())
}

/// Somebody with these roles, made by `admin`.
pub fn hire(api: &Api, admin: &mut Person, name: &str, roles: &[&str]) -> Person {
    let session = admin.session.clone();
    let made = admin.with_code(|code| {
        let words = json!({"account": name, "roles": roles, "code": code});
        api.call("POST", "/api/v1/accounts", Some(&session), &words)
    });
    Person::activate(api, name, made.ok()["invitation"].as_str().unwrap())
}

/// A program's certificate of the world's authority.
pub fn program(world: &World, role: &str, name: &str) -> (PathBuf, PathBuf, ClientCert) {
    let read = |name: &str| std::fs::read_to_string(world.path(name)).unwrap();
    let ca_key = KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), ca_key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let uri = format!("urn:ampoule:operator:{role}:{name}");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    let (cert_path, key_path) = (
        world.path(&format!("{name}.pem")),
        world.path(&format!("{name}.key")),
    );
    std::fs::write(&cert_path, &certificate).unwrap();
    std::fs::write(&key_path, key.serialize_pem()).unwrap();
    let client = ClientCert::new_with_certs(
        &[Certificate::from_pem(certificate.as_bytes()).unwrap()],
        PrivateKey::from_pem(key.serialize_pem().as_bytes()).unwrap(),
    );
    (cert_path, key_path, client)
}

/// Runs `ampoule-ctl` with a profile folder of its own, and gives it these lines to read.
pub fn ctl(folder: &Path, args: &[&str], lines: &str) -> Output {
    let mut child = Command::new(CTL)
        .args(args)
        .env("AMPOULE_CTL_DIR", folder)
        .env_remove("AMPOULE_SERVER")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that fails early does not read.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    child.wait_with_output().unwrap()
}
