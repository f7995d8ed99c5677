//! Debian's Rust compiler and standard libraries, unpacked into a folder of ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{self, Fault, Outcome};
use crate::workspace;
use crate::world::cannot;

/// What a build needs of this machine's own kind: compiler, its libraries, and the standard library
/// for build scripts.
const OWN: [&str; 4] = [
    "rustc-web",
    "libstd-rust-web-1.96",
    "libllvm22",
    "libstd-rust-web-dev",
];
/// What it needs of the other kind.
const OTHER: &str = "libstd-rust-web-dev";

/// The compiler.
pub(super) struct Toolchain {
    folder: PathBuf,
}

impl Toolchain {
    /// Fetches what is not there yet.
    pub(super) fn fetch(triple: &str, debian: &str) -> Outcome<Self> {
        let folder = workspace::target().join("cross");
        let toolchain = Self { folder };
        let libraries = toolchain.unpacked().join("usr/lib/rustlib");
        if !toolchain.compiler().is_file() {
            toolchain.unpack(&OWN, Command::new("apt-get"))?;
        }
        if !libraries.join(triple).is_dir() {
            let config = toolchain.lists_of(debian)?;
            let mut apt = Command::new("apt-get");
            apt.env("APT_CONFIG", config);
            toolchain.unpack(&[&format!("{OTHER}:{debian}")], apt)?;
        }
        if !libraries.join(triple).is_dir() {
            let what = format!("\"{OTHER}:{debian}\" has no library for {triple}");
            return Err(Fault::new(what).hint("its version must be that of rustc-web"));
        }
        Ok(toolchain)
    }

    /// Where it all lies.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lets a cargo build with it.
    pub(super) fn choose(&self, build: &mut Command) {
        build.env("RUSTC", self.compiler());
        let libraries = self.unpacked().join("usr/lib/x86_64-linux-gnu");
        build.env("LD_LIBRARY_PATH", libraries);
    }

    fn unpacked(&self) -> PathBuf {
        self.folder.join("toolchain")
    }

    fn compiler(&self) -> PathBuf {
        self.unpacked().join("usr/bin/rustc")
    }

    fn unpack(&self, names: &[&str], mut apt: Command) -> Outcome {
        let fetched = self.folder.join("fetched");
        let _ = fs::remove_dir_all(&fetched);
        fs::create_dir_all(&fetched).map_err(|e| cannot("make", &fetched, &e))?;
        apt.current_dir(&fetched)
            .args(["-qq", "download"])
            .args(names);
        shell::run(&mut apt)?;
        let archives = fs::read_dir(&fetched).map_err(|e| cannot("list", &fetched, &e))?;
        for archive in archives.flatten() {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(archive.path()).arg(self.unpacked());
            shell::quietly(&mut unpack)?;
        }
        let _ = fs::remove_dir_all(&fetched);
        Ok(())
    }

    /// Debian's lists for another processor, in a folder of ours: this machine's own stay as they are.
    fn lists_of(&self, debian: &str) -> Outcome<PathBuf> {
        let folder = self.folder.join("apt").join(debian);
        for name in ["state/lists/partial", "cache/archives/partial"] {
            let made = folder.join(name);
            fs::create_dir_all(&made).map_err(|e| cannot("make", &made, &e))?;
        }
        let place = folder.display();
        let text = format!(
            r#"APT::Architectures {{ "{debian}"; }};
APT::Sandbox::User "";
Dir::State "{place}/state";
Dir::State::status "{place}/status";
Dir::Cache "{place}/cache";
"#
        );
        let config = folder.join("apt.conf");
        let written = fs::write(&config, text).and_then(|()| fs::write(folder.join("status"), ""));
        written.map_err(|e| cannot("write", &config, &e))?;
        let mut update = Command::new("apt-get");
        update.env("APT_CONFIG", &config).args(["-qq", "update"]);
        shell::run(&mut update)?;
        Ok(config)
    }
}
