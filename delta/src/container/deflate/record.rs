//! What a stream really decided, and the list of corrections to what was predicted.

use alloc::vec::Vec;

use super::bits::{BitReader, BitWriter};
use super::block::Coding;
use super::coder::{End, Judge};
use super::inflate::{Kind, Visitor, inflate};
use super::matcher::Token;
use crate::codec::varint;

/// A block as it was written.
#[derive(Debug)]
struct Written {
    kind: Kind,
    last: bool,
    /// Place and length of its head in bits.
    head: (usize, usize),
    /// Tokens up to its end; of a stored block, bytes.
    end: usize,
}

/// A stream taken apart.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    blocks: Vec<Written>,
    tokens: Vec<Token>,
    pub(super) raw: Vec<u8>,
    /// Its length in bytes.
    pub(super) len: usize,
}

impl Visitor for Parsed {
    fn block(&mut self, kind: Kind, last: bool, head: (usize, usize)) {
        let end = self.tokens.len();
        self.blocks.push(Written {
            kind,
            last,
            head,
            end,
        });
    }

    fn literal(&mut self) {
        self.tokens.push(Token::LITERAL);
        self.grow(1);
    }

    fn copy(&mut self, len: u16, distance: u16) {
        self.tokens.push(Token { len, distance });
        self.grow(1);
    }

    fn stored(&mut self, len: usize) {
        if let Some(block) = self.blocks.last_mut() {
            block.end = len;
        }
    }
}

impl Parsed {
    fn grow(&mut self, by: usize) {
        if let Some(block) = self.blocks.last_mut() {
            block.end += by;
        }
    }

    /// Takes the stream at the start of `encoded` apart.
    pub(super) fn new(encoded: &[u8], raw_max: usize) -> Option<Self> {
        let mut this = Self::default();
        let (raw, len) = inflate(encoded, raw_max, &mut this)?;
        (this.raw, this.len) = (raw, len);
        Some(this)
    }
}

/// Compares what is predicted with what was written.
pub(super) struct Recorder<'a> {
    parsed: &'a Parsed,
    encoded: &'a [u8],
    block: usize,
    /// Next token.
    token: usize,
    /// Bytes left of a stored block.
    stored: usize,
    right: u64,
    pub(super) list: Vec<u8>,
    /// Wrong predictions so far.
    pub(super) wrong: usize,
    /// It gives up when the list grows beyond.
    list_max: usize,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(parsed: &'a Parsed, encoded: &'a [u8], list_max: usize) -> Self {
        let mut this = Self {
            parsed,
            encoded,
            block: 0,
            token: 0,
            stored: 0,
            right: 0,
            list: Vec::new(),
            wrong: 0,
            list_max,
        };
        this.open();
        this
    }

    fn open(&mut self) {
        if let Some(block) = self.parsed.blocks.get(self.block) {
            self.stored = if block.kind == Kind::Stored {
                block.end
            } else {
                0
            };
        }
    }

    fn judge<T: PartialEq>(
        &mut self,
        predicted: &T,
        real: T,
        write: impl FnOnce(&T, &mut Vec<u8>),
    ) -> Option<T> {
        if *predicted == real {
            self.right += 1;
        } else {
            varint::write(&mut self.list, self.right);
            write(&real, &mut self.list);
            self.right = 0;
            self.wrong += 1;
        }
        (self.list.len() <= self.list_max).then_some(real)
    }
}

impl Judge for Recorder<'_> {
    fn token(&mut self, predicted: Token) -> Option<Token> {
        let block = self.parsed.blocks.get(self.block)?;
        let real = if block.kind == Kind::Stored {
            // A stored block does not tell its tokens: any that make it are right.
            let fits = usize::from(predicted.len) <= self.stored;
            let token = if fits { predicted } else { Token::LITERAL };
            self.stored -= usize::from(token.len);
            token
        } else {
            self.token += 1;
            *self.parsed.tokens.get(self.token - 1)?
        };
        self.judge(&predicted, real, |token, list| match token.distance {
            0 => list.push(0),
            distance => {
                varint::write(list, u64::from(token.len) - 2);
                varint::write(list, distance.into());
            }
        })
    }

    fn end(&mut self, predicted: End) -> Option<End> {
        let block = self.parsed.blocks.get(self.block)?;
        let is_over = match block.kind {
            Kind::Stored => self.stored == 0,
            _ => self.token == block.end,
        };
        let real = match (is_over, block.last) {
            (false, _) => End::No,
            (true, false) => End::Block,
            (true, true) => End::Stream,
        };
        self.judge(&predicted, real, |end, list| {
            list.push(match end {
                End::No => 0,
                End::Block => 1,
                End::Stream => 2,
            });
        })
    }

    fn coding(&mut self, predicted: Coding) -> Option<Coding> {
        let block = self.parsed.blocks.get(self.block)?;
        let head = match block.kind {
            Kind::Dynamic => (
                copied(self.encoded, block.head.0 + 3, block.head.1 - 3)?,
                block.head.1 - 3,
            ),
            _ => (Vec::new(), 0),
        };
        let real = Coding {
            kind: block.kind,
            head,
        };
        self.block += 1;
        self.open();
        self.judge(&predicted, real, |coding, list| match coding.kind {
            Kind::Stored => list.push(0),
            Kind::Fixed => list.push(1),
            Kind::Dynamic => {
                list.push(2);
                varint::write(list, coding.head.1 as u64);
                list.extend_from_slice(&coding.head.0);
            }
        })
    }
}

/// Some bits, from the start of a byte on.
fn copied(encoded: &[u8], from: usize, len: usize) -> Option<Vec<u8>> {
    let mut reader = BitReader::new(encoded.get(from / 8..)?);
    reader.skip(from as u32 % 8)?;
    let mut out = BitWriter::default();
    let mut left = len as u32;
    while left > 0 {
        let count = left.min(16);
        out.put(reader.take(count)?, count);
        left -= count;
    }
    out.align();
    Some(out.bytes)
}
