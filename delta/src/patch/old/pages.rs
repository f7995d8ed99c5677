//! Long extents of the old image, decoded page by page: a device holds some pages, one reader, and
//! the places that a reader can begin from again.

use alloc::vec::Vec;
use core::fmt;

use super::slices::{SLICE, SLICE_COST};
use super::{Key, OldView};
use crate::container::Reader;
use crate::error::{Damage, PatchError};
use crate::image::OldImage;
use crate::plan::extents::{INPUT, OldExtent, PAGE, paged_cost};

/// A reader is copied so often, in bytes of what it gives: what is read in leaps is decoded from
/// there.
const MARK_EVERY: u32 = 1 << 20;
/// Slices of a page.
const SLICES: u32 = PAGE / SLICE;
/// Marks take this share of the room at most.
const MARKS_SHARE: u64 = 2;

/// A reader, and where it stands.
pub(super) struct Live {
    index: usize,
    reader: Reader,
    /// Packed bytes that were read, and how many of them are used.
    input: Vec<u8>,
    used: usize,
    /// Packed bytes of the extent that were read in all.
    read: u32,
    /// Plain bytes that it gave.
    at: u32,
    memory: u64,
}

/// A copy of a reader.
pub(super) struct Mark {
    index: usize,
    reader: Reader,
    memory: u64,
    /// Packed bytes that it used, and plain ones that it gave.
    used: u32,
    at: u32,
}

impl Live {
    /// A reader at the beginning of an extent.
    fn new(index: usize, extent: &OldExtent) -> Option<Self> {
        Some(Self {
            index,
            reader: extent.codec.reader(extent.raw_len)?,
            input: Vec::new(),
            used: 0,
            read: 0,
            at: 0,
            memory: paged_cost(extent.codec, extent.raw_len)?,
        })
    }

    /// A reader that goes on at a mark.
    fn from_mark(mark: &Mark, extent: &OldExtent) -> Option<Self> {
        Some(Self {
            reader: mark.reader.mark()?.0,
            read: mark.used,
            at: mark.at,
            ..Self::new(mark.index, extent)?
        })
    }

    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    fn mark(&self) -> Option<Mark> {
        let (reader, memory) = self.reader.mark()?;
        Some(Mark {
            index: self.index,
            reader,
            memory,
            used: self.read - (self.input.len() - self.used) as u32,
            at: self.at,
        })
    }

    /// Decodes the next page.
    fn next(
        &mut self,
        image: &mut dyn OldImage,
        extent: &OldExtent,
        asked_at: u64,
    ) -> Result<Vec<u8>, PatchError> {
        let damaged = || PatchError::damaged(asked_at, Damage::Map);
        let len = PAGE.min(extent.raw_len - self.at) as usize;
        self.reader.begin(len);
        let mut wanted = len;
        while wanted > 0 {
            if self.used == self.input.len() {
                let more = (extent.len - self.read).min(INPUT as u32);
                if more == 0 {
                    return Err(damaged());
                }
                self.input.resize(more as usize, 0);
                let from = extent.at + u64::from(self.read);
                image
                    .read_at(from, &mut self.input)
                    .map_err(PatchError::Old)?;
                (self.used, self.read) = (0, self.read + more);
            }
            let before = (self.used, wanted);
            let used = self.reader.read(&self.input[self.used..], &mut wanted);
            self.used += used.ok_or_else(damaged)?;
            if (self.used, wanted) == before {
                return Err(damaged());
            }
        }
        self.at += len as u32;
        Ok(self.reader.piece(len).to_vec())
    }
}

impl Mark {
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Live({}, {})", self.index, self.at)
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mark({}, {})", self.index, self.at)
    }
}

impl OldView<'_> {
    /// Decodes on to the page that holds a slice.
    pub(super) fn read_pages(&mut self, wanted: Key) -> Result<(), PatchError> {
        let (index, number) = wanted;
        let extent = self.extents()[index];
        let asked_at = self.asked_at;
        let page_at = number / SLICES * PAGE;
        let live = self.reader_before(index, page_at);
        let mut live = live.ok_or(PatchError::damaged(asked_at, Damage::Map))?;
        loop {
            let at = live.at;
            self.note(&live);
            self.make_room(u64::from(PAGE) + SLICE_COST + live.memory);
            let page = live.next(self.image, &extent, asked_at)?;
            let wanted = (at == page_at).then_some(wanted);
            self.keep((index, at / SLICE), &page, live.memory, wanted);
            if wanted.is_some() {
                self.cache.live = Some(live);
                return Ok(());
            }
        }
    }

    /// The reader that stands the least before `wanted`.
    fn reader_before(&mut self, index: usize, wanted: u32) -> Option<Live> {
        let extent = &self.extents()[index];
        let marks = self.cache.marks.iter();
        let mark = marks
            .filter(|mark| mark.index == index && mark.at <= wanted)
            .max_by_key(|mark| mark.at);
        let live = self.cache.live.take();
        let live = live.filter(|live| live.index == index && live.at <= wanted);
        match (live, mark) {
            (Some(live), None) => Some(live),
            (Some(live), Some(mark)) if live.at >= mark.at => Some(live),
            (_, Some(mark)) => Live::from_mark(mark, extent),
            (None, None) => {
                let cost = paged_cost(extent.codec, extent.raw_len)?;
                self.make_room(cost);
                Live::new(index, extent)
            }
        }
    }

    /// Marks where a reader stands, if that is far from the marks there are and there is room.
    fn note(&mut self, live: &Live) {
        let marks = &self.cache.marks;
        let is_wanted = live.at > 0
            && live.at.is_multiple_of(MARK_EVERY)
            && !marks
                .iter()
                .any(|mark| (mark.index, mark.at) == (live.index, live.at));
        if !is_wanted {
            return;
        }
        let Some(mark) = live.mark() else { return };
        if (self.cache.marks_memory() + mark.memory) * MARKS_SHARE <= self.cache_max {
            self.make_room(mark.memory + live.memory);
            self.cache.marks.push(mark);
        }
    }
}
