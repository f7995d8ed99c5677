//! A witness cosigns what only grew, and nothing else; and between any two checkpoints there is a
//! proof.

use ampoule_protocol::sign::Ed25519Key;
use ampoule_server::audit::medium::{Folder, Medium};
use ampoule_server::audit::note::{Kind, Note, Signer};
use ampoule_server::audit::verify::{Against, verify};
use ampoule_server::audit::witness::{grew, look};
use ampoule_server::audit::{AuditError, Checkpoint, Log, cosigned};

use crate::{entries, entries_of, signer, verifier};

fn witness() -> Signer {
    let key = Ed25519Key::from_seed(&[5; 32]).unwrap();
    Signer::new("hospital.example/w1", Kind::Cosignature, key).unwrap()
}

#[test]
fn any_two_checkpoints_of_one_log_are_consistent() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(Box::new(Folder::new(folder.path())), signer()).unwrap();
    let mut checkpoints = Vec::new();
    // Small ones one by one, then over the borders of tiles.
    let sizes: Vec<u64> = (1..20).chain([255, 256, 257, 511, 512, 700]).collect();
    for size in sizes {
        log.append(&entries(log.size(), size)).unwrap();
        let note = log.checkpoint().as_bytes();
        checkpoints.push(Checkpoint::verify(note, &verifier()).unwrap());
    }
    let medium = Folder::new(folder.path());
    for (at, new) in checkpoints.iter().enumerate() {
        for old in &checkpoints[..=at] {
            grew(&medium, old, new).unwrap();
            let mut other = old.clone();
            other.root[0] ^= 1;
            assert!(
                grew(&medium, &other, new).is_err(),
                "{} of {}",
                old.size,
                new.size
            );
            if old.size < new.size {
                assert!(grew(&medium, new, old).is_err(), "it does not shrink");
            }
        }
    }
}

#[test]
fn a_witness_cosigns_growth_and_refuses_a_second_history() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(Box::new(Folder::new(folder.path())), signer()).unwrap();
    log.append(&entries(0, 300)).unwrap();
    let mut medium = Folder::new(folder.path());
    let seen = look(&medium, &verifier(), None).unwrap();
    let mut kept = String::new();
    let (note, _) = seen
        .cosign(&witness(), 1_800_000_000, |note| {
            kept = note.to_owned();
            Ok(())
        })
        .unwrap();
    let parsed = Note::parse(note.as_bytes()).unwrap();
    assert_eq!(
        parsed.signed_by(witness().verifier()).unwrap(),
        Some(1_800_000_000)
    );
    let known = Checkpoint::verify(kept.as_bytes(), &verifier()).unwrap();

    // A reader who asks for the witness finds it.
    medium.write("checkpoint", note.as_bytes()).unwrap();
    let against = || Against {
        witnesses: vec![witness().verifier().clone()],
        ..Against::default()
    };
    let found = verify(&medium, &verifier(), against(), |_, _| {}).unwrap();
    assert_eq!(found.cosigned[0].time, 1_800_000_000);

    // It grew: cosigned. Without a cosignature a reader who asks for one refuses it.
    log.append(&entries(300, 301)).unwrap();
    let unsigned = verify(&medium, &verifier(), against(), |_, _| {});
    assert!(matches!(unsigned, Err(AuditError::Witnesses { .. })));
    assert_eq!(look(&medium, &verifier(), Some(&known)).unwrap().known, 300);

    // The same log, told otherwise to this reader: refused.
    let other = tempfile::tempdir().unwrap();
    let mut forged = Log::open(Box::new(Folder::new(other.path())), signer()).unwrap();
    forged.append(&entries_of("mallory", 0, 400)).unwrap();
    let refused = look(&Folder::new(other.path()), &verifier(), Some(&known));
    assert!(matches!(refused, Err(AuditError::Found(_))));

    // What cannot be kept is not cosigned.
    let seen = look(&medium, &verifier(), Some(&known)).unwrap();
    assert!(
        seen.cosign(&witness(), 1, |_| Err(AuditError::Busy))
            .is_err()
    );
}

/// Goal: what witnesses have seen is published beside a log that goes on, and a reader says how many
/// of them it wants and how far behind they may be.
/// Catches: cosignatures of strangers, of another history, or of another log that are taken in; a
/// witness whose newest word is replaced by an older one; a reader that counts a witness whose
/// checkpoint the log does not begin with.
#[test]
fn cosignatures_are_taken_in_of_this_history_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::open(Box::new(Folder::new(folder.path())), signer()).unwrap();
    let other = {
        let key = Ed25519Key::from_seed(&[6; 32]).unwrap();
        Signer::new("quality.example/w2", Kind::Cosignature, key).unwrap()
    };
    let known = [witness().verifier().clone(), other.verifier().clone()];
    let cosigned = |folder: &std::path::Path, by: &Signer, time: u64| {
        let seen = look(&Folder::new(folder), &verifier(), None).unwrap();
        seen.cosign(by, time, |_| Ok(())).unwrap().0
    };
    log.append(&entries(0, 10)).unwrap();
    let early = cosigned(folder.path(), &witness(), 50);
    let stranger = {
        let key = Ed25519Key::from_seed(&[7; 32]).unwrap();
        Signer::new("mallory.example/w", Kind::Cosignature, key).unwrap()
    };
    let by_stranger = cosigned(folder.path(), &stranger, 50);
    let refused = log.cosign(by_stranger.as_bytes(), &known);
    assert!(matches!(refused, Err(AuditError::Unsigned(_))));
    log.append(&entries(10, 300)).unwrap();
    let late = cosigned(folder.path(), &witness(), 60);
    let taken = log.cosign(late.as_bytes(), &known).unwrap();
    assert_eq!((taken[0].checkpoint.size, taken[0].time), (300, 60));
    let older = log.cosign(early.as_bytes(), &known).unwrap();
    assert_eq!(older[0].checkpoint.size, 300, "the newest stays");
    // The checkpoint itself carries it, and after the next entry the one beside it does.
    let parsed = Note::parse(log.checkpoint().as_bytes()).unwrap();
    assert_eq!(parsed.signed_by(&known[0]).unwrap(), Some(60));
    log.append(&entries(300, 305)).unwrap();
    let medium = Folder::new(folder.path());
    let against = |demanded, unseen_max| Against {
        witnesses: known.to_vec(),
        demanded,
        unseen_max,
        ..Against::default()
    };
    let ask = |against| verify(&medium, &verifier(), against, |_, _| {});
    let found = ask(against(Some(1), Some(5))).unwrap();
    assert_eq!(found.cosigned.len(), 1);
    let behind = ask(against(Some(1), Some(4)));
    assert!(matches!(
        behind,
        Err(AuditError::Unseen {
            seen: 300,
            size: 305,
            ..
        })
    ));
    let few = ask(against(None, None));
    assert!(matches!(
        few,
        Err(AuditError::Witnesses {
            found: 1,
            demanded: 2,
            ..
        })
    ));

    // The same key signs another history for somebody else, who has it cosigned.
    let forged_folder = tempfile::tempdir().unwrap();
    let mut forged = Log::open(Box::new(Folder::new(forged_folder.path())), signer()).unwrap();
    forged.append(&entries_of("mallory", 0, 305)).unwrap();
    let of_forged = cosigned(forged_folder.path(), &other, 70);
    let refused = log.cosign(of_forged.as_bytes(), &known);
    assert!(matches!(refused, Err(AuditError::Found(_))), "{refused:?}");
    assert!(!log.is_broken(), "a refusal stops nothing");
    // Put into the folder by hand, it convicts the log instead of vouching for it.
    let path = cosigned::path(&known[1]);
    std::fs::write(folder.path().join(path), of_forged).unwrap();
    assert!(matches!(
        ask(against(None, None)),
        Err(AuditError::Found(_))
    ));
}
