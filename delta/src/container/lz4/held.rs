//! The bytes of a block that are held, compared.

/// What is held, by places of the block.
pub(super) struct Bytes<'a> {
    pub(super) held: &'a [u8],
    pub(super) start: u32,
    /// Copies end here.
    pub(super) limit: u32,
    /// Whether they do so only because no more bytes have come.
    pub(super) is_cut: bool,
}

impl Bytes<'_> {
    fn from(&self, at: u32) -> &[u8] {
        &self.held[(at - self.start) as usize..]
    }

    pub(super) fn word(&self, at: u32) -> u32 {
        let bytes = self.from(at).first_chunk();
        u32::from_le_bytes(*bytes.expect("places with four bytes are asked for"))
    }

    pub(super) fn half(&self, at: u32) -> u16 {
        let bytes = self.from(at).first_chunk();
        u16::from_le_bytes(*bytes.expect("places before the last bytes are asked for"))
    }

    /// How many bytes are the same from `at` and from the earlier `place` on.
    pub(super) fn common(&self, at: u32, place: u32) -> Option<u32> {
        let room = (self.limit - at) as usize;
        let (here, there) = (&self.from(at)[..room], &self.from(place)[..room]);
        let same = common(here, there);
        self.known(same, room)
    }

    /// How many bytes from `at` on are `byte`.
    pub(super) fn run(&self, at: u32, byte: u8) -> Option<u32> {
        let room = (self.limit - at) as usize;
        let here = &self.from(at)[..room];
        let (words, _) = here.as_chunks::<8>();
        let whole = words.iter().take_while(|word| **word == [byte; 8]).count() * 8;
        let rest = here[whole..].iter().take_while(|next| **next == byte);
        self.known(whole + rest.count(), room)
    }

    fn known(&self, count: usize, room: usize) -> Option<u32> {
        (count < room || !self.is_cut).then_some(count as u32)
    }

    /// How many bytes before both places are the same, `most` at most.
    pub(super) fn common_before(&self, at: u32, place: u32, most: u32) -> u32 {
        let most = most.min(place - self.start) as usize;
        let (at, place) = ((at - self.start) as usize, (place - self.start) as usize);
        let here = self.held[at - most..at].iter().rev();
        let there = self.held[place - most..place].iter().rev();
        here.zip(there).take_while(|(a, b)| a == b).count() as u32
    }

    /// How many bytes before `place`, and not before `lowest`, are `byte`.
    pub(super) fn run_before(&self, place: u32, lowest: u32, byte: u8) -> u32 {
        let range = (lowest - self.start) as usize..(place - self.start) as usize;
        run_before(&self.held[range], byte) as u32
    }
}

fn common(a: &[u8], b: &[u8]) -> usize {
    let ((a_words, _), (b_words, _)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut same = 0;
    for (x, y) in a_words.iter().zip(b_words) {
        let differs = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differs != 0 {
            return same + (differs.trailing_zeros() / 8) as usize;
        }
        same += 8;
    }
    let rest = a[same..].iter().zip(&b[same..]);
    same + rest.take_while(|(x, y)| x == y).count()
}

/// How many of the last bytes are `byte`.
pub(super) fn run_before(bytes: &[u8], byte: u8) -> usize {
    let (_, words) = bytes.as_rchunks::<8>();
    let whole = words.iter().rev().take_while(|word| **word == [byte; 8]);
    let whole = whole.count() * 8;
    let rest = bytes[..bytes.len() - whole].iter().rev();
    whole + rest.take_while(|known| **known == byte).count()
}
