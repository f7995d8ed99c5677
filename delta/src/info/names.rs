//! Names for the parts of an image: members of tar and cpio archives, sections of ELF files.
//!
//! For people only: nothing else hangs on it. What does not hold together has no names.
//!
//! Invariant: the parts are in order, do not overlap, and together are the whole image.
//!
//! Gap: files inside of squashfs, erofs and ext4 have no names here; such images are one part.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::ops::Range;

/// More parts than this are no help to a reader.
const PARTS_MAX: usize = 100_000;

/// The kind of an ELF section without bytes in the file.
const NO_BITS: u64 = 8;

/// A part of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) place: Range<u64>,
}

/// The parts of `image`, what lies between them included.
pub(super) fn names(image: &[u8]) -> Vec<Part> {
    let found = tar(image)
        .or_else(|| cpio(image))
        .or_else(|| elf(image, ""))
        .unwrap_or_default();
    filled(found, image.len() as u64)
}

/// Puts a name on what lies between.
fn filled(mut found: Vec<Part>, len: u64) -> Vec<Part> {
    found.retain(|part| !part.place.is_empty() && part.place.end <= len);
    found.sort_by_key(|part| (part.place.start, core::cmp::Reverse(part.place.end)));
    let (mut parts, mut at) = (Vec::new(), 0);
    let between = |place| Part {
        name: "(between)".into(),
        place,
    };
    for part in found.into_iter().take(PARTS_MAX) {
        if part.place.start < at {
            continue;
        }
        if part.place.start > at {
            parts.push(between(at..part.place.start));
        }
        at = part.place.end;
        parts.push(part);
    }
    if at < len {
        let name = if parts.is_empty() {
            "(the image)"
        } else {
            "(between)"
        };
        parts.push(Part {
            name: name.into(),
            place: at..len,
        });
    }
    parts
}

/// Members of a tar archive (POSIX ustar, with GNU long names), each with its header.
fn tar(image: &[u8]) -> Option<Vec<Part>> {
    const BLOCK: usize = 512;
    image.get(257..262).filter(|magic| *magic == b"ustar")?;
    let (mut parts, mut at, mut start, mut long) = (Vec::new(), 0usize, 0usize, None);
    while let Some(head) = image.get(at..at + BLOCK) {
        if head[257..262] != *b"ustar" {
            break;
        }
        let size = octal(&head[124..136])?;
        let body = at + BLOCK;
        let end = body.checked_add(size.checked_next_multiple_of(BLOCK)?)?;
        match head[156] {
            b'L' => long = image.get(body..body + size).map(text),
            b'x' | b'g' | b'K' => {}
            _ => {
                let own = || match text(&head[345..500]) {
                    prefix if prefix.is_empty() || head[257..263] == *b"ustar " => {
                        text(&head[..100])
                    }
                    prefix => format!("{prefix}/{}", text(&head[..100])),
                };
                let name = long.take().unwrap_or_else(own);
                parts.push(Part {
                    name,
                    place: start as u64..end as u64,
                });
                start = end;
            }
        }
        at = end;
    }
    Some(parts)
}

/// Members of a cpio archive in the "newc" form, each with its header.
fn cpio(image: &[u8]) -> Option<Vec<Part>> {
    const HEAD: usize = 110;
    let (mut parts, mut at) = (Vec::new(), 0usize);
    while let Some(head) = image.get(at..at + HEAD) {
        if !matches!(&head[..6], b"070701" | b"070702") {
            break;
        }
        let field = |index: usize| {
            let digits = core::str::from_utf8(&head[6 + 8 * index..14 + 8 * index]).ok()?;
            usize::from_str_radix(digits, 16).ok()
        };
        let (size, name_len) = (field(6)?, field(11)?);
        let name_end = at + HEAD + name_len;
        let body = name_end.checked_next_multiple_of(4)?;
        let end = body.checked_add(size)?.checked_next_multiple_of(4)?;
        let name = text(image.get(at + HEAD..name_end)?);
        parts.push(Part {
            name,
            place: at as u64..end as u64,
        });
        at = end;
    }
    (!parts.is_empty()).then_some(parts)
}

/// Sections of an ELF file, little-endian, 32 or 64 bits.
fn elf(image: &[u8], prefix: &str) -> Option<Vec<Part>> {
    if !image.starts_with(b"\x7fELF") || *image.get(5)? != 1 {
        return None;
    }
    let wide = *image.get(4)? == 2;
    let number = |at: usize, len: usize| {
        let bytes = image.get(at..at.checked_add(len)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    };
    let (table_at, entry_at) = if wide { (40, 58) } else { (32, 46) };
    let word = if wide { 8 } else { 4 };
    let table = usize::try_from(number(table_at, word)?).ok()?;
    let (entry, count, names) = (
        number(entry_at, 2)? as usize,
        number(entry_at + 2, 2)?,
        number(entry_at + 4, 2)?,
    );
    let section = |index: u64| {
        let at = table.checked_add(entry.checked_mul(usize::try_from(index).ok()?)?)?;
        let (name, kind) = (number(at, 4)?, number(at + 4, 4)?);
        let (offset, size) = if wide {
            (at + 24, at + 32)
        } else {
            (at + 16, at + 20)
        };
        Some((name, kind, number(offset, word)?, number(size, word)?))
    };
    let (_, _, strings, strings_len) = section(names)?;
    let strings_end = strings.checked_add(strings_len)?;
    let strings = image.get(usize::try_from(strings).ok()?..usize::try_from(strings_end).ok()?)?;
    let mut parts = Vec::new();
    for index in 1..count {
        let (name, kind, offset, size) = section(index)?;
        let end = offset.checked_add(size)?;
        if kind != NO_BITS && size > 0 && end <= image.len() as u64 {
            let name = text(strings.get(usize::try_from(name).ok()?..)?);
            parts.push(Part {
                name: format!("{prefix}{name}"),
                place: offset..end,
            });
        }
    }
    Some(parts)
}

/// The bytes up to a NUL, as text.
fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).to_string()
}

fn octal(bytes: &[u8]) -> Option<usize> {
    let digits = text(bytes);
    usize::from_str_radix(digits.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_whole_image_in_order() {
        let part = |name: &str, place| Part {
            name: name.into(),
            place,
        };
        let parts = filled(
            alloc::vec![part("b", 20..30), part("a", 5..10), part("c", 25..40)],
            50,
        );
        let places: Vec<_> = parts.iter().map(|part| part.place.clone()).collect();
        assert_eq!(places, [0..5, 5..10, 10..20, 20..30, 30..50]);
        assert_eq!(filled(Vec::new(), 7)[0].name, "(the image)");
    }

    #[test]
    fn members_of_a_cpio_archive_have_their_names() {
        let mut image = Vec::new();
        for (name, body) in [("init\0", &b"hello"[..]), ("etc/motd\0", b"")] {
            let fields = [0, 0, 0, 0, 0, 0, body.len(), 0, 0, 0, 0, name.len(), 0];
            image.extend_from_slice(b"070701");
            for field in fields {
                image.extend_from_slice(format!("{field:08x}").as_bytes());
            }
            for bytes in [name.as_bytes(), body] {
                image.extend_from_slice(bytes);
                image.resize(image.len().next_multiple_of(4), 0);
            }
        }
        let parts = names(&image);
        assert_eq!(
            parts.iter().map(|part| &part.name[..]).collect::<Vec<_>>(),
            ["init", "etc/motd"]
        );
        assert_eq!(parts[1].place.end, image.len() as u64);
    }

    /// What looks like an archive and is cut anywhere has parts that are the whole image still.
    #[test]
    fn nothing_cut_off_panics() {
        let mut image = alloc::vec![0u8; 1600];
        image[..9].copy_from_slice(b"some/name");
        image[124..135].copy_from_slice(b"00000000100");
        image[257..262].copy_from_slice(b"ustar");
        let mut elf = alloc::vec![0xffu8; 200];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        for image in [image, elf] {
            for len in 0..=image.len() {
                let parts = names(&image[..len]);
                assert_eq!(
                    parts
                        .iter()
                        .map(|p| p.place.end - p.place.start)
                        .sum::<u64>(),
                    len as u64
                );
            }
        }
    }
}
