//! The tools that are measured: what they are, how they are set up and called.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Pair;
use crate::setup::{self, Needed};
use crate::shell::{self, Outcome};
use crate::workspace;

/// A way to make and apply a patch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// Its name on the command line and in the tables.
    pub(super) name: &'static str,
    /// What it is, for the legend.
    pub(super) what: &'static str,
    /// Whether it is ours.
    pub(super) ours: bool,
    /// Whether it takes minutes or gigabytes on large images.
    pub(super) slow: bool,
}

const fn peer(name: &'static str, what: &'static str) -> Peer {
    Peer {
        name,
        what,
        ours: false,
        slow: false,
    }
}

const fn slow(peer: Peer) -> Peer {
    Peer { slow: true, ..peer }
}

const fn ours(peer: Peer) -> Peer {
    Peer { ours: true, ..peer }
}

/// Every tool, ours first.
pub(super) const PEERS: [Peer; 9] = [
    ours(peer("ours-small", "ampoule-delta --profile small")),
    ours(peer("ours-fast", "ampoule-delta --profile fast")),
    peer(
        "hdiffz",
        "hdiffz -m-1 -SD -p-2 -c-lzma2-9-16m, where it is on the PATH",
    ),
    slow(peer(
        "hdiffpatch",
        "HDiffPatch of PyPI, -m with lzma2-9-16m",
    )),
    slow(peer(
        "detools",
        "detools of PyPI, lzma, with its code-aware formats where they fit",
    )),
    slow(peer("bsdiff", "bsdiff 4.3 of Debian")),
    peer(
        "xdelta3",
        "xdelta3 -9 -S lzma of Debian, the whole old image as its window",
    ),
    peer("zstd", "zstd -19 --long=31 --patch-from of Debian"),
    slow(peer("bsdiff-crate", "the bsdiff crate with zstd -19")),
];

/// Debian packages that the peers need, and which.
const PACKAGES: [(&str, Needed); 6] = [
    (
        "",
        Needed {
            name: "time",
            reason: "time and peak memory of a process",
        },
    ),
    (
        "bsdiff",
        Needed {
            name: "bsdiff",
            reason: "a peer of the delta engine",
        },
    ),
    (
        "xdelta3",
        Needed {
            name: "xdelta3",
            reason: "a peer of the delta engine",
        },
    ),
    (
        "zstd",
        Needed {
            name: "zstd",
            reason: "a peer of the delta engine",
        },
    ),
    (
        "hdiffpatch",
        Needed {
            name: "python3-venv",
            reason: "a private place for HDiffPatch",
        },
    ),
    (
        "detools",
        Needed {
            name: "python3-venv",
            reason: "a private place for detools",
        },
    ),
];

/// Patches are applied as the agent's unit file has it (`contrib/systemd`).
const DEVICE_MALLOC: &str = "MALLOC_MMAP_THRESHOLD_=131072";

/// Where the programs are.
pub(super) struct Tools {
    /// The environment that holds hdiffpatch and detools.
    python: PathBuf,
    /// The program of our own; empty where it is not measured.
    ours: PathBuf,
    release: PathBuf,
    hdiffpatch: PathBuf,
}

impl Tools {
    /// Builds and installs what these tools need.
    pub(super) fn set_up(peers: &[&Peer]) -> Outcome<Self> {
        let asked = |name: &str| name.is_empty() || peers.iter().any(|peer| peer.name == name);
        for (name, needed) in PACKAGES {
            if asked(name) {
                setup::install(&[needed])?;
            }
        }
        let python = workspace::target().join("peers");
        if asked("hdiffpatch") || asked("detools") {
            let list = workspace::root().join("xtask/src/bench/delta/requirements.txt");
            setup::environment(&python, &list)?;
        }
        let ours = if peers.iter().any(|peer| peer.ours) {
            workspace::build_static("ampoule-delta", "ampoule-delta")?
        } else {
            PathBuf::new()
        };
        if asked("bsdiff-crate") {
            let mut cargo = workspace::cargo();
            cargo.args(["build", "--release", "--locked", "--package", "xtask"]);
            shell::run(cargo.args(["--features", "peers", "--bin", "bsdiff-zstd"]))?;
        }
        Ok(Self {
            python,
            ours,
            release: workspace::target().join("release"),
            hdiffpatch: workspace::root().join("xtask/src/bench/delta/peer_of_pypi.py"),
        })
    }

    /// Whether the tool can be had at all; why not, if it cannot.
    pub(super) fn missing(peer: &Peer) -> Option<String> {
        let lacks = peer.name == "hdiffz" && !(shell::has("hdiffz") && shell::has("hpatchz"));
        lacks.then(|| "hdiffz and hpatchz are not on the PATH".to_owned())
    }

    /// The program of our own.
    pub(super) fn ours(&self) -> &Path {
        &self.ours
    }

    /// The command that makes `patch`.
    pub(super) fn make(&self, peer: &Peer, pair: &Pair, patch: &Path) -> Command {
        let (old, new) = (&*pair.old, &*pair.new);
        match peer.name {
            "ours-small" => with(
                self.ours(),
                &["diff", "--profile", "small"],
                &[old, new, patch],
            ),
            "ours-fast" => with(
                self.ours(),
                &["diff", "--profile", "fast"],
                &[old, new, patch],
            ),
            "hdiffz" => {
                let options = ["-m-1", "-SD", "-d", "-f", "-p-2", "-c-lzma2-9-16m"];
                with(Path::new("hdiffz"), &options, &[old, new, patch])
            }
            "hdiffpatch" => self.python(&self.hdiffpatch, &["diff"], &[old, new, patch]),
            "detools" => {
                let mut options = vec!["create_patch", "-c", "lzma"];
                options.extend(
                    detools_format(old)
                        .iter()
                        .flat_map(|f| ["--data-format", f]),
                );
                with(
                    &self.python.join("bin/detools"),
                    &options,
                    &[old, new, patch],
                )
            }
            "bsdiff" => with(Path::new("bsdiff"), &[], &[old, new, patch]),
            "xdelta3" => {
                let window = xdelta_window(pair);
                let options = ["-e", "-f", "-9", "-S", "lzma", "-B", &window, "-s"];
                with(Path::new("xdelta3"), &options, &[old, new, patch])
            }
            "zstd" => {
                let from = format!("--patch-from={}", old.display());
                let options = ["-q", "-f", "-19", "--long=31", &from, "-o"];
                with(Path::new("zstd"), &options, &[patch, new])
            }
            _ => with(
                &self.release.join("bsdiff-zstd"),
                &["diff"],
                &[old, new, patch],
            ),
        }
    }

    /// The command that makes `made` out of the old image and `patch`.
    pub(super) fn apply(&self, peer: &Peer, pair: &Pair, patch: &Path, made: &Path) -> Command {
        let old = &*pair.old;
        match peer.name {
            "ours-small" | "ours-fast" => {
                let mut command = with(Path::new("env"), &[DEVICE_MALLOC], &[self.ours()]);
                command.arg("apply").args([old, patch, made]);
                command
            }
            "hdiffz" => with(Path::new("hpatchz"), &["-f"], &[old, patch, made]),
            "hdiffpatch" => self.python(&self.hdiffpatch, &["apply"], &[old, patch, made]),
            "detools" => {
                let program = self.python.join("bin/detools");
                with(&program, &["apply_patch"], &[old, patch, made])
            }
            "bsdiff" => with(Path::new("bspatch"), &[], &[old, made, patch]),
            "xdelta3" => {
                let options = ["-d", "-f", "-B", &xdelta_window(pair), "-s"];
                with(Path::new("xdelta3"), &options, &[old, patch, made])
            }
            "zstd" => {
                let from = format!("--patch-from={}", old.display());
                let options = ["-q", "-f", "-d", "--long=31", &from, "-o"];
                with(Path::new("zstd"), &options, &[made, patch])
            }
            _ => with(
                &self.release.join("bsdiff-zstd"),
                &["apply"],
                &[old, patch, made],
            ),
        }
    }

    fn python(&self, script: &Path, words: &[&str], paths: &[&Path]) -> Command {
        let mut command = Command::new(self.python.join("bin/python"));
        command.arg(script).args(words).args(paths);
        command
    }
}

fn with(program: &Path, options: &[&str], paths: &[&Path]) -> Command {
    let mut command = Command::new(program);
    command.args(options).args(paths);
    command
}

/// The whole old image, as far as xdelta3 can hold it.
fn xdelta_window(pair: &Pair) -> String {
    pair.old_len.clamp(1 << 20, (1 << 31) - 1).to_string()
}

/// The code-aware format of detools that fits an image, if one does.
fn detools_format(image: &Path) -> Option<&'static str> {
    use std::io::Read as _;
    let mut head = [0; 20];
    std::fs::File::open(image)
        .ok()?
        .read_exact(&mut head)
        .ok()?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if head.starts_with(b"\x7fELF") {
        return (head[18] == 183).then_some("aarch64");
    }
    // A vector table: the stack is in RAM, the first handler is Thumb code in flash.
    let is_table = word(0) >> 28 == 2 && word(4) >> 27 == 1 && word(4) & 1 == 1;
    is_table.then_some("arm-cortex-m4")
}
