//! Every mistake on the command line or in a file: exit 2 or 1, one `error:` line, and nothing
//! written. What is said is kept in `tests/golden/NAME.stderr`; `AMPOULE_BLESS=1` writes the files
//! anew, in a commit of its own.

mod common;

use std::fs;
use std::path::PathBuf;

use common::Ground;

const REFUSED: i32 = 1;
const USAGE: i32 = 2;

/// Runs, compares what is said, and sees to it that no file changed.
fn case(ground: &Ground, name: &str, code: i32, args: &[&str]) {
    let before = ground.files("");
    let said = ground.refused(code, args);
    assert!(
        ground.files("") == before,
        "{name}: a refused command changed files"
    );
    // What is signed is shown before it is signed, and holds today's date.
    let said = &said[said.find("error:").unwrap_or(0)..];
    let errors = said
        .lines()
        .filter(|line| line.starts_with("error:"))
        .count();
    assert_eq!(errors, 1, "{name}: {said}");
    for trace in [
        "panicked",
        "stack backtrace",
        "RUST_BACKTRACE",
        ground.path("").to_str().unwrap(),
    ] {
        assert!(!said.contains(trace), "{name}: {said}");
    }
    let golden =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.stderr"));
    if std::env::var_os("AMPOULE_BLESS").is_some() {
        fs::create_dir_all(golden.parent().unwrap()).unwrap();
        fs::write(&golden, said).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(said, expected, "{name}: {args:?}");
}

#[test]
fn wrong_usage() {
    let ground = Ground::bare();
    case(&ground, "usage-unknown-command", USAGE, &["sing"]);
    case(
        &ground,
        "usage-unknown-option",
        USAGE,
        &["review", "--colour"],
    );
    case(&ground, "usage-nothing-to-add", USAGE, &["add"]);
    case(
        &ground,
        "usage-sign-without-key",
        USAGE,
        &["sign", "x.request"],
    );
    case(
        &ground,
        "usage-sign-nothing",
        USAGE,
        &["sign", "-k", "alice.key"],
    );
    case(
        &ground,
        "usage-work-factor",
        USAGE,
        &["key", "generate", "k.key", "--work-factor", "40"],
    );
    case(
        &ground,
        "usage-threshold",
        USAGE,
        &["rotate", "root", "--threshold", "-1"],
    );
    case(&ground, "usage-no-ceremony", USAGE, &["init"]);
}

#[test]
fn workspaces_and_ceremonies() {
    let ground = Ground::bare();
    case(
        &ground,
        "no-workspace",
        REFUSED,
        &["-w", "nowhere", "review"],
    );
    case(
        &ground,
        "no-workspace-to-add",
        REFUSED,
        &["-w", "nowhere", "publish"],
    );
    case(
        &ground,
        "no-ceremony-file",
        REFUSED,
        &["init", "absent.toml", "-w", "w"],
    );
    let example = ampoule_signer::ceremony::EXAMPLE;
    ground.write(
        "bad.toml",
        example.replace("threshold = 2", "threshold = 9").as_bytes(),
    );
    case(
        &ground,
        "ceremony-thresholds",
        REFUSED,
        &["init", "bad.toml", "-w", "w"],
    );
    ground.write(
        "bad.toml",
        b"[root]\nthreshhold = 2\nkeys = []\n[snapshot]\nkeys = \"snapshot.pub\"\n[[product]]\nname = \"root\"\n\
          hardware = [\"a b\"]\nkeys = [\"x.pub\", \"x.pub\"]\nthreshold = 1.5\n[expiry_days]\nroot = 0\n",
    );
    case(
        &ground,
        "ceremony-many-faults",
        REFUSED,
        &["init", "bad.toml", "-w", "w"],
    );
    ground.write(
        "bad.toml",
        example.replace("alice.pub", "mallory.pub").as_bytes(),
    );
    case(
        &ground,
        "ceremony-no-public-key",
        REFUSED,
        &["init", "bad.toml", "-w", "w"],
    );
    ground.write(
        "mallory.pub",
        b"{\"keytype\":\"ed25519\",\"scheme\":\"ed25519\",\"keyval\":{\"public\":\"00\"}}",
    );
    case(
        &ground,
        "ceremony-bad-public-key",
        REFUSED,
        &["init", "bad.toml", "-w", "w"],
    );
    // Catches: a ceremony that promises two holders where there is one.
    ground.write("dan.pub", &ground.read("bob.pub"));
    ground.write(
        "bad.toml",
        example.replace("carol.pub", "dan.pub").as_bytes(),
    );
    case(
        &ground,
        "ceremony-one-key-twice",
        REFUSED,
        &["init", "bad.toml", "-w", "w"],
    );
    ground.write("bad.toml", &[0xff, 0xfe, 0x00]);
    case(
        &ground,
        "ceremony-not-text",
        REFUSED,
        &["init", "bad.toml", "-w", "w"],
    );
    ground.ok(&["init", "ceremony.toml", "-w", "w"]);
    case(
        &ground,
        "workspace-exists",
        REFUSED,
        &["init", "ceremony.toml", "-w", "w"],
    );
    ground.write("w/signer.toml", b"format = 2\n[[product]]\nname = \"p\"\n");
    case(&ground, "settings-faults", REFUSED, &["-w", "w", "review"]);
}

#[test]
fn release_descriptions() {
    let ground = Ground::published();
    let add = ["-w", "w", "add", "release.toml"];
    let with = |changes: &[(&str, &str)]| {
        let mut toml = common::release_toml("2.4.1", 17);
        for (from, to) in changes {
            assert!(toml.contains(from), "{from}");
            toml = toml.replacen(from, to, 1);
        }
        ground.write("release.toml", toml.as_bytes());
    };
    case(
        &ground,
        "release-absent",
        REFUSED,
        &["-w", "w", "add", "absent.toml"],
    );
    ground.release("2.4.0", 16);
    case(&ground, "release-version-not-above", REFUSED, &add);
    ground.release("2.4.1", 15);
    case(&ground, "release-rollback-falls", REFUSED, &add);
    with(&[("pump-mk3", "pump-mk4")]);
    case(&ground, "release-unknown-hardware", REFUSED, &add);
    with(&[("infusion-pump", "heart-pump")]);
    case(&ground, "release-unknown-product", REFUSED, &add);
    with(&[
        ("build/rootfs.img", "build/none.img"),
        ("build/rootfs.cdx.json", "build"),
    ]);
    case(&ground, "release-unreadable-files", REFUSED, &add);
    with(&[("[sbom]\nfile = \"build/rootfs.cdx.json\"\n", "")]);
    case(&ground, "release-no-sbom", REFUSED, &add);
    ground.write("build/broken.json", b"{\"a\": ");
    with(&[("build/rootfs.cdx.json", "build/broken.json")]);
    case(&ground, "release-sbom-not-json", REFUSED, &add);
    with(&[
        ("downtime_secs = 90", "downtime_secs = 9999999999"),
        ("= 17", "= -17"),
    ]);
    case(&ground, "release-numbers-out-of-bounds", REFUSED, &add);
    with(&[("\"last:3\"", "[\"2.3.9\", \"2.4.1\", \"two\"]")]);
    case(&ground, "release-unknown-bases", REFUSED, &add);
    with(&[("\"last:3\"", "\"last:0\"")]);
    case(&ground, "release-bases-word", REFUSED, &add);
    with(&[
        ("version = \"2.4.1\"", "version = \"2.4\""),
        ("class = \"security\"", "class = \"urgent\""),
        (
            "purpose = \"Closes CVE-2026-1234 in the network stack.\"",
            "purpose = \"  \"",
        ),
        (
            "regions = [\"US\", \"EU\"]",
            "regions = [\"us\", \"EU\", \"EU\"]",
        ),
        ("install = \"slot\"", "instal = \"slot\""),
        (">=2024.01", "newest"),
        (
            "functions_unavailable = [\"infusion\", \"alarm relay\"]",
            "functions_unavailable = 3",
        ),
    ]);
    case(&ground, "release-many-faults", REFUSED, &add);
    with(&[(
        "[sbom]",
        "[[component]]\nname = \"rootfs\"\nhardware = [\"pump-mk3\"]\nartifact = \"build/rootfs.img\"\ninstall = \"slot\"\n\n[sbom]",
    )]);
    case(&ground, "release-component-twice", REFUSED, &add);
    // What the file alone tells and what the workspace and the disk tell, in one list. Catches: a
    // bad word that hides that the artifact is missing.
    with(&[
        ("version = \"2.4.1\"", "version = \"2.4.0\""),
        ("rollback_index = 17", "rollback_index = 15"),
        ("class = \"security\"", "class = \"urgent\""),
        ("pump-mk3", "pump-mk4"),
        ("build/rootfs.img", "build/none.img"),
        ("install = \"slot\"", "install = \"slots\""),
        ("build/rootfs.cdx.json", "build/none.json"),
    ]);
    case(&ground, "release-faults-of-both-kinds", REFUSED, &add);
    ground.write(
        "release.toml",
        b"product = \"infusion-pump\nversion = = 1\n",
    );
    case(&ground, "release-syntax", REFUSED, &add);
    ground.write("release.toml", b"");
    case(&ground, "release-empty", REFUSED, &add);
    ground.write("release.toml", &vec![b'#'; 2 << 20]);
    case(&ground, "release-too-long", REFUSED, &add);
    assert!(!ground.path("w/staging/2.infusion-pump.request").exists());
    ground.release("2.4.1", 17);
    ground.ok(&add);
    ground.ok(&["-w", "w", "delta"]);
    ground.sign_all(&["engineer"]);
    case(&ground, "release-draft-is-being-signed", REFUSED, &add);
}

#[test]
fn keys() {
    let ground = Ground::new();
    let draft = "w/staging/1.root.request";
    case(
        &ground,
        "key-absent",
        REFUSED,
        &["sign", draft, "-y", "-k", "absent.key"],
    );
    case(
        &ground,
        "key-is-no-key",
        REFUSED,
        &["sign", draft, "-y", "-k", "ceremony.toml"],
    );
    case(
        &ground,
        "key-is-public",
        REFUSED,
        &["sign", draft, "-y", "-k", "alice.pub"],
    );
    case(
        &ground,
        "key-not-asked",
        REFUSED,
        &["sign", draft, "-y", "-k", "safety.key"],
    );
    case(
        &ground,
        "key-no-terminal",
        REFUSED,
        &["key", "generate", "new.key"],
    );
    case(
        &ground,
        "key-exists",
        REFUSED,
        &["key", "generate", "alice.key", "--unencrypted"],
    );
    case(
        &ground,
        "key-import-nonsense",
        REFUSED,
        &["key", "import", "pw", "new.key"],
    );
    case(
        &ground,
        "sign-without-yes",
        REFUSED,
        &["sign", draft, "-k", "alice.key"],
    );
}

#[test]
fn passphrases_and_descriptions() {
    let ground = Ground::new();
    let draft = "w/staging/1.root.request";
    ground.write("other", b"another passphrase\n");
    ground.write("empty", b"\n");
    ground.ok(&[
        "key",
        "import",
        "alice.key",
        "sealed.key",
        "--work-factor",
        "1",
        "--passphrase-file",
        "pw",
    ]);
    let sign = ["sign", draft, "-y", "-k", "sealed.key", "--passphrase-file"];
    case(
        &ground,
        "key-wrong-passphrase",
        REFUSED,
        &[&sign[..], &["other"]].concat(),
    );
    case(
        &ground,
        "key-empty-passphrase",
        REFUSED,
        &[&sign[..], &["empty"]].concat(),
    );
    case(
        &ground,
        "key-no-passphrase-file",
        REFUSED,
        &[&sign[..], &["absent"]].concat(),
    );
    let sealed = String::from_utf8_lossy(&ground.read("sealed.key")).into_owned();
    assert!(sealed.starts_with("age-encryption.org/v1\n-> scrypt "));
    let mut bytes = ground.read("sealed.key");
    let at = bytes.windows(3).position(|w| w == b" 1\n").unwrap();
    bytes.splice(at..at + 3, *b" 40\n");
    ground.write("sealed.key", &bytes);
    case(
        &ground,
        "key-too-much-work",
        REFUSED,
        &[&sign[..], &["pw"]].concat(),
    );
    ground.write("token.toml", b"kind = \"pkcs12\"\nmodule = 3\n");
    case(
        &ground,
        "key-description-faults",
        REFUSED,
        &["sign", draft, "-y", "-k", "token.toml"],
    );
    ground.write(
        "token.toml",
        b"kind = \"pkcs11\"\nmodule = \"none.so\"\ntoken = \"t\"\nlabel = \"l\"\n",
    );
    let said = ground.refused(REFUSED, &["sign", draft, "-y", "-k", "token.toml"]);
    // The rest of the message is the loader's own.
    assert!(
        said.starts_with("error: failed to load the library of the token \"t\"\ncaused by: "),
        "{said}"
    );
}

#[test]
fn drafts_and_trees() {
    let ground = Ground::published();
    case(
        &ground,
        "rotate-unknown-role",
        REFUSED,
        &["-w", "w", "rotate", "captain", "--threshold", "1"],
    );
    case(
        &ground,
        "rotate-nothing",
        REFUSED,
        &["-w", "w", "rotate", "root"],
    );
    case(
        &ground,
        "rotate-impossible",
        REFUSED,
        &["-w", "w", "rotate", "root", "--threshold", "4"],
    );
    case(
        &ground,
        "rotate-unknown-holder",
        REFUSED,
        &["-w", "w", "rotate", "root", "--remove", "mallory"],
    );
    case(
        &ground,
        "rotate-zero",
        USAGE,
        &["-w", "w", "rotate", "root", "--threshold", "0"],
    );
    case(
        &ground,
        "discard-nothing",
        REFUSED,
        &["-w", "w", "discard", "root"],
    );
    case(
        &ground,
        "delta-nothing-drafted",
        REFUSED,
        &["-w", "w", "delta"],
    );
    case(
        &ground,
        "delta-unknown-product",
        REFUSED,
        &["-w", "w", "delta", "heart-pump"],
    );
    case(
        &ground,
        "sign-nothing-drafted",
        REFUSED,
        &["-w", "w", "sign", "--all", "-y", "-k", "alice.key"],
    );
    case(&ground, "verify-no-tree", REFUSED, &["verify", "build"]);
    case(
        &ground,
        "verify-without-root",
        REFUSED,
        &["verify", "w/published/metadata/1.targets.json"],
    );
    case(
        &ground,
        "inspect-garbage",
        REFUSED,
        &["inspect", "build/rootfs.img"],
    );
    case(&ground, "inspect-absent", REFUSED, &["inspect", "absent"]);
    ground.write("half.request", b"{\"_type\":\"ampoule-signing-request\",");
    case(
        &ground,
        "request-half",
        REFUSED,
        &["review", "half.request"],
    );
    // Catches: a file that names nobody, or others, as those who name its signers.
    ground.release("2.4.1", 17);
    ground.ok(&["-w", "w", "add", "release.toml"]);
    let draft = String::from_utf8(ground.read("w/staging/2.infusion-pump.request")).unwrap();
    let role = "\"role\":\"infusion-pump\"";
    assert!(draft.contains(role));
    ground.write(
        "chain.request",
        draft.replace(role, "\"role\":\"targets\"").as_bytes(),
    );
    case(
        &ground,
        "request-of-another-chain",
        REFUSED,
        &["review", "chain.request"],
    );
    ground.write("other.request", b"{\"_type\":\"something else\"}");
    case(
        &ground,
        "request-of-another-kind",
        REFUSED,
        &["review", "other.request"],
    );
}
