//! The authority of the TLS certificates is stolen, and with it the server's name and every device's.

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};

use crate::stage::Stage;
use crate::thief::{CONFIG, Thief};

/// The device trusts its server by a file, and a file comes by a release.
const ANCHORS: &str = r#"
[[component]]
name = "anchors"
install = "file"
path = "identity/ca.pem"
"#;

/// A certificate in the device's name, by the stolen authority.
fn forge_identity(stage: &Stage) {
    let site = &stage.site;
    let pem = |name: &str| String::from_utf8(site.read(name)).expect("text");
    let key = KeyPair::from_pem(&pem("pki/ca.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&pem("pki/ca.pem"), key).expect("an authority");
    let own = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "pump-0042");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&own, &issuer).expect("a certificate");
    std::fs::create_dir_all(site.file("forged")).expect("made");
    site.write("forged/device.pem", certificate.pem().as_bytes());
    site.write("forged/device.key", own.serialize_pem().as_bytes());
    let text = pem("agent.toml").replace("identity/device", "forged/device");
    let text = text.replace("\"data\"", "\"forged-data\"");
    site.write("forged.toml", text.as_bytes());
}

fn change(stage: &Stage, file: &str, from: &str, to: &str) {
    let text = String::from_utf8(stage.site.read(file)).expect("text");
    assert!(text.contains(from), "{file}: {text}");
    stage.site.write(file, text.replace(from, to).as_bytes());
}

/// Meant to catch: a server that takes any certificate in a device's name.
#[test]
fn a_stolen_authority_withholds_until_a_release_brings_the_next_one() {
    let mut stage = Stage::alone();
    stage.configure(|text| format!("{text}{ANCHORS}"));
    let _thief = Thief::with(&stage, &[]);
    stage.site.server("dev-ca --dir pki-2");
    let next = stage.site.read("pki-2/ca.pem");
    stage.site.write("anchors.pem", &next);
    change(
        &stage,
        "release-2.toml",
        "[sbom]",
        "[[component]]\nname = \"anchors\"\nhardware = [\"pump-mk3\"]\nartifact = \"anchors.pem\"\n\
         install = \"file\"\n\n[sbom]",
    );
    stage.release_two(["engineer", "safety"], ["snapshot", "timestamp"]);
    // In the server's place, under its name, with the tree of before.
    stage.serve(CONFIG);
    assert_eq!(stage.offered(), None, "the thief withholds");
    // As the device, under its name: it is not the certificate that was enrolled.
    stage.serve("server.toml");
    forge_identity(&stage);
    let refused = stage.other_agent("forged.toml", "check");
    let told = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(told.contains("server-forbids"), "{told}");

    // The drill: the device takes the next authority in a release, which the old server still
    // serves; then the server changes its certificate, and the device gets one of its own.
    stage.updates_to("2.0.0");
    assert_eq!(stage.site.read("identity/ca.pem"), next);
    for name in ["certificate = \"pki/", "key = \"pki/", "client_ca = \"pki/"] {
        change(&stage, "server.toml", name, &name.replace("pki/", "pki-2/"));
    }
    stage.serve("server.toml");
    stage
        .site
        .server("enroll --config serving-server.toml --dir new pump-0042");
    for name in ["device.pem", "device.key"] {
        let new = stage.site.read(&format!("new/{name}"));
        stage.site.write(&format!("identity/{name}"), &new);
    }
    assert_eq!(stage.offered(), None, "nothing is newer, and it is heard");

    // The thief stands there once more, and is nobody.
    stage.serve(CONFIG);
    let refused = stage.other_agent("agent.toml", "check");
    assert!(!refused.status.success());
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("invalid peer certificate"), "{told}");
    stage.serve("server.toml");
    change(&stage, "release-2.toml", "\"2.0.0\"", "\"3.0.0\"");
    change(
        &stage,
        "release-2.toml",
        "rollback_index = 2",
        "rollback_index = 3",
    );
    change(&stage, "release-2.toml", "pump-2.img", "pump-1.img");
    stage.release_two(["engineer", "safety"], ["snapshot", "timestamp"]);
    stage.serve("server.toml");
    stage.updates_to("3.0.0");
}
