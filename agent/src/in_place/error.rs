//! Why an image was not rewritten.

use std::io;
use std::path::{Path, PathBuf};

use ampoule_delta::PatchError;
use ampoule_protocol::error::{Coded, Guilty};

/// Why an image was not rewritten in its place.
#[derive(Debug, thiserror::Error)]
pub enum InPlaceError {
    /// Device.
    #[error("failed to {act} \"{path}\"")]
    Io {
        /// What was tried.
        act: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whose fault it is depends on what is wrong with it.
    #[error("\"{patch}\" was not applied")]
    Patch {
        /// The patch.
        patch: PathBuf,
        /// Why.
        source: PatchError,
    },
    /// Repository: what was signed is not made of pairs of patches in place.
    #[error("the payload {0}")]
    Payload(String),
    /// Device: there is nothing to rewrite.
    #[error("\"{0}\" is neither a file nor a block device")]
    NoImage(PathBuf),
    /// Device: a version that the payload does not start from.
    #[error("\"{image}\" is none of the {pairs} images that the payload starts from")]
    NoBase {
        /// The image.
        image: PathBuf,
        /// Bases of the payload.
        pairs: usize,
    },
    /// Device: less room than the patch asks for.
    #[error("\"{patch}\" takes {needed} bytes of scratch, and this device gives {max}")]
    Scratch {
        /// The patch.
        patch: PathBuf,
        /// Bytes it takes.
        needed: u64,
        /// Bytes there are.
        max: u64,
    },
    /// Device: the note of the pair is not a number.
    #[error("\"{0}\" does not hold the number of a pair")]
    Note(PathBuf),
    /// Device: the payload of the update under way is gone.
    #[error("pair {0}, which was begun, is not in the payload any more")]
    PairMissing(usize),
    /// Device: the image was changed by somebody else since.
    #[error("the image is not the new one")]
    NotNew,
    /// Device: it was left between two images.
    #[error("the image is neither the old one nor the new one, its journals are kept")]
    Half,
}

impl InPlaceError {
    pub(super) fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { act, path, source }
    }

    pub(super) fn patch(patch: &Path) -> impl FnOnce(PatchError) -> Self {
        let patch = patch.to_owned();
        move |source| Self::Patch { patch, source }
    }
}

impl Coded for InPlaceError {
    fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "in-place-io",
            Self::Patch { .. } => "in-place-patch",
            Self::Payload(_) => "in-place-payload",
            Self::NoImage(_) => "in-place-no-image",
            Self::NoBase { .. } => "in-place-no-base",
            Self::Scratch { .. } => "in-place-scratch",
            Self::Note(_) => "in-place-note",
            Self::PairMissing(_) => "in-place-pair-missing",
            Self::NotNew => "in-place-not-new",
            Self::Half => "in-place-half",
        }
    }

    fn guilty(&self) -> Guilty {
        match self {
            Self::Payload(_)
            | Self::Patch {
                source: PatchError::Damaged { .. } | PatchError::WrongOutput,
                ..
            } => Guilty::Repository,
            _ => Guilty::Device,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoBase { .. } => {
                "build the payload with this device's version among the old images of \"ampoule-delta pairs\""
            }
            Self::Scratch { .. } => {
                "raise \"scratch_max\" for this component, or make the payload with less \"--scratch-kib\""
            }
            Self::Half => "the same release, installed again, finishes what was begun",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
