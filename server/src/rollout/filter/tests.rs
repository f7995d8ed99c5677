//! The grammar, by example.

use std::collections::BTreeMap;
use std::sync::Arc;

use ampoule_protocol::name::{DeviceId, HardwareId, ProductName};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::RollbackIndex;

use super::*;
use crate::rollout::facts::{DeviceFacts, Profile, Running};

fn pump() -> DeviceFacts {
    let running = Running {
        version: Some("2.4.0-rc.1".into()),
        sha256: None,
    };
    let profile = Profile {
        product: ProductName::parse("infusion-pump").unwrap(),
        hardware: HardwareId::parse("pump-mk3").unwrap(),
        running: BTreeMap::from([("rootfs".into(), running)]),
        floor: RollbackIndex(17),
        agent: "0.1.0".into(),
    };
    let tags = [("site", "north"), ("region", "EU"), ("bed", "12")];
    DeviceFacts {
        number: 0,
        device: DeviceId::parse("pump-0042").unwrap(),
        enrolled: true,
        enrolled_at: 0,
        seen_at: None,
        profile: Some(Arc::new(profile)),
        tags: Arc::new(tags.map(|(name, value)| (name.into(), value.into())).into()),
    }
}

#[test]
fn what_holds_and_what_does_not() {
    let device = pump();
    let now = UtcTime::from_unix(10 * 86_400 + 5);
    for (text, expected) in [
        ("all", true),
        ("not all", false),
        ("product = infusion-pump and hardware = \"pump-mk3\"", true),
        ("device ~ pump-00*", true),
        ("device ~ pump-00?", false),
        ("device ~ *-*2", true),
        ("region in (US, EU)", true),
        ("region in (US)", false),
        ("tag.site != south", true),
        ("tag.ward != south", false),
        ("not tag.ward = south", true),
        ("has tag.ward", false),
        ("has tag.bed and tag.bed < 13", true),
        ("tag.site < 13", false),
        ("floor >= 17", true),
        ("version.rootfs < 2.4.0", true),
        ("version.rootfs > 2.3.9", true),
        ("version.bootloader > 0", false),
        ("agent < 0.1", false),
        ("agent <= 0.1", true),
        ("enrolled-days = 10", true),
        ("silent-days >= 0", false),
        ("all and not all or all", true),
        ("all or all and not all", true),
        ("(all or all) and not all", false),
    ] {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(filter.matches(&device, now), expected, "{text}");
    }
}

#[test]
fn faults_name_their_place() {
    for (text, said) in [
        ("", "filter, column 1: found the end, expected a fact"),
        (
            "hardware",
            "filter, column 9: found the end, expected a relation",
        ),
        (
            "hardware = ",
            "filter, column 12: found the end, expected a value",
        ),
        ("hardware < a", "filter, column 10: this fact has no order"),
        ("floor < x", "filter, column 9: \"x\" cannot be compared"),
        (
            "colour = red",
            "filter, column 1: found \"colour\", expected a fact",
        ),
        (
            "all all",
            "filter, column 5: found \"all\", expected \"and\", \"or\" or the end",
        ),
        ("(all", "filter, column 5: found the end, expected \")\""),
        ("tag.ü = 1", "filter, column 5: 'ü' does not belong here"),
        (
            "tag.a = \"x",
            "filter, column 9: a quotation mark is not closed",
        ),
        (
            "tag.a = \"x\u{7}\"",
            "filter, column 9: a control character",
        ),
        (
            "tag. = 1",
            "filter, column 1: found \"tag.\", expected a fact",
        ),
    ] {
        let error = Filter::parse(text).expect_err(text).to_string();
        assert!(error.starts_with(said), "{text}: {error}");
    }
}

#[test]
fn bounds_hold() {
    let nested = |levels: usize| format!("{}all{}", "(".repeat(levels), ")".repeat(levels));
    assert!(Filter::parse(&nested(FILTER_DEPTH_MAX - 1)).is_ok());
    assert!(Filter::parse(&nested(FILTER_DEPTH_MAX)).is_err());
    assert!(Filter::parse(&"not ".repeat(1000)).is_err());
    let list = |values: usize| format!("tag.a in (a{})", ",a".repeat(values - 1));
    assert!(Filter::parse(&list(FILTER_TERMS_MAX)).is_ok());
    assert!(Filter::parse(&list(FILTER_TERMS_MAX + 1)).is_err());
    assert!(Filter::parse(&" ".repeat(FILTER_LEN_MAX + 1)).is_err());
}
