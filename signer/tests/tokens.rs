//! Keys that are not files: tokens behind PKCS#11, exercised with SoftHSM2 (Debian's package
//! `softhsm2`), and external commands.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ampoule_protocol::sign::P256Key;
use common::{Ground, key};

const PIN: &str = "4711";

/// SoftHSM's library; `None` where the machine is said to have none.
///
/// A missing library fails the test: silence would look like success. `AMPOULE_TEST_OFFLINE=1`
/// says that nothing can be installed here, and the test is listed as left out.
fn softhsm() -> Option<PathBuf> {
    let named = std::env::var_os("AMPOULE_SOFTHSM").map(PathBuf::from);
    let usual = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/softhsm/libsofthsm2.so",
    ];
    let found = named
        .into_iter()
        .chain(usual.map(PathBuf::from))
        .find(|path| path.is_file());
    if found.is_none() && std::env::var_os("AMPOULE_TEST_OFFLINE").is_some_and(|v| v == "1") {
        eprintln!("left out: SoftHSM2 is not installed, so no token was tried");
        return None;
    }
    assert!(
        found.is_some(),
        "SoftHSM2 is not installed: apt-get install softhsm2, or name libsofthsm2.so in AMPOULE_SOFTHSM"
    );
    found
}

/// A token "release" with a key "alice" on it, and its description `alice.toml`.
struct Token {
    ground: Ground,
}

impl Token {
    fn new(module: &Path, pem: &str) -> Self {
        let ground = Ground::bare();
        ground.write("tokens/.keep", b"");
        let folder = ground.path("tokens");
        ground.write(
            "softhsm2.conf",
            format!(
                "directories.tokendir = {}\nobjectstore.backend = file\n",
                folder.display()
            )
            .as_bytes(),
        );
        ground.write("alice.pem", pem.as_bytes());
        ground.write("pin", PIN.as_bytes());
        let describe = |token: &str, label: &str| {
            format!(
                "kind = \"pkcs11\"\nmodule = \"{}\"\ntoken = \"{token}\"\nlabel = \"{label}\"\n",
                module.display()
            )
        };
        ground.write("alice.toml", describe("release", "alice").as_bytes());
        ground.write("nobody.toml", describe("release", "nobody").as_bytes());
        ground.write("elsewhere.toml", describe("elsewhere", "alice").as_bytes());
        let token = Self { ground };
        token.util(&[
            "--init-token",
            "--free",
            "--label",
            "release",
            "--so-pin",
            "12345678",
            "--pin",
            PIN,
        ]);
        token.util(&[
            "--import",
            "alice.pem",
            "--token",
            "release",
            "--label",
            "alice",
            "--id",
            "01",
            "--pin",
            PIN,
        ]);
        token
    }

    fn util(&self, args: &[&str]) {
        let output = Command::new("softhsm2-util")
            .args(args)
            .current_dir(self.ground.path(""))
            .env("SOFTHSM2_CONF", self.ground.path("softhsm2.conf"))
            .output()
            .expect("softhsm2-util comes with the package softhsm2");
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = self.ground.command(args);
        command.env("SOFTHSM2_CONF", self.ground.path("softhsm2.conf"));
        command.output().expect("the signer starts")
    }

    fn ok(&self, args: &[&str]) {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

/// The ceremony with alice's key on a token, her signature on root, and the tree that comes of it.
fn a_token_signs_root(pem: &str) {
    let Some(module) = softhsm() else { return };
    let token = Token::new(&module, pem);
    std::fs::remove_file(token.ground.path("alice.pub")).unwrap();
    token.ok(&[
        "key",
        "export-public",
        "alice.toml",
        "alice.pub",
        "--passphrase-file",
        "pin",
    ]);
    let ground = &token.ground;
    ground.ok(&["init", "ceremony.toml", "-w", "w"]);
    ground.build(0);
    ground.release("2.4.0", 16);
    ground.ok(&["-w", "w", "add", "release.toml"]);
    token.ok(&[
        "-w",
        "w",
        "sign",
        "--all",
        "-y",
        "-k",
        "alice.toml",
        "--passphrase-file",
        "pin",
    ]);
    ground.sign_all(&["bob", "engineer", "safety"]);
    ground.publish();
    ground.ok(&["verify", "w/published"]);
    let root = String::from_utf8(ground.read("w/published/metadata/1.root.json")).unwrap();
    let alice = ampoule_signer::keys::public::read(&ground.path("alice.pub"))
        .unwrap()
        .id();
    let signatures = &root[..root.find("\"signed\"").unwrap()];
    assert!(
        signatures.contains(alice.as_str()),
        "the token's signature is not in root"
    );
}

#[test]
fn a_p256_key_on_a_token_signs_root() {
    let key = P256Key::from_scalar(&[7; 32]).unwrap();
    a_token_signs_root(&key.to_pkcs8_pem());
}

#[test]
fn an_ed25519_key_on_a_token_signs_root() {
    a_token_signs_root(&key("alice").to_pkcs8_pem());
}

#[test]
fn a_wrong_pin_a_missing_key_and_a_missing_token_are_told_apart() {
    let Some(module) = softhsm() else { return };
    let token = Token::new(
        &module,
        &P256Key::from_scalar(&[7; 32]).unwrap().to_pkcs8_pem(),
    );
    token.ground.write("wrong", b"0000\n");
    let export = |description: &str, pin: &str| {
        token.refused(&[
            "key",
            "export-public",
            description,
            "--passphrase-file",
            pin,
        ])
    };
    let wrong = export("alice.toml", "wrong");
    assert!(
        wrong.starts_with("error: failed to log in to the token \"release\"\n"),
        "{wrong}"
    );
    let missing = export("nobody.toml", "pin");
    assert!(
        missing.starts_with("error: there is no key \"nobody\" on the token"),
        "{missing}"
    );
    let elsewhere = export("elsewhere.toml", "pin");
    assert!(
        elsewhere.starts_with("error: there is no token \"elsewhere\"\n"),
        "{elsewhere}"
    );
}

#[test]
fn a_command_signs_and_what_it_answers_is_verified() {
    let ground = Ground::new();
    let request = "w/staging/1.root.request";
    ground.ok(&["payload", request, "payload.bin"]);
    let signature = ampoule_protocol::sign::Sign::sign(&key("bob"), &ground.read("payload.bin"));
    let hex = ampoule_protocol::hex::encode(&signature.unwrap());
    let describe = |answer: &str, timeout_secs: u32| {
        format!(
            "kind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"{answer}\"]\n\
             public = \"bob.pub\"\ntimeout_secs = {timeout_secs}\n"
        )
    };
    let before = ground.read(request);
    for (answer, told) in [
        (
            "cat >/dev/null; echo nonsense",
            "it answered something other than hex digits",
        ),
        ("cat >/dev/null; exit 3", "it ended with exit status: 3"),
        (
            "cat >/dev/null; echo 00",
            "its signature does not verify with its public key",
        ),
        ("exec sleep 60", "it did not answer within 1 seconds"),
    ] {
        ground.write("bob.toml", describe(answer, 1).as_bytes());
        let refused = ground.refused(1, &["sign", request, "-y", "-k", "bob.toml"]);
        assert!(refused.contains(told), "{told}\n--\n{refused}");
        assert_eq!(ground.read(request), before, "{answer}");
    }
    ground.write(
        "bob.toml",
        describe(&format!("cat >/dev/null; echo {hex}"), 30).as_bytes(),
    );
    ground.ok(&["sign", request, "-y", "-k", "bob.toml"]);
    assert_ne!(ground.read(request), before);
}
