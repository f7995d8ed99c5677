//! Decoded bytes are kept in slices, those that are read soonest. A block of a new image has pieces
//! of many old ones, and of each of those a little.

use alloc::vec;
use alloc::vec::Vec;

use super::{Key, OldView, Rank, last_to_stay};
use crate::error::{Damage, PatchError};
use crate::plan::extents::{OldExtent, decode_cost, paged_cost};

/// Bytes of a slice.
pub(super) const SLICE: u32 = 4 << 10;
/// Memory of a slice that is kept: its bytes, its entry, and its place while it is compared.
pub(crate) const SLICE_COST: u64 = SLICE as u64 + 128;

impl OldView<'_> {
    /// A slice of an extent.
    pub(super) fn slice(&mut self, key: Key) -> Result<&[u8], PatchError> {
        if self.cache.touch(key).is_none() {
            let extent = self.extents()[key.0];
            if paged_cost(extent.codec, extent.raw_len).is_some() {
                self.read_pages(key)?;
            } else {
                let raw = self.decode(&extent)?;
                self.keep((key.0, 0), &raw, 0, Some(key));
            }
        }
        let at = self.cache.touch(key);
        let slice = at.map(|at| &self.cache.kept[at].1[..]);
        slice.ok_or(PatchError::damaged(self.asked_at, Damage::Map))
    }

    fn decode(&mut self, extent: &OldExtent) -> Result<Vec<u8>, PatchError> {
        self.make_room(decode_cost(extent.codec, extent.len, extent.raw_len));
        let mut encoded = vec![0; extent.len as usize];
        self.image
            .read_at(extent.at, &mut encoded)
            .map_err(PatchError::Old)?;
        let raw = extent.codec.decode(&encoded, extent.raw_len as usize);
        raw.ok_or(PatchError::damaged(self.asked_at, Damage::Map))
    }

    /// Of decoded bytes that begin with the slice `first`, and of what is kept, keeps what is read
    /// soonest, and the `wanted` slice; `held` bytes more are in use.
    pub(super) fn keep(&mut self, first: Key, raw: &[u8], held: u64, wanted: Option<Key>) {
        let (index, number) = first;
        let count = raw.len().div_ceil(SLICE as usize) as u32;
        let fresh = (number..number + count).map(|number| (index, number));
        let at = self.at;
        let cache = &mut *self.cache;
        cache
            .kept
            .retain(|(key, _)| key.0 != index || !(number..number + count).contains(&key.1));

        let ranks: Vec<Rank> = fresh
            .clone()
            .zip(0..)
            .map(|(key, age)| match wanted {
                Some(wanted) if wanted == key => (0, 0),
                _ => (cache.ahead.next_read(key, at), age),
            })
            .collect();
        let in_use = held + cache.beside() + raw.len() as u64;
        let room = self.cache_max.saturating_sub(in_use);
        let age = count.into();
        let all = ranks.iter().copied().chain(cache.ranks(at, age));
        // The wanted one stays where there is no room, too: the header counts a slice for that.
        let last = last_to_stay(all.collect(), room).max(Some((0, 0)));
        cache.let_go(last, at, age);
        for ((key, rank), bytes) in fresh.zip(ranks).zip(raw.chunks(SLICE as usize)) {
            if Some(rank) <= last {
                cache.kept.push((key, bytes.to_vec()));
            }
        }
        debug_assert!(
            in_use + cache.kept_memory() <= self.cache_max + SLICE_COST,
            "what is kept and what is in use have room together"
        );
    }
}
