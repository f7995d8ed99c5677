//! Images beyond two and four GiB, and lengths at the end of the numbers.
//!
//! Catches: a length or an offset that passes through 32 bits, or through a signed number.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use ampoule_agent::install::digest_of;
use ampoule_agent::machine::Slot;
use ampoule_agent::ports::StoredFile;
use ampoule_protocol::release::Install;
use ampoule_protocol::tree::TreeShape;
use ampoule_tests::power::life::place;

/// A file of this length, all zeros, that remembers how much was read and how far.
struct Sparse {
    len: u64,
    read: Rc<Cell<u64>>,
    end: Rc<Cell<u64>>,
}

impl StoredFile for Sparse {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = rest.min(buf.len());
        buf[..count].fill(0);
        self.read.set(self.read.get() + count as u64);
        self.end.set(self.end.get().max(offset + count as u64));
        Ok(count)
    }
    fn write_at(&mut self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn set_len(&mut self, _len: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn forget_cached(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_image_beyond_two_gib_is_read_to_its_last_byte() {
    let len = (2_u64 << 30) + 4097;
    let (read, end) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let file = Sparse {
        len,
        read: read.clone(),
        end: end.clone(),
    };
    digest_of(&file, len, &mut |_| {}).expect("it can be read");
    assert_eq!((read.get(), end.get()), (len, len));
}

#[test]
fn the_last_block_beyond_four_gib_is_checked_by_its_own_leaf() {
    let len = (5_u64 << 30) + 1;
    let shape = TreeShape::new(len, 1 << 20).expect("within the limits");
    assert_eq!(shape.block_count(), 5 * 1024 + 1);
    assert_eq!(shape.len_of(5 * 1024), Some(1));
    assert_eq!(shape.len_of(5 * 1024 - 1), Some(1 << 20));
    assert_eq!(shape.len_of(5 * 1024 + 1), None);
    assert_eq!(shape.leaves_len(), (5 * 1024 + 1) * 32);
}

#[test]
fn lengths_at_the_end_of_the_numbers_are_errors() {
    for len in [u64::MAX, u64::MAX - 1, 1 << 63, i64::MAX as u64 + 1] {
        assert!(TreeShape::new(len, 4096).is_err(), "{len}");
        assert!(TreeShape::new(len, 1 << 20).is_err(), "{len}");
    }
    let file = Sparse {
        len: 10,
        read: Rc::default(),
        end: Rc::default(),
    };
    let error = digest_of(&file, u64::MAX, &mut |_| {}).expect_err("it is not that long");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// What is asked for is added up without falling over the end, and is refused.
#[test]
fn free_space_does_not_overflow() {
    use ampoule_agent::install::{InstallError, check_space};
    let place = place("rootfs", Install::File);
    let mut part = crate::partial::part_of_the_first_release();
    part.install = Install::File;
    part.slot = Slot::B;
    part.artifact.length = u64::MAX;
    let storage = ampoule_agent::disk::Disk;
    let folder = tempfile::tempdir().expect("a folder");
    let place = ampoule_agent::install::Place {
        slots: ["a", "b"].map(|slot| folder.path().join(slot)),
        visible: folder.path().join("visible"),
        ..place
    };
    let refused = check_space(&storage, &place, &part, Path::new(folder.path()));
    assert!(
        matches!(
            refused,
            Err(InstallError::NoSpace {
                needed: u64::MAX,
                ..
            })
        ),
        "{refused:?}"
    );
}
