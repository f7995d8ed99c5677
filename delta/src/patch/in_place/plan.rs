//! The plan of a patch in place: its header and its steps. Format: `docs/format/delta.md`.
//!
//! Invariants of a [`Plan`] that was read: each step's window lies within the image, what is
//! staged and what is kept lie within the declared scratch and apart, and nothing is kept for
//! longer than there are steps. Whether the order is right is not believed but shown by each
//! step's digest.

use alloc::vec::Vec;

use twox_hash::XxHash3_64;

use crate::codec::check;
use crate::codec::varint::Reader;
use crate::error::{Damage, PatchError};
use crate::header::Header;

const MAGIC: &[u8; 4] = b"AMPI";
/// The version of this page's format; that of the windows is in the header that follows.
const VERSION: u8 = 2;
/// Four numbers, a digest.
const BODY_MAX: u64 = 4 * 10 + 32;
/// Magic, version, length, body, check.
pub(super) const HEAD_LEN_MAX: usize = 4 + 1 + 1 + BODY_MAX as usize + check::LEN;
/// A plan is not longer: some 30,000 steps.
const PLAN_LEN_MAX: u64 = 1 << 20;
/// A step takes at least this many bytes of a plan.
const STEP_LEN_MIN: u64 = 16 + 5;

/// The first half of a SHA-256: what a step makes, or what the image holds after it.
pub(super) type Digest = [u8; 16];

/// What the first bytes of a patch in place say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InPlaceHeader {
    /// Bytes of scratch that the device gives.
    pub scratch_len: u64,
    /// The longest window: the first bytes of the scratch.
    pub staged_max: u64,
    /// Windows that change something.
    pub steps: u64,
    /// Bytes of the plan.
    pub plan_len: u64,
    /// SHA-256 of the old image: where patches lead on and back, each tells both ends.
    pub old_digest: [u8; 32],
}

impl InPlaceHeader {
    /// Memory that the plan takes on the device: a step or a kept piece is at most seven times as
    /// long as its bytes; and the buffers of copying.
    pub fn plan_memory(&self) -> u64 {
        self.plan_len.saturating_mul(8) + (128 << 10)
    }

    #[cfg(feature = "diff")]
    pub(super) fn to_bytes(self) -> Vec<u8> {
        use crate::codec::varint;
        let mut body = Vec::new();
        for number in [self.scratch_len, self.staged_max, self.steps, self.plan_len] {
            varint::write(&mut body, number);
        }
        body.extend_from_slice(&self.old_digest);
        let mut out = MAGIC.to_vec();
        out.push(VERSION);
        varint::write(&mut out, body.len() as u64);
        out.extend_from_slice(&body);
        let sum = check(0, &out);
        out.extend_from_slice(&sum);
        out
    }
}

/// Whether these are the first bytes of a patch in place.
pub(super) fn is_in_place(first_bytes: &[u8]) -> bool {
    first_bytes.starts_with(MAGIC)
}

/// Reads the header; also its length.
pub(super) fn parse_head(bytes: &[u8]) -> Result<(InPlaceHeader, usize), PatchError> {
    let damaged = |what| PatchError::damaged(0, what);
    if !is_in_place(bytes) {
        return Err(damaged(Damage::Magic));
    }
    let truncated = || PatchError::damaged(bytes.len() as u64, Damage::Truncated);
    let version = *bytes.get(MAGIC.len()).ok_or_else(truncated)?;
    if version != VERSION {
        return Err(damaged(Damage::Version(version)));
    }
    let mut reader = Reader::new(&bytes[MAGIC.len() + 1..]);
    let body_len = reader.number().ok_or_else(truncated)?;
    if body_len > BODY_MAX {
        return Err(damaged(Damage::Header));
    }
    let start = MAGIC.len() + 1 + reader.position();
    let end = start + body_len as usize;
    let sum = bytes.get(end..end + check::LEN).ok_or_else(truncated)?;
    if check(0, &bytes[..end]) != *sum {
        return Err(damaged(Damage::Check));
    }
    let mut reader = Reader::new(&bytes[start..end]);
    let mut number = || reader.number().ok_or_else(|| damaged(Damage::Header));
    let head = InPlaceHeader {
        scratch_len: number()?,
        staged_max: number()?,
        steps: number()?,
        plan_len: number()?,
        old_digest: reader.array().ok_or_else(|| damaged(Damage::Header))?,
    };
    let holds = reader.is_empty()
        && head.staged_max <= head.scratch_len
        && head.plan_len <= PLAN_LEN_MAX
        && head.steps <= head.plan_len / STEP_LEN_MIN;
    if holds {
        Ok((head, end + check::LEN))
    } else {
        Err(damaged(Damage::Header))
    }
}

/// Tells patches apart in a journal.
pub(super) fn id_of(first_bytes: &[u8], plan: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(first_bytes), plan)
}

/// Old bytes that a later step reads after this one has overwritten them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Where they stand in the old image.
    pub(super) old: u64,
    pub(super) len: u32,
    /// Where they stand in the scratch.
    pub(super) at: u64,
    /// The last step that reads them.
    pub(super) last: u64,
}

/// One window that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// Where its bytes go in the image.
    pub(super) place: u64,
    /// How many.
    pub(super) len: u32,
    /// Where its window begins in the region.
    pub(super) from: u32,
    /// Where its frame begins in the patch.
    pub(super) frame_at: u64,
    /// Of its bytes.
    pub(super) digest: Digest,
    /// What is kept before it is copied.
    pub(super) kept: Vec<Kept>,
}

/// All steps, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) scratch_len: u64,
    pub(super) steps: Vec<Step>,
    /// Where the last window's frame ends, and the patch.
    pub(super) end: u64,
}

impl Plan {
    /// Writes the steps; `frame_lens` are the lengths of their frames, heads included.
    #[cfg(feature = "diff")]
    pub(super) fn write(steps: &[Step], frame_lens: &[u64]) -> Vec<u8> {
        use crate::codec::numbers::zigzag;
        use crate::codec::varint;
        let mut out = Vec::new();
        let (mut place, mut from) = (0u64, 0u64);
        for (at, (step, frame_len)) in steps.iter().zip(frame_lens).enumerate() {
            varint::write(&mut out, zigzag(step.place as i64 - place as i64));
            varint::write(&mut out, zigzag(i64::from(step.from) - from as i64));
            varint::write(&mut out, step.len.into());
            varint::write(&mut out, *frame_len);
            out.extend_from_slice(&step.digest);
            varint::write(&mut out, step.kept.len() as u64);
            let mut old = step.place;
            for kept in &step.kept {
                for number in [
                    kept.old - old,
                    kept.len.into(),
                    kept.at,
                    kept.last - at as u64,
                ] {
                    varint::write(&mut out, number);
                }
                old = kept.old;
            }
            place = step.place + u64::from(step.len);
            from = u64::from(step.from) + u64::from(step.len);
        }
        out
    }

    /// Reads the steps of a patch whose first window's frame begins at `windows_at`.
    pub(super) fn read(
        payload: &[u8],
        head: &InPlaceHeader,
        header: &Header,
        windows_at: u64,
    ) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let mut steps = Vec::new();
        let (mut place, mut from, mut frame_at) = (0u64, 0u64, windows_at);
        for at in 0..head.steps {
            place = moved(place, reader.number()?)?;
            from = moved(from, reader.number()?)?;
            let len = u32::try_from(reader.number()?).ok()?;
            let frame_len = reader.number()?;
            let digest = reader.array()?;
            let end = place.checked_add(len.into())?;
            if len == 0 || end > header.new_len || u64::from(len) > head.staged_max {
                return None;
            }
            let kept = read_kept(&mut reader, head, place..end, at)?;
            let this_from = u32::try_from(from).ok()?;
            steps.push(Step {
                place,
                len,
                from: this_from,
                frame_at,
                digest,
                kept,
            });
            place = end;
            from += u64::from(len);
            frame_at = frame_at.checked_add(frame_len)?;
        }
        let scratch_len = head.scratch_len;
        reader.is_empty().then_some(Self {
            scratch_len,
            steps,
            end: frame_at,
        })
    }

    /// Where the byte of the old image at `offset` is while step `step` is made: its place in the
    /// scratch if it is kept there; and for how many bytes, at most `len`, that holds.
    pub(super) fn kept_at(&self, step: u64, offset: u64, len: u64) -> (Option<u64>, u64) {
        let mut run = len;
        for earlier in &self.steps[..step as usize] {
            for kept in earlier.kept.iter().filter(|kept| kept.last >= step) {
                let end = kept.old + u64::from(kept.len);
                if kept.old <= offset && offset < end {
                    let into = offset - kept.old;
                    return (Some(kept.at + into), run.min(end - offset));
                }
                if kept.old > offset {
                    run = run.min(kept.old - offset);
                }
            }
        }
        (None, run)
    }
}

/// What the step at `at`, which writes `window`, keeps.
fn read_kept(
    reader: &mut Reader<'_>,
    head: &InPlaceHeader,
    window: core::ops::Range<u64>,
    at: u64,
) -> Option<Vec<Kept>> {
    let mut kept = Vec::new();
    let mut old = window.start;
    for _ in 0..reader.number()? {
        old = old.checked_add(reader.number()?)?;
        let len = u32::try_from(reader.number()?).ok()?;
        let place = reader.number()?;
        let last = at.checked_add(reader.number()?)?;
        let fits = len > 0
            && old.checked_add(len.into())? <= window.end
            && place >= head.staged_max
            && place.checked_add(len.into())? <= head.scratch_len
            && last > at
            && last < head.steps;
        if !fits {
            return None;
        }
        kept.push(Kept {
            old,
            len,
            at: place,
            last,
        });
    }
    Some(kept)
}

/// A place moved by a signed number.
fn moved(place: u64, by: u64) -> Option<u64> {
    place.checked_add_signed(crate::codec::numbers::unzigzag(by))
}
