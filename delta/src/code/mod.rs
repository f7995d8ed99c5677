//! References in executable code, predicted: code that moved still calls the same functions, so
//! what a reference says in the new image follows from where its target went.
//!
//! The covers of a map say where every byte of the old image went. For each reference in a copied
//! stretch the target's old address is mapped through them, and the operand encoded anew: that is
//! the guess, instead of the old bytes. No disassembly travels; a [`Module`] tells where addresses
//! begin, which stretches hold what, and which rules gain there (the signer tried each).
//!
//! Only old bytes, covers and modules enter a guess, so signer and device make the same one. A
//! wrong guess costs bytes, never correctness: differences are coded against it.

mod arm;
pub(crate) mod btf;
mod guess;
mod mapping;
mod reference;
mod tables;
mod words;
mod x64;

use alloc::vec::Vec;

pub(crate) use guess::Guess;
pub(crate) use mapping::Mapping;
pub(crate) use reference::{Form, Reference};
#[cfg(feature = "diff")]
pub(crate) use tables::{LOADS_MAX, MODULES_MAX, ZONES_MAX};
#[cfg(feature = "diff")]
pub(crate) use x64::shape as x64_shape;

/// Instruction sets whose references are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    X64,
    A64,
    A32,
    Thumb,
}

/// What a stretch of a module holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Instructions.
    Code,
    /// 32-bit distances from where they stand (`.eh_frame`).
    Relative,
    /// 32-bit distances from the start of the stretch (`.eh_frame_hdr`).
    FromStart,
    /// 31-bit distances from where they stand (`.ARM.exidx`).
    Relative31,
    /// 32-bit addresses.
    Words32,
    /// 64-bit addresses.
    Words64,
}

/// A stretch of a module in the old image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zone {
    /// Counted from the module's start.
    pub(crate) at: u64,
    pub(crate) len: u64,
    pub(crate) kind: Kind,
    /// Which rules are used here: one bit each.
    pub(crate) rules: u8,
}

/// A stretch of a file and where it stands in memory, before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Load {
    pub(crate) old: Place,
    pub(crate) new: Place,
}

/// One side of a [`Load`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// Counted from the module's start.
    pub(crate) at: u64,
    pub(crate) address: u64,
    /// Bytes in the file.
    pub(crate) len: u64,
    /// Bytes in memory: not fewer.
    pub(crate) memory_len: u64,
}

/// An executable or library, in both images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) machine: Machine,
    /// Where it begins in the logical old image.
    pub(crate) old_at: u64,
    pub(crate) old_len: u64,
    /// Where it begins in the region.
    pub(crate) new_at: u64,
    pub(crate) new_len: u64,
    pub(crate) loads: Vec<Load>,
    /// In order, not overlapping.
    pub(crate) zones: Vec<Zone>,
}

impl Module {
    /// The address of a place in the new module.
    fn new_address(&self, at: u64) -> Option<u64> {
        let holds = |load: &&Load| at >= load.new.at && at - load.new.at < load.new.len;
        let load = self.loads.iter().find(holds)?;
        Some(load.new.address.wrapping_add(at - load.new.at))
    }

    /// The address of a place in the old module.
    fn old_address(&self, at: u64) -> Option<u64> {
        let holds = |load: &&Load| at >= load.old.at && at - load.old.at < load.old.len;
        let load = self.loads.iter().find(holds)?;
        Some(load.old.address.wrapping_add(at - load.old.at))
    }
}

/// Part of a zone within a copied piece.
struct View<'a> {
    /// The old bytes.
    old: &'a [u8],
    /// Their address in the old module.
    from: u64,
    /// Their address in the new module.
    to: u64,
    /// The address where the zone begins in the old module.
    zone_address: u64,
    module: &'a Module,
    mapping: &'a Mapping,
}

impl View<'_> {
    /// Where what stood at an old address stands now.
    #[inline]
    fn target(&self, address: u64) -> Option<u64> {
        self.mapping.address(self.module, address)
    }

    #[inline]
    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.old.get(at..at + 4)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
}

/// Takes what a rule says: where in the view, the bytes, the number of the rule (0..8), the old
/// address that is referred to, and how it stands in the bytes.
trait Guesses {
    fn put(&mut self, at: usize, bytes: &[u8], rule: u32, address: u64, form: Form);
}

/// What a module's rules would have won or lost, by zone and rule.
#[cfg(feature = "diff")]
pub(crate) type Gains = Vec<[i64; 8]>;

/// Counts for each zone and rule how many bytes it would guess right that are wrong without it.
#[cfg(feature = "diff")]
pub(crate) fn learn(
    modules: &[Module],
    mapping: &Mapping,
    old: &[u8],
    (old_at, new_at): (u64, u64),
    truth: &[u8],
    gains: &mut [Gains],
) {
    for_each_view(
        modules,
        mapping,
        old,
        (old_at, new_at),
        |(module, index), zone, from, view| {
            let mut learner = Learner {
                truth: &truth[from..],
                old: &old[from..],
                gains: &mut gains[module][index],
            };
            run(zone.kind, view, &mut learner);
        },
    );
}

/// Calls `visit` with the module's and zone's index, the zone, where its part begins in the piece,
/// and that part.
fn for_each_view(
    modules: &[Module],
    mapping: &Mapping,
    old: &[u8],
    (old_at, new_at): (u64, u64),
    mut visit: impl FnMut((usize, usize), &Zone, usize, &View),
) {
    let index = modules.partition_point(|module| module.old_at + module.old_len <= old_at);
    let Some(module) = modules.get(index) else {
        return;
    };
    let within = old_at >= module.old_at && new_at >= module.new_at;
    if !within || new_at - module.new_at >= module.new_len {
        return;
    }
    let (old_from, new_from) = (old_at - module.old_at, new_at - module.new_at);
    let old_end = old_from + old.len() as u64;
    let first = module
        .zones
        .partition_point(|zone| zone.at + zone.len <= old_from);
    for (number, zone) in module.zones.iter().enumerate().skip(first) {
        if zone.at >= old_end {
            return;
        }
        let start = zone.at.max(old_from);
        let end = (zone.at + zone.len).min(old_end);
        let from = (start - old_from) as usize;
        let addresses = module
            .old_address(start)
            .zip(module.new_address(new_from + from as u64))
            .zip(module.old_address(zone.at));
        let Some(((from_address, to_address), zone_address)) = addresses else {
            continue;
        };
        let view = View {
            old: &old[from..(end - old_from) as usize],
            from: from_address,
            to: to_address,
            zone_address,
            module,
            mapping,
        };
        visit((index, number), zone, from, &view);
    }
}

fn run(kind: Kind, view: &View, guesses: &mut impl Guesses) {
    match (kind, view.module.machine) {
        (Kind::Code, Machine::X64) => x64::code(view, guesses),
        (Kind::Code, Machine::A64) => arm::a64(view, guesses),
        (Kind::Code, Machine::A32) => arm::a32(view, guesses),
        (Kind::Code, Machine::Thumb) => arm::thumb(view, guesses),
        (Kind::Relative, _) => words::relative(view, guesses),
        (Kind::FromStart, _) => words::from_start(view, guesses),
        (Kind::Relative31, _) => words::relative31(view, guesses),
        (Kind::Words32, _) => words::words32(view, guesses),
        (Kind::Words64, _) => words::words64(view, guesses),
    }
}

#[cfg(feature = "diff")]
struct Learner<'a> {
    truth: &'a [u8],
    old: &'a [u8],
    gains: &'a mut [i64; 8],
}

#[cfg(feature = "diff")]
impl Guesses for Learner<'_> {
    #[inline]
    fn put(&mut self, at: usize, bytes: &[u8], rule: u32, _: u64, _: Form) {
        for (index, byte) in bytes.iter().enumerate() {
            let truth = self.truth[at + index];
            let gain = i64::from(truth == *byte) - i64::from(truth == self.old[at + index]);
            self.gains[rule as usize] += gain;
        }
    }
}
