//! What the machine is made of: Debian's kernel, unpacked and never installed, and the agent with
//! the libraries that it wants.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive::Archive;
use super::userland::APPLETS;
use crate::setup::{self, Needed};
use crate::shell::{self, Fault, Outcome};
use crate::workspace;
use crate::world::cannot;

/// Debian packages that the emulated machine is built from and run with.
pub(crate) const PACKAGES: [Needed; 12] = [
    needed("qemu-system-x86", "the emulator that updates are tried in"),
    needed("ovmf", "UEFI firmware of the emulated machine"),
    needed(
        "systemd-boot-efi",
        "the boot loader that counts boots under UEFI",
    ),
    needed("u-boot-qemu", "the other boot loader"),
    needed(
        "u-boot-tools",
        "mkimage makes its boot script, mkenvimage its environment",
    ),
    needed("busybox-static", "the emulated device's userland"),
    needed(
        "mtools",
        "files into FAT file systems without mounting them",
    ),
    needed("dosfstools", "makes and mends FAT file systems"),
    needed(
        "e2fsprogs",
        "the emulated device checks and makes its file system",
    ),
    needed("zstd", "makes the emulated device's images small"),
    needed("gdisk", "sgdisk makes partition tables"),
    needed(
        "binutils",
        "objcopy joins kernel and initramfs, strip makes the agent small",
    ),
];

const fn needed(name: &'static str, reason: &'static str) -> Needed {
    Needed { name, reason }
}

/// The metapackage that names the newest kernel for virtual machines: small, and its boot is short.
const KERNEL: &str = "linux-image-cloud-amd64";

/// Modules in the order in which they are loaded: network, disk, file systems, watchdog.
pub(super) const MODULES: [&str; 16] = [
    "failover",
    "net_failover",
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "fat",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "efivarfs",
    "watchdog",
    "softdog",
];

/// Folders of the device.
const FOLDERS: [&str; 9] = [
    "dev", "proc", "sys", "run", "tmp", "data", "factory", "esp", "modules",
];

/// Programs of e2fsprogs and dosfstools that the device carries, in `/sbin` here.
const TOOLS: [&str; 3] = ["e2fsck", "mke2fs", "fsck.fat"];

/// The parts, in memory: every image is put together from them.
pub(super) struct Parts {
    /// The kernel, as Debian ships it.
    pub(super) kernel: Vec<u8>,
    /// Userland, the same in every image: an archive, compressed.
    pub(super) shared: Vec<u8>,
    /// The same without the agent.
    pub(super) shared_without_agent: Vec<u8>,
}

impl Parts {
    /// Fetches and reads them; `programs` holds the agent.
    pub(super) fn gather(programs: &Path) -> Outcome<Self> {
        let kernel = unpacked_kernel()?;
        let agent = stripped(&programs.join("ampoule-agent"))?;
        let with_agent = userland(&kernel, &agent, true)?;
        let without_agent = userland(&kernel, &agent, false)?;
        Ok(Self {
            kernel: read(&only(&kernel.join("boot"), "vmlinuz-")?)?,
            shared: compressed(&with_agent)?,
            shared_without_agent: compressed(&without_agent)?,
        })
    }
}

/// What all images share.
fn userland(kernel: &Path, agent: &Path, has_agent: bool) -> Outcome<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.folder(folder);
    }
    archive.file("bin/busybox", &read(Path::new("/bin/busybox"))?);
    for applet in APPLETS {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    for name in MODULES {
        archive.file(&format!("modules/{name}.ko"), &module(kernel, name)?);
    }
    let mut libraries = libraries_of(agent)?;
    for name in TOOLS {
        let tool = Path::new("/sbin").join(name);
        libraries.extend(libraries_of(&tool)?);
        archive.file(&format!("bin/{name}"), &read(&tool)?);
    }
    let mut folders = BTreeSet::new();
    for (path, library) in &libraries {
        let mut above: Vec<_> = Path::new(path).ancestors().skip(1).collect();
        above.reverse();
        for folder in above
            .iter()
            .filter_map(|folder| folder.strip_prefix("/").ok())
        {
            if !folder.as_os_str().is_empty() && folders.insert(folder.to_owned()) {
                archive.folder(&folder.to_string_lossy());
            }
        }
        archive.file(path.trim_start_matches('/'), library);
    }
    if has_agent {
        archive.file("bin/ampoule-agent", &read(agent)?);
    }
    Ok(archive.finish())
}

/// As the kernel unpacks it.
fn compressed(bytes: &[u8]) -> Outcome<Vec<u8>> {
    let (from, to) = (
        folder().join("userland.cpio"),
        folder().join("userland.zst"),
    );
    fs::write(&from, bytes).map_err(|e| cannot("write", &from, &e))?;
    let mut compress = Command::new("zstd");
    compress.args(["-q", "-f", "-9", "-o"]).arg(&to).arg(&from);
    shell::quietly(&mut compress)?;
    read(&to)
}

/// The folder for what is kept between runs.
fn folder() -> PathBuf {
    workspace::target().join("vm")
}

/// The kernel's package, unpacked; fetched where it is not there yet.
fn unpacked_kernel() -> Outcome<PathBuf> {
    let unpacked = folder().join("kernel");
    let mark = folder().join("kernel.txt");
    if mark.is_file() {
        return Ok(unpacked);
    }
    let _ = fs::remove_dir_all(&unpacked);
    let fetched = folder().join("fetched");
    let _ = fs::remove_dir_all(&fetched);
    fs::create_dir_all(&fetched).map_err(|e| cannot("make", &fetched, &e))?;
    let name = kernel_name()?;
    let mut download = Command::new("apt-get");
    download
        .current_dir(&fetched)
        .args(["-qq", "download", &name]);
    shell::run(&mut download)?;
    let archive = only(&fetched, "linux-image")?;
    shell::run(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(&archive)
            .arg(&unpacked),
    )?;
    fs::write(&mark, &name).map_err(|e| cannot("write", &mark, &e))?;
    Ok(unpacked)
}

/// What the metapackage stands for now.
fn kernel_name() -> Outcome<String> {
    let show = || shell::finish(Command::new("apt-cache").args(["depends", "--important", KERNEL]));
    let mut told = show()?;
    if told.code != Some(0) {
        setup::update_lists()?;
        told = show()?;
    }
    let name = told
        .out
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    name.map(|rest| format!("linux-image-{rest}"))
        .ok_or_else(|| Fault::new(format!("Debian's lists name no kernel for \"{KERNEL}\"")))
}

fn module(kernel: &Path, name: &str) -> Outcome<Vec<u8>> {
    let root = kernel.join("lib/modules");
    let mut folders = vec![root.clone()];
    let file = format!("{name}.ko");
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)
            .map_err(|e| cannot("list", &folder, &e))?
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|found| *found == *file) {
                return read(&path);
            }
        }
    }
    Err(Fault::new(format!("the kernel has no module \"{name}\"")))
}

/// A copy of a program without its symbols.
fn stripped(program: &Path) -> Outcome<PathBuf> {
    let copy = folder().join("ampoule-agent");
    fs::create_dir_all(folder()).map_err(|e| cannot("make", &folder(), &e))?;
    shell::quietly(Command::new("strip").arg("-o").arg(&copy).arg(program))?;
    Ok(copy)
}

fn libraries_of(program: &Path) -> Outcome<BTreeMap<String, Vec<u8>>> {
    let told = shell::read(Command::new("ldd").arg(program))?;
    let mut libraries = BTreeMap::new();
    for path in told.lines().filter_map(library_of) {
        libraries.insert(path.to_owned(), read(Path::new(path))?);
    }
    Ok(libraries)
}

/// The path in a line of `ldd`.
fn library_of(line: &str) -> Option<&str> {
    let line = line.trim();
    let path = line.split_once("=> ").map_or(line, |(_, path)| path);
    path.split_once(" (")
        .map(|(path, _)| path)
        .filter(|path| path.starts_with('/'))
}

/// The one file whose name begins so.
fn only(folder: &Path, beginning: &str) -> Outcome<PathBuf> {
    let entries = fs::read_dir(folder).map_err(|e| cannot("list", folder, &e))?;
    let mut found = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(beginning))
    });
    let folder = folder.display();
    found
        .next()
        .ok_or_else(|| Fault::new(format!("\"{folder}\" has no \"{beginning}…\"")))
}

pub(super) fn read(path: &Path) -> Outcome<Vec<u8>> {
    fs::read(path).map_err(|e| cannot("read", path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_is_read_line_by_line() {
        let line = "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)";
        assert_eq!(library_of(line), Some("/lib/x86_64-linux-gnu/libc.so.6"));
        let loader = "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)";
        assert_eq!(library_of(loader), Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(library_of("\tlinux-vdso.so.1 (0x00007f)"), None);
    }
}
