//! What can go wrong while a patch is applied, grouped by the guilty party.

use core::error::Error;
use core::fmt;

use crate::header::Caps;
use crate::image::ImageError;

/// Why a patch was not applied. No byte of the new image is to be believed after one.
#[derive(Debug)]
#[non_exhaustive]
pub enum PatchError {
    /// The patch (repository): its bytes are not what the format says.
    Damaged {
        /// Where in the patch the piece begins that is damaged.
        offset: u64,
        /// What was found.
        what: Damage,
    },
    /// The device: the patch asks for more memory than was accepted.
    Memory {
        /// Bytes the patch declares.
        needed: u64,
        /// Bytes the device accepts.
        accepted: u64,
    },
    /// The device: the patch needs re-encoders that were not accepted.
    Caps {
        /// What is missing.
        missing: Caps,
    },
    /// The device: the old image is not the base this patch was made for.
    WrongBase,
    /// The device: the old image could not be read.
    Old(ImageError),
    /// The device: the new image was not taken (its block check failed, or it could not be written).
    New(ImageError),
    /// The device: the checkpoint is not one of this format.
    Checkpoint,
    /// The device: the image, the scratch or the journal of an update in place is too small.
    Scratch {
        /// Bytes the patch declares.
        needed: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The device: storage of an update in place could not be read, written or synced.
    Medium(ImageError),
    /// The device: the scratch does not hold what the journal says it does.
    ScratchLost,
    /// Ourselves: the new image differs from the digest in the header.
    WrongOutput,
}

/// What is wrong with the bytes of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// The magic is not ours: this is no patch at all.
    Magic,
    /// A version of the format that this build does not know.
    Version(u8),
    /// The header does not hold together.
    Header,
    /// A frame is longer than the header allows.
    FrameLength,
    /// A frame's check does not match its bytes.
    Check,
    /// A map that leads outside of the images or of the declared limits.
    Map,
    /// A window that does not decode to what the map asks for.
    Window,
    /// The patch ends before the new image is whole.
    Truncated,
    /// Bytes follow the end of the patch.
    Trailing,
}

impl PatchError {
    pub(crate) fn damaged(offset: u64, what: Damage) -> Self {
        Self::Damaged { offset, what }
    }

    /// The stable code for reports.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Damaged { what, .. } => match what {
                Damage::Magic => "delta-not-a-patch",
                Damage::Version(_) => "delta-version-unknown",
                Damage::Truncated => "delta-truncated",
                Damage::Trailing => "delta-trailing-bytes",
                Damage::Header
                | Damage::FrameLength
                | Damage::Check
                | Damage::Map
                | Damage::Window => "delta-damaged",
            },
            Self::Memory { .. } => "delta-memory",
            Self::Caps { .. } => "delta-caps",
            Self::WrongBase => "delta-wrong-base",
            Self::Old(_) => "delta-old-unreadable",
            Self::New(_) => "delta-new-refused",
            Self::Checkpoint => "delta-checkpoint",
            Self::Scratch { .. } => "delta-scratch",
            Self::Medium(_) => "delta-medium",
            Self::ScratchLost => "delta-scratch-lost",
            Self::WrongOutput => "delta-wrong-output",
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "it does not begin like a patch",
            Self::Version(found) => {
                return write!(
                    f,
                    "its format version is {found}, which this build does not know"
                );
            }
            Self::Header => "its header does not hold together",
            Self::FrameLength => "a frame is longer than the header allows",
            Self::Check => "a frame does not match its check",
            Self::Map => "a map leads outside of the images or of the declared limits",
            Self::Window => "a window does not decode to what the map asks for",
            Self::Truncated => "it ends before the new image is whole",
            Self::Trailing => "bytes follow its end",
        })
    }
}

impl fmt::Display for PatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { offset, what } => {
                write!(f, "patch is damaged at byte {offset}: {what}")
            }
            Self::Memory { needed, accepted } => {
                write!(
                    f,
                    "patch needs {needed} bytes of memory, {accepted} are accepted"
                )
            }
            Self::Caps { missing } => {
                write!(
                    f,
                    "patch needs re-encoders that are not accepted: {missing}"
                )
            }
            Self::WrongBase => f.write_str("old image is not the base this patch was made for"),
            Self::Old(_) => f.write_str("failed to read the old image"),
            Self::New(_) => f.write_str("new image was not taken"),
            Self::Checkpoint => f.write_str("checkpoint is not one of this format"),
            Self::Scratch { needed, found } => {
                write!(
                    f,
                    "patch in place needs {needed} bytes of storage, {found} are there"
                )
            }
            Self::Medium(_) => f.write_str("failed to use the storage of an update in place"),
            Self::ScratchLost => f.write_str("scratch does not hold what the journal says"),
            Self::WrongOutput => f.write_str("new image does not match the digest in the header"),
        }
    }
}

impl Error for PatchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Old(cause) | Self::New(cause) | Self::Medium(cause) => Some(cause),
            _ => None,
        }
    }
}
