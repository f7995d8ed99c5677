//! Executables in an image: where they stand, their loads, and what their sections hold.
//!
//! Reads ELF (System V ABI, chapters 4 and 5), little-endian, executables and libraries; and plain
//! firmware of Cortex-M controllers, which is known by its vector table. What does not hold
//! together is passed over: a module that is missing costs bytes, nothing else.

use alloc::vec;
use alloc::vec::Vec;

use super::image::Image;
use crate::code::{Kind, Machine, Place, Zone};

/// An executable in one image.
#[derive(Debug, Clone)]
pub(super) struct Executable {
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) machine: Machine,
    pub(super) loads: Vec<Place>,
    pub(super) zones: Vec<Zone>,
}

impl Executable {
    pub(super) fn end(&self) -> u64 {
        self.at + self.len
    }
}

/// What an executable begins with, at a multiple of its length.
const MAGIC: &[u8; 4] = b"\x7fELF";
/// More are not looked at in one image.
const EXECUTABLES_MAX: usize = 2048;
/// Images are gone through in pieces of this size, a multiple of the magic's length.
const PIECE: usize = 1 << 20;

/// All executables of an image, in order.
pub(super) fn find(image: &Image) -> Vec<Executable> {
    let mut found: Vec<Executable> = Vec::new();
    let mut at = 0;
    while at < image.length() && found.len() < EXECUTABLES_MAX {
        let piece = image.get(at, PIECE);
        let (words, _) = piece.as_chunks::<4>();
        for (index, _) in words.iter().enumerate().filter(|(_, word)| *word == MAGIC) {
            let start = at + 4 * index as u64;
            if found.last().is_some_and(|last| start < last.end()) {
                continue;
            }
            found.extend(elf(&Bytes { image, start }));
        }
        at += PIECE as u64;
    }
    if found.is_empty() && image.length() <= FIRMWARE_MAX {
        found.extend(cortex_m(&image.get(0, FIRMWARE_MAX as usize)));
    }
    found.truncate(EXECUTABLES_MAX);
    found
}

/// Plain firmware is not longer.
const FIRMWARE_MAX: u64 = 64 << 20;

/// An image from the start of an executable on.
struct Bytes<'a> {
    image: &'a Image<'a>,
    start: u64,
}

impl Bytes<'_> {
    fn len(&self) -> u64 {
        self.image.length() - self.start
    }

    /// A little-endian number of `size` bytes.
    fn word(&self, at: usize, size: usize) -> Option<u64> {
        word(
            &self.image.get(self.start.checked_add(at as u64)?, size),
            0,
            size,
        )
    }

    /// The name that begins at `at`.
    fn name(&self, at: usize) -> Option<Vec<u8>> {
        let bytes = self.image.get(self.start.checked_add(at as u64)?, NAME_MAX);
        Some(bytes.split(|byte| *byte == 0).next()?.to_vec())
    }
}

/// Names of sections that matter are shorter.
const NAME_MAX: usize = 32;

/// Plain firmware: the base address is left for the caller to try.
fn cortex_m(image: &[u8]) -> Option<Executable> {
    let stack = word(image, 0, 4)?;
    let reset = word(image, 4, 4)?;
    let plausible = (0x1000_0000..0x1010_0000).contains(&stack)
        || (0x2000_0000..0x2400_0000).contains(&stack) && stack % 4 == 0;
    if !plausible || reset % 2 == 0 || reset >= 0x2000_0000 {
        return None;
    }
    let len = image.len() as u64;
    Some(Executable {
        at: 0,
        len,
        machine: Machine::Thumb,
        loads: vec![Place {
            at: 0,
            address: 0,
            len,
            memory_len: len,
        }],
        zones: vec![Zone {
            at: 0,
            len,
            kind: Kind::Code,
            rules: 0,
        }],
    })
}

/// Bases at which plain firmware may be linked: where the most pointers lead to the beginning of a
/// function, and what the place of the reset handler suggests. As many for any image.
pub(super) fn cortex_m_bases(image: &[u8]) -> Vec<u64> {
    let Some(reset) = word(image, 4, 4) else {
        return Vec::new();
    };
    let suggested = (8..=24).map(|bits| reset >> bits << bits);
    core::iter::once(voted_base(image, reset))
        .chain(suggested)
        .collect()
}

/// Pointers that vote for a base, and bases that are voted for, at most.
const VOTERS_MAX: usize = 4096;
const CANDIDATES_MAX: usize = 1024;
/// Bases are multiples of this.
const PAGE: usize = 1024;

/// The base at which the most pointers to Thumb code lead to a function that saves registers.
fn voted_base(image: &[u8], reset: u64) -> u64 {
    let reach = (
        reset.saturating_sub(image.len() as u64),
        reset + image.len() as u64,
    );
    let voters: Vec<u64> = image
        .chunks_exact(4)
        .filter_map(|bytes| word(bytes, 0, 4))
        .filter(|pointer| pointer % 2 == 1 && (reach.0..reach.1).contains(pointer))
        .take(VOTERS_MAX)
        .collect();
    let step = (image.len() / CANDIDATES_MAX).next_power_of_two().max(PAGE);
    let votes = |base: u64| {
        let saves = |pointer: &&u64| {
            let at = (**pointer - 1).checked_sub(base);
            let first = at.and_then(|at| word(image, usize::try_from(at).ok()?, 2));
            // PUSH, and STMDB to the stack.
            first.is_some_and(|first| first & 0xfe00 == 0xb400 || first == 0xe92d)
        };
        voters.iter().filter(saves).count()
    };
    let highest = reset / step as u64 * step as u64;
    (0..CANDIDATES_MAX as u64)
        .map_while(|down| highest.checked_sub(down * step as u64))
        .take_while(|base| base + image.len() as u64 > reset)
        .max_by_key(|base| (votes(*base), *base))
        .unwrap_or(highest)
}

/// A little-endian number of `size` bytes.
fn word(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)),
    )
}

/// The table of an ELF header: where, entry size, count.
struct Tables {
    wide: bool,
    segments: (usize, usize, usize),
    sections: (usize, usize, usize),
    names: usize,
}

fn elf(bytes: &Bytes) -> Option<Executable> {
    let (class, order) = (bytes.word(4, 1)?, bytes.word(5, 1)?);
    if order != 1 || !matches!(bytes.word(16, 2)?, 2 | 3) {
        return None;
    }
    let machine = match (bytes.word(18, 2)?, class) {
        (62, 2) => Machine::X64,
        (183, 2) => Machine::A64,
        (40, 1) => Machine::A32,
        _ => return None,
    };
    let tables = tables(bytes, class == 2)?;
    let loads = loads(bytes, &tables)?;
    let sections_end = (tables.sections.0 + tables.sections.1 * tables.sections.2) as u64;
    let loads_end = loads.iter().map(|load| load.at + load.len).max()?;
    let len = sections_end.max(loads_end).min(bytes.len());
    let mut zones = zones(bytes, &tables, machine).unwrap_or_default();
    zones.retain(|zone| zone.at + zone.len <= len);
    (!zones.is_empty()).then_some(Executable {
        at: bytes.start,
        len,
        machine,
        loads,
        zones,
    })
}

fn tables(bytes: &Bytes, wide: bool) -> Option<Tables> {
    let number = |at, size| {
        bytes
            .word(at, size)
            .and_then(|number| usize::try_from(number).ok())
    };
    let in_image = |table: (usize, usize, usize)| {
        let end = table.1.checked_mul(table.2)?.checked_add(table.0)?;
        (end as u64 <= bytes.len()).then_some(table)
    };
    let (segments, sections, names) = if wide {
        (
            (number(32, 8)?, number(54, 2)?, number(56, 2)?),
            (number(40, 8)?, number(58, 2)?, number(60, 2)?),
            number(62, 2)?,
        )
    } else {
        (
            (number(28, 4)?, number(42, 2)?, number(44, 2)?),
            (number(32, 4)?, number(46, 2)?, number(48, 2)?),
            number(50, 2)?,
        )
    };
    Some(Tables {
        wide,
        segments: in_image(segments)?,
        sections: in_image(sections)?,
        names,
    })
}

fn loads(bytes: &Bytes, tables: &Tables) -> Option<Vec<Place>> {
    const LOAD: u64 = 1;
    let (start, size, count) = tables.segments;
    let fields = if tables.wide {
        [8, 16, 32, 40]
    } else {
        [4, 8, 16, 20]
    };
    let width = if tables.wide { 8 } else { 4 };
    let mut loads = Vec::new();
    for at in (0..count).map(|index| start + index * size) {
        if bytes.word(at, 4)? != LOAD {
            continue;
        }
        let [at, address, len, memory_len] = fields.map(|field| bytes.word(at + field, width));
        let (at, len) = (at?, len?);
        at.checked_add(len).filter(|end| *end <= bytes.len())?;
        loads.push(Place {
            at,
            address: address?,
            len,
            memory_len: memory_len?.max(len),
        });
    }
    (!loads.is_empty() && loads.len() <= crate::code::LOADS_MAX).then_some(loads)
}

/// The sections that hold references.
fn zones(bytes: &Bytes, tables: &Tables, machine: Machine) -> Option<Vec<Zone>> {
    const NO_BITS: u64 = 8;
    const ALLOCATED: u64 = 2;
    let (start, size, count) = tables.sections;
    let section = |index: usize| {
        let at = start + index * size;
        let (fields, width) = if tables.wide {
            ([8, 16, 24, 32], 8)
        } else {
            ([8, 12, 16, 20], 4)
        };
        let [flags, _, offset, len] = fields.map(|field| bytes.word(at + field, width));
        Some((
            bytes.word(at, 4)?,
            bytes.word(at + 4, 4)?,
            flags?,
            offset?,
            len?,
        ))
    };
    let (_, _, _, names_at, _) = section(tables.names)?;
    let mut zones = Vec::new();
    for index in 0..count {
        let (name_at, kind, flags, at, len) = section(index)?;
        let name_at = usize::try_from(names_at.checked_add(name_at)?).ok()?;
        let name = bytes.name(name_at)?;
        if kind == NO_BITS || len == 0 || flags & ALLOCATED == 0 {
            continue;
        }
        let executable = flags & 4 != 0;
        let kind = match (&name[..], machine) {
            _ if executable => Kind::Code,
            // Tables of the Linux kernel that hold distances from themselves.
            (
                b".eh_frame"
                | b"__ksymtab"
                | b"__ksymtab_gpl"
                | b"__ex_table"
                | b"__bug_table"
                | b".orc_unwind_ip"
                | b".retpoline_sites"
                | b".return_sites"
                | b".smp_locks"
                | b".altinstructions"
                | b"__jump_table"
                | b".static_call_sites",
                _,
            ) => Kind::Relative,
            (b".eh_frame_hdr", _) => Kind::FromStart,
            (b".ARM.exidx", _) => Kind::Relative31,
            (_, Machine::A32 | Machine::Thumb) => Kind::Words32,
            (_, Machine::X64 | Machine::A64) => Kind::Words64,
        };
        zones.push(Zone {
            at,
            len,
            kind,
            rules: 0,
        });
    }
    zones.sort_unstable_by_key(|zone| (zone.at, zone.len));
    let mut end = 0;
    zones.retain(|zone| {
        let keeps = zone.at >= end && zone.at.checked_add(zone.len).is_some();
        end = if keeps { zone.at + zone.len } else { end };
        keeps
    });
    zones.truncate(crate::code::ZONES_MAX);
    Some(zones)
}
