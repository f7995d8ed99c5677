//! Which executables of the old image became which of the new one, and which rules gain in them.

use alloc::vec;
use alloc::vec::Vec;

use super::elf::{self, Executable};
use super::image::Image;
use crate::code::{self, Load, MODULES_MAX, Machine, Mapping, Module};
use crate::plan::{Map, Segment};

/// Both images, and where the region begins in the new one.
#[derive(Clone, Copy)]
pub(super) struct Sides<'a> {
    pub(super) old: &'a Image<'a>,
    pub(super) new: &'a Image<'a>,
    pub(super) start: u64,
}

/// Pairs the executables of a region and keeps the rules that gain.
pub(super) fn find(
    sides: Sides,
    (old_found, new_found): (&[Executable], &[Executable]),
    map: &Map,
) -> Vec<Module> {
    let end = sides.start + u64::from(map.len);
    let within: Vec<Executable> = new_found
        .iter()
        .filter(|found| found.at >= sides.start && found.end() <= end)
        .cloned()
        .collect();
    let mut modules = paired(old_found, &within, sides.start, map);
    if modules.is_empty() {
        return modules;
    }
    let mapping = Mapping::new(&map.covers, u64::MAX).expect("any memory is enough");
    if modules[0].machine == Machine::Thumb {
        choose_bases(sides, map, &mapping, &mut modules[0]);
    }
    let gains = gains(sides, map, &mapping, &modules);
    for (module, gains) in modules.iter_mut().zip(gains) {
        for (zone, gains) in module.zones.iter_mut().zip(gains) {
            zone.rules = (0..8)
                .filter(|rule| gains[*rule] > GAIN_MIN)
                .fold(0, |set, rule| set | 1 << rule);
        }
        module.zones.retain(|zone| zone.rules != 0);
    }
    modules.retain(|module| !module.zones.is_empty());
    modules
}

/// Bytes a rule must guess right more than without it: telling of it costs some.
const GAIN_MIN: i64 = 8;

/// Each new executable with the old one that most of it was copied from.
fn paired(old: &[Executable], new: &[Executable], start: u64, map: &Map) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    for new in new {
        let (from, to) = ((new.at - start) as u32, (new.end() - start) as u32);
        let mut shares = vec![0u64; old.len()];
        let mut changed = false;
        for segment in map.segments(from, to) {
            let Segment::Copy { cover, skip, len } = segment else {
                continue;
            };
            changed |= !cover.is_exact();
            let from = cover.old() + u64::from(skip);
            let first = old.partition_point(|e| e.end() <= from);
            if old
                .get(first)
                .is_some_and(|e| e.at <= from && e.machine == new.machine)
            {
                shares[first] += u64::from(len);
            }
        }
        let best = (0..old.len()).max_by_key(|index| (shares[*index], usize::MAX - index));
        let Some(best) = best.filter(|best| changed && shares[*best] * 4 > new.len) else {
            continue;
        };
        let old = &old[best];
        let loads = old.loads.iter().zip(&new.loads);
        modules.push(Module {
            machine: new.machine,
            old_at: old.at,
            old_len: old.len,
            new_at: new.at - start,
            new_len: new.len,
            loads: loads
                .map(|(old, new)| Load {
                    old: *old,
                    new: *new,
                })
                .collect(),
            zones: old.zones.clone(),
        });
    }
    // Covers find their module by the old image: each old one counts once.
    modules.sort_by_key(|module| (module.old_at, module.new_at));
    modules.dedup_by_key(|module| module.old_at);
    modules.truncate(MODULES_MAX);
    modules
}

fn gains(sides: Sides, map: &Map, mapping: &Mapping, modules: &[Module]) -> Vec<code::Gains> {
    let mut gains: Vec<code::Gains> = modules
        .iter()
        .map(|module| vec![[0; 8]; module.zones.len()])
        .collect();
    let mut at = 0;
    for segment in map.segments(0, map.len) {
        if matches!(segment, Segment::Copy { cover, .. } if !cover.is_exact()) {
            let mut at = at;
            for piece in segment.pieces() {
                let size = piece.len as usize;
                code::learn(
                    modules,
                    mapping,
                    &sides.old.get(piece.old, size),
                    (piece.old, at),
                    &sides.new.get(sides.start + at, size),
                    &mut gains,
                );
                at += u64::from(piece.len);
            }
        }
        at += u64::from(segment.len());
    }
    gains
}

/// Plain firmware does not say where it is linked: the base that gains the most is right.
fn choose_bases(sides: Sides, map: &Map, mapping: &Mapping, module: &mut Module) {
    let bases =
        |image: &Image, at: u64, len: u64| elf::cortex_m_bases(&image.get(at, len as usize));
    let old_bases = bases(sides.old, module.old_at, module.old_len);
    let new_bases = bases(sides.new, sides.start + module.new_at, module.new_len);
    let tried = old_bases
        .into_iter()
        .zip(new_bases)
        .map(|(old_base, new_base)| {
            let mut tried = module.clone();
            tried.loads[0].old.address = old_base;
            tried.loads[0].new.address = new_base;
            let gains = gains(sides, map, mapping, core::slice::from_ref(&tried));
            (
                gains
                    .iter()
                    .flatten()
                    .flatten()
                    .filter(|gain| **gain > 0)
                    .sum::<i64>(),
                tried,
            )
        });
    if let Some((_, best)) = tried.max_by_key(|(gain, _)| *gain) {
        *module = best;
    }
}
