//! A whole refresh against a repository that answers with any bytes.
//!
//! The client holds a root whose keys nobody has. Whatever is answered, it ends within its bounds
//! and stores nothing.
#![no_main]

use std::sync::LazyLock;

use ampoule_protocol::client::{Answer, Refresh, Step};
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::metadata::{RoleKeys, RoleType, Root};
use ampoule_protocol::repo::Draft;
use ampoule_protocol::sign::{Ed25519Key, Sign};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::UpdateStart;
use libfuzzer_sys::fuzz_target;

static ROOT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let key = Ed25519Key::from_seed(&[0x5a; 32]).expect("a seed");
    let public = key.public_key().to_key();
    let mut root = Root::new(UtcTime::from_unix(4_000_000_000));
    for role in RoleType::ALL {
        root.roles.insert(role, RoleKeys::new(vec![public.id()], 1));
    }
    root.keys.insert(public.id(), public);
    let mut draft = Draft::new(&root);
    draft.sign(&key).expect("a key in memory");
    draft.to_bytes()
});

fuzz_target!(|bytes: &[u8]| {
    let start = UpdateStart::new(Some(UtcTime::from_unix(1_795_000_000)), UtcTime::EPOCH);
    let mut refresh = Refresh::begin(&ROOT, start, Lengths::DEFAULT).expect("our own root");
    // Answers are cut from the input at 0xff, a byte that no JSON holds.
    let mut answers = bytes.split(|byte| *byte == 0xff);
    for _ in 0..1_000 {
        let Ok(step) = refresh.step() else { return };
        let answer = match step {
            Step::Done => unreachable!("nobody has the keys"),
            Step::Store(name, _) => panic!("{name:?} was believed"),
            Step::Load(_) | Step::Fetch(_) => answers.next().map_or(Answer::NotFound, Answer::Bytes),
        };
        if refresh.answer(answer).is_err() {
            return;
        }
    }
    panic!("the refresh does not end");
});
