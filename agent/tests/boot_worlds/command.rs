//! A boot control program by RAUC's custom protocol: a real program, cut off, slow, and wrong.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ampoule_agent::boot::world::CommandSettings;
use ampoule_agent::boot::{BootError, FileBoot, World, WorldBoot};
use ampoule_agent::disk::Disk;
use ampoule_agent::machine::{BootView, Slot};
use ampoule_agent::ports::{BootControl, Storage};
use ampoule_protocol::error::Coded;

use crate::support::{component, image, names};

/// Keeps primary and states in files, as a board's program would; `cut` lets so many settings
/// through and then fails, as if the power went.
const PROGRAM: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
case "$1" in set-*)
  echo "$*" >> log
  left=$(cat cut)
  [ "$left" -gt 0 ] || exit 1
  echo $((left - 1)) > cut
esac
case "$1" in
  get-primary) cat primary ;;
  set-primary) echo "$2" > primary ;;
  get-state) cat "state.$2" ;;
  set-state) echo "$3" > "state.$2" ;;
  get-current) cat current ;;
  *) exit 2 ;;
esac
"#;

struct Board {
    folder: tempfile::TempDir,
}

impl Board {
    fn new(program: &str) -> Self {
        let board = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        for (name, text) in [
            ("program", program),
            ("primary", "A"),
            ("current", "A"),
            ("state.A", "good"),
            ("state.B", "bad"),
            ("log", ""),
        ] {
            board.write(name, text);
        }
        board.restore_power();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(board.path("program"), mode).expect("a mode");
        board
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name))
            .expect("a file")
            .trim()
            .to_owned()
    }

    fn restore_power(&self) {
        self.write("cut", "1000");
    }

    fn open(&self) -> Result<WorldBoot, BootError> {
        let settings = CommandSettings {
            command: vec![
                "/bin/sh".to_owned(),
                self.path("program").display().to_string(),
            ],
            timeout: Duration::from_secs(20),
            names: names(),
            record: self.path("record.json"),
        };
        self.open_with(settings)
    }

    fn open_with(&self, settings: CommandSettings) -> Result<WorldBoot, BootError> {
        let _ = self;
        let storage: Rc<dyn Storage> = Rc::new(Disk);
        let files = FileBoot::new(Rc::clone(&storage), std::iter::empty());
        WorldBoot::new(&storage, files, [(component(), World::Command(settings))]).settle()
    }

    /// A loader of one try: the primary while it is good, then the other.
    fn boot(&self) -> String {
        let primary = self.read("primary");
        let other = if primary == "A" { "B" } else { "A" };
        let slot = if self.read(&format!("state.{primary}")) == "good" {
            &primary
        } else {
            other
        };
        self.write("current", slot);
        slot.to_owned()
    }
}

#[test]
fn the_protocol_is_spoken_as_rauc_speaks_it() {
    let board = Board::new(PROGRAM);
    let mut control = board.open().expect("a program");
    board.write("log", "");
    control.arm(&image(Slot::B), 3).expect("an arming");
    assert_eq!(board.read("log"), "set-state B good\nset-primary B");
    let view = control.view(&component()).expect("a view");
    assert_eq!(
        view,
        BootView {
            running: Slot::A,
            default: Slot::A,
            armed: Some((Slot::B, 1))
        }
    );
    assert_eq!(board.boot(), "B");
    let view = board
        .open()
        .expect("a program")
        .view(&component())
        .expect("a view");
    assert_eq!(
        view,
        BootView {
            running: Slot::B,
            default: Slot::A,
            armed: Some((Slot::B, 1))
        }
    );
    board.write("log", "");
    control.commit(&component(), Slot::B).expect("a commit");
    assert_eq!(board.read("log"), "set-state B good\nset-state A bad");
    let view = control.view(&component()).expect("a view");
    assert_eq!(
        view,
        BootView {
            running: Slot::B,
            default: Slot::B,
            armed: None
        }
    );
}

#[test]
fn a_trial_that_the_program_calls_bad_is_used_up() {
    let board = Board::new(PROGRAM);
    let mut control = board.open().expect("a program");
    control.arm(&image(Slot::B), 3).expect("an arming");
    board.write("state.B", "bad");
    assert_eq!(board.boot(), "A");
    let view = control.view(&component()).expect("a view");
    assert_eq!(view.armed, Some((Slot::B, 0)));
    control.disarm(&component()).expect("a disarming");
    assert_eq!(board.read("primary"), "A");
    assert_eq!(control.view(&component()).expect("a view").armed, None);
}

/// Each setting is a write of its own here, so the order is what keeps the promise.
#[test]
fn between_the_settings_the_old_or_the_new_boots() {
    type Act = fn(&mut WorldBoot) -> Result<(), BootError>;
    let acts: [(Act, bool, &str); 3] = [
        (|control| control.arm(&image(Slot::B), 3), false, "B"),
        (|control| control.disarm(&component()), true, "A"),
        (|control| control.commit(&component(), Slot::B), true, "B"),
    ];
    for (index, (act, is_in_trial, goal)) in acts.into_iter().enumerate() {
        for cut in 0.. {
            let board = Board::new(PROGRAM);
            let mut control = board.open().expect("a program");
            if is_in_trial {
                control.arm(&image(Slot::B), 3).expect("an arming");
                board.boot();
            }
            board.write("cut", &cut.to_string());
            let is_done = act(&mut control).is_ok();
            board.restore_power();
            let booted = board.boot();
            assert!(
                !is_done || booted == goal,
                "act {index}, cut {cut}: {booted} boots"
            );
            let mut control = board.open().expect("a program");
            if booted == "B" && !is_in_trial {
                let view = control.view(&component()).expect("a view");
                let armed = Some((Slot::B, 1));
                assert_eq!(
                    (view.default, view.armed),
                    (Slot::A, armed),
                    "a trial is seen"
                );
                control.commit(&component(), Slot::B).expect("a commit");
            } else {
                act(&mut control).expect("the act again");
            }
            assert_eq!(
                board.boot(),
                goal,
                "act {index}, cut {cut}: after the recovery"
            );
            if is_done {
                assert!(cut > 0, "act {index} set nothing");
                break;
            }
        }
    }
}

/// Catches a record that is written after the primary: a trial that nobody knows of.
#[test]
fn without_its_record_nothing_is_armed() {
    let board = Board::new(PROGRAM);
    let mut control = board.open().expect("a program");
    std::fs::create_dir(board.path("record.json.new")).expect("what is in the record's way");
    let error = control.arm(&image(Slot::B), 3).expect_err("no record");
    assert_eq!(error.code(), "boot-control-io");
    assert_eq!(board.read("primary"), "A");
}

#[test]
fn a_program_that_hangs_is_ended() {
    let board = Board::new("#!/bin/sh\nexec sleep 1000\n");
    let settings = CommandSettings {
        command: vec![
            "/bin/sh".to_owned(),
            board.path("program").display().to_string(),
        ],
        timeout: Duration::from_millis(50),
        names: names(),
        record: board.path("record.json"),
    };
    let start = Instant::now();
    let error = board.open_with(settings).err().expect("no answer");
    assert_eq!(error.code(), "boot-control-command");
    assert!(
        error.to_string().contains("did not end within 50ms"),
        "{error}"
    );
    assert!(
        start.elapsed() < Duration::from_mins(1),
        "it was waited for"
    );
}

#[test]
fn a_program_that_leaves_a_child_with_its_output_open_is_not_waited_for() {
    let board = Board::new("#!/bin/sh\nsleep 30 &\necho A\n");
    let start = Instant::now();
    // `get-state` is answered with a name: that is the error that follows, and it follows at once.
    let _ = board.open();
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "its child was waited for"
    );
}

#[test]
fn answers_that_cannot_be_meant_are_errors() {
    for (program, what) in [
        ("#!/bin/sh\necho C\n", "named \"C\", no slot"),
        ("#!/bin/sh\nexit 3\n", "ended with exit status: 3"),
        ("#!/bin/sh\nyes\n", "printed more than 4096 bytes"),
    ] {
        let error = Board::new(program).open().err().expect("a bad answer");
        assert!(error.to_string().contains(what), "{error}");
    }
}
