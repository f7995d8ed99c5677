//! One emulated device with all that it lives with: its disk, its server, its releases.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use serde_json::Value;

use super::accel::Accel;
use super::emulator::Emulator;
use super::image::{Image, Kind, version};
use super::loader::{ATTEMPTS, Loader};
use super::machine::{Heard, Machine, PATIENCE};
use super::medium::{Lost, Medium, Mistake};
use super::nbd::Disk;
use super::parts::Parts;
use super::random::Random;
use crate::shell::{self, Fault, Outcome};
use crate::world::server::{self, Server, Settings};
use crate::world::signer::{self, Plan};
use crate::world::{COMPONENT, HARDWARE, PRODUCT, Room, Telling, cannot};

/// The device, as its certificate names it.
const NAME: &str = "pump-vm";
/// How often it looks by itself, in seconds: the least that an agent takes from a server.
const POLL_SECS: u32 = 10;

/// The emulated device.
pub(super) struct Device<'p> {
    parts: &'p Parts,
    /// What it boots with.
    pub(super) loader: Loader,
    room: Room,
    folder: PathBuf,
    emulator: Rc<Emulator>,
    disk: Disk,
    images: BTreeMap<u32, Image>,
    /// The newest release.
    pub(super) newest: u32,
    /// Whoever serves; ends with the device.
    _server: Server,
    _sockets: Sockets,
}

/// What a device is set up with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    /// Where agent, server and signer are.
    pub(super) programs: &'a Path,
    /// What its processor runs on.
    pub(super) accel: Accel,
    /// How its disk is wrong.
    pub(super) mistake: Mistake,
}

/// Something that a device told, or that happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// An image came up, and is whole.
    Up { number: u32, slot: char },
    /// The agent came to another phase; of which release, where there is one.
    Phase { phase: String, number: Option<u32> },
    /// Another line.
    Line(String),
    /// The power went.
    Cut,
}

impl<'p> Device<'p> {
    /// Key ceremony, server, enrolment, and a disk with image 1 in slot a.
    pub(super) fn set_up(
        parts: &'p Parts,
        loader: Loader,
        folder: &Path,
        given: &Given<'_>,
    ) -> Outcome<Self> {
        let room = Room::new(&folder.join("room"), given.programs, Telling::Silent)?;
        signer::ceremony(&room)?;
        let mut images = BTreeMap::new();
        let first = Image::make(parts, loader, &folder.join("images"), 1, Kind::Good)?;
        release(&room, &first)?;
        server::make_ca(&room)?;
        let settings = Settings {
            tree: signer::TREE,
            timestamp_key: Some(signer::TIMESTAMP_KEY),
            port: 0,
            poll_interval_secs: POLL_SECS,
            more: "",
        };
        server::configure(&room, &settings)?;
        server::enroll(&room, NAME)?;
        let server = Server::start(&room, &[])?;
        let factory = factory_folder(&room, loader, server.port()?)?;
        let disk = loader.factory_disk(folder, &first, &factory)?;
        let sockets = Sockets::make(loader)?;
        let socket = sockets.0.join("disk");
        let disk = Disk::serve(&socket, Medium::new(disk, given.mistake))
            .map_err(|e| cannot("serve", &socket, &e))?;
        let emulator = Emulator::prepare(loader, given.accel, folder, &sockets.0, &disk)?;
        images.insert(1, first);
        Ok(Self {
            parts,
            loader,
            room,
            folder: folder.to_owned(),
            emulator: Rc::new(emulator),
            disk,
            images,
            newest: 1,
            _server: server,
            _sockets: sockets,
        })
    }

    /// Makes the next image and releases it.
    pub(super) fn release(&mut self, kind: Kind) -> Outcome<u32> {
        let number = self.newest + 1;
        let folder = self.folder.join("images");
        let image = Image::make(self.parts, self.loader, &folder, number, kind)?;
        release(&self.room, &image)?;
        self.images.insert(number, image);
        self.newest = number;
        Ok(number)
    }

    /// Gives power, for so many operations of the disk or for good.
    pub(super) fn start(&self, cut_after: Option<u64>) -> Outcome<Machine> {
        let transcript = self.folder.join("console.txt");
        Machine::start(&self.emulator, &self.disk, &transcript, cut_after)
    }

    /// Takes the power away, and with it some of what was not flushed.
    pub(super) fn cut(&self, machine: Machine, random: &mut Random) -> Lost {
        machine.kill();
        self.disk.with(|medium| medium.cut(random))
    }

    /// Ruins the file system that it writes; it has no power.
    pub(super) fn ruin_data(&self) {
        self.disk.with(|medium| self.loader.ruin_data(medium));
    }

    /// Its disk.
    pub(super) const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// What happens next; within a generous bound of `since`, which is renewed whenever an image
    /// comes up or the agent comes to a phase other than rest and looking. An image that comes up is compared, byte by
    /// byte, with what was released.
    ///
    /// # Errors
    /// An image that is not whole, and a machine that says nothing.
    pub(super) fn news(&self, machine: &mut Machine, since: &mut Instant) -> Outcome<News> {
        let line = match machine.next(*since)? {
            Heard::Cut => return Ok(News::Cut),
            Heard::Ended => {
                return Err(Fault::new("the emulator ended by itself")
                    .hint("see emulator.log and console.txt"));
            }
            // The machine took care of it.
            Heard::Reset(_) => return Ok(News::Line(String::new())),
            Heard::Line(line) => line,
        };
        if let Some((number, slot)) = up(&line) {
            self.must_be_whole(number, slot)?;
            *since = Instant::now();
            return Ok(News::Up { number, slot });
        }
        let Some(phase) = phase(&line) else {
            return Ok(News::Line(line));
        };
        if !matches!(&phase, News::Phase { phase, .. } if phase == "idle" || phase == "checking") {
            *since = Instant::now();
        }
        Ok(phase)
    }

    fn must_be_whole(&self, number: u32, slot: char) -> Outcome {
        let Some(image) = self.images.get(&number) else {
            return Err(Fault::new(format!(
                "image {} was never released",
                version(number)
            )));
        };
        let is_whole = self
            .disk
            .with(|medium| self.loader.holds(medium, &self.folder, slot, image))?;
        if is_whole {
            Ok(())
        } else {
            let what = format!(
                "slot {slot} runs {}, and is not that image",
                version(number)
            );
            Err(Fault::new(what))
        }
    }

    /// What the image of this number does.
    pub(super) fn kind(&self, number: u32) -> Kind {
        self.images
            .get(&number)
            .map_or(Kind::Good, |image| image.kind)
    }

    /// Drops images that can run no more.
    pub(super) fn forget_before(&mut self, number: u32) {
        let kept = self.images.split_off(&number);
        for image in std::mem::replace(&mut self.images, kept).into_values() {
            let _ = std::fs::remove_file(image.file);
        }
    }

    /// Leaves the consoles and takes the rest away.
    pub(super) fn clean_up(self) {
        for name in ["room", "images"] {
            // What cannot be removed is in the way of nothing.
            let _ = std::fs::remove_dir_all(self.folder.join(name));
        }
    }

    /// Waits until the server has a receipt of this release; its outcome.
    pub(super) fn receipt_of(&self, number: u32) -> Outcome<String> {
        self.wait_for_receipt(number, |_| true)
    }

    /// Waits until the server knows that this release was committed. There may be receipts before
    /// that, of trials that fell back.
    pub(super) fn must_hear_of_commit(&self, number: u32) -> Outcome {
        let heard = self.wait_for_receipt(number, |outcome| outcome == "committed");
        heard.map(|_| ())
    }

    fn wait_for_receipt(&self, number: u32, is_wanted: impl Fn(&str) -> bool) -> Outcome<String> {
        let since = Instant::now();
        loop {
            let told = self.shown()?;
            let receipts = told["view"]["receipts"].as_array();
            let found = receipts.into_iter().flatten().find_map(|receipt| {
                let outcome = receipt["outcome"].as_str()?;
                let is_it = receipt["release"] == version(number).as_str() && is_wanted(outcome);
                is_it.then(|| outcome.to_owned())
            });
            if let Some(outcome) = found {
                return Ok(outcome);
            }
            if since.elapsed() > PATIENCE {
                let what = format!("the server has no such receipt of {}", version(number));
                return Err(Fault::new(what).because(told));
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }

    /// What the server knows of it.
    pub(super) fn shown(&self) -> Outcome<Value> {
        let show = [
            "device",
            "show",
            "--json",
            "--config",
            "server/server.toml",
            NAME,
        ];
        let told = shell::read(&mut self.room.program("ampoule-server", &show))?;
        serde_json::from_str(&told).map_err(|e| Fault::new("the server told no JSON").because(e))
    }
}

/// A folder for sockets, whose names have little room; gone with its guard.
struct Sockets(PathBuf);

impl Sockets {
    fn make(loader: Loader) -> Outcome<Self> {
        let name = format!("ampoule-vm-{}-{}", std::process::id(), loader.name());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).map_err(|e| cannot("make", &folder, &e))?;
        Ok(Self(folder))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        // What is left there is empty and under /tmp.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn release(room: &Room, image: &Image) -> Outcome {
    let plan = Plan {
        version: &image.version(),
        rollback_index: u64::from(image.number),
        purpose: "Tries a machine.",
        image: &image.file,
        with_delta: false,
    };
    signer::release(room, &plan)
}

/// What the factory knows of this device, for a file system that nobody writes.
fn factory_folder(room: &Room, loader: Loader, port: u16) -> Outcome<PathBuf> {
    let root = room.path(signer::TREE).join("metadata/1.root.json");
    let root = std::fs::read(&root).map_err(|e| cannot("read", &root, &e))?;
    room.write("factory/1.root.json", root)?;
    for name in ["ca.pem", "device.pem", "device.key"] {
        let path = room.path("device/identity").join(name);
        let bytes = std::fs::read(&path).map_err(|e| cannot("read", &path, &e))?;
        room.write(&format!("factory/identity/{name}"), bytes)?;
    }
    let component = loader.component();
    let text = format!(
        r#"data_dir = "/data/ampoule"
product = "{PRODUCT}"
hardware = "{HARDWARE}"
root = "1.root.json"
region = "EU"

[restart]
command = ["/bin/reboot", "-f"]

[server]
url = "https://localhost:{port}"
ca = "identity/ca.pem"
certificate = "identity/device.pem"
key = "identity/device.key"
connect_timeout_secs = 60
stall_timeout_secs = 120

[poll]
backoff_first_secs = 1
backoff_longest_secs = 5

[local]
socket = "/run/agent.sock"

[health]
commands = [["/bin/health"]]
timeout_secs = 60
interval_secs = 1
bake_secs = 1
attempts_max = {ATTEMPTS}

[[component]]
name = "{COMPONENT}"
install = "slot"
{component}"#
    );
    room.write("factory/agent.toml", text)?;
    Ok(room.path("factory"))
}

/// `vm: image 1.0.7 is up in slot b`
fn up(line: &str) -> Option<(u32, char)> {
    let rest = line.split_once("vm: image 1.0.")?.1;
    let (number, slot) = rest.split_once(" is up in slot ")?;
    Some((number.parse().ok()?, slot.chars().next()?))
}

fn phase(line: &str) -> Option<News> {
    let json = line.find('{').and_then(|at| line.get(at..))?;
    let event: Value = serde_json::from_str(json).ok()?;
    if event["event"] != "phase" {
        return None;
    }
    let number = event["version"]
        .as_str()
        .and_then(|text| text.rsplit('.').next());
    Some(News::Phase {
        phase: event["phase"].as_str()?.to_owned(),
        number: number.and_then(|number| number.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_is_understood() {
        assert_eq!(up("vm: image 1.0.12 is up in slot b"), Some((12, 'b')));
        assert_eq!(up("vm: listening"), None);
        let told = phase(r#"x{"event":"phase","phase":"arming","version":"1.0.3"}"#);
        let arming = News::Phase {
            phase: "arming".to_owned(),
            number: Some(3),
        };
        assert_eq!(told, Some(arming));
        assert_eq!(phase(r#"{"event":"note","text":"x"}"#), None);
    }
}
