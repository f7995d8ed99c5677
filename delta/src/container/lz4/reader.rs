//! A block of LZ4 (LZ4 Block Format), decoded as its bytes come. It can be copied where it stands
//! and go on from there later.

use alloc::vec::Vec;

/// Copies reach so far back.
const WINDOW: usize = 1 << 16;

/// What comes next.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// The bytes of the length before the block that are left.
    Head(u8),
    Token,
    /// More of a length.
    MoreNew,
    New,
    Distance,
    DistanceHigh(u8),
    MoreCopy,
    Copy,
}

/// Decodes one block.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    /// The bytes that copies may come from, and those that were asked for.
    out: Vec<u8>,
    next: Next,
    /// The token's low half.
    tail: u8,
    /// What is left of new bytes or of a copy.
    left: usize,
    distance: usize,
}

impl Reader {
    /// Memory of a reader that decodes `piece` bytes at once.
    pub(crate) const fn memory(piece: u64) -> u64 {
        WINDOW as u64 + piece
    }

    pub(super) fn new(with_length: bool) -> Self {
        Self {
            out: Vec::new(),
            next: if with_length {
                Next::Head(super::LENGTH as u8)
            } else {
                Next::Token
            },
            tail: 0,
            left: 0,
            distance: 0,
        }
    }

    /// Forgets what no copy reaches any more, and makes room for `piece` bytes.
    pub(crate) fn begin(&mut self, piece: usize) {
        let gone = self.out.len().saturating_sub(WINDOW);
        self.out.drain(..gone);
        self.out.reserve_exact(piece);
    }

    /// The last `piece` bytes.
    pub(crate) fn last(&self, piece: usize) -> &[u8] {
        &self.out[self.out.len().saturating_sub(piece)..]
    }

    /// Decodes from `input` until `wanted` more bytes have come, which are taken off it; how many of
    /// `input` were used. `None` where it is no block.
    pub(crate) fn read(&mut self, input: &[u8], wanted: &mut usize) -> Option<usize> {
        let mut used = 0;
        while *wanted > 0 {
            match self.next {
                Next::New if self.left > 0 => {
                    let len = self.left.min(*wanted).min(input.len() - used);
                    if len == 0 {
                        break;
                    }
                    self.out.extend_from_slice(&input[used..used + len]);
                    used += len;
                    self.left -= len;
                    *wanted -= len;
                }
                Next::New => self.next = Next::Distance,
                Next::Copy if self.left > 0 => {
                    let len = self.left.min(*wanted);
                    self.copy(len);
                    self.left -= len;
                    *wanted -= len;
                }
                Next::Copy => self.next = Next::Token,
                _ => {
                    let Some(byte) = input.get(used) else { break };
                    used += 1;
                    self.take(*byte)?;
                }
            }
        }
        Some(used)
    }

    /// Takes a byte of a token, a length or a distance.
    fn take(&mut self, byte: u8) -> Option<()> {
        self.next = match self.next {
            Next::Head(1) => Next::Token,
            Next::Head(left) => Next::Head(left - 1),
            Next::Token => {
                self.tail = byte & 15;
                self.left = usize::from(byte >> 4);
                if self.left == 15 {
                    Next::MoreNew
                } else {
                    Next::New
                }
            }
            Next::MoreNew => self.more(byte, Next::New)?,
            Next::MoreCopy => self.more(byte, Next::Copy)?,
            Next::DistanceHigh(low) => {
                self.distance = usize::from(u16::from_le_bytes([low, byte]));
                if self.distance == 0 || self.distance > self.out.len() {
                    return None;
                }
                self.left = usize::from(self.tail) + 4;
                if self.tail == 15 {
                    Next::MoreCopy
                } else {
                    Next::Copy
                }
            }
            Next::Distance | Next::New | Next::Copy => Next::DistanceHigh(byte),
        };
        Some(())
    }

    fn more(&mut self, byte: u8, then: Next) -> Option<Next> {
        self.left = self.left.checked_add(usize::from(byte))?;
        Some(if byte == 255 { self.next } else { then })
    }

    /// Copies earlier bytes; those that a copy makes it may copy again.
    fn copy(&mut self, mut len: usize) {
        let from = self.out.len() - self.distance;
        while len > 0 {
            let known = (self.out.len() - from).min(len);
            self.out.extend_from_within(from..from + known);
            len -= known;
        }
    }
}
