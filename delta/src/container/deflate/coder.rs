//! Plain bytes to deflate, decision by decision.
//!
//! There are three kinds of decisions: the next token, whether a block ends, and how it is coded.
//! Each is predicted as zlib or gzip would take it, and a [`Judge`] says what it really is: on the
//! device from a list of corrections, which is empty when the prediction always holds; at the signer
//! from the stream itself, which is how the list is made.

use alloc::vec::Vec;

use super::bits::BitWriter;
use super::block::{Block, Coding};
use super::inflate::Kind;
use super::matcher::{Held, LOOK_AHEAD, LOOK_BACK, Matcher, Token};
use super::{Deflate, Family};
use crate::codec::varint::Reader;

/// A block holds no more tokens.
pub(super) const TOKENS_MAX: usize = 1 << 17;
/// Corrections of one stream take no more bytes.
pub(super) const LIST_MAX: usize = 1 << 20;
/// Output is given away when it is this long.
const OUT_PIECE: usize = 64 << 10;

/// Whether a block ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    No,
    /// Another block follows.
    Block,
    Stream,
}

/// Says what a decision really is; `None` when that cannot be said.
pub(super) trait Judge {
    fn token(&mut self, predicted: Token) -> Option<Token>;
    fn end(&mut self, predicted: End) -> Option<End>;
    fn coding(&mut self, predicted: Coding) -> Option<Coding>;
}

pub(super) struct Coder<J> {
    deflate: Deflate,
    matcher: Matcher,
    block: Block,
    pub(super) judge: J,
    out: BitWriter,
    len: u32,
    last_token: Token,
    is_done: bool,
}

impl<J: Judge> Coder<J> {
    /// For `len` plain bytes.
    pub(super) fn new(deflate: Deflate, len: u32, judge: J) -> Self {
        Self {
            deflate,
            matcher: Matcher::new(deflate.family, deflate.level, deflate.hash_bits(), len),
            block: Block::new(0),
            judge,
            out: BitWriter::default(),
            len,
            last_token: Token::LITERAL,
            is_done: false,
        }
    }

    /// How far it is.
    pub(super) fn at(&self) -> u32 {
        self.matcher.at()
    }

    /// From where on plain bytes must be held.
    pub(super) fn held_from(&self) -> u32 {
        self.at().saturating_sub(LOOK_BACK)
    }

    /// Goes on as far as what is held allows, or until there is something to give away; whether it
    /// stopped for want of plain bytes.
    pub(super) fn run(&mut self, held: Held) -> Option<bool> {
        let end = held.start + held.bytes.len() as u32;
        while !self.is_done && self.out.bytes.len() < OUT_PIECE {
            if end < self.len && end < self.at() + LOOK_AHEAD {
                return Some(true);
            }
            self.step(held)?;
        }
        Some(self.is_done)
    }

    /// Goes on until `to`, or to the end: all plain bytes are held.
    #[cfg(feature = "diff")]
    pub(super) fn run_to(&mut self, held: Held, to: u32) -> Option<()> {
        while !self.is_done && self.at() < to {
            self.step(held)?;
        }
        Some(())
    }

    /// Whether the stream is whole.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// What was written since this was asked.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.out.bytes)
    }

    /// One token, after the blocks that end before it.
    fn step(&mut self, held: Held) -> Option<()> {
        loop {
            let predicted = self.predicted_end();
            let end = self.judge.end(predicted)?;
            if end == End::No {
                break;
            }
            self.close(end == End::Stream, held)?;
            if end == End::Stream {
                self.out.align();
                self.is_done = true;
                return (self.at() == self.len).then_some(());
            }
        }
        if self.at() >= self.len || self.block.count() >= TOKENS_MAX {
            return None;
        }
        let predicted = self.matcher.predict(held);
        let token = self.judge.token(predicted)?;
        let at = self.at();
        let from = (at - held.start) as usize;
        if token != predicted && !is_true(token, at, self.len, held) {
            return None;
        }
        self.matcher.accept(held, token);
        self.block.push(token, held.bytes[from]);
        self.last_token = token;
        Some(())
    }

    fn predicted_end(&self) -> End {
        let count = self.block.count();
        let is_at_end = self.at() == self.len;
        let rest = if is_at_end { End::Stream } else { End::No };
        if count == 0 {
            return rest;
        }
        let is_lazy = self.deflate.level > 3;
        let is_full = count == self.deflate.tokens_max() - 1;
        let is_worth = || {
            // The old program looks when it has not gone over the copy yet.
            let len = self.block.len - u32::from(self.last_token.len) + u32::from(is_lazy);
            self.deflate.family == Family::Gzip
                && self.deflate.level > 2
                && count.is_multiple_of(4096)
                && self.block.is_worth_ending(len)
        };
        // The last literal of a lazy level is written without asking.
        let asks = !(is_at_end && is_lazy && self.last_token.distance == 0);
        if asks && (is_full || is_worth()) {
            End::Block
        } else {
            rest
        }
    }

    fn close(&mut self, last: bool, held: Held) -> Option<()> {
        let predicted = self
            .block
            .coding(self.block.start >= self.matcher.window_start());
        let coding = self.judge.coding(predicted)?;
        self.block.write(&coding, last, held, &mut self.out)?;
        self.block = Block::new(self.at());
        Some(())
    }
}

/// Whether a token gives the bytes that are there.
fn is_true(token: Token, at: u32, len: u32, held: Held) -> bool {
    if token.distance == 0 {
        return token.len == 1;
    }
    let (size, distance) = (usize::from(token.len), usize::from(token.distance));
    let here = (at - held.start) as usize;
    let bytes = held.bytes;
    (3..=258).contains(&size)
        && distance <= here.min(32 << 10)
        && size as u32 <= len - at
        && bytes[here..here + size] == bytes[here - distance..here - distance + size]
}

/// Follows a list of corrections.
///
/// Each is: how many decisions were right before it, then what it is. A token is 0 for a literal, or
/// its length less 2 and its distance. An end is 0, 1 or 2. A coding is its kind, and for a dynamic
/// block the bits of its head.
pub(super) struct Corrected {
    list: Vec<u8>,
    at: usize,
    /// Right decisions that are left; `None` when all others are.
    right: Option<u64>,
}

impl Corrected {
    pub(super) fn new(list: Vec<u8>) -> Option<Self> {
        let mut this = Self {
            list,
            at: 0,
            right: None,
        };
        this.next()?;
        Some(this)
    }

    /// Whether all corrections were used.
    pub(super) fn is_used(&self) -> bool {
        self.right.is_none()
    }

    fn next(&mut self) -> Option<()> {
        self.right = None;
        if self.at < self.list.len() {
            let mut reader = Reader::new(&self.list[self.at..]);
            self.right = Some(reader.number()?);
            self.at += reader.position();
        }
        Some(())
    }

    fn read<T>(&mut self, read: impl FnOnce(&mut Reader) -> Option<T>) -> Option<T> {
        let mut reader = Reader::new(&self.list[self.at..]);
        let value = read(&mut reader)?;
        self.at += reader.position();
        Some(value)
    }

    /// What the decision is: as predicted, or as it is read.
    fn judge<T>(&mut self, predicted: T, read: impl FnOnce(&mut Reader) -> Option<T>) -> Option<T> {
        match &mut self.right {
            None => Some(predicted),
            Some(0) => {
                let value = self.read(read)?;
                self.next()?;
                Some(value)
            }
            Some(right) => {
                *right -= 1;
                Some(predicted)
            }
        }
    }
}

impl Judge for Corrected {
    fn token(&mut self, predicted: Token) -> Option<Token> {
        self.judge(predicted, |reader| match reader.number()? {
            0 => Some(Token::LITERAL),
            len => Some(Token {
                len: u16::try_from(len).ok()?.checked_add(2)?,
                distance: u16::try_from(reader.number()?).ok()?,
            }),
        })
    }

    fn end(&mut self, predicted: End) -> Option<End> {
        self.judge(predicted, |reader| match reader.byte()? {
            0 => Some(End::No),
            1 => Some(End::Block),
            2 => Some(End::Stream),
            _ => None,
        })
    }

    fn coding(&mut self, predicted: Coding) -> Option<Coding> {
        self.judge(predicted, |reader| {
            let kind = match reader.byte()? {
                0 => Kind::Stored,
                1 => Kind::Fixed,
                2 => Kind::Dynamic,
                _ => return None,
            };
            let head = match kind {
                Kind::Dynamic => {
                    let bits = usize::try_from(reader.number()?).ok()?;
                    (reader.slice(bits.div_ceil(8))?.to_vec(), bits)
                }
                _ => (Vec::new(), 0),
            };
            Some(Coding { kind, head })
        })
    }
}
