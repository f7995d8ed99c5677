//! The patcher: takes a patch as it streams in, reads the old image, appends the new one.
//!
//! ```text
//!   Header ──► Map ──► Window ──┬──► Window …      (the region has more)
//!     base check ▲              ├──► Map           (the next region)
//!                └──────────────┴──► Done
//! ```
//!
//! Invariants:
//! - The header is judged, and the base checked, before the first append.
//! - A frame is buffered whole and its check compared before a byte of it is decoded.
//! - No buffer grows beyond what the accepted header declares.
//! - After an error the patcher takes nothing more.

mod base;
mod checkpoint;
mod emit;
pub(crate) mod in_place;
mod old;
mod sink;
#[cfg(all(test, feature = "diff"))]
mod tampering;
mod window;

use alloc::vec::Vec;

pub use checkpoint::Checkpoint;

use crate::code::Mapping;
use crate::codec::frame;
use crate::codec::range::Decoder;
use crate::error::{Damage, PatchError};
use crate::header::{Accept, HEADER_LEN_MAX, Header};
use crate::image::{ImageError, NewImage, OldImage};
use crate::plan::{Bounds, Map};
use old::{Cache, OldView};
pub(crate) use old::{LINES_MEMORY, SLICE_COST};
use sink::Sink;

/// How far a patch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Where in the patch the next pushed byte must stand. It runs on with what was pushed, except
    /// once after a resume, when it leaps over what is done.
    pub wanted_at: u64,
    /// Bytes of the new image that were appended or are safe already.
    pub written: u64,
    /// Whether the new image is whole.
    pub done: bool,
}

/// Applies one patch.
///
/// Feed it with [`push`](Self::push) in pieces of any size, end with [`finish`](Self::finish).
/// Whenever [`checkpoint`](Self::checkpoint) has moved and the new image is durable up to
/// [`Checkpoint::output_offset`], the checkpoint may be stored; [`resume`](Self::resume) goes on
/// from there.
#[derive(Debug)]
pub struct Patcher {
    accept: Accept,
    stage: Stage,
    header: Option<Header>,
    header_bytes: Vec<u8>,
    map: Map,
    mapping: Mapping,
    /// Where in the patch the current region's map begins.
    map_at: u64,
    /// What of the region is done.
    map_done: u32,
    /// Bytes of the new image that were made before the region (after a resume: at most these).
    region_from: u64,
    /// The piece of the patch that is being collected.
    buffer: Vec<u8>,
    /// Where in the patch `buffer` begins.
    at: u64,
    sink: Sink,
    cache: Cache,
    /// A resumed patcher reads its region's map again and then leaps here.
    leap: Option<(u64, u32)>,
    checkpoint: Option<Checkpoint>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Map,
    Window,
    Done,
    Failed,
}

impl Patcher {
    /// A patcher for a device that accepts `accept`.
    pub fn new(accept: Accept) -> Self {
        Self {
            accept,
            stage: Stage::Header,
            header: None,
            header_bytes: Vec::new(),
            map: Map::default(),
            mapping: Mapping::default(),
            map_at: 0,
            map_done: 0,
            region_from: 0,
            buffer: Vec::new(),
            at: 0,
            sink: Sink::new(accept.block_len),
            cache: Cache::default(),
            leap: None,
            checkpoint: None,
        }
    }

    /// A patcher that goes on from a stored checkpoint.
    ///
    /// The new image must hold [`Checkpoint::output_offset`] bytes; appending goes on there. The
    /// old image is not checked again: it was before the checkpoint could exist.
    ///
    /// # Errors
    /// [`PatchError::Checkpoint`] when the bytes are not a checkpoint, or not one for this
    /// `block_len`; [`PatchError::Memory`] and [`PatchError::Caps`] when less is accepted now.
    pub fn resume(accept: Accept, checkpoint: &[u8]) -> Result<Self, PatchError> {
        let checkpoint = Checkpoint::parse(checkpoint).ok_or(PatchError::Checkpoint)?;
        let (header, _) = Header::parse(&checkpoint.header)
            .ok()
            .flatten()
            .ok_or(PatchError::Checkpoint)?;
        header.accepted_by(&accept)?;
        let mut this = Self::new(accept);
        this.sink = Sink::resumed(accept.block_len, checkpoint.written, &checkpoint.tail)
            .filter(|_| checkpoint.written <= header.new_len)
            .ok_or(PatchError::Checkpoint)?;
        this.sink.expect(header.new_len);
        this.stage = match () {
            () if checkpoint.written == header.new_len => Stage::Done,
            () => Stage::Map,
        };
        this.at = checkpoint.map_at;
        this.map_at = checkpoint.map_at;
        if checkpoint.map_done > 0 && this.stage != Stage::Done {
            this.leap = Some((checkpoint.window_at, checkpoint.map_done));
        } else {
            this.at = checkpoint.window_at;
        }
        this.header = Some(header);
        this.header_bytes.clone_from(&checkpoint.header);
        this.checkpoint = Some(checkpoint);
        Ok(this)
    }

    /// The header, once it has come.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// The last place from which a resumed patcher can go on.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            wanted_at: self.at + self.buffer.len() as u64,
            written: self.sink.written(),
            done: self.stage == Stage::Done,
        }
    }

    /// Takes the next bytes of the patch, those that begin at [`Progress::wanted_at`].
    ///
    /// Returns early when the place wanted next is not the one after `bytes`, which happens once
    /// after a resume; what was left of `bytes` is then to be dropped.
    ///
    /// # Errors
    /// Any error ends this patcher; see [`PatchError`] for whose fault it is.
    pub fn push(
        &mut self,
        bytes: &[u8],
        old: &mut dyn OldImage,
        new: &mut dyn NewImage,
    ) -> Result<Progress, PatchError> {
        let result = self.push_all(bytes, old, new);
        if result.is_err() {
            self.stage = Stage::Failed;
        }
        result.map(|()| self.progress())
    }

    /// Ends the patch.
    ///
    /// # Errors
    /// [`PatchError::Damaged`] with [`Damage::Truncated`] when the new image is not whole.
    pub fn finish(self) -> Result<Header, PatchError> {
        let end = self.progress().wanted_at;
        match (self.stage, self.header) {
            (Stage::Done, Some(header)) => Ok(header),
            _ => Err(PatchError::damaged(end, Damage::Truncated)),
        }
    }

    fn push_all(
        &mut self,
        mut bytes: &[u8],
        old: &mut dyn OldImage,
        new: &mut dyn NewImage,
    ) -> Result<(), PatchError> {
        self.sink.replay_tail(new)?;
        while !bytes.is_empty() {
            let pushed_to = self.at + (self.buffer.len() + bytes.len()) as u64;
            match self.stage {
                Stage::Header => self.take_header(&mut bytes, old)?,
                Stage::Map => {
                    if let Some(frame_at) = self.take_frame(&mut bytes)? {
                        self.open_region(frame_at)?;
                    }
                }
                Stage::Window => {
                    if let Some(frame_at) = self.take_frame(&mut bytes)? {
                        self.apply_window(frame_at, old, new)?;
                    }
                }
                Stage::Done => return Err(PatchError::damaged(self.at, Damage::Trailing)),
                Stage::Failed => return Err(PatchError::damaged(self.at, Damage::Window)),
            }
            if self.at + (self.buffer.len() + bytes.len()) as u64 != pushed_to {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Collects the header, judges it, and checks the base.
    fn take_header(&mut self, bytes: &mut &[u8], old: &mut dyn OldImage) -> Result<(), PatchError> {
        let room = HEADER_LEN_MAX - self.buffer.len();
        let before = self.buffer.len();
        self.buffer
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        let parsed = Header::parse(&self.buffer).map_err(|what| PatchError::damaged(0, what))?;
        let Some((header, len)) = parsed else {
            *bytes = &bytes[self.buffer.len() - before..];
            return Ok(());
        };
        *bytes = &bytes[len - before..];
        header.accepted_by(&self.accept)?;
        base::check(&header, old)?;
        self.buffer.truncate(len);
        self.sink.expect(header.new_len);
        self.header_bytes = core::mem::take(&mut self.buffer);
        self.at = len as u64;
        self.map_at = self.at;
        self.stage = if header.new_len == 0 {
            Stage::Done
        } else {
            Stage::Map
        };
        self.header = Some(header);
        Ok(())
    }

    /// Collects a frame; when it is whole its payload is `buffer`, and where it began is returned.
    fn take_frame(&mut self, bytes: &mut &[u8]) -> Result<Option<u64>, PatchError> {
        let frame_max = self
            .header
            .as_ref()
            .map_or(0, |header| header.limits.frame_max);
        loop {
            let damaged = |what| PatchError::damaged(self.at, what);
            let head = frame::Head::parse(&self.buffer, frame_max).map_err(damaged)?;
            let wanted = match &head {
                Some(head) => head
                    .start
                    .checked_add(head.len)
                    .ok_or_else(|| damaged(Damage::FrameLength))?,
                // One byte at a time, so that a head never takes bytes of its payload.
                None => (self.buffer.len() + 1).min(frame::Head::LEN_MAX),
            };
            let missing = wanted - self.buffer.len();
            if missing == 0 {
                let Some(head) = head else {
                    return Err(damaged(Damage::FrameLength));
                };
                let at = self.at;
                self.at += wanted as u64;
                self.buffer.drain(..head.start);
                if !head.matches(at, &self.buffer) {
                    return Err(PatchError::damaged(at, Damage::Check));
                }
                return Ok(Some(at));
            }
            if bytes.is_empty() {
                return Ok(None);
            }
            let take = missing.min(bytes.len());
            self.buffer.reserve_exact(missing);
            self.buffer.extend_from_slice(&bytes[..take]);
            *bytes = &bytes[take..];
        }
    }

    /// Reads the map of the next region.
    fn open_region(&mut self, frame_at: u64) -> Result<(), PatchError> {
        let header = self.header.as_ref().expect("a map follows a header");
        let payload = core::mem::take(&mut self.buffer);
        let bounds = Bounds {
            old_len: header.old_len,
            new_len: header.new_len,
            limits: header.limits,
        };
        let damaged = || PatchError::damaged(frame_at, Damage::Map);
        let mut bits = Decoder::new(&payload);
        self.map = Map::read(&mut bits, &bounds).ok_or_else(damaged)?;
        if !bits.used_exactly() {
            return Err(damaged());
        }
        let tables_max = bounds.limits.tables_max;
        self.mapping = self.map.mapping(tables_max).ok_or_else(damaged)?;
        self.cache.clear();
        self.map_at = frame_at;
        self.map_done = 0;
        self.stage = Stage::Window;
        if let Some((window_at, done)) = self.leap.take() {
            if done >= self.map.len || window_at < self.at {
                return Err(PatchError::Checkpoint);
            }
            self.map_done = done;
            self.at = window_at;
        }
        Ok(())
    }

    /// Decodes a window, appends what it gives and moves the checkpoint.
    fn apply_window(
        &mut self,
        frame_at: u64,
        old: &mut dyn OldImage,
        new: &mut dyn NewImage,
    ) -> Result<(), PatchError> {
        let payload = core::mem::take(&mut self.buffer);
        let len = self.decode_window(frame_at, &payload, old, new)?;
        let header = self.header.as_ref().expect("a window follows a header");
        self.map_done += len;
        if self.map_done == self.map.len {
            let whole = self.sink.written() == header.new_len;
            // A region that makes nothing would let a patch go on for ever.
            if whole != self.map.last || self.sink.written() == self.region_from {
                return Err(PatchError::damaged(frame_at, Damage::Map));
            }
            self.region_from = self.sink.written();
            self.map_at = self.at;
            self.map_done = 0;
            self.map = Map::default();
            self.mapping = Mapping::default();
            self.stage = if self.sink.written() == header.new_len {
                Stage::Done
            } else {
                Stage::Map
            };
        }
        self.checkpoint = Some(Checkpoint {
            header: self.header_bytes.clone(),
            map_at: self.map_at,
            window_at: self.at,
            map_done: self.map_done,
            written: self.sink.written(),
            tail: self.sink.tail().to_vec(),
        });
        Ok(())
    }

    /// Decodes the window that begins where the region is done; returns how much of it that makes.
    fn decode_window(
        &mut self,
        frame_at: u64,
        payload: &[u8],
        old: &mut dyn OldImage,
        new: &mut dyn NewImage,
    ) -> Result<u32, PatchError> {
        let header = self.header.as_ref().expect("a window follows a header");
        let mut view = OldView {
            image: old,
            image_len: header.old_len,
            map: &self.map,
            at: self.map_done,
            cache: &mut self.cache,
            cache_max: header.limits.cache_max,
            asked_at: frame_at,
        };
        let place = window::Place {
            frame_at,
            profile: header.profile,
            model_max: header.limits.model_max,
            map: &self.map,
            mapping: &self.mapping,
            from: self.map_done,
        };
        window::apply(
            payload,
            &place,
            &mut view,
            &mut self.sink.with(new, frame_at),
        )
    }
}

/// Applies a whole patch and compares the new image with the digest in the header.
///
/// # Errors
/// As [`Patcher::push`] and [`Patcher::finish`], and [`PatchError::WrongOutput`].
pub fn apply(
    old: &mut dyn OldImage,
    patch: &[u8],
    new: &mut dyn NewImage,
    accept: &Accept,
) -> Result<Header, PatchError> {
    use sha2::{Digest, Sha256};

    struct Hashed<'a>(&'a mut dyn NewImage, Sha256);
    impl NewImage for Hashed<'_> {
        fn append(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
            self.1.update(bytes);
            self.0.append(bytes)
        }
    }

    let mut new = Hashed(new, Sha256::new());
    let mut patcher = Patcher::new(*accept);
    patcher.push(patch, old, &mut new)?;
    let header = patcher.finish()?;
    if new.1.finalize()[..] != header.new_digest {
        return Err(PatchError::WrongOutput);
    }
    Ok(header)
}
