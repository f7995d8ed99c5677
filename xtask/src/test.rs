//! `cargo xtask test`: sets up what the tests need and runs every one of them.
//!
//! A real component that is missing (SoftHSM, python-tuf, the nightly toolchain's fuzzer) is an
//! error here, so that a green run means that all of it ran. `--offline` is for a train: it tells
//! the tests to leave those parts out, and says which.

use std::process::Command;

use crate::fuzz;
use crate::setup::{self, Needed};
use crate::shell::{self, Fault, Outcome};
use crate::vm;
use crate::workspace;

/// Debian packages that a test drives.
const PACKAGES: [Needed; 24] = [
    needed("softhsm2", "a PKCS#11 token that keys are on"),
    needed("swtpm", "a TPM that a device's key is in"),
    needed("tpm2-tools", "lets that TPM make a key and sign"),
    needed("python3-venv", "a private place for python-tuf"),
    needed("g++", "libFuzzer is built from C++"),
    needed(
        "libubootenv-tool",
        "fw_setenv and fw_printenv read what boot control writes",
    ),
    needed("u-boot-tools", "mkenvimage makes a U-Boot environment"),
    needed("grub-common", "grub-editenv reads what boot control writes"),
    needed("gdisk", "sgdisk makes and checks partition tables"),
    needed("cgpt", "reads the attributes of partitions"),
    needed("systemd", "systemd-analyze reads the unit file"),
    needed(
        "tzdata",
        "zone files that maintenance windows are tried with",
    ),
    needed("postgresql", "a private database for the server's store"),
    needed(
        "strongswan-pki",
        "a stock EST client enrols against the server",
    ),
    needed(
        "libstrongswan-standard-plugins",
        "lets that client use elliptic curves",
    ),
    needed("systemd-boot", "bootctl reads what boot control writes"),
    needed("zip", "makes what deltas look into"),
    needed("zstd", "makes what deltas look into"),
    needed("xz-utils", "makes what deltas look into"),
    needed("lz4", "makes what deltas look into"),
    needed("cpio", "makes an initramfs that deltas look into"),
    needed("squashfs-tools", "makes what deltas look into"),
    needed("erofs-utils", "makes what deltas look into"),
    needed("python3", "writes zlib and wheels that deltas look into"),
];

const fn needed(name: &'static str, reason: &'static str) -> Needed {
    Needed { name, reason }
}

const HELP: &str = "\
cargo xtask test [--offline]

Installs what is missing (Debian packages as root or through sudo; python-tuf into target/python),
builds the tests once, runs each fuzz target for some seconds on the nightly toolchain, then all
tests, then a device in an emulator that loses its power 50 times (`cargo xtask vm-test`). --offline
installs nothing and leaves out what needs it, saying what.";

/// Tells the tests that parts are left out on purpose; without it a missing part fails its test.
const OFFLINE: &str = "AMPOULE_TEST_OFFLINE";

/// Where the tests find a Python that imports python-tuf.
const PYTHON: &str = "AMPOULE_PYTHON";

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let mut offline = false;
    for argument in arguments {
        match argument.as_str() {
            "--offline" => offline = true,
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            other => return Err(Fault::usage(format!("test takes no \"{other}\""))),
        }
    }

    let mut tests = workspace::cargo();
    tests.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    if offline {
        say_what_is_left_out();
        tests.arg("--offline").env(OFFLINE, "1");
        if setup::python_is_there() {
            tests.env(PYTHON, setup::python()?);
        }
    } else {
        shell::heading("set up");
        setup::install(&PACKAGES)?;
        setup::install(&vm::PACKAGES)?;
        tests.env(PYTHON, setup::python()?).env_remove(OFFLINE);
    }

    shell::heading("build the tests");
    let mut build = workspace::cargo();
    build.args(["test", "--workspace", "--locked", "--no-run", "--quiet"]);
    if offline {
        build.arg("--offline");
    }
    shell::run(&mut build)?;

    shell::heading("fuzz targets");
    fuzz::smoke(offline)?;

    shell::heading("tests");
    if !has_loop_devices() {
        println!("left out: block devices, since no loop device is to be had here");
    }
    shell::run(&mut tests)?;
    if offline {
        return Ok(());
    }
    vm::run(&[])
}

/// Whether a file can be made a block device: root, and a kernel that has loop devices.
fn has_loop_devices() -> bool {
    let found = Command::new("losetup").arg("--find").output();
    found.is_ok_and(|output| output.status.success())
}

fn say_what_is_left_out() {
    println!("offline: nothing is installed or fetched");
    for package in setup::missing(&PACKAGES) {
        println!(
            "left out: what needs the Debian package {} ({})",
            package.name, package.reason
        );
    }
    if !setup::python_is_there() {
        println!("left out: interoperation with python-tuf");
    }
    println!("left out: the device in an emulator (cargo xtask vm-test)");
}
