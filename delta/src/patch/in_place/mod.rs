//! In place: one image is rewritten, for devices without a second slot.
//!
//! A patch in place holds the map and the windows of an ordinary patch, the windows in an order
//! that the signer computed, and a plan: a *step* for each window that changes something.
//!
//! ```text
//!   step:  keep what later steps still read ─► make the window in the scratch ─► sync
//!          journal "staged" ─► sync ─► copy it into the image ─► sync ─► journal "done" ─► sync
//! ```
//!
//! Invariants:
//! - Before "staged" a step writes to the scratch only, to places that nobody needs any more; cut
//!   there, it is made again from the same bytes.
//! - After "staged" a step reads the scratch only; cut there, it is copied again.
//! - No byte reaches the image that does not match the digest of its step.
//! - The base is checked before the first write; after a cut the journal and the digests decide.
//! - Memory and scratch stay within what the patch declared and the device accepted.
//!
//! Gap: a logical image of more than one region (2 GiB) is not made in place; the signer refuses.

mod journal;
#[cfg(feature = "diff")]
mod make;
#[cfg(feature = "diff")]
mod order;
mod plan;
mod view;

use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use sha2::{Digest as _, Sha256};

use super::old::Cache;
use super::sink::Sink;
use super::{Patcher, Stage, base};
use crate::codec::frame;
use crate::error::{Damage, PatchError};
use crate::header::{Accept, HEADER_LEN_MAX, Header};
use crate::image::{ImageError, NewImage, OldImage};
use journal::{Journal, State};
#[cfg(feature = "diff")]
pub use make::diff_in_place;
pub use plan::InPlaceHeader;
use plan::{HEAD_LEN_MAX, Plan};
use view::{Old, Staged, digest_of};

/// Copying goes in pieces of this size.
const PIECE: usize = 16 << 10;

/// Storage of the device: the image, the scratch or the journal.
///
/// What was written is durable after [`sync`](Self::sync) and may be lost or torn before.
pub trait Store {
    /// Fills `buf` with the bytes that begin at `offset`; fewer bytes than asked is an error.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError>;
    /// Writes `bytes` from `offset` on.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ImageError>;
    /// Makes durable what was written.
    fn sync(&mut self) -> Result<(), ImageError>;
    /// Bytes that it can hold.
    fn capacity(&mut self) -> Result<u64, ImageError>;
}

/// What a device gives to an update in place.
pub struct Medium<'a> {
    /// The image that is rewritten.
    pub image: &'a mut dyn Store,
    /// Room beside it: as much as the patch declares.
    pub scratch: &'a mut dyn Store,
    /// [`JOURNAL_LEN`] bytes, zeros or anything else before the first update.
    pub journal: &'a mut dyn Store,
}

/// Bytes of the journal: two records, each in a sector of its own.
pub const JOURNAL_LEN: u64 = journal::LEN;

/// How far an update in place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InPlaceProgress {
    /// `0 <= steps_done <= steps`
    pub steps_done: u64,
    /// Windows that change something.
    pub steps: u64,
}

/// Reads the header of a patch in place; `None` where the bytes are no such patch.
///
/// # Errors
/// [`PatchError::Damaged`] when it begins like one and does not hold together.
pub fn in_place_header(first_bytes: &[u8]) -> Result<Option<InPlaceHeader>, PatchError> {
    if !plan::is_in_place(first_bytes) {
        return Ok(None);
    }
    let (head, _) = plan::parse_head(first_bytes)?;
    Ok(Some(head))
}

/// Enough first bytes for [`in_place_header`].
pub const IN_PLACE_HEADER_LEN_MAX: usize = HEAD_LEN_MAX;

/// The header of the patch that a patch in place is made of: which images it leads between.
/// `first_bytes` are [`IN_PLACE_HEADER_LEN_MAX`] and [`HEADER_LEN_MAX`] bytes, or all there are.
///
/// # Errors
/// [`PatchError::Damaged`] when they are no patch in place.
pub fn in_place_patch_header(first_bytes: &[u8]) -> Result<Header, PatchError> {
    let (_, head_len) = plan::parse_head(first_bytes)?;
    let damaged = |what| PatchError::damaged(head_len as u64, what);
    let header = Header::parse(&first_bytes[head_len..]).map_err(damaged)?;
    header
        .map(|(header, _)| header)
        .ok_or_else(|| damaged(Damage::Truncated))
}

/// Reads the whole of a patch in place, and touches no image: all that [`apply_in_place`] would
/// refuse before its first write, but for the base and the room on the medium.
///
/// # Errors
/// As [`apply_in_place`] for the patch itself.
pub fn check_in_place(patch: &mut dyn OldImage, accept: &Accept) -> Result<Header, PatchError> {
    let mut update = Update::open(patch, accept)?;
    update.check_windows()?;
    Ok(update.header)
}

/// Rewrites the image of `medium` by a patch in place, or goes on with what was cut.
///
/// `patch` is read at random: a file, or ranges of a download. Calling it again with the same
/// patch, after a cut at any write, continues; when the image is new already it does nothing.
/// Where the new image is shorter, what lies behind it is left as it is.
///
/// # Errors
/// As [`Patcher::push`]; [`PatchError::Scratch`], [`PatchError::Medium`] and
/// [`PatchError::ScratchLost`] for the device's storage. Before the first write:
/// [`PatchError::WrongBase`].
pub fn apply_in_place(
    patch: &mut dyn OldImage,
    medium: &mut Medium<'_>,
    accept: &Accept,
    progress: &mut dyn FnMut(InPlaceProgress),
) -> Result<Header, PatchError> {
    let mut update = Update::open(patch, accept)?;
    update.fits(medium)?;
    let mut journal = Journal::open(medium.journal, update.id);
    let mut state = journal.last();
    if state == State::Fresh {
        if !update.is_base(medium.image)? {
            return update.must_be_new(medium.image, PatchError::WrongBase);
        }
        update.check_windows()?;
    }
    let steps = update.plan.steps.len() as u64;
    while let Some(at) = state.next_step().filter(|at| *at < steps) {
        progress(InPlaceProgress {
            steps_done: at,
            steps,
        });
        if state != State::Staged(at) {
            update.stage(at, medium)?;
            journal.note(medium.journal, State::Staged(at))?;
        }
        update.copy(at, medium)?;
        state = State::Done(at);
        journal.note(medium.journal, state)?;
    }
    progress(InPlaceProgress {
        steps_done: steps,
        steps,
    });
    update.must_be_new(medium.image, PatchError::WrongOutput)
}

/// A patch in place that was read and accepted; its windows are still in `patch`.
struct Update<'p> {
    patch: &'p mut dyn OldImage,
    /// Holds header and map, decodes windows.
    patcher: Patcher,
    header: Header,
    plan: Plan,
    /// Tells journals of different patches apart.
    id: u64,
}

impl<'p> Update<'p> {
    /// Reads and judges everything but the windows.
    fn open(patch: &'p mut dyn OldImage, accept: &Accept) -> Result<Self, PatchError> {
        let first = first_bytes(patch);
        let (head, head_len) = plan::parse_head(&first)?;
        let damaged = |what| PatchError::damaged(head_len as u64, what);
        let (header, header_len) = Header::parse(&first[head_len..])
            .map_err(damaged)?
            .ok_or_else(|| damaged(Damage::Truncated))?;
        header.accepted_by(&Accept {
            memory_max: accept.memory_max.saturating_sub(head.plan_memory()),
            ..*accept
        })?;
        let map_at = (head_len + header_len) as u64;
        let mut patcher = Patcher::new(*accept);
        patcher.header = Some(header.clone());
        let mut at = map_at;
        if header.new_len > 0 {
            let (map, end) = read_frame(patch, at, header.limits.frame_max)?;
            patcher.buffer = map;
            patcher.open_region(at)?;
            if !patcher.map.last {
                return Err(PatchError::damaged(at, Damage::Map));
            }
            at = end;
        }
        let (payload, windows_at) = read_frame(patch, at, head.plan_len)?;
        let plan = Plan::read(&payload, &head, &header, windows_at)
            .ok_or_else(|| PatchError::damaged(at, Damage::Map))?;
        ends_at(patch, plan.end)?;
        let id = plan::id_of(&first[..head_len + header_len], &payload);
        Ok(Self {
            patch,
            patcher,
            header,
            plan,
            id,
        })
    }

    /// Reads every window once: a damaged patch is found before the first write.
    fn check_windows(&mut self) -> Result<(), PatchError> {
        for step in &self.plan.steps {
            read_frame(self.patch, step.frame_at, self.header.limits.frame_max)?;
        }
        Ok(())
    }

    fn fits(&self, medium: &mut Medium<'_>) -> Result<(), PatchError> {
        let rooms = [
            (&mut *medium.scratch, self.plan.scratch_len),
            (
                &mut *medium.image,
                self.header.old_len.max(self.header.new_len),
            ),
            (&mut *medium.journal, JOURNAL_LEN),
        ];
        for (store, needed) in rooms {
            let found = store.capacity().map_err(PatchError::Medium)?;
            if found < needed {
                return Err(PatchError::Scratch { needed, found });
            }
        }
        Ok(())
    }

    fn is_base(&self, image: &mut dyn Store) -> Result<bool, PatchError> {
        if image.capacity().map_err(PatchError::Medium)? < self.header.old_len {
            return Ok(false);
        }
        match base::check(&self.header, &mut Whole(image)) {
            Ok(()) => Ok(true),
            Err(PatchError::WrongBase | PatchError::Old(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Reads the image back; `otherwise` where it is not the new one.
    fn must_be_new(
        self,
        image: &mut dyn Store,
        otherwise: PatchError,
    ) -> Result<Header, PatchError> {
        let mut hasher = Sha256::new();
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        while at < self.header.new_len {
            let len = usize::try_from(self.header.new_len - at).map_or(PIECE, |l| l.min(PIECE));
            if image.read_at(at, &mut piece[..len]).is_err() {
                return Err(otherwise);
            }
            hasher.update(&piece[..len]);
            at += len as u64;
        }
        if hasher.finalize()[..] == self.header.new_digest {
            Ok(self.header)
        } else {
            Err(otherwise)
        }
    }

    /// Keeps what later steps need, and makes the window in the scratch.
    fn stage(&mut self, at: u64, medium: &mut Medium<'_>) -> Result<(), PatchError> {
        let step = self.plan.steps[at as usize].clone();
        for kept in &step.kept {
            let places = (kept.old, kept.at, kept.len.into());
            copy(medium.image, medium.scratch, places)?;
        }
        let (payload, _) = read_frame(self.patch, step.frame_at, self.header.limits.frame_max)?;
        // Output goes to the scratch while old bytes may come from there: one at a time.
        let scratch: &mut dyn Store = medium.scratch;
        let scratch = RefCell::new(scratch);
        let mut old = Old {
            plan: &self.plan,
            step: at,
            image: medium.image,
            scratch: &scratch,
        };
        let mut staged = Staged::new(&scratch, step.len.into());
        let place = (step.from, u64::from(step.len));
        self.patcher
            .decode_alone(step.frame_at, &payload, place, &mut old, &mut staged)
            .map_err(of_medium)?;
        if staged.digest() != Some(step.digest) {
            return Err(PatchError::damaged(step.frame_at, Damage::Window));
        }
        medium.scratch.sync().map_err(PatchError::Medium)
    }

    /// Copies what is staged into the image, after looking at it once more.
    fn copy(&mut self, at: u64, medium: &mut Medium<'_>) -> Result<(), PatchError> {
        let step = &self.plan.steps[at as usize];
        if digest_of(medium.scratch, step.len.into())? != step.digest {
            return Err(PatchError::ScratchLost);
        }
        let places = (0, step.place, step.len.into());
        copy(medium.scratch, medium.image, places)?;
        medium.image.sync().map_err(PatchError::Medium)
    }
}

impl Patcher {
    /// Decodes the window that begins at `from` of the region and makes at most `room` bytes of the
    /// image, without regard to what was decoded before.
    fn decode_alone(
        &mut self,
        frame_at: u64,
        payload: &[u8],
        (from, room): (u32, u64),
        old: &mut dyn OldImage,
        new: &mut dyn NewImage,
    ) -> Result<u32, PatchError> {
        self.stage = Stage::Window;
        self.map_done = from;
        self.cache = Cache::exact();
        self.sink = Sink::new(1);
        self.sink.expect(room);
        if from >= self.map.len {
            return Err(PatchError::damaged(frame_at, Damage::Window));
        }
        self.decode_window(frame_at, payload, old, new)
    }
}

/// Both images of a window are the device's storage here.
fn of_medium(error: PatchError) -> PatchError {
    match error {
        PatchError::Old(cause) | PatchError::New(cause) => PatchError::Medium(cause),
        other => other,
    }
}

/// The first bytes of a patch, as many as there are and a header may take.
fn first_bytes(patch: &mut dyn OldImage) -> Vec<u8> {
    let mut first = vec![0; HEAD_LEN_MAX + HEADER_LEN_MAX];
    let mut len = first.len();
    // A short patch ends within them: find out where, from the longest prefix that reads.
    while len > 0 && patch.read_at(0, &mut first[..len]).is_err() {
        len -= 1;
    }
    first.truncate(len);
    first
}

/// Whether the patch has `end` bytes.
fn ends_at(patch: &mut dyn OldImage, end: u64) -> Result<(), PatchError> {
    let mut byte = [0];
    if patch.read_at(end - 1, &mut byte).is_err() {
        return Err(PatchError::damaged(end, Damage::Truncated));
    }
    match patch.read_at(end, &mut byte) {
        Ok(()) => Err(PatchError::damaged(end, Damage::Trailing)),
        Err(_) => Ok(()),
    }
}

/// Reads the frame at `at`; its payload, and where the next one begins.
fn read_frame(
    patch: &mut dyn OldImage,
    at: u64,
    payload_max: u64,
) -> Result<(Vec<u8>, u64), PatchError> {
    let truncated = |_| PatchError::damaged(at, Damage::Truncated);
    let mut head = Vec::new();
    let parsed = loop {
        let parsed =
            frame::Head::parse(&head, payload_max).map_err(|what| PatchError::damaged(at, what))?;
        match parsed {
            Some(parsed) => break parsed,
            None if head.len() >= frame::Head::LEN_MAX => {
                return Err(PatchError::damaged(at, Damage::FrameLength));
            }
            None => {
                let mut byte = [0];
                patch
                    .read_at(at + head.len() as u64, &mut byte)
                    .map_err(truncated)?;
                head.extend_from_slice(&byte);
            }
        }
    };
    let mut payload = vec![0; parsed.len];
    patch
        .read_at(at + parsed.start as u64, &mut payload)
        .map_err(truncated)?;
    if !parsed.matches(at, &payload) {
        return Err(PatchError::damaged(at, Damage::Check));
    }
    Ok((payload, at + (parsed.start + parsed.len) as u64))
}

/// Copies `len` bytes from one store to another.
fn copy(
    from: &mut dyn Store,
    to: &mut dyn Store,
    (from_at, to_at, len): (u64, u64, u64),
) -> Result<(), PatchError> {
    let mut piece = vec![0; PIECE];
    let mut done = 0;
    while done < len {
        let size = usize::try_from(len - done).map_or(PIECE, |left| left.min(PIECE));
        let piece = &mut piece[..size];
        from.read_at(from_at + done, piece)
            .map_err(PatchError::Medium)?;
        to.write_at(to_at + done, piece)
            .map_err(PatchError::Medium)?;
        done += size as u64;
    }
    Ok(())
}

/// The whole image as the base check reads it.
struct Whole<'a>(&'a mut dyn Store);

impl OldImage for Whole<'_> {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        self.0.read_at(offset, buf)
    }
}
