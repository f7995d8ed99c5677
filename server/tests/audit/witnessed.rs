//! A witness cosigns what only grew, and nothing else; and between any two checkpoints there is a
//! proof.

use ampoule_protocol::sign::Ed25519Key;
use ampoule_server::audit::medium::{Folder, Medium};
use ampoule_server::audit::note::{Kind, Note, Signer};
use ampoule_server::audit::verify::{Against, verify};
use ampoule_server::audit::witness::{grew, look};
use ampoule_server::audit::{AuditError, Checkpoint, Log};

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
        known: Vec::new(),
        witnesses: vec![witness().verifier().clone()],
    };
    let found = verify(&medium, &verifier(), against(), |_, _| {}).unwrap();
    assert_eq!(found.cosigned, [1_800_000_000]);

    // It grew: cosigned. Without a cosignature a reader who asks for one refuses it.
    log.append(&entries(300, 301)).unwrap();
    let unsigned = verify(&medium, &verifier(), against(), |_, _| {});
    assert!(matches!(unsigned, Err(AuditError::Unsigned(_))));
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
