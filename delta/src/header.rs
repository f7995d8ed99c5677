//! The header: what a patch is for, and what it asks of the device.
//!
//! It is read and judged before anything else is: magic, version, check, then the limits against
//! what the device accepts, then the base. Format: `docs/format/delta.md`.

use core::fmt;

use crate::codec::check;
use crate::codec::numbers::unzigzag;
use crate::codec::varint::Reader;
use crate::error::{Damage, PatchError};

const MAGIC: &[u8; 4] = b"AMPD";
/// The format version this build writes and reads.
pub(crate) const VERSION: u8 = 6;
/// No header is longer; enough first bytes to hand to [`header`].
pub const HEADER_LEN_MAX: usize = 192;

/// The longest body leaves room for what stands before and after it.
const BODY_MAX: u64 = (HEADER_LEN_MAX - 4 - 1 - 2 - check::LEN) as u64;

/// How the streams of a patch are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// zstd: quick to apply on any device.
    Fast,
    /// An adaptive model: fewer bytes on the wire, more work on the device.
    #[default]
    Small,
}

impl Profile {
    /// The word used on the command line and in `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Small => "small",
        }
    }
}

/// A set of re-encoders: what a device can reproduce, or what a patch needs.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Caps(u32);

impl Caps {
    /// None: plain patches only.
    pub const NONE: Self = Self(0);
    /// xz as liblzma 5.x writes it.
    pub const XZ: Self = Self(1);
    /// LZ4-HC as liblz4 1.9 and later write it.
    pub const LZ4: Self = Self(2);
    /// Mapping of references in executable code.
    pub const CODE: Self = Self(4);
    /// deflate: as zlib and GNU gzip write it, and what others write with corrections.
    pub const ZLIB: Self = Self(8);
    /// zstd as the pinned libzstd (1.5.5) writes it.
    pub const ZSTD: Self = Self(16);

    const NAMES: [(Self, &'static str); 5] = [
        (Self::XZ, "xz"),
        (Self::LZ4, "lz4"),
        (Self::CODE, "code"),
        (Self::ZLIB, "zlib"),
        (Self::ZSTD, "zstd"),
    ];

    /// Everything this build knows how to do.
    pub const fn all() -> Self {
        let xz = if cfg!(feature = "xz") {
            Self::XZ
        } else {
            Self::NONE
        };
        let lz4 = if cfg!(feature = "lz4") {
            Self::LZ4
        } else {
            Self::NONE
        };
        let zlib = if cfg!(feature = "deflate") {
            Self::ZLIB
        } else {
            Self::NONE
        };
        let zstd = if cfg!(feature = "zstd") {
            Self::ZSTD
        } else {
            Self::NONE
        };
        Self::CODE.with(xz).with(lz4).with(zlib).with(zstd)
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in `self` and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in `self`.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The words for it, as used in release metadata and on the command line.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(cap, _)| self.contains(*cap))
            .map(|(_, name)| name)
    }

    /// The cap that `name` stands for.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES
            .into_iter()
            .find(|(_, known)| *known == name)
            .map(|(cap, _)| cap)
    }
}

impl fmt::Display for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (index, name) in self.names().enumerate() {
            write!(f, "{}{name}", if index == 0 { "" } else { ", " })?;
        }
        if self.0 >> Self::NAMES.len() != 0 {
            f.write_str(", and others this build does not know")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caps({self})")
    }
}

/// What a device is willing to spend on a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// The most bytes of memory the patcher may hold.
    pub memory_max: u64,
    /// What this device can re-encode and map.
    pub caps: Caps,
    /// Length of the blocks the caller checks and writes: a checkpoint stands at a multiple of it.
    pub block_len: u32,
}

impl Default for Accept {
    fn default() -> Self {
        Self {
            memory_max: 512 << 20,
            caps: Caps::all(),
            block_len: 64 << 10,
        }
    }
}

/// The sizes that bound the patcher's memory, as the signer computed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Longest frame.
    pub frame_max: u64,
    /// Most covers in one region.
    pub covers_max: u64,
    /// Most bytes of tables (covers, extents, code) in one region.
    pub tables_max: u64,
    /// Bytes for decoded extents of the old image that are kept.
    pub cache_max: u64,
    /// Working memory of the largest re-encoding, its input and output included.
    pub encode_max: u64,
    /// Bytes of the largest model of a window (profile `small`).
    pub model_max: u64,
}

impl Limits {
    /// Buffers and decoder state that every patch needs.
    const FIXED: u64 = (128 << 10)
        + crate::patch::LINES_MEMORY
        + crate::patch::SLICE_COST
        + 2 * crate::code::Guess::memory(crate::plan::PIECE as u64);
    /// Bytes held for one cover while they are put in order, before anything is decoded.
    const COVER: u64 = size_of::<crate::plan::Cover>() as u64;

    /// Memory the patcher holds at most.
    pub fn memory(&self, profile: Profile) -> u64 {
        let model = match profile {
            Profile::Fast => 2 * crate::codec::zstd::MEMORY,
            Profile::Small => self.model_max,
        };
        let decoding = model
            .saturating_add(self.cache_max)
            .saturating_add(self.encode_max);
        Self::FIXED
            .saturating_add(self.frame_max)
            .saturating_add(self.tables_max)
            .saturating_add(decoding.max(self.covers_max.saturating_mul(Self::COVER)))
    }
}

/// What the first bytes of a patch say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Format version.
    pub version: u8,
    /// How its streams are coded.
    pub profile: Profile,
    /// What the device must be able to do.
    pub caps_needed: Caps,
    /// Length of the old image.
    pub old_len: u64,
    /// Length of the new image.
    pub new_len: u64,
    /// SHA-256 of the new image.
    pub new_digest: [u8; 32],
    /// XXH3-64 of the old image: quick enough to ask before the first write. The digest of the base
    /// stands in the signed release.
    pub old_check: u64,
    /// The sizes that bound memory.
    pub limits: Limits,
}

impl Header {
    /// Memory the patcher holds at most while it applies this patch.
    pub fn memory_needed(&self) -> u64 {
        self.limits.memory(self.profile)
    }

    /// Whether a device that accepts `accept` can apply this patch.
    pub fn accepted_by(&self, accept: &Accept) -> Result<(), PatchError> {
        let missing = self.caps_needed.without(accept.caps);
        if !missing.is_empty() {
            return Err(PatchError::Caps { missing });
        }
        let needed = self.memory_needed();
        if needed > accept.memory_max {
            return Err(PatchError::Memory {
                needed,
                accepted: accept.memory_max,
            });
        }
        Ok(())
    }

    /// The header as bytes.
    #[cfg(feature = "diff")]
    pub(crate) fn to_bytes(&self) -> alloc::vec::Vec<u8> {
        use crate::codec::numbers::zigzag;
        use crate::codec::varint;
        let mut out = MAGIC.to_vec();
        out.push(self.version);
        let mut body = alloc::vec::Vec::new();
        body.push(match self.profile {
            Profile::Fast => 0,
            Profile::Small => 1,
        });
        let limits = &self.limits;
        for number in [
            u64::from(self.caps_needed.0),
            self.old_len,
            zigzag(self.new_len.wrapping_sub(self.old_len) as i64),
            limits.frame_max,
            limits.covers_max,
            limits.tables_max,
            limits.cache_max,
            limits.encode_max,
            limits.model_max,
        ] {
            varint::write(&mut body, number);
        }
        body.extend_from_slice(&self.new_digest);
        body.extend_from_slice(&self.old_check.to_le_bytes());
        varint::write(&mut out, body.len() as u64);
        out.extend_from_slice(&body);
        let check = check(0, &out);
        out.extend_from_slice(&check);
        debug_assert!(out.len() <= HEADER_LEN_MAX, "a header fits its bound");
        out
    }

    /// Parses a header; `None` while bytes are missing, else the header and its length.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Damage> {
        let seen = bytes.len().min(MAGIC.len());
        if bytes[..seen] != MAGIC[..seen] {
            return Err(Damage::Magic);
        }
        let Some(&version) = bytes.get(MAGIC.len()) else {
            return Ok(None);
        };
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        let mut reader = Reader::new(&bytes[MAGIC.len() + 1..]);
        let body_len = match reader.number() {
            Some(len) if len <= BODY_MAX => usize::try_from(len).map_err(|_| Damage::Header)?,
            None if bytes.len() < HEADER_LEN_MAX => return Ok(None),
            _ => return Err(Damage::Header),
        };
        let body_start = MAGIC.len() + 1 + reader.position();
        let body_end = body_start + body_len;
        let Some(sum) = bytes.get(body_end..body_end + check::LEN) else {
            return Ok(None);
        };
        if check(0, &bytes[..body_end]) != *sum {
            return Err(Damage::Check);
        }
        let header =
            Self::parse_body(version, &bytes[body_start..body_end]).ok_or(Damage::Header)?;
        Ok(Some((header, body_end + check::LEN)))
    }

    fn parse_body(version: u8, body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let profile = match reader.byte()? {
            0 => Profile::Fast,
            1 => Profile::Small,
            _ => return None,
        };
        let caps_needed = Caps(u32::try_from(reader.number()?).ok()?);
        let old_len = reader.number()?;
        let new_len = old_len.wrapping_add_signed(unzigzag(reader.number()?));
        let limits = Limits {
            frame_max: reader.number()?,
            covers_max: reader.number()?,
            tables_max: reader.number()?,
            cache_max: reader.number()?,
            encode_max: reader.number()?,
            model_max: reader.number()?,
        };
        let new_digest = reader.array()?;
        let old_check = u64::from_le_bytes(reader.array()?);
        let header = Self {
            version,
            profile,
            caps_needed,
            old_len,
            new_len,
            new_digest,
            old_check,
            limits,
        };
        reader.is_empty().then_some(header)
    }
}

/// Reads the header from the first bytes of a patch ([`HEADER_LEN_MAX`] of them are always enough).
///
/// # Errors
/// [`PatchError::Damaged`] when this is no patch, a patch of another version, or too few bytes.
pub fn header(first_bytes: &[u8]) -> Result<Header, PatchError> {
    match Header::parse(first_bytes) {
        Ok(Some((header, _))) => Ok(header),
        Ok(None) => Err(PatchError::damaged(
            first_bytes.len() as u64,
            Damage::Truncated,
        )),
        Err(what) => Err(PatchError::damaged(0, what)),
    }
}
