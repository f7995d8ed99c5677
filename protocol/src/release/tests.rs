//! A release description comes back as it was, and every bound of it holds.

use super::*;

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn file(name: &str, length: u64) -> FileRef {
    let path = TargetPath::parse(&format!("infusion-pump/{name}")).expect("a path");
    FileRef {
        path,
        length,
        sha256: digest(1),
    }
}

fn release() -> Release {
    Release {
        format: FORMAT,
        product: ProductName::parse("infusion-pump").expect("a name"),
        version: ReleaseVersion::parse("2.4.1").expect("a version"),
        rollback_index: RollbackIndex(17),
        class: Class::Security,
        purpose: "Closes CVE-2026-1234.".to_string(),
        risk_if_not_applied: String::new(),
        downtime_secs: 90,
        functions_unavailable: Vec::new(),
        regions: Vec::new(),
        components: alloc::vec![Component {
            name: ComponentName::parse("rootfs").expect("a name"),
            hardware: alloc::vec![HardwareId::parse("pump-mk3").expect("an id")],
            install: Install::Slot,
            activation: Activation::Restart,
            meta_data: None,
            requires: BTreeMap::new(),
            artifact: file("rootfs-2.4.1.img", 100_000),
            blocks: Blocks {
                block_len: 65_536,
                root: digest(2),
                leaves: file("rootfs-2.4.1.leaves", 64),
            },
            deltas: Vec::new(),
        }],
        sbom: None,
    }
}

#[test]
fn custom_comes_back() {
    let custom = release().to_custom().expect("within bounds");
    assert_eq!(Release::from_custom(Some(&custom)), Ok(release()));
    assert_eq!(
        release().path().as_str(),
        "infusion-pump/release-2.4.1.toml"
    );
}

fn code_after(bend: impl FnOnce(&mut Release)) -> &'static str {
    let mut bent = release();
    bend(&mut bent);
    bent.to_custom().expect_err("bent").code()
}

#[test]
fn bounds_hold() {
    assert_eq!(
        code_after(|r| r.purpose = "x".repeat(5000)),
        "release-too-long"
    );
    assert_eq!(
        code_after(|r| r.regions = alloc::vec![String::new(); 300]),
        "release-too-long"
    );
    assert_eq!(code_after(|r| r.components.clear()), "release-content");
    assert_eq!(
        code_after(|r| r.components.push(r.components[0].clone())),
        "release-content"
    );
    assert_eq!(
        code_after(|r| r.components[0].hardware.clear()),
        "release-content"
    );
    assert_eq!(
        code_after(|r| r.components[0].blocks.leaves.length = 32),
        "release-content"
    );
    assert_eq!(
        code_after(|r| r.components[0].blocks.block_len = 1000),
        "release-blocks"
    );
    assert_eq!(
        code_after(|r| r.components[0].artifact.length = u64::MAX),
        "release-blocks"
    );
    let other = TargetPath::parse("infusion-pump2/x").expect("a path");
    assert_eq!(
        code_after(|r| r.components[0].artifact.path = other),
        "release-content"
    );
}

#[test]
fn a_later_format_is_named_as_such() {
    let custom = json::parse(br#"{"ampoule":{"format":2,"all":"else"}}"#).expect("JSON");
    let refused = Release::from_custom(Some(&custom));
    assert_eq!(refused, Err(ReleaseError::Format { found: 2 }));
    assert_eq!(
        Release::from_custom(None).expect_err("none").code(),
        "release-malformed"
    );
}

#[test]
fn release_paths_are_told_from_others() {
    let product = ProductName::parse("infusion-pump").expect("a name");
    let is = |path: &str| is_release_path(&product, &TargetPath::parse(path).expect("a path"));
    assert!(is("infusion-pump/release-2.4.1.toml"));
    assert!(!is("infusion-pump/release-.toml"));
    assert!(!is("infusion-pump/release-2.4.1.json"));
    assert!(!is("infusion-pumps/release-2.4.1.toml"));
    assert!(!is("infusion-pump/rootfs-2.4.1.img"));
}
