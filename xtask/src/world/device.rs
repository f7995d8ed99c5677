//! One device in a folder: two slots in plain files, a boot file, an agent.
//!
//! The world plays what an init script does: it asks the agent which slot to boot, notes that it
//! runs, and starts the agent again. A restart is the end of the agent's process and nothing else.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{COMPONENT, HARDWARE, PRODUCT, Room, cannot, signer};
use crate::shell::{self, Fault, Outcome};

const CONFIG: &str = "device/agent.toml";
const INSTALL: [&str; 3] = ["--config", CONFIG, "install"];

/// An update takes a fill, a restart and a trial; more rounds than this mean that it does not come
/// to rest.
const ROUNDS_MAX: usize = 12;

/// A device.
pub(crate) struct Device<'r> {
    room: &'r Room,
    id: String,
}

/// How an update ended, as the device's own receipt tells it.
pub(crate) struct Ended {
    /// `committed`, `reverted`, `refused` or `failed`.
    pub(crate) outcome: String,
    /// The release that it was about.
    pub(crate) release: String,
    /// `full` or `delta`.
    pub(crate) via: String,
    /// What came over the wire.
    pub(crate) bytes_fetched: u64,
    /// What went wrong, if anything did.
    pub(crate) detail: String,
}

impl<'r> Device<'r> {
    /// What is done at manufacture: identity, the first root, a running slot, a configuration.
    pub(crate) fn set_up(room: &'r Room, id: &str, address: &str, health: &Path) -> Outcome<Self> {
        let root = room.path(signer::TREE).join("metadata/1.root.json");
        let kept = room.path("device/1.root.json");
        std::fs::copy(&root, &kept).map_err(|e| cannot("copy", &root, &e))?;
        room.write("device/slot-a.img", "what the factory put there\n")?;
        room.write("device/slot-b.img", "")?;
        let text = format!(
            r#"data_dir = "data"
product = "{PRODUCT}"
hardware = "{HARDWARE}"
region = "EU"
root = "1.root.json"

[server]
url = "https://{address}"
ca = "identity/ca.pem"
certificate = "identity/device.pem"
key = "identity/device.key"

[[component]]
name = "{COMPONENT}"
install = "slot"
slots = {{ a = "slot-a.img", b = "slot-b.img" }}
boot = "file"
boot_file = "boot.json"

[health]
commands = [["{}"]]
timeout_secs = 20
interval_secs = 1
bake_secs = 1
attempts_max = 3
"#,
            health.display()
        );
        room.write(CONFIG, text)?;
        Ok(Self {
            room,
            id: id.to_owned(),
        })
    }

    /// Lives until an update has ended, and tells what the device's newest receipt says.
    pub(crate) fn update(&self) -> Outcome<Ended> {
        self.live(|| self.room.run("ampoule-agent", &INSTALL))
    }

    /// As [`Device::update`], with the greatest resident size of the agent, in bytes.
    pub(crate) fn update_measured(&self) -> Outcome<(Ended, u64)> {
        let mut peak = 0;
        let ended = self.live(|| {
            let (told, found) = peak_of(self.room, &self.room.program("ampoule-agent", &INSTALL))?;
            peak = peak.max(found);
            Ok(told)
        })?;
        Ok((ended, peak))
    }

    /// Boots and starts the agent again and again, until there is a receipt more than before.
    fn live(&self, mut install: impl FnMut() -> Outcome<String>) -> Outcome<Ended> {
        let before = self.receipts()?;
        self.boot()?;
        for _ in 0..ROUNDS_MAX {
            let told = install()?;
            let receipts = self.receipts()?;
            let new = receipts.iter().find(|receipt| !before.contains(receipt));
            if let Some(new) = new {
                return Ok(Ended::read(new));
            }
            if told.starts_with("nothing-new") {
                // The server looks at its tree once a second.
                std::thread::sleep(Duration::from_millis(600));
            } else {
                self.boot()?;
            }
        }
        Err(Fault::new("the device does not come to rest"))
    }

    /// Asks for an update that must be refused; why it was.
    pub(crate) fn refuses(&self) -> Outcome<String> {
        let finished = self.room.try_run("ampoule-agent", &INSTALL)?;
        if finished.code == Some(0) {
            return Err(Fault::new("the device did not refuse").because(finished.out));
        }
        let line = finished
            .err
            .lines()
            .find_map(|line| line.strip_prefix("error: "));
        line.map(str::to_owned)
            .ok_or_else(|| Fault::new("the device refused without a reason").because(finished.err))
    }

    /// What init does: which slot, and note that it runs.
    fn boot(&self) -> Outcome {
        let slot = self
            .room
            .run("ampoule-agent", &["--config", CONFIG, "boot"])?;
        let slot = self.room.path(format!("device/slot-{}.img", slot.trim()));
        self.room
            .write("device/running", slot.display().to_string())?;
        Ok(())
    }

    /// The device must run this version.
    pub(crate) fn must_run(&self, version: &str) -> Outcome {
        let told = self
            .room
            .run("ampoule-agent", &["--config", CONFIG, "--json", "status"])?;
        if told.contains(&format!("\"{version}\"")) {
            Ok(())
        } else {
            Err(Fault::new(format!("the device does not run {version}")).because(told))
        }
    }

    /// What the server knows, newest first.
    fn receipts(&self) -> Outcome<Vec<Value>> {
        let config = "server/server.toml";
        let show = ["device", "show", "--json", "--config", config, &self.id];
        let told = shell::read(&mut self.room.program("ampoule-server", &show))?;
        let told: Value = serde_json::from_str(&told)
            .map_err(|error| Fault::new("the server told no JSON").because(error))?;
        Ok(told["view"]["receipts"]
            .as_array()
            .cloned()
            .unwrap_or_default())
    }
}

impl Ended {
    fn read(receipt: &Value) -> Self {
        let text = |name: &str| receipt[name].as_str().unwrap_or_default().to_owned();
        Self {
            outcome: text("outcome"),
            release: text("release"),
            via: text("via"),
            bytes_fetched: receipt["bytes_fetched"].as_u64().unwrap_or(0),
            detail: text("detail"),
        }
    }
}

/// Runs the agent under GNU time; what it printed, and its greatest resident size.
fn peak_of(room: &Room, agent: &Command) -> Outcome<(String, u64)> {
    let told = room.path("peak-memory.txt");
    let mut time = Command::new("/usr/bin/time");
    time.args(["--quiet", "--format=%M", "--output"]);
    time.arg(&told)
        .arg(agent.get_program())
        .args(agent.get_args());
    time.current_dir(room.path(""));
    let out = shell::read(&mut time)?;
    let text = std::fs::read_to_string(&told).map_err(|e| cannot("read", &told, &e))?;
    let kibibytes: u64 = text.trim().parse().map_err(|error| {
        Fault::new(format!("\"{}\" holds no number", told.display())).because(error)
    })?;
    Ok((out, kibibytes * 1024))
}
