//! A slot that is in use is not opened for writing, whoever asks.

use std::io::Read;
use std::path::PathBuf;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::error::Coded;
use ampoule_protocol::release::{Blocks, FileRef, Install};

use super::{Fill, Options, Place, Source, fill};
use crate::disk::Disk;
use crate::machine::{BootView, Mark, Method, Part, Slot, Whole};
use crate::net::NetError;
use crate::ports::{Fetch, Network};

/// A server that nobody may ask.
struct NoNetwork;

impl Fetch for NoNetwork {
    fn fetch(&mut self, _: &str, _: u64) -> Result<Option<Vec<u8>>, NetError> {
        panic!("a fill of a slot in use went to the network");
    }
}

impl Network for NoNetwork {
    fn target(&mut self, _: &str, _: u64, _: u64) -> Result<Box<dyn Read + '_>, NetError> {
        panic!("a fill of a slot in use went to the network");
    }
    fn post(&mut self, _: &str, _: &[u8]) -> Result<Vec<u8>, NetError> {
        panic!("a fill posts nothing");
    }
}

fn file(path: &str) -> FileRef {
    FileRef {
        path: path.parse().expect("a path"),
        length: 32,
        sha256: Digest::of(b""),
    }
}

#[test]
fn a_slot_that_runs_or_is_the_default_or_armed_is_not_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let slots: [PathBuf; 2] = ["a", "b"].map(|name| folder.path().join(name));
    for slot in &slots {
        std::fs::write(slot, b"what was there").expect("writes");
    }
    let place = Place {
        component: "rootfs".parse().expect("a name"),
        install: Install::Slot,
        slots: slots.clone(),
        visible: PathBuf::new(),
        boot_file: folder.path().join("boot.json"),
        options: Options::default(),
    };
    let part = Part {
        component: place.component.clone(),
        install: Install::Slot,
        slot: Slot::B,
        artifact: file("p/image"),
        blocks: Blocks {
            block_len: 4096,
            root: Digest::of(b""),
            leaves: file("p/leaves"),
        },
        delta: None,
        before: None,
        whole: Whole::Allowed,
        meta_data: None,
        live: false,
    };
    for (running, default, armed) in [
        (Slot::B, Slot::A, None),
        (Slot::A, Slot::B, None),
        (Slot::A, Slot::A, Some((Slot::B, 2))),
    ] {
        let asked = Fill {
            part: &part,
            method: Method::Full,
            mark: &Mark::default(),
            place: &place,
            view: BootView {
                running,
                default,
                armed,
            },
            patch_memory_max: 0,
        };
        let mut source = Source {
            storage: &Disk,
            network: &mut NoNetwork,
            checkpoint: &mut |_, _| panic!("nothing was written"),
            progress: &mut |_| panic!("nothing was written"),
            is_to_stop: &|| false,
        };
        let refused = fill(&asked, &mut source).expect_err("in use");
        assert_eq!(refused.code(), "slot-in-use");
        assert_eq!(std::fs::read(&slots[1]).expect("there"), b"what was there");
    }
}
