//! An image as the diff holds it: the *text*, which is what it looks at, and parts of the source
//! that nobody looks at, since they are the same in both images (see [`super::equal`]).
//!
//! Covers, extents and modules are counted in *places* of the logical image, as the device sees it;
//! matching happens in the text. For images that are held whole both are the same.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::ops::Range;

use super::source::Watched;

/// A stretch of the logical image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    at: u64,
    len: u64,
    /// Where it begins in the text, or would.
    text_at: usize,
    /// Where it begins in the source, for one that is not in the text.
    left: Option<u64>,
}

impl Part {
    fn end(&self) -> u64 {
        self.at + self.len
    }

    /// Its range of the text: empty where it is left out.
    fn text(&self) -> Range<usize> {
        let len = if self.left.is_none() {
            self.len as usize
        } else {
            0
        };
        self.text_at..self.text_at + len
    }
}

/// A stretch of the text that became a longer or shorter one when it was opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grown {
    /// Where it stood in the text, and its length there.
    pub(super) at: usize,
    pub(super) len: usize,
    /// Its length now.
    pub(super) raw_len: usize,
}

/// An image, or what has become of it.
pub(super) struct Image<'a> {
    source: &'a Watched<'a>,
    text: Cow<'a, [u8]>,
    /// In order of the image, without gaps; those that are held, in order of the text too.
    parts: Vec<Part>,
}

impl<'a> Image<'a> {
    /// The image of a source without the stretches `left`, which are in order and apart.
    pub(super) fn new(source: &'a Watched<'a>, left: &[Range<u64>]) -> Self {
        let (mut parts, mut at, mut held) = (Vec::new(), 0, 0usize);
        let end = source.length();
        for range in left.iter().cloned().chain(core::iter::once(end..end)) {
            if range.start > at {
                let len = range.start - at;
                parts.push(Part {
                    at,
                    len,
                    text_at: held,
                    left: None,
                });
                held += len as usize;
            }
            if !range.is_empty() {
                parts.push(Part {
                    at: range.start,
                    len: range.end - range.start,
                    text_at: held,
                    left: Some(range.start),
                });
            }
            at = range.end;
        }
        let text = match source.bytes() {
            Some(bytes) if left.is_empty() => Cow::Borrowed(bytes),
            _ => {
                let mut text = vec![0; held];
                for part in &parts {
                    source.fill(part.at, &mut text[part.text()]);
                }
                Cow::Owned(text)
            }
        };
        Self {
            source,
            text,
            parts,
        }
    }

    /// The same image when `text` has become of its text, if anything has: with more at its end.
    pub(super) fn followed(mut self, text: Option<Vec<u8>>) -> Self {
        let Some(text) = text else { return self };
        let more = text.len() - self.text.len();
        if more > 0 {
            self.parts.push(Part {
                at: self.length(),
                len: more as u64,
                text_at: self.text.len(),
                left: None,
            });
        }
        self.text = Cow::Owned(text);
        self
    }

    /// The same image when `text` has become of its text, if anything has: with some stretches, in
    /// order, in another length. `None` where one of them is not held whole.
    pub(super) fn opened(mut self, text: Option<Vec<u8>>, grown: &[Grown]) -> Option<Self> {
        let Some(text) = text else { return Some(self) };
        let mut grown = grown.iter().peekable();
        let (mut parts, mut at, mut held) = (Vec::new(), 0, 0);
        for part in &self.parts {
            let (range, mut len) = (part.text(), part.len);
            while let Some(stretch) = grown.next_if(|stretch| stretch.at < range.end) {
                if stretch.at < range.start || stretch.at + stretch.len > range.end {
                    return None;
                }
                len = len + stretch.raw_len as u64 - stretch.len as u64;
            }
            parts.push(Part {
                at,
                len,
                text_at: held,
                left: part.left,
            });
            held += parts.last().map_or(0, |part| part.text().len());
            at += len;
        }
        (self.text, self.parts) = (Cow::Owned(text), parts);
        Some(self)
    }

    /// The text, to be changed for a while.
    pub(super) fn text_mut(&mut self) -> &mut [u8] {
        self.text.to_mut()
    }

    /// The text.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Length of the logical image.
    pub(super) fn length(&self) -> u64 {
        self.parts.last().map_or(0, Part::end)
    }

    /// The place of what stands at `at` of the text, and how many bytes from there stand together
    /// in both.
    pub(super) fn place(&self, at: usize) -> (u64, usize) {
        let index = self.parts.partition_point(|part| part.text().end <= at);
        match self.parts.get(index) {
            Some(part) => {
                let into = at - part.text_at;
                (part.at + into as u64, part.text().len() - into)
            }
            None => (self.length(), 0),
        }
    }

    /// Stretches that are left out: their places, and where they stand in the source.
    pub(super) fn left(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        let left = |part: &Part| Some((part.at, part.left?, part.len));
        self.parts.iter().filter_map(left)
    }

    /// The ranges of the text that hold places of `places`, with their first places.
    pub(super) fn held_in(
        &self,
        places: Range<u64>,
    ) -> impl Iterator<Item = (Range<usize>, u64)> + '_ {
        let first = self
            .parts
            .partition_point(|part| part.end() <= places.start);
        let within = self.parts[first..]
            .iter()
            .take_while(move |part| part.at < places.end);
        within.filter(|part| part.left.is_none()).map(move |part| {
            let start = places.start.max(part.at);
            let end = places.end.min(part.end());
            let from = part.text_at + (start - part.at) as usize;
            (from..from + (end - start) as usize, start)
        })
    }

    /// Bytes from `at` on, `len` of them or those up to the end.
    pub(super) fn get(&self, at: u64, len: usize) -> Cow<'_, [u8]> {
        let end = at.saturating_add(len as u64).min(self.length());
        if at >= end {
            return Cow::Borrowed(&[]);
        }
        let first = self.parts.partition_point(|part| part.end() <= at);
        let part = &self.parts[first];
        if part.left.is_none() && end <= part.end() {
            let from = part.text_at + (at - part.at) as usize;
            return Cow::Borrowed(&self.text[from..from + (end - at) as usize]);
        }
        let mut bytes = vec![0; (end - at) as usize];
        for part in self.parts[first..].iter().take_while(|part| part.at < end) {
            let (start, stop) = (part.at.max(at), part.end().min(end));
            let into = &mut bytes[(start - at) as usize..(stop - at) as usize];
            let skip = start - part.at;
            match part.left {
                None => {
                    let from = part.text_at + skip as usize;
                    into.copy_from_slice(&self.text[from..][..into.len()]);
                }
                Some(from) => self.source.fill(from + skip, into),
            }
        }
        Cow::Owned(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_read_from_the_source_and_places_do_not_move() {
        let bytes: Vec<u8> = (0..100).collect();
        let bytes = &bytes[..];
        let source = Watched::new(&bytes);
        let image = Image::new(&source, &[10..20, 50..90]);
        assert_eq!(image.text().len(), 50);
        assert_eq!(image.get(0, 200)[..], *bytes);
        assert_eq!(image.get(15, 10)[..], bytes[15..25]);
        assert_eq!(
            [9, 10, 39, 40].map(|at| image.place(at)),
            [(9, 1), (20, 30), (49, 1), (90, 10)]
        );
        assert_eq!(image.place(50), (100, 0));
        let held: Vec<_> = image.held_in(5..95).collect();
        assert_eq!(held, [(5..10, 5), (10..40, 20), (40..45, 90)]);
    }

    #[test]
    fn what_was_opened_moves_all_behind_it() {
        let bytes: Vec<u8> = (0..100).collect();
        let bytes = &bytes[..];
        let source = Watched::new(&bytes);
        let left = 10..20;
        let image = Image::new(&source, core::slice::from_ref(&left));
        // Two bytes of the text, 12 and 13, which were 22 and 23, became five.
        let text = [&bytes[..10], &bytes[20..22], &[9; 5], &bytes[24..]].concat();
        let stretch = |at, len| Grown {
            at,
            len,
            raw_len: 5,
        };
        let opened = image
            .opened(Some(text), &[stretch(12, 2)])
            .expect("it is held");
        assert_eq!(opened.length(), 103);
        assert_eq!(opened.get(18, 8)[..], [18, 19, 20, 21, 9, 9, 9, 9]);
        assert_eq!(opened.get(27, 1)[..], [24]);
        let image = Image::new(&source, core::slice::from_ref(&left));
        let across = image.opened(Some(bytes.to_vec()), &[stretch(9, 3)]);
        assert!(across.is_none());
    }
}
