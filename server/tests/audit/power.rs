//! The power is cut after every operation of the log, with what was not synced kept, lost or torn.
//!
//! Goal: what `append` has answered is there afterwards, byte for byte; the log opens by itself,
//! goes on, and verifies; and no checkpoint that somebody may have seen is taken back.
//! Catches (each was planted and seen red): a checkpoint before the folders are synced, a tile
//! renamed without a sync of its bytes, a folder made without a sync of the one above.

use ampoule_server::audit::medium::Medium;
use ampoule_server::audit::verify::{Against, verify};
use ampoule_server::audit::{AuditError, Checkpoint, Log};

use crate::disk::{Bytes, Disk, Names};
use crate::{entries, signer, verifier};

/// Sizes after each append: first tile, across a border, exactly to one, over two at once.
const SIZES: [u64; 7] = [1, 3, 250, 300, 512, 513, 1100];

/// Appends until the power is gone; gives what was answered.
fn run(disk: &Disk) -> u64 {
    let Ok(mut log) = Log::open(Box::new(disk.clone()), signer()) else {
        return 0;
    };
    let mut size = log.size();
    for next in SIZES {
        if next <= size {
            continue;
        }
        if log.append(&entries(log.size(), next)).is_err() {
            break;
        }
        size = next;
    }
    size
}

fn whole(disk: &Disk) -> Checkpoint {
    let verified = verify(disk, &verifier(), Against::default(), |_, _| {});
    verified
        .unwrap_or_else(|error| panic!("{error:?}"))
        .checkpoint
}

#[test]
fn nothing_answered_is_lost_wherever_the_power_goes() {
    let clean = Disk::new();
    assert_eq!(run(&clean), 1100);
    let (last, operations) = (whole(&clean), clean.operations());
    assert!(operations > 100, "{operations}");
    for cut in 0..operations {
        let disk = Disk::new();
        disk.cut_after(cut);
        let answered = run(&disk);
        for names in [Names::Kept, Names::Lost] {
            for bytes in [Bytes::Kept, Bytes::Lost, Bytes::Torn] {
                let disk = disk.after_cut(names, bytes);
                let story = format!("cut {cut}, names {names:?}, bytes {bytes:?}");
                let log = Log::open(Box::new(disk.clone()), signer());
                let log = log.unwrap_or_else(|error| panic!("{story}: {error:?}"));
                assert!(
                    log.size() >= answered,
                    "{story}: {} of {answered}",
                    log.size()
                );
                drop(log);
                assert!(whole(&disk).size >= answered, "{story}");
                // The same entries again make the same tree: nothing of the cut is left in it.
                assert_eq!(run(&disk), 1100, "{story}");
                assert_eq!(whole(&disk).root, last.root, "{story}");
            }
        }
    }
}

#[test]
fn a_log_that_lost_its_checkpoint_is_not_begun_anew() {
    let mut disk = Disk::new();
    run(&disk);
    disk.rename("checkpoint", "elsewhere").unwrap();
    let opened = Log::open(Box::new(disk), signer());
    assert!(opened.is_err());
}

/// The disk answers again, but nobody knows what it has of the append that failed.
#[test]
fn after_a_fault_nothing_is_taken_until_the_log_is_opened_again() {
    let disk = Disk::new();
    let mut log = Log::open(Box::new(disk.clone()), signer()).unwrap();
    log.append(&entries(0, 3)).unwrap();
    disk.cut_after(2);
    assert!(log.append(&entries(3, 4)).is_err());
    disk.mend();
    let refused = log.append(&entries(3, 4));
    assert!(matches!(refused, Err(AuditError::Broken)), "{refused:?}");
    let mut log = Log::open(Box::new(disk), signer()).unwrap();
    assert_eq!(log.size(), 3);
    log.append(&entries(3, 4)).unwrap();
}
