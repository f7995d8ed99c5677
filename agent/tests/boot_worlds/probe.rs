//! The probe of the boot loader, in every world: what counts and falls is proven, and what does not
//! is found out, whatever is cut.
//!
//! Method: the prober runs over the simulated disk of each world, and its model of the loader boots
//! after each restart. Once without a cut; then with the power cut after each operation, in each
//! outcome of what was not synced; then with loaders that lie. After every cut something boots, the
//! running image is untouched, the probe comes to its end, and slot a is the default, as before.
//!
//! Mistakes that this is meant to catch: a verdict that is written after the arming was taken back
//! (a cut between would read a liar as proven), and a restart that is asked for before it is noted.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ampoule_agent::gate::{Answer, Gate, Question};
use ampoule_agent::install::{Options, Place};
use ampoule_agent::machine::{BootView, Slot};
use ampoule_agent::ports::{Clock, Restart, Restarted, Storage};
use ampoule_agent::probe::{Evidence, ProbeError, Prober, Proven, RESTARTS_MAX, Records, Went};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::release::{Class, Install};
use ampoule_protocol::time::UtcTime;

use crate::cut::Case;
use crate::sim::SimDisk;
use crate::support::component;
use crate::{gpt, grub, systemd_boot, tryboot, uboot};

const DATA: &str = "/var/lib/ampoule";
const IMAGE: &[u8] = b"the image that runs";

struct Noon;

impl Clock for Noon {
    fn wall(&self) -> Option<UtcTime> {
        Some(UtcTime::from_unix(1_800_000_000))
    }

    fn uptime(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _time: Duration) {}
}

/// The world restarts the device.
struct Due;

impl Restart for Due {
    fn restart(&mut self) -> Result<Restarted, std::io::Error> {
        Ok(Restarted::Due)
    }
}

/// A gate that says what it was made to say.
struct Says(Answer);

impl Gate for Says {
    fn name(&self) -> &'static str {
        "therapy"
    }

    fn ask(&mut self, _question: &Question) -> Answer {
        self.0.clone()
    }
}

fn cases() -> Vec<Case> {
    let mut cases = vec![
        gpt::case(),
        grub::own(),
        grub::rauc(),
        systemd_boot::case(),
        tryboot::quiet(),
    ];
    cases.extend(uboot::cases());
    cases
}

fn place() -> Place {
    Place {
        component: component(),
        install: Install::Slot,
        slots: ["/slot-a".into(), "/slot-b".into()],
        visible: PathBuf::new(),
        boot_file: PathBuf::new(),
        options: Options::default(),
    }
}

fn records(disk: &SimDisk) -> Records {
    Records::new(Rc::new(disk.clone()), Path::new(DATA))
}

/// Starts the agent once: goes on, or begins.
fn start(case: &Case, disk: &SimDisk, answer: &Answer) -> Result<Went, ProbeError> {
    let mut boot = case.open(disk)?;
    let storage: Rc<dyn Storage> = Rc::new(disk.clone());
    let mut gates: Vec<Box<dyn Gate>> = vec![Box::new(Says(answer.clone()))];
    let mut prober = Prober {
        storage,
        boot: &mut boot,
        places: &[place()],
        data_dir: Path::new(DATA),
        clock: &Noon,
        gates: &mut gates,
        restart: &mut Due,
    };
    match prober.go_on()? {
        Went::Nothing => prober.begin(&component()),
        went => Ok(went),
    }
}

fn factory(case: &Case) -> SimDisk {
    let disk = case.disk.copy();
    disk.put("/slot-a", IMAGE);
    disk.put("/slot-b", b"something else");
    disk
}

/// Restarts until the probe has ended; each restart is the loader's.
fn live(case: &Case, disk: &SimDisk, boot: impl Fn(&SimDisk) -> Option<Slot>) -> Evidence {
    for _ in 0..=RESTARTS_MAX + 2 {
        let went = start(case, disk, &Answer::Yes).expect("a device with power");
        let restarts = match went {
            Went::Ended(evidence, restarted) => {
                if restarted.is_some() {
                    assert_eq!(boot(disk), Some(Slot::A), "{}: it comes home", case.name);
                }
                return evidence;
            }
            Went::Restart(_) => boot(disk),
            Went::Nothing => panic!("{}: begun, and nothing under way", case.name),
        };
        assert!(restarts.is_some(), "{}: nothing boots", case.name);
    }
    panic!("{}: the probe does not come to its end", case.name);
}

/// As before the probe.
fn assert_at_rest(case: &Case, disk: &SimDisk) {
    assert_eq!(
        disk.bytes("/slot-a").as_deref(),
        Some(IMAGE),
        "{}",
        case.name
    );
    assert!(records(disk).under_way().expect("readable").is_none());
    let disk = disk.copy();
    for _ in 0..4 {
        assert_eq!((case.boot)(&disk), Some(Slot::A), "{}", case.name);
        let rest = BootView {
            running: Slot::A,
            default: Slot::A,
            armed: None,
        };
        assert_eq!(case.view(&disk), rest, "{}", case.name);
    }
}

#[test]
fn every_world_is_proven() {
    for case in cases() {
        let disk = factory(&case);
        let evidence = live(&case, &disk, case.boot);
        assert!(evidence.passed, "{}: {}", case.name, evidence.detail);
        let boots = case.attempts.min(2);
        assert_eq!(
            evidence.restarts,
            boots + 1,
            "{}: {}",
            case.name,
            evidence.detail
        );
        assert_eq!(
            disk.bytes("/slot-b").as_deref(),
            Some(IMAGE),
            "{}",
            case.name
        );
        assert_eq!(records(&disk).found().expect("readable"), [evidence]);
        assert_at_rest(&case, &disk);
    }
}

#[test]
fn every_cut_of_it_leaves_the_device_as_it_was() {
    let mut states = 0;
    for case in cases() {
        for round in 0..4 {
            let before = factory(&case);
            for _ in 0..round {
                // The rounds before go well.
                let _ = start(&case, &before, &Answer::Yes).expect("power");
                (case.boot)(&before).expect("a slot");
            }
            let clean = before.copy();
            start(&case, &clean, &Answer::Yes).expect("power");
            for cut in 0..=clean.operations() {
                let disk = before.copy();
                disk.cut_after(cut);
                let _ = start(&case, &disk, &Answer::Yes);
                for fate in 0..disk.outcomes() {
                    states += 1;
                    let after = disk.after_cut(fate);
                    assert!(
                        (case.boot)(&after).is_some(),
                        "{}: nothing boots",
                        case.name
                    );
                    let evidence = live(&case, &after, case.boot);
                    let is_blind = evidence.detail.contains("did not run there")
                        || evidence.detail.contains("without a boot of it");
                    assert!(
                        evidence.passed || is_blind,
                        "{}, round {round}, cut after {cut}, outcome {fate}: {}",
                        case.name,
                        evidence.detail
                    );
                    assert_at_rest(&case, &after);
                }
            }
        }
    }
    println!("{states} states after power cuts");
    assert!(states > 1000, "only {states} states");
}

/// A loader whose settings do not change by a boot: it does not count, and so never falls.
#[test]
fn a_loader_that_does_not_count_is_found_out() {
    for case in cases() {
        let does_not_count = |disk: &SimDisk| {
            if case.name == "tryboot" {
                // Its count is none of the settings: this firmware tries whenever it is armed.
                return Some(tryboot::boot_as_armed(disk));
            }
            let before = disk.copy();
            let slot = (case.boot)(disk)?;
            // What tells the system which slot runs lies on the disk too, and is to stay.
            for path in ["/proc/cmdline", tryboot::PARTITION] {
                if let Some(bytes) = disk.bytes(path) {
                    before.put(path, &bytes);
                }
            }
            disk.become_copy_of(&before);
            Some(slot)
        };
        let disk = factory(&case);
        let evidence = live(&case, &disk, does_not_count);
        assert!(!evidence.passed, "{}: {}", case.name, evidence.detail);
        assert_at_rest(&case, &disk);
    }
}

#[test]
fn a_closed_gate_keeps_it_from_beginning_and_ends_it_later() {
    let case = systemd_boot::case();
    let disk = factory(&case);
    let no = Answer::no("a therapy runs");
    let error = start(&case, &disk, &no).expect_err("the gate is closed");
    assert!(error.to_string().contains("a therapy runs"), "{error}");
    assert!(records(&disk).under_way().expect("readable").is_none());
    start(&case, &disk, &Answer::Yes).expect("begun");
    assert_eq!((case.boot)(&disk), Some(Slot::B));
    let went = start(&case, &disk, &no).expect("ended");
    let Went::Ended(evidence, Some(_)) = went else {
        panic!("{went:?}");
    };
    assert!(!evidence.passed && evidence.detail.contains("interrupted"));
    assert_eq!((case.boot)(&disk), Some(Slot::A));
    assert_at_rest(&case, &disk);
}

#[test]
fn the_gate_waits_for_the_proof() {
    let case = systemd_boot::case();
    let disk = factory(&case);
    let mut gate = Proven::new(records(&disk), vec![component()]);
    let question = Question {
        update: Digest::of(b"an update"),
        class: Class::Security,
        downtime: Duration::ZERO,
    };
    assert!(
        gate.ask(&question)
            .reason()
            .is_some_and(|why| why.contains("probe-boot"))
    );
    live(&case, &disk, case.boot);
    assert_eq!(gate.ask(&question), Answer::Yes);
}
