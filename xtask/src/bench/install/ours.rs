//! Our agent installs from a bundle, as the peers do from a file: full, then by a delta.

use std::fs;
use std::path::Path;

use super::medium::{Medium, Taken, timed};
use crate::shell::{Fault, Outcome};
use crate::world::device::Device;
use crate::world::server;
use crate::world::signer;
use crate::world::{HARDWARE, PRODUCT, Room, cannot};

const DEVICE: &str = "bench-0001";
const CONFIG: &str = "device/agent.toml";

/// Releases, bundles and a device whose folder is on the medium.
pub(super) struct Ours {
    room: Room,
}

impl Ours {
    /// Key ceremony, two releases, a bundle for each.
    pub(super) fn prepare(room: Room, images: &[&Path; 2]) -> Outcome<Self> {
        signer::ceremony(&room)?;
        for (number, image) in (1..).zip(images) {
            super::release(&room, number, image)?;
            let file = format!("{number}.bundle");
            let words = ["-w", signer::WORKSPACE, "bundle", PRODUCT, "--hardware"];
            let more = [HARDWARE, "-k", "keys/snapshot.key", &file];
            room.run("ampoule-signer", &[&words[..], &more].concat())?;
        }
        server::ready(&room, DEVICE)?;
        Ok(Self { room })
    }

    /// Installs both, one after the other: what each took until a restart was due. The trial that
    /// follows is not counted, since no peer has one.
    pub(super) fn install(&self, medium: &Medium) -> Outcome<[Taken; 2]> {
        self.move_in(medium)?;
        let both = [
            self.once(medium, 1, "full")?,
            self.once(medium, 2, "delta")?,
        ];
        Ok(both)
    }

    /// The device's folder on the medium; what was made at manufacture stays.
    fn move_in(&self, medium: &Medium) -> Outcome {
        let here = self.room.path("device");
        let there = medium.folder("ours")?;
        let identity = self.room.path("identity");
        if !identity.exists() {
            fs::rename(here.join("identity"), &identity)
                .map_err(|e| cannot("move", &identity, &e))?;
            fs::remove_dir_all(&here).map_err(|e| cannot("clear", &here, &e))?;
        }
        let _ = fs::remove_file(&here);
        std::os::unix::fs::symlink(&there, &here).map_err(|e| cannot("make", &here, &e))?;
        fs::create_dir_all(there.join("identity")).map_err(|e| cannot("make", &there, &e))?;
        for name in ["ca.pem", "device.pem", "device.key"] {
            let (from, to) = (identity.join(name), there.join("identity").join(name));
            fs::copy(&from, &to).map_err(|e| cannot("copy", &from, &e))?;
        }
        Device::set_up(&self.room, DEVICE, "localhost:1", Path::new("/bin/true")).map(|_| ())
    }

    fn once(&self, medium: &Medium, number: u32, via: &str) -> Outcome<Taken> {
        let agent = |words: &[&str]| {
            let words = [&["--config", CONFIG][..], words].concat();
            self.room.program("ampoule-agent", &words)
        };
        let bundle = format!("{number}.bundle");
        let install = agent(&["--json", "install", "--bundle", &bundle]);
        let taken = medium.count(|| timed(&install, &self.room.path("time")))?;
        // The trial, and its end.
        self.room
            .run("ampoule-agent", &["--config", CONFIG, "boot"])?;
        let words = ["--config", CONFIG, "--json", "install", "--bundle", &bundle];
        let told = self.room.run("ampoule-agent", &words)?;
        let ended: serde_json::Value = serde_json::from_str(&told).unwrap_or_default();
        if ended["result"] != "committed" || ended["via"] != via {
            return Err(
                Fault::new(format!("the bundle was not installed by a {via}")).because(told),
            );
        }
        Ok(taken)
    }
}
