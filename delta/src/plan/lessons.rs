//! What of the old image a window's model is shown before new bytes are coded: those around the
//! place where the copy before them ended, which new ones mostly resemble.
//!
//! A short patch is over before a model has learned anything; a long one has no use for this.

use core::ops::Range;

/// What is still to be shown, and what was last.
#[derive(Debug, Clone)]
pub(crate) struct Lessons {
    /// So many bytes before and after each place.
    reach: u64,
    /// Bytes that may still be shown.
    left: u64,
    shown: Range<u64>,
}

impl Lessons {
    /// The highest class.
    pub(crate) const CLASS_MAX: u8 = 8;
    /// No more bytes are shown in a window, nor more than this share of what it makes: a patch of a
    /// few bytes is not to keep a device busy.
    const BYTES_MAX: u64 = 256 << 10;
    const SHARE: u64 = 4;

    /// Those of a class, for a window that makes `len` bytes; class 0 has none.
    pub(crate) fn new(class: u8, len: u32) -> Option<Self> {
        let reach = match class {
            0 => 0,
            1..=Self::CLASS_MAX => 24 << class,
            _ => return None,
        };
        Some(Self {
            reach,
            left: (u64::from(len) / Self::SHARE).min(Self::BYTES_MAX),
            shown: 0..0,
        })
    }

    /// What is to be shown before new bytes at a place whose counterpart in the old image is
    /// `hint`: empty when that is known already.
    pub(crate) fn next(&mut self, hint: u64) -> Range<u64> {
        if self.reach == 0 {
            return 0..0;
        }
        let (mut from, end) = (
            hint.saturating_sub(self.reach),
            hint.saturating_add(self.reach),
        );
        let goes_on = self.shown.contains(&from) || self.shown.end == from;
        if goes_on {
            from = self.shown.end;
        }
        let to = end.min(from.saturating_add(self.left)).max(from);
        self.left -= to - from;
        self.shown = if goes_on { self.shown.start } else { from }..to;
        from..to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a stretch that is shown twice, one that is left out, and a window that is shown
    /// more than its share.
    #[test]
    fn what_was_shown_is_not_shown_again() {
        let mut lessons = Lessons::new(1, 4000).expect("a class");
        assert_eq!(lessons.next(1000), 952..1048);
        assert_eq!(lessons.next(1010), 1048..1058);
        assert!(lessons.next(1003).is_empty());
        assert_eq!(lessons.next(1106), 1058..1154);
        assert_eq!(lessons.next(10), 0..58);
        assert_eq!(lessons.next(u64::MAX), u64::MAX - 48..u64::MAX);
        // 96, 10, 96, 58 and 48 of 1000 bytes are gone.
        let mut left = 0;
        for place in 0..100 {
            let shown = lessons.next(5000 + 1000 * place);
            left += shown.end - shown.start;
        }
        assert_eq!(left, 1000 - 308);
    }

    #[test]
    fn there_are_nine_classes() {
        let mut none = Lessons::new(0, 4000).expect("a class");
        assert!(none.next(1000).is_empty());
        let mut most = Lessons::new(Lessons::CLASS_MAX, u32::MAX).expect("a class");
        assert_eq!(most.next(1 << 20), (1 << 20) - 6144..(1 << 20) + 6144);
        assert!(Lessons::new(Lessons::CLASS_MAX + 1, 4000).is_none());
    }
}
