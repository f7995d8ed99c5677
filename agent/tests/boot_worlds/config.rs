//! The words of the configuration that choose a world.

use ampoule_agent::boot::World;
use ampoule_agent::config::{Config, ConfigError, load};
use ampoule_protocol::error::chain;

const HEAD: &str = r#"
data_dir = "data"
product = "infusion-pump"
hardware = "pump-mk3"
root = "1.root.json"
[server]
url = "https://localhost"
ca = "ca.pem"
certificate = "device.pem"
key = "device.key"
[[component]]
name = "rootfs"
install = "slot"
slots = { a = "/dev/a", b = "/dev/b" }
"#;

fn config(lines: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, format!("{HEAD}{lines}")).expect("a file");
    load(&path)
}

fn world(lines: &str) -> World {
    let config = config(lines).expect("a configuration");
    let [(component, world)] = &config.worlds[..] else {
        panic!("one world, found {:?}", config.worlds)
    };
    assert_eq!(component.as_str(), "rootfs");
    world.clone()
}

#[test]
fn each_word_has_its_world() {
    let is = |lines: &str, right: fn(&World) -> bool| assert!(right(&world(lines)), "{lines}");
    is("boot = 'uboot'", |world| matches!(world, World::Uboot(_)));
    is("boot = 'rauc-uboot'", |world| {
        matches!(world, World::UbootRauc(_))
    });
    is("boot = 'grub'", |world| matches!(world, World::Grub(_)));
    is("boot = 'rauc-grub'", |world| {
        matches!(world, World::GrubRauc(_))
    });
    is("boot = 'systemd-boot'", |world| {
        matches!(world, World::SystemdBoot(_))
    });
    let disk = "boot = 'gpt'\nloader = { disk = '/dev/mmcblk0', partitions = { a = 2, b = 3 } }";
    is(disk, |world| matches!(world, World::Gpt(_)));
    let numbers = "boot = 'tryboot'\nloader = { partitions = { a = 2, b = 3 } }";
    is(numbers, |world| matches!(world, World::Tryboot(_)));
    let program = "boot = 'command'\nloader = { command = ['/usr/lib/board/boot'] }";
    is(program, |world| matches!(world, World::Command(_)));
}

#[test]
fn a_boot_file_is_no_world() {
    for lines in ["", "boot = 'file'", "boot = 'symlink'"] {
        assert_eq!(
            config(lines).expect("a configuration").worlds,
            [],
            "{lines}"
        );
    }
}

#[test]
fn what_cannot_be_meant_is_named_with_its_line() {
    for (lines, what) in [
        ("boot = 'lilo'", "line 15: \"component.boot\" is \"lilo\""),
        ("boot = 'gpt'", "\"component.loader.disk\" is missing"),
        (
            "boot = 'uboot'\nloader = { block = 'x' }",
            "\"component.loader.block\" is not known",
        ),
        (
            "loader = { block = 'x' }",
            "\"component.loader\" is not known",
        ),
        (
            "boot = 'rauc-grub'\nloader = { names = { a = 'X', b = 'X' } }",
            "same \"names\"",
        ),
        (
            "boot = 'tryboot'\nloader = { partitions = { a = 2, b = 2 } }",
            "same partition",
        ),
        (
            "boot = 'command'",
            "\"component.loader.command\" is missing",
        ),
    ] {
        let error = config(lines).expect_err(what);
        let said = chain(&error, None);
        assert!(said.contains(what), "{lines}: {said}");
    }
}
