//! `cargo xtask demo`: a first update, a delta, a bad update that comes back, and three attacks.
//!
//! Everything is done by the release programs in a folder of its own, on loopback, and can be
//! looked at afterwards: `transcript.txt` holds every command with what it answered.

mod attacks;
mod images;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::shell::{self, Fault, Outcome};
use crate::table::{self, Table};
use crate::workspace;
use crate::world::device::{Device, Ended};
use crate::world::server::{self, Server, Settings};
use crate::world::signer::{self, Plan};
use crate::world::{self, Room, Telling};
use images::Images;

const HELP: &str = "\
cargo xtask demo [--old FILE --new FILE] [--dir DIR] [--programs DIR]

Builds the release programs, then lives through a key ceremony (root 2 of 3, product 2 of 2), a
first install, an update by delta, a bad update that comes back by itself, and three attacks. Asks
nothing and needs no network once cargo has its crates. The folder (demo/) is left to look at.

--old FILE --new FILE   take these two images instead of ones made of this workspace
--dir DIR               another folder
--programs DIR          take the programs from there and build none; needs --old and --new";

/// What takes part.
const PROGRAMS: [&str; 6] = [
    "ampoule-signer",
    "ampoule-server",
    "ampoule-agent",
    "ampoule-delta",
    "pump",
    "thief",
];

/// The device of the demo.
const DEVICE: &str = "pump-0042";

/// What the command line asked for.
struct Options {
    given: Option<(PathBuf, PathBuf)>,
    folder: PathBuf,
    programs: Option<PathBuf>,
}

/// What the closing table says of one act.
pub(crate) struct Act {
    what: String,
    outcome: String,
    wire: Option<u64>,
    took: Duration,
}

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let Some(options) = Options::parse(arguments)? else {
        println!("{HELP}");
        return Ok(());
    };
    let programs = if let Some(folder) = &options.programs {
        // They are started in other folders than this one.
        std::path::absolute(folder)
            .map_err(|e| Fault::new(format!("cannot use \"{}\"", folder.display())).because(e))?
    } else {
        shell::heading("build the release programs");
        world::build(&PROGRAMS)?
    };
    let room = Room::new(&options.folder, &programs, Telling::Commands)?;
    let images = match &options.given {
        Some((old, new)) => images::given(&room, old, new)?,
        None => images::built(&room, &programs)?,
    };
    let start = Instant::now();
    let story = Story {
        room: &room,
        images: &images,
        acts: Vec::new(),
    };
    let acts = story.play()?;
    close(&room, &images, &acts, start.elapsed())
}

impl Options {
    fn parse(arguments: &[String]) -> Outcome<Option<Self>> {
        let (mut old, mut new, mut programs) = (None, None, None);
        let mut folder = workspace::root().join("demo");
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut path = || {
                let value = words.next().map(PathBuf::from);
                value.ok_or_else(|| Fault::usage(format!("{word} needs a file")))
            };
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--old" => old = Some(path()?),
                "--new" => new = Some(path()?),
                "--dir" => folder = path()?,
                "--programs" => programs = Some(path()?),
                other => return Err(Fault::usage(format!("demo takes no \"{other}\""))),
            }
        }
        let given = match (old, new) {
            (None, None) => None,
            (Some(old), Some(new)) => Some((old, new)),
            _ => return Err(Fault::usage("--old and --new belong together")),
        };
        if programs.is_some() && given.is_none() {
            return Err(Fault::usage("--programs needs --old and --new"));
        }
        Ok(Some(Self {
            given,
            folder,
            programs,
        }))
    }
}

/// What an act came to, and what went over the wire for it.
type Told = (String, Option<u64>);

/// The story so far.
struct Story<'r> {
    room: &'r Room,
    images: &'r Images,
    acts: Vec<Act>,
}

impl<'r> Story<'r> {
    fn act(&mut self, title: &str, play: impl FnOnce(&'r Room) -> Outcome<Told>) -> Outcome {
        shell::heading(title);
        let start = Instant::now();
        let (outcome, wire) = play(self.room)?;
        println!("  => {outcome}");
        self.acts.push(Act {
            what: title.to_owned(),
            outcome,
            wire,
            took: start.elapsed(),
        });
        Ok(())
    }

    fn play(mut self) -> Outcome<Vec<Act>> {
        self.make_first_release()?;
        let (server, device) = self.open_for_business()?;
        let port = server.port()?;
        self.install_and_update(&device)?;
        self.come_back_from_a_bad_one(&device)?;
        server.stop()?;
        self.withstand(&device, port)?;
        self.go_on(&device, port)?;
        Ok(self.acts)
    }

    fn make_first_release(&mut self) -> Outcome {
        let image = &self.images.old;
        self.act("key ceremony", |room| {
            signer::ceremony(room)?;
            Ok(("root 2 of 3, product 2 of 2".into(), None))
        })?;
        self.act("release 2.4.0", |room| {
            signer::release(room, &plan("2.4.0", 16, "First release.", image, false))?;
            attacks::keep_old_tree(room)?;
            Ok(("signed by engineer and safety officer".into(), None))
        })
    }

    fn open_for_business(&mut self) -> Outcome<(Server, Device<'r>)> {
        let mut opened = None;
        self.act("server, and a device enrolled", |room| {
            server::make_ca(room)?;
            server::configure(room, &honest(0))?;
            server::enroll(room, DEVICE)?;
            let server = Server::start(room, &[])?;
            let health = images::health_check(room)?;
            let device = Device::set_up(room, DEVICE, server.address(), &health)?;
            opened = Some((server, device));
            Ok((format!("{DEVICE} is known by its certificate"), None))
        })?;
        opened.ok_or_else(|| Fault::new("the act ended without a server"))
    }

    fn install_and_update(&mut self, device: &Device<'_>) -> Outcome {
        let image = &self.images.new;
        self.act("first install", |_| {
            expect(&device.update()?, "committed", "2.4.0")
        })?;
        self.act("release 2.4.1, with a delta", |room| {
            signer::release(
                room,
                &plan("2.4.1", 17, "Adds the nurse call relay.", image, true),
            )?;
            let delta = signer::published(room, "rootfs-2.4.0-to-2.4.1.delta")?;
            let lengths = (world::length_of(&delta)?, world::length_of(image)?);
            Ok((compared(lengths.0, lengths.1), None))
        })?;
        self.act("update by delta", |_| {
            expect(&device.update()?, "committed", "2.4.1")
        })
    }

    fn come_back_from_a_bad_one(&mut self, device: &Device<'_>) -> Outcome {
        let image = &self.images.bad;
        self.act("release 2.4.2, a bad one", |room| {
            signer::release(room, &plan("2.4.2", 18, "Looks harmless.", image, true))?;
            Ok(("signed by both: people err".into(), None))
        })?;
        self.act("it comes back by itself", |_| {
            let told = expect(&device.update()?, "reverted", "2.4.2")?;
            device.must_run("2.4.1")?;
            Ok(told)
        })
    }

    /// A good release is published; somebody else stands between it and the device.
    fn withstand(&mut self, device: &Device<'_>, port: u16) -> Outcome {
        let images = self.images;
        self.act("release 2.4.3, which attackers want to spoil", |room| {
            let image = attacks::fixed_image(room, images)?;
            signer::release(room, &plan("2.4.3", 19, "Mends 2.4.2.", &image, true))?;
            Ok(("signed by engineer and safety officer".into(), None))
        })?;
        for attack in attacks::all() {
            self.act(attack.title(), |room| {
                let refusal = attack.play(room, device, port)?;
                device.must_run("2.4.1")?;
                Ok((format!("refused: {refusal}"), None))
            })?;
        }
        Ok(())
    }

    fn go_on(&mut self, device: &Device<'_>, port: u16) -> Outcome {
        self.act("two root holders replace the stolen key", |room| {
            signer::replace_timestamp_key(room)?;
            Ok(("root 2 names another timestamp key".into(), None))
        })?;
        self.act("a clean server, and the update after all", |room| {
            let clean = Settings {
                timestamp_key: Some(signer::NEXT_TIMESTAMP_KEY),
                ..honest(port)
            };
            server::configure(room, &clean)?;
            let server = Server::start(room, &[])?;
            let told = expect(&device.update()?, "committed", "2.4.3");
            let show = ["device", "show", "--config", "server/server.toml", DEVICE];
            println!("{}", room.run("ampoule-server", &show)?.trim_end());
            server.stop()?;
            told
        })
    }
}

fn plan<'a>(
    version: &'a str,
    rollback_index: u64,
    purpose: &'a str,
    image: &'a std::path::Path,
    with_delta: bool,
) -> Plan<'a> {
    Plan {
        version,
        rollback_index,
        purpose,
        image,
        with_delta,
    }
}

fn honest(port: u16) -> Settings<'static> {
    Settings {
        tree: signer::TREE,
        timestamp_key: Some(signer::TIMESTAMP_KEY),
        port,
        poll_interval_secs: 300,
        more: "",
    }
}

/// What an update came to, or a fault if that is not what the story says.
fn expect(ended: &Ended, outcome: &str, version: &str) -> Outcome<Told> {
    if ended.outcome != outcome || ended.release != version {
        let found = format!("{} {}", ended.outcome, ended.release);
        return Err(
            Fault::new(format!("the device should have {outcome} {version}"))
                .because(format!("its receipt says \"{found}\": {}", ended.detail)),
        );
    }
    let how = match ended.outcome.as_str() {
        "committed" => format!("runs {version}, by {}", ended.via),
        _ => format!("went back from {version}: {}", ended.detail),
    };
    Ok((how, Some(ended.bytes_fetched)))
}

fn compared(part: u64, whole: u64) -> String {
    // Per mille in integers: exact enough for a percentage with one digit.
    let per_mille = part.saturating_mul(1000) / whole.max(1);
    let (whole_percent, digit) = (per_mille / 10, per_mille % 10);
    let saved = table::bytes(whole.saturating_sub(part));
    let (part, whole) = (table::bytes(part), table::bytes(whole));
    format!("{part} for an image of {whole} ({whole_percent}.{digit} %): {saved} saved")
}

fn close(room: &Room, images: &Images, acts: &[Act], took: Duration) -> Outcome {
    shell::heading("what happened");
    let mut rows = Table::new(&["act", "time", "over the wire", "outcome"]);
    for act in acts {
        let wire = act.wire.map(table::bytes).unwrap_or_default();
        rows.row([
            act.what.clone(),
            table::time(act.took),
            wire,
            act.outcome.clone(),
        ]);
    }
    let text = rows.to_text();
    println!("{text}");
    room.write("table.txt", format!("{text}\n"))?;
    println!();
    for (name, image) in [
        ("old", &images.old),
        ("new", &images.new),
        ("bad", &images.bad),
    ] {
        println!("{name} image: {}", table::bytes(world::length_of(image)?));
    }
    println!("all of it took {} after the build", table::time(took));
    println!(
        "look around in {}: transcript.txt, release/, server/, device/",
        room.path("").display()
    );
    Ok(())
}
