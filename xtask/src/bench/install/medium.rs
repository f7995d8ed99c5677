//! The medium that is installed to: an ext4 file system on a loop device, which counts what is
//! written to it, by whomever.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::shell::{self, Fault, Outcome};
use crate::world::cannot;

/// Bytes of the medium: room for each device's two images, one at a time, and some.
const LEN: u64 = 2 << 30;
/// Bytes of a sector, as the kernel counts.
const SECTOR_LEN: u64 = 512;

/// A mounted medium; unmounted when dropped.
pub(super) struct Medium {
    device: String,
    mount: PathBuf,
}

/// What an install took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    /// Until all of it was on the medium.
    pub(super) wall: Duration,
    /// User and system, children included.
    pub(super) cpu: Duration,
    /// The greatest resident size, in bytes.
    pub(super) peak: u64,
    /// What reached the medium, in bytes.
    pub(super) written: u64,
}

impl Medium {
    /// Makes it at `folder`, empty. Root's alone to do.
    pub(super) fn make(folder: &Path) -> Outcome<Self> {
        let fail = |fault: Fault| fault.hint("loop devices and mounts need root");
        fs::create_dir_all(folder).map_err(|e| cannot("make", folder, &e))?;
        let (file, mount) = (folder.join("medium.img"), folder.join("medium"));
        let made = fs::File::create(&file).and_then(|made| made.set_len(LEN));
        made.map_err(|e| cannot("make", &file, &e))?;
        fs::create_dir_all(&mount).map_err(|e| cannot("make", &mount, &e))?;
        let device = attach(&file).map_err(fail)?;
        let medium = Self { device, mount };
        let mut format = sbin("mkfs.ext4");
        // All of its tables now, so that no thread of the kernel writes them while we count.
        format.args(["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"]);
        shell::read(format.arg(&medium.device)).map_err(fail)?;
        let mut mount = Command::new("mount");
        shell::read(mount.arg(&medium.device).arg(&medium.mount)).map_err(fail)?;
        Ok(medium)
    }

    /// A folder on it.
    pub(super) fn folder(&self, name: &str) -> Outcome<PathBuf> {
        let folder = self.mount.join(name);
        fs::create_dir_all(&folder).map_err(|e| cannot("make", &folder, &e))?;
        Ok(folder)
    }

    /// A file on it that is all allocated, as a partition is.
    pub(super) fn file(&self, name: &str, len: u64) -> Outcome<PathBuf> {
        let path = self.mount.join(name);
        let mut allocate = Command::new("fallocate");
        allocate.arg("--length").arg(len.to_string()).arg(&path);
        shell::read(&mut allocate)?;
        Ok(path)
    }

    /// Runs `install` and counts what it takes; it gives CPU time and peak memory.
    pub(super) fn count(
        &self,
        install: impl FnOnce() -> Outcome<(Duration, u64)>,
    ) -> Outcome<Taken> {
        self.settle()?;
        let before = self.written()?;
        let start = Instant::now();
        let (cpu, peak) = install()?;
        self.settle()?;
        Ok(Taken {
            wall: start.elapsed(),
            cpu,
            peak,
            written: self.written()? - before,
        })
    }

    /// Waits until nothing is left in a cache.
    fn settle(&self) -> Outcome {
        shell::quietly(Command::new("sync").arg("--file-system").arg(&self.mount))
    }

    fn written(&self) -> Outcome<u64> {
        let name = self.device.rsplit('/').next().unwrap_or_default();
        let path = PathBuf::from(format!("/sys/block/{name}/stat"));
        let told = fs::read_to_string(&path).map_err(|e| cannot("read", &path, &e))?;
        // Documentation/block/stat.rst: the seventh is sectors written.
        let sectors = told.split_whitespace().nth(6).and_then(|n| n.parse().ok());
        let sectors: u64 = sectors.ok_or_else(|| Fault::new("the kernel counts no writes"))?;
        Ok(sectors * SECTOR_LEN)
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        // What is left here is said by the next run, which cannot make it anew.
        let _ = Command::new("umount").arg(&self.mount).status();
        let _ = sbin("losetup").args(["--detach", &self.device]).status();
    }
}

/// A loop device over `file`.
pub(super) fn attach(file: &Path) -> Outcome<String> {
    let mut attach = sbin("losetup");
    attach.args(["--show", "--find"]).arg(file);
    Ok(shell::read(&mut attach)?.trim().to_owned())
}

/// Takes it away.
pub(super) fn detach(device: &str) -> Outcome {
    shell::quietly(sbin("losetup").args(["--detach", device]))
}

/// A program that is in no ordinary user's path.
pub(super) fn sbin(name: &str) -> Command {
    let path = Path::new("/usr/sbin").join(name);
    Command::new(if path.is_file() { path } else { name.into() })
}

/// Runs a command under GNU time: its CPU time, and its peak memory.
pub(super) fn timed(command: &Command, note: &Path) -> Outcome<(Duration, u64)> {
    let mut time = Command::new("/usr/bin/time");
    time.args(["--quiet", "--format=%U %S %M", "--output"]);
    time.arg(note)
        .arg(command.get_program())
        .args(command.get_args());
    time.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    if let Some(folder) = command.get_current_dir() {
        time.current_dir(folder);
    }
    shell::read(&mut time)?;
    let told = fs::read_to_string(note).map_err(|e| cannot("read", note, &e))?;
    let words: Vec<f64> = told
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    match words[..] {
        [user, system, kib] => {
            let cpu = Duration::try_from_secs_f64(user + system).unwrap_or_default();
            let kib = Duration::try_from_secs_f64(kib)
                .unwrap_or_default()
                .as_secs();
            Ok((cpu, kib << 10))
        }
        _ => Err(Fault::new("GNU time told nothing").because(told)),
    }
}
