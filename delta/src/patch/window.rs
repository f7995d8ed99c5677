//! One window: the streams of a frame, added to what the map points at.

use alloc::boxed::Box;
use alloc::vec;

use super::emit::Emitter;
use super::old::OldView;
use super::sink::Output;
use crate::code::{Guess, Mapping};
use crate::codec::model::{Model, Size};
use crate::codec::range::Decoder;
use crate::codec::varint::Reader;
use crate::codec::zstd::Stream;
use crate::error::{Damage, PatchError};
use crate::header::Profile;
use crate::plan::lessons::Lessons;
use crate::plan::{Map, PIECE, PIECE_EXACT, Segment, window_len};

/// Where a window stands.
pub(super) struct Place<'a> {
    pub(super) frame_at: u64,
    pub(super) profile: Profile,
    /// A model takes no more memory.
    pub(super) model_max: u64,
    pub(super) map: &'a Map,
    pub(super) mapping: &'a Mapping,
    /// What of the region was done before it.
    pub(super) from: u32,
}

/// Decodes a window and appends its output; returns how much of the region it made.
pub(super) fn apply(
    payload: &[u8],
    place: &Place,
    old: &mut OldView,
    out: &mut Output,
) -> Result<u32, PatchError> {
    let damaged = || PatchError::damaged(place.frame_at, Damage::Window);
    let (len, mut streams) = open(payload, place).ok_or_else(damaged)?;
    let mut out = Emitter::new(&place.map.extents.new, place.from, out, place.frame_at);
    let mut bytes = vec![0; PIECE_EXACT as usize];
    let mut guess = match place.profile {
        Profile::Fast => Guess::of_bytes(),
        Profile::Small => Guess::default(),
    };
    let mut at = place.from;
    for segment in place.map.segments(place.from, place.from + len) {
        for piece in segment.pieces() {
            let size = piece.len as usize;
            let bytes = &mut bytes[..size];
            match segment {
                Segment::Copy { cover, .. } if cover.is_exact() => old.read_at(piece.old, bytes)?,
                Segment::Copy { .. } => {
                    old.read_at(piece.old, guess.begin(size))?;
                    let places = (piece.old, u64::from(at));
                    guess.predict(&place.map.modules, place.mapping, places);
                    streams
                        .copied(&mut guess, piece.old, bytes)
                        .ok_or_else(damaged)?;
                }
                Segment::Literal { .. } => {
                    if let Streams::Small(small) = &mut streams {
                        let mut shown = small.lessons.next(piece.old);
                        while !shown.is_empty() {
                            let len = (shown.end - shown.start).min(PIECE.into());
                            let lesson = guess.begin(len as usize);
                            old.hint_at(shown.start, lesson)?;
                            small.model.teach(lesson);
                            shown.start += len;
                        }
                    }
                    let hint = guess.begin(size);
                    if streams.wants_hints() {
                        old.hint_at(piece.old, hint)?;
                    }
                    streams.new_bytes(hint, bytes).ok_or_else(damaged)?;
                }
            }
            out.take(bytes)?;
            at += piece.len;
            old.at = at;
        }
    }
    if streams.at_end() && out.is_closed() {
        Ok(len)
    } else {
        Err(damaged())
    }
}

/// Opens the streams of a window; also how much of the region it makes.
fn open<'a>(payload: &'a [u8], place: &Place) -> Option<(u32, Streams<'a>)> {
    let mut reader = Reader::new(payload);
    let len = window_len(reader.number()?, place.map.len - place.from)?;
    let differences = usize::try_from(reader.number()?).ok()?;
    let streams = match place.profile {
        Profile::Fast => {
            let rest = &payload[reader.position()..];
            let (differences, literals) = rest.split_at_checked(differences)?;
            Streams::Fast(Stream::new(differences)?, Stream::new(literals)?)
        }
        Profile::Small => {
            let byte = reader.byte()?;
            let size = Size::from_byte(byte & 7)?;
            let lessons = Lessons::new(byte >> 3, len)?;
            if size.memory() > place.model_max {
                return None;
            }
            let rest = &payload[reader.position()..];
            Streams::Small(Box::new(Small {
                model: Model::new(size),
                bits: Decoder::new(rest),
                lessons,
            }))
        }
    };
    Some((len, streams))
}

/// What a window adds, by profile.
enum Streams<'a> {
    /// Differences, and new bytes.
    Fast(Stream<'a>, Stream<'a>),
    Small(Box<Small<'a>>),
}

/// The one stream of the profile `small`.
struct Small<'a> {
    model: Model,
    bits: Decoder<'a>,
    lessons: Lessons,
}

impl Streams<'_> {
    /// Makes copied bytes out of what the old image says.
    fn copied(&mut self, guess: &mut Guess, at: u64, bytes: &mut [u8]) -> Option<()> {
        match self {
            Self::Fast(differences, _) => {
                differences.read(bytes)?;
                for (byte, guess) in bytes.iter_mut().zip(&guess.bytes) {
                    *byte = byte.wrapping_add(*guess);
                }
                Some(())
            }
            Self::Small(small) => {
                guess.find_words(at);
                small.model.copied(&mut small.bits, guess, at, bytes);
                (!small.bits.ran_dry()).then_some(())
            }
        }
    }

    fn wants_hints(&self) -> bool {
        matches!(self, Self::Small(..))
    }

    fn new_bytes(&mut self, hint: &[u8], bytes: &mut [u8]) -> Option<()> {
        match self {
            Self::Fast(_, literals) => literals.read(bytes),
            Self::Small(small) => {
                small.model.new_bytes(&mut small.bits, hint, bytes);
                (!small.bits.ran_dry()).then_some(())
            }
        }
    }

    /// Whether everything was used.
    fn at_end(&mut self) -> bool {
        match self {
            Self::Fast(differences, literals) => differences.at_end() && literals.at_end(),
            Self::Small(small) => small.bits.used_exactly(),
        }
    }
}
