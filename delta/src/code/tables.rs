//! How modules travel: a list in the map, checked as it is read.

use alloc::vec::Vec;

use super::{Kind, Load, Machine, Module, Place, Zone};
use crate::codec::numbers::{Numbers, unzigzag};
use crate::codec::range::Decoder;

const MACHINES: [Machine; 4] = [Machine::X64, Machine::A64, Machine::A32, Machine::Thumb];
const KINDS: [Kind; 6] = [
    Kind::Code,
    Kind::Relative,
    Kind::FromStart,
    Kind::Relative31,
    Kind::Words32,
    Kind::Words64,
];

/// Modules in one region.
pub(crate) const MODULES_MAX: usize = 4096;
/// Loads of one module.
pub(crate) const LOADS_MAX: usize = 16;
/// Zones of one module.
pub(crate) const ZONES_MAX: usize = 48;

impl Module {
    /// Bytes of memory it takes.
    pub(crate) fn memory(&self) -> u64 {
        Self::memory_of(self.loads.len(), self.zones.len())
    }

    fn memory_of(loads: usize, zones: usize) -> u64 {
        (size_of::<Self>() + loads * size_of::<Load>() + zones * size_of::<Zone>()) as u64
    }

    /// Writes modules, by the steps that read them.
    #[cfg(feature = "diff")]
    pub(crate) fn write_all(modules: &[Self], bits: &mut impl crate::codec::range::Bits) {
        let mut numbers = Numbers::new(CONTEXTS);
        numbers.code(bits, 0, modules.len() as u64);
        let mut end = 0;
        for module in modules {
            let machine = MACHINES.iter().position(|known| *known == module.machine);
            numbers.code(bits, 1, machine.expect("all machines are listed") as u64);
            for (context, number) in [
                module.old_at - end,
                module.old_len,
                module.new_at,
                module.new_len,
            ]
            .into_iter()
            .enumerate()
            {
                numbers.code(bits, 2 + context, number);
            }
            end = module.old_at + module.old_len;
            numbers.code(bits, 0, module.loads.len() as u64);
            for load in &module.loads {
                for (context, number) in load.numbers().into_iter().enumerate() {
                    numbers.code(bits, 6 + context, number);
                }
            }
            numbers.code(bits, 0, module.zones.len() as u64);
            let mut zone_end = 0;
            for zone in &module.zones {
                let kind = KINDS.iter().position(|known| *known == zone.kind);
                numbers.code(bits, 14, zone.at - zone_end);
                numbers.code(bits, 15, zone.len);
                numbers.code(bits, 16, kind.expect("all kinds are listed") as u64);
                numbers.code(bits, 17, zone.rules.into());
                zone_end = zone.at + zone.len;
            }
        }
    }

    /// Reads modules that take no more than `memory_max` bytes; `None` when they do not hold
    /// together. They are in order of the old image and do not overlap there.
    pub(crate) fn read_all(bits: &mut Decoder, memory_max: u64) -> Option<Vec<Self>> {
        let mut numbers = Numbers::new(CONTEXTS);
        let count = numbers.code(bits, 0, 0);
        if count > MODULES_MAX as u64 {
            return None;
        }
        let (mut modules, mut end, mut memory) = (Vec::new(), 0u64, 0u64);
        for _ in 0..count {
            let machine = *MACHINES.get(usize::try_from(numbers.code(bits, 1, 0)).ok()?)?;
            let old_at = end.checked_add(numbers.code(bits, 2, 0))?;
            let old_len = numbers.code(bits, 3, 0);
            let new_at = numbers.code(bits, 4, 0);
            let new_len = numbers.code(bits, 5, 0);
            end = old_at.checked_add(old_len)?;
            new_at.checked_add(new_len)?;

            let loads_count = usize::try_from(numbers.code(bits, 0, 0)).ok()?;
            if loads_count > LOADS_MAX {
                return None;
            }
            let mut loads = Vec::new();
            for _ in 0..loads_count {
                loads.push(Load::from_numbers(
                    [0, 1, 2, 3, 4, 5, 6, 7].map(|context| numbers.code(bits, 6 + context, 0)),
                ));
            }
            let zones_count = usize::try_from(numbers.code(bits, 0, 0)).ok()?;
            if zones_count > ZONES_MAX {
                return None;
            }
            memory = memory.checked_add(Self::memory_of(loads_count, zones_count))?;
            if memory > memory_max || bits.ran_dry() {
                return None;
            }
            let (mut zones, mut zone_end) = (Vec::new(), 0u64);
            for _ in 0..zones_count {
                let at = zone_end.checked_add(numbers.code(bits, 14, 0))?;
                let len = numbers.code(bits, 15, 0);
                let kind = *KINDS.get(usize::try_from(numbers.code(bits, 16, 0)).ok()?)?;
                let rules = u8::try_from(numbers.code(bits, 17, 0)).ok()?;
                zone_end = at.checked_add(len)?;
                if zone_end > old_len {
                    return None;
                }
                zones.push(Zone {
                    at,
                    len,
                    kind,
                    rules,
                });
            }
            modules.push(Self {
                machine,
                old_at,
                old_len,
                new_at,
                new_len,
                loads,
                zones,
            });
        }
        Some(modules)
    }
}

/// Contexts of the numbers in a list of modules.
const CONTEXTS: usize = 18;

impl Load {
    /// The old side, and by how much each number of the new side moved.
    #[cfg(feature = "diff")]
    fn numbers(&self) -> [u64; 8] {
        use crate::codec::numbers::zigzag;
        let (old, new) = (self.old.numbers(), self.new.numbers());
        core::array::from_fn(|index| match index.checked_sub(4) {
            None => old[index],
            Some(index) => zigzag(new[index].wrapping_sub(old[index]) as i64),
        })
    }

    fn from_numbers(numbers: [u64; 8]) -> Self {
        let old = core::array::from_fn(|index| numbers[index]);
        let new = core::array::from_fn(|index| {
            numbers[index].wrapping_add_signed(unzigzag(numbers[index + 4]))
        });
        Self {
            old: Place::from_numbers(old),
            new: Place::from_numbers(new),
        }
    }
}

impl Place {
    #[cfg(feature = "diff")]
    fn numbers(&self) -> [u64; 4] {
        [self.at, self.address, self.len, self.memory_len - self.len]
    }

    fn from_numbers([at, address, len, more]: [u64; 4]) -> Self {
        Self {
            at,
            address,
            len,
            memory_len: len.saturating_add(more),
        }
    }
}
