//! Agreement, postponement and PIN on a folder of this machine.

use std::cell::Cell;

use super::*;
use crate::disk::Disk;

const START: i64 = 1_800_000_000;
const POSTPONE: PostponeConfig = PostponeConfig {
    security: 1,
    functional: 2,
    both: 0,
    longest: Duration::from_hours(1),
};

/// A clock that is set from outside.
struct Hands(Cell<Option<i64>>);

impl Clock for Hands {
    fn wall(&self) -> Option<UtcTime> {
        self.0.get().map(UtcTime::from_unix)
    }
    fn uptime(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _time: Duration) {}
}

struct Ward {
    folder: tempfile::TempDir,
    clock: Rc<Hands>,
}

impl Ward {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            clock: Rc::new(Hands(Cell::new(Some(START)))),
        }
    }

    /// As after a restart: nothing is remembered but the file.
    fn consents(&self) -> Consents {
        Consents::new(Rc::new(Disk), self.clock.clone(), self.folder.path())
    }

    fn set(&self, secs_from_start: i64) {
        self.clock.0.set(Some(START + secs_from_start));
    }
}

fn question(name: &str, class: Class) -> Question {
    Question {
        update: Digest::of(name.as_bytes()),
        class,
        downtime: Duration::ZERO,
    }
}

fn plain() -> ConsentConfig {
    ConsentConfig {
        pin: None,
        button: None,
        timeout: Duration::from_secs(10),
    }
}

/// Meant to catch: a filter that passes every update lets agreement to one release open another.
#[test]
fn agreement_is_to_one_update() {
    let ward = Ward::new();
    let (one, other) = (question("1", Class::Both), question("2", Class::Both));
    let ask = |question: &Question| Consent(ward.consents()).ask(question).as_str();
    assert_eq!(ask(&one), "no");
    ward.consents()
        .agree(&plain(), one.update, None, "uid 0")
        .expect("agreed");
    assert_eq!((ask(&one), ask(&other)), ("yes", "no"));
    ward.consents().withdraw().expect("withdrawn");
    assert_eq!(ask(&one), "no");
}

#[test]
fn a_file_that_cannot_be_read_agrees_to_nothing() {
    let ward = Ward::new();
    let one = question("1", Class::Security);
    let agree = || ward.consents().agree(&plain(), one.update, None, "uid 0");
    agree().expect("agreed");
    std::fs::write(ward.folder.path().join("consent.json"), "{").expect("writes");
    assert_eq!(Consent(ward.consents()).ask(&one).as_str(), "unknown");
    assert!(
        ward.consents()
            .postpone(&POSTPONE, &one, 60, "uid 0")
            .is_err()
    );
    let mut gate = Postponement {
        consents: ward.consents(),
        longest: POSTPONE.longest,
    };
    assert_eq!(gate.ask(&one).as_str(), "unknown");
}

/// Meant to catch: `used > budget` in place of `used >= budget` gives one more.
#[test]
fn postponements_are_counted_by_class_until_a_commit() {
    let ward = Ward::new();
    let postpone = |name, class| {
        let question = question(name, class);
        let by = "uid 0";
        ward.consents().postpone(&POSTPONE, &question, 60, by)
    };
    assert!(postpone("1", Class::Security).is_ok());
    let refused = postpone("2", Class::Security).expect_err("another release, the same budget");
    assert_eq!(refused.code(), "budget-used");
    assert_eq!(
        postpone("1", Class::Both).expect_err("none").code(),
        "budget-used"
    );
    for name in ["1", "2"] {
        assert!(postpone(name, Class::Functional).is_ok());
    }
    ward.consents()
        .committed(Class::Functional)
        .expect("committed");
    assert_eq!(
        postpone("1", Class::Security).expect_err("its own").code(),
        "budget-used"
    );
    assert!(postpone("3", Class::Functional).is_ok());
    assert_eq!(ward.consents().used(Class::Security).expect("read"), 1);
}

#[test]
fn a_postponement_holds_and_ends() {
    let ward = Ward::new();
    let one = question("1", Class::Security);
    let ask = |question: &Question| {
        let mut gate = Postponement {
            consents: ward.consents(),
            longest: POSTPONE.longest,
        };
        gate.ask(question)
    };
    for secs in [0, 3601, u64::MAX] {
        let refused = ward.consents().postpone(&POSTPONE, &one, secs, "uid 0");
        assert_eq!(refused.expect_err("out of bounds").code(), "too-long");
    }
    ward.consents()
        .postpone(&POSTPONE, &one, 600, "uid 0")
        .expect("put off");
    ward.set(599);
    assert_eq!(ask(&one).as_str(), "no");
    assert_eq!(
        ask(&question("2", Class::Security)),
        Answer::Yes,
        "another update"
    );
    // A clock that is set back by a year holds it for no more than an hour from now.
    ward.set(-365 * 86_400);
    assert_eq!(ask(&one).as_str(), "no");
    ward.set(-365 * 86_400 + 3601);
    assert_eq!(ask(&one), Answer::Yes);
    ward.clock.0.set(None);
    assert_eq!(ask(&one).as_str(), "unknown");
}

/// Meant to catch: without `check_lock` there are tries without end. The cuts are in
/// `tests/device/consent_cut.rs`.
#[test]
fn wrong_pins_are_bounded() {
    let ward = Ward::new();
    let config = ConsentConfig {
        pin: Some(PinHash::new("4711", [1; 32])),
        ..plain()
    };
    let update = Digest::of(b"1");
    let agree = |pin| ward.consents().agree(&config, update, pin, "uid 0");
    assert_eq!(agree(None).expect_err("none told").code(), "pin-needed");
    for left in (0..WRONG_PINS_MAX).rev() {
        let error = agree(Some("0000")).expect_err("wrong");
        assert_eq!(
            error.to_string(),
            format!("the PIN is wrong; {left} tries are left")
        );
    }
    assert_eq!(
        agree(Some("4711")).expect_err("locked").code(),
        "pin-locked"
    );
    ward.set(i64::from(PIN_LOCK_SECS) - 1);
    assert_eq!(
        agree(Some("4711")).expect_err("locked").code(),
        "pin-locked"
    );
    ward.set(i64::from(PIN_LOCK_SECS));
    agree(Some("4711")).expect("the lock is over");
    assert!(ward.consents().agreed(update).expect("read").is_some());
    let error = agree(Some("1")).expect_err("wrong");
    assert_eq!(error.to_string(), "the PIN is wrong; 4 tries are left");
}

#[test]
fn the_button_has_to_be_pressed() {
    let ward = Ward::new();
    let agree = |script: &str| {
        let config = ConsentConfig {
            button: Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec()),
            ..plain()
        };
        let update = Digest::of(b"1");
        ward.consents().agree(&config, update, None, "uid 0")
    };
    assert_eq!(agree("exit 1").expect_err("not pressed").code(), "button");
    assert_eq!(
        ward.consents().agreed(Digest::of(b"1")).expect("read"),
        None
    );
    agree("exit 0").expect("pressed");
}
