//! Making a patch: may think long, needs both images, deterministic.
//!
//! ```text
//!   old ─┬─equal─► texts ─unpack─► logical old ─┬─anchors─► suffix array ─┐
//!   new ─┘                         logical new ─┴───────────────────scan──┴─► covers ─encode─► patch
//! ```
//!
//! Of large images only the *texts* are held: what is between the ends of long equal stretches is
//! copied and looked at by nobody (see [`equal`] and [`image`]).

mod anchors;
mod blank;
mod elf;
mod encode;
mod equal;
mod error;
mod image;
mod modules;
mod scan;
mod source;
mod streams;
mod suffix;
mod threads;
mod unpack;
mod window;

use alloc::string::ToString as _;
use alloc::vec::Vec;
use core::ops::Range;

use crate::code::Machine;
use crate::header::{Caps, Profile};
use anchors::Anchor;
use encode::{Found, Images};
use equal::{Equal, Scale};
pub use error::DiffError;
use image::{Grown, Image};
use scan::Alike;
use source::Watched;
pub use source::{Source, SourceFile};
use threads::both;
use unpack::Unpacked;
pub use unpack::{Opening, openings};

/// What the signer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffOptions {
    /// How the streams are coded.
    pub profile: Profile,
    /// What the devices this patch is for can re-encode and map.
    pub caps: Caps,
    /// Memory the devices give to a patch, in bytes. It takes less where less is enough: 6 MiB without
    /// extents, 10 MiB with blocks of up to 128 KiB.
    pub memory_max: u64,
    /// Threads to use; the patch is the same for any number.
    pub threads: usize,
    /// A window makes no more bytes of output than this, or one compressed extent.
    pub window_max: u32,
}

impl Default for DiffOptions {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            caps: Caps::all(),
            memory_max: 16 << 20,
            threads: 2,
            window_max: window::WINDOW_OUTPUT,
        }
    }
}

/// What the diff is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Looking into what is compressed.
    Unpacking,
    /// Sorting the old image.
    Indexing,
    /// Looking up the new image in it.
    Matching,
    /// Writing the patch.
    Coding,
}

impl Stage {
    /// A word for a progress bar.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unpacking => "unpacking",
            Self::Indexing => "indexing",
            Self::Matching => "matching",
            Self::Coding => "coding",
        }
    }
}

/// How far the diff is in one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub stage: Stage,
    /// `0 <= done <= total`
    pub done: u64,
    /// The whole of this stage.
    pub total: u64,
}

/// A patch that looked inside and is longer than this share of the new image is made once more
/// without looking.
const DOUBTFUL: u64 = 2;

/// Makes the patch that turns `old` into `new`.
///
/// What is compressed is opened where that gains: a patch that needs more memory so than the devices
/// have, or that is long all the same, is compared with a plain one.
///
/// # Errors
/// [`DiffError::Memory`] when `options.memory_max` is too small for any patch.
pub fn diff(
    old: &[u8],
    new: &[u8],
    options: &DiffOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<u8>, DiffError> {
    diff_sources(&old, &new, options, progress)
}

/// Makes the patch that turns `old` into `new`, wherever they are: of large images in files only
/// what changed is held in memory.
///
/// # Errors
/// As [`diff`]; [`DiffError::Read`] when a source cannot be read.
pub fn diff_sources(
    old: &dyn Source,
    new: &dyn Source,
    options: &DiffOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<u8>, DiffError> {
    let opened = diff_once(old, new, options, progress);
    let is_good = |patch: &Vec<u8>| {
        (patch.len() as u64) < new.length() / DOUBTFUL
            || crate::header(patch)
                .is_ok_and(|header| header.caps_needed.without(Caps::CODE).is_empty())
    };
    let plain_options = DiffOptions {
        caps: if options.caps.contains(Caps::CODE) {
            Caps::CODE
        } else {
            Caps::NONE
        },
        ..options.clone()
    };
    match opened {
        Ok(patch) if is_good(&patch) => Ok(patch),
        Err(error) if !matches!(error, DiffError::Memory { .. }) => Err(error),
        Err(error) if plain_options.caps == options.caps => Err(error),
        opened => {
            let plain = diff_once(old, new, &plain_options, progress);
            match (opened, plain) {
                (Ok(opened), Ok(plain)) if plain.len() < opened.len() => Ok(plain),
                (Ok(opened), _) => Ok(opened),
                (Err(_), plain) => plain,
            }
        }
    }
}

/// Makes a patch with just these options.
fn diff_once(
    old: &dyn Source,
    new: &dyn Source,
    options: &DiffOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<u8>, DiffError> {
    let (old, new) = (Watched::new(old), Watched::new(new));
    let mut patch = Err(DiffError::Memory {
        needed: u64::MAX,
        allowed: options.memory_max,
    });
    for reserve in RESERVES {
        let both = (&old, &new);
        patch = diff_watched(both, &Scale::USUAL, (options, reserve), progress);
        let is_over = matches!(patch, Err(DiffError::Memory { .. }));
        if !is_over || options.caps.without(Caps::CODE).is_empty() {
            break;
        }
    }
    match old.failure().or(new.failure()) {
        Some(error) => Err(DiffError::Read(error.to_string())),
        None => patch,
    }
}

/// Memory that is left for a patch beside what extents need: more is left where less is not enough.
const RESERVES: [u64; 3] = [3 << 19, 3 << 20, 8 << 20];

fn diff_watched(
    (old, new): (&Watched, &Watched),
    scale: &Scale,
    (options, reserve): (&DiffOptions, u64),
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<u8>, DiffError> {
    let equal = equal::find(old, new, scale);
    let whole = [Image::new(old, &apart(&equal)), {
        let ranges: Vec<Range<u64>> = equal.iter().map(|e| e.new..e.new + e.len).collect();
        Image::new(new, &ranges)
    }];
    let mut tell = |stage, done, total: usize| {
        progress(Progress {
            stage,
            done,
            total: total as u64,
        });
    };
    let unpacked = unpack::unpack(
        whole[0].text(),
        whole[1].text(),
        options.caps,
        options.memory_max.saturating_sub(reserve),
        options.threads,
        &mut |done| tell(Stage::Unpacking, done, whole[1].text().len()),
    );
    let old_encoded = unpacked.old_encoded.clone();
    let Some(mut images) = placed(whole, unpacked) else {
        // Something seemed to be compressed across what was left out: then nothing is left out.
        return diff_watched((old, new), &Scale::NEVER, (options, reserve), progress);
    };
    if options.caps.contains(Caps::CODE) {
        let (old, new) = both(
            options.threads,
            || elf::find(&images.old),
            || elf::find(&images.new),
        );
        images.found = [old, new];
    }
    let found = core::mem::take(&mut images.found);
    let (old_image, new_image) = (&mut images.old, &mut images.new);
    let (old_blanked, new_blanked) = both(
        options.threads,
        || blank::blank(old_image, &found[0]),
        || blank::blank(new_image, &found[1]),
    );
    let is_thumb = found[0].iter().any(|one| one.machine == Machine::Thumb);
    let covers = covers(&images, old_encoded, (options, is_thumb), &mut tell)?;
    old_blanked.restore(&mut images.old);
    new_blanked.restore(&mut images.new);
    images.found = found;
    let covers = with_equal(&images, &equal, &covers);
    let total = images.new.text().len();
    encode::patch((old, new), &images, &covers, options, &mut |done| {
        tell(Stage::Coding, done.min(total as u64), total);
    })
}

/// What of the old image is left out: stretches in order and apart.
fn apart(equal: &[Equal]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = equal.iter().map(|e| e.old..e.old + e.len).collect();
    ranges.sort_unstable_by_key(|range| range.start);
    let mut apart: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match apart.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}

/// The opened images, with extents in places of theirs; `None` where an extent was found across
/// what is left out.
fn placed(whole: [Image<'_>; 2], unpacked: Unpacked) -> Option<Images<'_>> {
    let [old, new] = whole;
    let opened: Vec<Grown> = unpacked
        .new_extents
        .iter()
        .map(|extent| Grown {
            at: extent.at,
            len: extent.len,
            raw_len: extent.raw_len,
        })
        .collect();
    let (text_len, length) = (old.text().len() as u64, old.length());
    let mut old_extents = unpacked.old_extents;
    for extent in &mut old_extents {
        let (place, left) = old.place(extent.at as usize);
        if left < extent.len as usize {
            return None;
        }
        extent.at = place;
        extent.raw_at = extent.raw_at - text_len + length;
    }
    let new = new.opened(unpacked.new, &opened)?;
    let mut new_extents = unpacked.new_extents;
    for extent in &mut new_extents {
        extent.raw_at = new.place(extent.raw_at).0 as usize;
    }
    Some(Images {
        old: old.followed(unpacked.old),
        new,
        old_extents,
        new_extents,
        found: [Vec::new(), Vec::new()],
    })
}

/// Matches the texts of both images, in which operands are blank.
fn covers(
    images: &Images,
    old_encoded: Vec<Range<usize>>,
    (options, is_thumb): (&DiffOptions, bool),
    tell: &mut dyn FnMut(Stage, u64, usize),
) -> Result<Vec<Alike>, DiffError> {
    let (old, new) = (images.old.text(), images.new.text());
    tell(Stage::Indexing, 0, new.len());
    let anchors = anchors::find(old, new, options.threads);
    tell(Stage::Indexing, new.len() as u64, new.len());
    let equal = anchors.iter().map(Anchor::left_out);
    let taken = equal.chain(old_encoded).collect();
    let index = suffix::Index::new(old, &anchors::without(old.len(), taken), options.threads)?;
    Ok(scan::covers(
        &index,
        (old, new),
        &anchors,
        (options.profile, is_thumb, options.threads),
        &mut |done| tell(Stage::Matching, done, new.len()),
    ))
}

/// Covers in places of the images, with what was left out of the texts, in order.
fn with_equal(images: &Images, equal: &[Equal], alike: &[Alike]) -> Vec<Found> {
    let (mut found, mut left) = (Vec::new(), images.new.left().zip(equal).peekable());
    let mut add_left = |found: &mut Vec<Found>, before: u64| {
        while let Some(((new, _, len), equal)) = left.next_if(|((new, ..), _)| *new < before) {
            found.push(Found {
                old: equal.old,
                new,
                len,
                same: true,
            });
        }
    };
    for cover in alike {
        let mut done = 0;
        while done < cover.len {
            let (old, old_left) = images.old.place(cover.old + done);
            let (new, new_left) = images.new.place(cover.new + done);
            let len = (cover.len - done).min(old_left).min(new_left);
            add_left(&mut found, new);
            found.push(Found {
                old,
                new,
                len: len as u64,
                same: false,
            });
            done += len;
        }
    }
    add_left(&mut found, u64::MAX);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Scale = Scale {
        image_min: 0,
        stride: 8 << 10,
        len_min: 24 << 10,
        margin: 2000,
        unit: 1,
    };

    fn noise(len: u64, seed: u64) -> Vec<u8> {
        (0..len)
            .map(|n| {
                let mixed = (n ^ seed << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (mixed.rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 51) as u8
            })
            .collect()
    }

    fn made(old: &[u8], new: &[u8], scale: &Scale) -> Vec<u8> {
        let options = DiffOptions::default();
        let (old, new) = (Watched::new(&old), Watched::new(&new));
        diff_watched((&old, &new), scale, (&options, RESERVES[0]), &mut |_| {})
            .expect("a patch is made")
    }

    /// Catches a patch that is made of what was never read.
    #[test]
    fn a_source_that_cannot_be_read_gives_no_patch() {
        struct Broken;
        impl Source for Broken {
            fn length(&self) -> u64 {
                1000
            }
            fn read_at(&self, _: u64, _: &mut [u8]) -> Result<(), crate::ImageError> {
                Err(crate::ImageError::new("the disk is gone"))
            }
        }
        let whole = &noise(1000, 1)[..];
        let options = DiffOptions::default();
        for (old, new) in [
            (&whole as &dyn Source, &Broken as &dyn Source),
            (&Broken, &whole),
        ] {
            let made = diff_sources(old, new, &options, &mut |_| {});
            let wanted = DiffError::Read("the disk is gone".into());
            assert_eq!(made, Err(wanted));
        }
    }

    /// Stretches that moved, one of them used twice, edits between and within, a compressed one:
    /// what is left out of the texts comes back. Catches a cover that is not cut where the texts
    /// are, and places that were not moved by what was opened before them.
    #[test]
    fn what_is_left_out_comes_back() {
        let plain: Vec<u8> = noise(30_000, 9).iter().map(|byte| byte % 7).collect();
        let packed = |plain: &[u8]| {
            use std::io::Write as _;
            let check = liblzma::stream::Check::Crc32;
            let stream = liblzma::stream::Stream::new_easy_encoder(1, check);
            let stream = stream.expect("an encoder");
            let mut writer = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
            writer.write_all(plain).expect("it packs");
            writer.finish().expect("it ends")
        };
        let mut edited = plain.clone();
        edited[15_000] ^= 1;
        let old = [&noise(200_000, 1)[..], &packed(&plain), &noise(150_000, 2)].concat();
        let mut changed = old[..90_000].to_vec();
        changed[45_000] ^= 0x80;
        let new = [
            &noise(10_000, 3)[..],
            &old[100_000..180_000],
            &changed,
            &packed(&edited),
            &old[100_000..180_000],
            b"between",
            &old[old.len() - 140_000..],
        ]
        .concat();
        let (left, whole) = (made(&old, &new, &SMALL), made(&old, &new, &Scale::NEVER));
        for patch in [&left, &whole] {
            let mut out = Vec::new();
            crate::apply(&mut &old[..], patch, &mut out, &crate::Accept::default())
                .expect("it applies");
            assert_eq!(out, new);
        }
        assert!(
            left.len() < whole.len() + 500,
            "{} {}",
            left.len(),
            whole.len()
        );
        let source = &old[..];
        let (old, new) = (Watched::new(&source), &new[..]);
        assert!(equal::find(&old, &Watched::new(&new), &SMALL).len() > 3);
    }
}
