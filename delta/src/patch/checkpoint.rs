//! Where a cut patch goes on: the end of a finished window.

use alloc::vec::Vec;

use twox_hash::XxHash3_64;

use crate::codec::varint::{self, Reader};

const MAGIC: &[u8; 4] = b"AMPC";
const VERSION: u8 = 1;

/// A place from which [`Patcher::resume`](super::Patcher::resume) can go on.
///
/// Bounded: a header, a few numbers, and less than one block of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub(super) header: Vec<u8>,
    /// Where the map of the open region begins.
    pub(super) map_at: u64,
    /// Where the next window begins.
    pub(super) window_at: u64,
    /// Bytes of the open region that are done.
    pub(super) map_done: u32,
    /// Bytes of the new image that are done.
    pub(super) written: u64,
    /// The last of them, since the start of a block.
    pub(super) tail: Vec<u8>,
}

impl Checkpoint {
    /// How many bytes of the new image must be durable before this may be stored, and where
    /// appending begins after a resume: always a multiple of [`Accept::block_len`].
    ///
    /// [`Accept::block_len`]: crate::Accept::block_len
    pub fn output_offset(&self) -> u64 {
        self.written - self.tail.len() as u64
    }

    /// Where in the patch a resumed patcher begins to read (it may then leap: see
    /// [`Progress::wanted_at`](super::Progress::wanted_at)).
    pub fn patch_offset(&self) -> u64 {
        if self.map_done > 0 {
            self.map_at
        } else {
            self.window_at
        }
    }

    /// The bytes to store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        varint::write(&mut out, self.header.len() as u64);
        out.extend_from_slice(&self.header);
        for number in [
            self.map_at,
            self.window_at,
            u64::from(self.map_done),
            self.written,
            self.tail.len() as u64,
        ] {
            varint::write(&mut out, number);
        }
        out.extend_from_slice(&self.tail);
        let sum = XxHash3_64::oneshot(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads stored bytes; `None` when they are no checkpoint.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let body_len = bytes.len().checked_sub(8)?;
        let (body, sum) = bytes.split_at(body_len);
        if XxHash3_64::oneshot(body).to_le_bytes() != *sum {
            return None;
        }
        let mut reader = Reader::new(body);
        if reader.array()? != *MAGIC || reader.byte()? != VERSION {
            return None;
        }
        let header_len = usize::try_from(reader.number()?).ok()?;
        let header = reader.slice(header_len)?.to_vec();
        let (map_at, window_at) = (reader.number()?, reader.number()?);
        let map_done = u32::try_from(reader.number()?).ok()?;
        let written = reader.number()?;
        let tail_len = usize::try_from(reader.number()?).ok()?;
        let tail = reader.slice(tail_len)?.to_vec();
        let whole = reader.is_empty() && tail.len() as u64 <= written;
        whole.then_some(Self {
            header,
            map_at,
            window_at,
            map_done,
            written,
            tail,
        })
    }
}
