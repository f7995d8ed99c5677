//! Words whose changes are learned: operands of references, and words of data.

/// How a number stands in a 32-bit word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Form {
    /// The whole word, and no reference that was found: any aligned word of data.
    Plain,
    /// The whole word, and no reference: a name in BTF.
    Name,
    /// The whole word, and no reference: a type in BTF.
    Type,
    /// The whole word.
    Word,
    /// The low 26 bits: B and BL of AArch64.
    Low26,
    /// The low 24 bits: B and BL of A32.
    Low24,
    /// Bits 5 to 23: B.cond, CBZ and LDR (literal) of AArch64.
    Middle19,
    /// ADRP of AArch64.
    Page,
    /// Bits 10 to 21: ADD and LDR of AArch64.
    Middle12,
    /// MOVW of A32: the low half of a word in two fields.
    LowHalf,
    /// MOVT of A32.
    HighHalf,
    /// BL of Thumb-2: two half words.
    Thumb,
}

/// A word of a copied piece that is guessed and whose error is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Where it stands in the piece.
    pub(crate) at: u32,
    /// What it is known by: the old address it leads to, or the old word.
    pub(crate) key: u32,
    /// The guess.
    pub(crate) word: u32,
    pub(crate) form: Form,
}

impl Reference {
    /// Whether it is an operand, not any word of data.
    #[inline]
    pub(crate) fn is_reference(&self) -> bool {
        !matches!(self.form, Form::Plain | Form::Name | Form::Type)
    }

    /// The word with `by` added to its number.
    #[inline]
    pub(crate) fn moved(&self, by: u32) -> u32 {
        self.form
            .with(self.word, self.form.number(self.word).wrapping_add(by))
    }

    /// By how much the number moved when the word became `word`; `None` when more than the number
    /// changed.
    #[inline]
    pub(crate) fn moved_by(&self, word: u32) -> Option<u32> {
        let number = self.form.number(word);
        let by = number.wrapping_sub(self.form.number(self.word)) & self.form.mask();
        (self.form.with(self.word, number) == word).then_some(by)
    }
}

impl Form {
    /// The bits of a number.
    #[inline]
    fn mask(self) -> u32 {
        match self {
            Self::Plain | Self::Name | Self::Type | Self::Word => u32::MAX,
            Self::Low26 => (1 << 26) - 1,
            Self::Low24 => (1 << 24) - 1,
            Self::Middle19 => (1 << 19) - 1,
            Self::Page => (1 << 21) - 1,
            Self::Middle12 => (1 << 12) - 1,
            Self::LowHalf | Self::HighHalf => (1 << 16) - 1,
            Self::Thumb => (1 << 22) - 1,
        }
    }

    /// The number in a word.
    #[inline]
    fn number(self, word: u32) -> u32 {
        match self {
            Self::Plain | Self::Name | Self::Type | Self::Word => word,
            Self::Low26 | Self::Low24 => word & self.mask(),
            Self::Middle19 => word >> 5 & self.mask(),
            Self::Page => (word >> 5 & 0x7_ffff) << 2 | word >> 29 & 3,
            Self::Middle12 => word >> 10 & self.mask(),
            Self::LowHalf | Self::HighHalf => word >> 4 & 0xf000 | word & 0xfff,
            Self::Thumb => {
                let (first, second) = (word & 0xffff, word >> 16);
                (first & 0x7ff) << 11 | second & 0x7ff
            }
        }
    }

    /// A word with another number.
    #[inline]
    fn with(self, word: u32, number: u32) -> u32 {
        let number = number & self.mask();
        match self {
            Self::Plain | Self::Name | Self::Type | Self::Word => number,
            Self::Low26 | Self::Low24 => word & !self.mask() | number,
            Self::Middle19 => word & !(self.mask() << 5) | number << 5,
            Self::Page => word & 0x9f00_001f | (number & 3) << 29 | number >> 2 << 5,
            Self::Middle12 => word & !(self.mask() << 10) | number << 10,
            Self::LowHalf | Self::HighHalf => {
                word & !0xf_0fff | (number & 0xf000) << 4 | number & 0xfff
            }
            Self::Thumb => word & !0x07ff_07ff | number >> 11 | (number & 0x7ff) << 16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_where_it_was_put() {
        let forms = [
            Form::Plain,
            Form::Word,
            Form::Low26,
            Form::Low24,
            Form::Middle19,
            Form::Page,
            Form::Middle12,
            Form::LowHalf,
            Form::HighHalf,
            Form::Thumb,
        ];
        for form in forms {
            for word in [0, u32::MAX, 0x9400_1234, 0xe59f_1010] {
                let reference = Reference {
                    at: 0,
                    key: 0,
                    word,
                    form,
                };
                for by in [0, 1, 0x155, form.mask()] {
                    let moved = reference.moved(by);
                    assert_eq!(reference.moved_by(moved), Some(by), "{form:?} of {word:x}");
                }
            }
        }
    }
}
