//! What a copied piece is expected to be: the old bytes, and in the place of each reference what the
//! rules say of it.

use alloc::vec::Vec;

use super::btf::{self, Record};
use super::{Form, Guesses, Kind, Mapping, Module, Reference, for_each_view, run};

/// A piece as it is expected to be.
#[derive(Debug, Default)]
pub(crate) struct Guess {
    pub(crate) bytes: Vec<u8>,
    /// For each byte, whether it is part of a reference, and which.
    pub(crate) fields: Vec<u8>,
    /// References, and words of data, in order.
    pub(crate) words: Vec<Reference>,
    old: Vec<u8>,
    /// Whether nobody asks for fields and words.
    bytes_only: bool,
}

/// A byte of an instruction that is no reference, while words are looked for.
const CODE: u8 = 0xff;

impl Guess {
    /// Bytes of memory of a guess at a piece of `len` bytes.
    pub(crate) const fn memory(len: u64) -> u64 {
        // A word has at least two bytes to itself; vectors grow by doubling.
        3 * len + len / 2 * size_of::<Reference>() as u64
    }

    /// A guess of which only the bytes are asked for.
    pub(crate) fn of_bytes() -> Self {
        Self {
            bytes_only: true,
            ..Self::default()
        }
    }

    /// Makes room for `len` old bytes and returns them to be filled.
    pub(crate) fn begin(&mut self, len: usize) -> &mut [u8] {
        // What stands there is overwritten by the caller.
        self.bytes.resize(len, 0);
        if !self.bytes_only {
            self.fields.clear();
            self.fields.resize(len, 0);
            self.words.clear();
        }
        &mut self.bytes
    }

    /// Rewrites the old bytes with what the rules say. `old_at` and `new_at` are where the piece
    /// stands.
    pub(crate) fn predict(&mut self, modules: &[Module], mapping: &Mapping, places: (u64, u64)) {
        if modules.is_empty() {
            return;
        }
        self.old.clone_from(&self.bytes);
        let Self {
            bytes,
            fields,
            words,
            old,
            bytes_only,
        } = self;
        for_each_view(modules, mapping, old, places, |_, zone, from, view| {
            let end = from + view.old.len();
            if *bytes_only {
                if zone.rules != 0 {
                    let bytes = &mut bytes[from..end];
                    run(zone.kind, view, &mut Overwriter(zone.rules, bytes));
                }
                return;
            }
            if zone.kind == Kind::Code {
                fields[from..end].fill(CODE);
            }
            let mut writer = Writer {
                rules: zone.rules,
                from,
                bytes: &mut bytes[from..end],
                fields: &mut fields[from..end],
                words,
            };
            if zone.rules != 0 {
                run(zone.kind, view, &mut writer);
            }
        });
    }

    /// Adds the words of data that are no references: their changes are learned too. `old_at` is
    /// where the piece stands.
    pub(crate) fn find_words(&mut self, old_at: u64) {
        let references = self.words.len();
        let first = (old_at as usize).wrapping_neg() % 4;
        let (words, _) = self.bytes[first.min(self.bytes.len())..].as_chunks::<4>();
        let (fields, _) = self.fields[first.min(self.fields.len())..].as_chunks::<4>();
        let mut record = None;
        let mut record_at = 0;
        for (index, (word, fields)) in words.iter().zip(fields).enumerate() {
            let word = u32::from_le_bytes(*word);
            if record.is_none_or(|record: Record| index - record_at >= record.len()) {
                let info = words
                    .get(index + 1)
                    .map_or(0, |info| u32::from_le_bytes(*info));
                record = Record::parse(info);
                record_at = index;
            }
            // Small numbers stand for anything.
            if *fields == [0; 4] && word.wrapping_add(SMALL) >= 2 * SMALL {
                let form = match record.map(|record| record.word(index - record_at)) {
                    Some(btf::Word::Name) => Form::Name,
                    Some(btf::Word::Type) => Form::Type,
                    _ => Form::Plain,
                };
                self.words.push(Reference {
                    at: (first + 4 * index) as u32,
                    key: word,
                    word,
                    form,
                });
            }
        }
        for field in &mut self.fields {
            if *field == CODE {
                *field = 0;
            }
        }
        if references > 0 {
            self.words.sort_by_key(|word| word.at);
        }
    }
}

/// Numbers nearer to zero than this are not learned.
const SMALL: u32 = 8;

/// Rules in use, and bytes.
struct Overwriter<'a>(u8, &'a mut [u8]);

impl Guesses for Overwriter<'_> {
    #[inline]
    fn put(&mut self, at: usize, bytes: &[u8], rule: u32, _: u64, _: Form) {
        if self.0 >> rule & 1 == 1 {
            self.1[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
}

struct Writer<'a> {
    rules: u8,
    from: usize,
    bytes: &'a mut [u8],
    fields: &'a mut [u8],
    words: &'a mut Vec<Reference>,
}

impl Guesses for Writer<'_> {
    #[inline]
    fn put(&mut self, at: usize, bytes: &[u8], rule: u32, address: u64, form: Form) {
        if self.rules >> rule & 1 == 0 {
            return;
        }
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        for (index, field) in self.fields[at..at + bytes.len()].iter_mut().enumerate() {
            *field = 1 + (index as u8 & 3);
        }
        if let Some(word) = bytes.first_chunk() {
            self.words.push(Reference {
                at: (self.from + at) as u32,
                key: address as u32,
                word: u32::from_le_bytes(*word),
                form,
            });
        }
    }
}
