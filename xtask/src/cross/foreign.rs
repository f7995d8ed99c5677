//! Programs of another processor run as if they were this one's: the kernel hands them to QEMU.
//!
//! The agent starts itself a second time, through `/proc/self/exe` and with an empty environment, so an
//! emulator in front of its command line does not do. What Debian's systemd would do at boot is done
//! here where nobody did, as in a container.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::shell::{self, Outcome};
use crate::world::cannot;

/// Where the kernel is told.
const KERNEL: &str = "/proc/sys/fs/binfmt_misc";
/// Where qemu-user-static says what is to be told.
const WORDS: &str = "/usr/lib/binfmt.d";
/// Where QEMU looks for the libraries of such programs.
const LIBRARIES: &str = "/etc/qemu-binfmt";

/// Lets programs of the processor that QEMU calls `qemu` run, with the libraries below `sysroot`.
pub(super) fn allow(qemu: &str, sysroot: &str) -> Outcome {
    let kernel = Path::new(KERNEL);
    if !kernel.join("register").exists() {
        let mut mount = Command::new("mount");
        shell::run(mount.args(["-t", "binfmt_misc", "binfmt_misc", KERNEL]))?;
    }
    let name = format!("qemu-{qemu}");
    if !kernel.join(&name).exists() {
        let words = Path::new(WORDS).join(format!("{name}.conf"));
        let text = fs::read_to_string(&words).map_err(|e| cannot("read", &words, &e))?;
        let line = text.lines().find(|line| line.starts_with(':'));
        let register = kernel.join("register");
        println!("telling the kernel what runs programs for {qemu}");
        fs::write(&register, line.unwrap_or_default())
            .map_err(|e| cannot("write", &register, &e))?;
    }
    let link = Path::new(LIBRARIES).join(qemu);
    if !link.exists() {
        fs::create_dir_all(LIBRARIES).map_err(|e| cannot("make", Path::new(LIBRARIES), &e))?;
        let linked = std::os::unix::fs::symlink(sysroot, &link);
        linked.map_err(|e| cannot("make", &link, &e))?;
    }
    Ok(())
}
