//! What a probe does after a start, pure: the record and the loader's view in, the next step out.

use super::RESTARTS_MAX;
use super::record::{Record, Stage};
use crate::machine::BootView;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Fill the other slot with what runs, and arm it.
    Copy,
    /// Restart; the record was changed and is to be kept before.
    Restart,
    /// The verdict.
    Conclude(Verdict),
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the loader counts and falls back.
    pub passed: bool,
    /// What was seen, for people.
    pub detail: String,
}

fn failed(detail: impl Into<String>) -> Next {
    Next::Conclude(Verdict {
        passed: false,
        detail: detail.into(),
    })
}

/// The next step of a probe, after a start of the agent. Changes the record where something new was
/// seen.
pub fn step(record: &mut Record, view: BootView) -> Next {
    let trial = record.default.other();
    let left = view
        .armed
        .filter(|(slot, _)| *slot == trial)
        .map(|(_, left)| left);
    if let Stage::Ending { passed, detail } = &record.stage {
        return Next::Conclude(Verdict {
            passed: *passed,
            detail: detail.clone(),
        });
    }
    if view.default != record.default {
        return failed(format!(
            "the default became slot \"{}\" by itself",
            view.default
        ));
    }
    if view.running == trial {
        // A loader that counts to one has no count to look at while it tries.
        let left = left.filter(|_| record.attempts > 1).unwrap_or(0);
        return in_trial(record, left);
    }
    if record.seen.is_empty() {
        return not_yet(record, left);
    }
    match left {
        Some(left) if left > 0 => failed(format!(
            "the boot loader went back with {left} of {} boots left",
            record.attempts
        )),
        Some(_) | None => Next::Conclude(Verdict {
            passed: true,
            detail: format!(
                "{}, then slot \"{}\" again",
                counted(record),
                record.default
            ),
        }),
    }
}

/// The trial runs: the count must have fallen since it was seen last.
fn in_trial(record: &mut Record, left: u32) -> Next {
    record.stage = Stage::Armed;
    let before = record.seen.last().copied().unwrap_or(record.attempts);
    if left < before {
        record.seen.push(left);
        return Next::Restart;
    }
    if record.restarts < RESTARTS_MAX {
        // The agent was started twice in one boot, perhaps: the count stands then too.
        return Next::Restart;
    }
    failed(if left == 0 {
        format!(
            "the boot loader does not fall back: slot \"{}\" without a boot left",
            record.default.other()
        )
    } else {
        format!(
            "the boot loader does not count: {left} boots left after {} restarts",
            record.restarts
        )
    })
}

/// The default runs, and no boot of the trial was seen.
fn not_yet(record: &Record, left: Option<u32>) -> Next {
    let slot = record.default.other();
    match left {
        // Cut before the arming.
        None if record.restarts == 0 => Next::Copy,
        None => failed(format!(
            "the boot loader dropped slot \"{slot}\" without a boot of it"
        )),
        // Cut before the restart; or the loader does not look at what is armed.
        Some(left) if left >= record.attempts && record.restarts < RESTARTS_MAX => Next::Restart,
        Some(left) if left >= record.attempts => failed(format!(
            "the boot loader does not start slot \"{slot}\", which is armed"
        )),
        // Its boots went, and the agent saw none: cuts, or an image that does not come up there.
        Some(0) => failed(format!(
            "slot \"{slot}\" used its boots up, and the agent did not run there"
        )),
        Some(_) => Next::Restart,
    }
}

/// `2 → 1 → 0 boots left`
fn counted(record: &Record) -> String {
    let counts = std::iter::once(&record.attempts).chain(&record.seen);
    let counts: Vec<String> = counts.map(ToString::to_string).collect();
    format!("{} boots left", counts.join(" → "))
}

#[cfg(test)]
mod tests {
    //! Meant to catch: a count that stands taken for one that falls, a fallback that comes too
    //! early taken for one that is due.

    use ampoule_protocol::name::ComponentName;
    use ampoule_protocol::time::UtcTime;

    use super::*;
    use crate::machine::Slot;

    fn record() -> Record {
        let component = ComponentName::parse("rootfs").expect("a name");
        let mut record = Record::new(component, Slot::A, UtcTime::from_unix(1_800_000_000));
        record.stage = Stage::Armed;
        record
    }

    fn view(running: Slot, left: Option<u32>) -> BootView {
        BootView {
            running,
            default: Slot::A,
            armed: left.map(|left| (Slot::B, left)),
        }
    }

    /// Restarts a device until there is a verdict; what the loader says follows from the number of
    /// the boot.
    fn live(mut loader: impl FnMut(u32) -> BootView) -> Verdict {
        let mut record = record();
        for boot in 1.. {
            record.restarts += 1;
            match step(&mut record, loader(boot)) {
                Next::Conclude(verdict) => return verdict,
                Next::Restart => assert!(boot <= RESTARTS_MAX, "it does not come to an end"),
                Next::Copy => panic!("nothing was cut"),
            }
        }
        unreachable!("it came to an end")
    }

    #[test]
    fn a_loader_that_counts_and_falls_is_proven() {
        let good = |boot| match boot {
            1 => view(Slot::B, Some(1)),
            2 => view(Slot::B, Some(0)),
            _ => view(Slot::A, Some(0)),
        };
        let verdict = live(good);
        assert_eq!(
            verdict.detail,
            "2 → 1 → 0 boots left, then slot \"a\" again"
        );
        assert!(verdict.passed);
    }

    #[test]
    fn every_loader_that_lies_is_found_out() {
        type Loader = fn(u32) -> BootView;
        let liars: [(&str, Loader); 6] = [
            ("does not count", |_| view(Slot::B, Some(2))),
            ("counts once", |_| view(Slot::B, Some(1))),
            ("never falls back", |boot| {
                view(Slot::B, Some(2_u32.saturating_sub(boot)))
            }),
            ("falls back too early", |boot| match boot {
                1 => view(Slot::B, Some(1)),
                _ => view(Slot::A, Some(1)),
            }),
            ("looks at nothing", |_| view(Slot::A, Some(2))),
            ("forgets", |_| view(Slot::A, None)),
        ];
        for (how, loader) in liars {
            let verdict = live(loader);
            assert!(!verdict.passed, "a loader that {how}: {}", verdict.detail);
        }
        let moves = BootView {
            running: Slot::B,
            default: Slot::B,
            armed: None,
        };
        assert!(!live(|_| moves).passed);
    }

    /// A cut in the trial before the agent ran costs a boot that it did not see.
    #[test]
    fn a_boot_that_was_not_seen_does_not_spoil_it() {
        let verdict = live(|boot| match boot {
            1 => view(Slot::B, Some(0)),
            _ => view(Slot::A, Some(0)),
        });
        assert!(verdict.passed);
    }

    #[test]
    fn a_cut_before_the_arming_leads_back_to_the_copy() {
        assert_eq!(step(&mut record(), view(Slot::A, None)), Next::Copy);
    }
}
