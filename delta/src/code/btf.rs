//! Which words of BTF, the type information of the Linux kernel and its modules, are names and which
//! are types (Linux, Documentation/bpf/btf.rst).
//!
//! A type or a name that was put into the kernel moves the numbers of all after it, in every
//! module. So these words are told apart from others.

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// An offset into the table of names.
    Name,
    /// The number of a type.
    Type,
    Other,
}

/// A type as its first words tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Whether the third word is a type's number.
    refers: bool,
    /// What the words of its members are, and how many members there are.
    member: &'static [Word],
    members: usize,
}

impl Record {
    /// Words of a type without its members.
    pub(crate) const HEAD: usize = 3;

    /// The type whose second word is `info`; `None` when that is none.
    pub(crate) fn parse(info: u32) -> Option<Self> {
        use Word::{Name, Other, Type};
        let (kind, members) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        if info & 0x60ff_0000 != 0 {
            return None;
        }
        let (refers, member, many): (_, &[Word], _) = match kind {
            1 => (false, &[Other], false),
            2 | 8..=12 | 18 => (true, &[], false),
            3 => (false, &[Type, Type, Other], false),
            4 | 5 => (false, &[Name, Type, Other], true),
            6 => (false, &[Name, Other], true),
            7 | 16 => (false, &[], false),
            13 => (true, &[Name, Type], true),
            14 | 17 => (true, &[Other], false),
            15 => (false, &[Type, Other, Other], true),
            19 => (false, &[Name, Other, Other], true),
            _ => return None,
        };
        // A function says in place of a number of members how it is linked.
        let members = match (many, members) {
            (true, members) => members,
            (false, 0) => 1,
            (false, 1 | 2) if kind == 12 => 1,
            _ => return None,
        };
        Some(Self {
            refers,
            member,
            members,
        })
    }

    /// How many words it has.
    pub(crate) fn len(&self) -> usize {
        Self::HEAD + self.member.len() * self.members
    }

    /// What the word at `index` is.
    pub(crate) fn word(&self, index: usize) -> Word {
        match index {
            0 => Word::Name,
            2 if self.refers => Word::Type,
            1 | 2 => Word::Other,
            _ => self.member[(index - Self::HEAD) % self.member.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_follow_the_head() {
        let two_members = Record::parse(0x0400_0002).expect("a structure");
        assert_eq!(two_members.len(), 9);
        assert_eq!(two_members.word(2), Word::Other);
        assert_eq!(two_members.word(7), Word::Type);
        let pointer = Record::parse(0x0200_0000).expect("a pointer");
        assert_eq!((pointer.len(), pointer.word(2)), (3, Word::Type));
        assert_eq!(Record::parse(0x0200_0001), None);
        assert_eq!(Record::parse(0x1400_0000), None);
    }
}
