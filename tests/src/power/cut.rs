//! What becomes of writes and names that were not synced when the power fails.

/// One outcome of a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// All of it reached the medium all the same.
    Kept,
    /// Nothing of it did.
    Lost,
    /// Names did, and of each write the first half of its sectors; a write within one sector is
    /// torn in its middle.
    Torn,
    /// Names did and no bytes: a rename that overtook its data.
    NamesOnly,
    /// Bytes did and no names.
    BytesOnly,
    /// The newer half of all of it did, and the older half did not: a cache that writes back in
    /// another order.
    Newest,
    /// Each write and each folder for itself, by a seed.
    Mixed(u64),
}

/// What becomes of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Lost,
    Torn,
}

/// Bytes that a medium writes as one.
const SECTOR_LEN: usize = 512;

impl Unsynced {
    /// The outcomes that are tried at each operation; the last differs from place to place.
    pub const fn all(place: usize) -> [Self; 7] {
        [
            Self::Kept,
            Self::Lost,
            Self::Torn,
            Self::NamesOnly,
            Self::BytesOnly,
            Self::Newest,
            Self::Mixed(place as u64),
        ]
    }

    /// Of the write number `index`; `middle` is the number that splits old from new.
    pub(super) fn of_write(self, index: u64, middle: u64) -> Fate {
        match self {
            Self::Kept | Self::BytesOnly => Fate::Kept,
            Self::Newest if index >= middle => Fate::Kept,
            Self::Lost | Self::NamesOnly | Self::Newest => Fate::Lost,
            Self::Torn => Fate::Torn,
            Self::Mixed(seed) => match mix(seed, index) % 3 {
                0 => Fate::Kept,
                1 => Fate::Lost,
                _ => Fate::Torn,
            },
        }
    }

    /// How many of the names that wait in the folder number `folder` are kept, in their order:
    /// within one folder file systems keep it, between two they do not.
    pub(super) fn of_names(self, folder: u64, indices: &[u64], middle: u64) -> usize {
        match self {
            Self::Kept | Self::Torn | Self::NamesOnly => indices.len(),
            // Names that wait on older ones bring them along.
            Self::Newest if indices.last().is_some_and(|last| *last >= middle) => indices.len(),
            Self::Lost | Self::BytesOnly | Self::Newest => 0,
            Self::Mixed(seed) => {
                let some = mix(seed, folder) % (indices.len() as u64 + 1);
                usize::try_from(some).unwrap_or(0)
            }
        }
    }
}

/// How much of a torn write is kept, in bytes.
pub(super) const fn torn_len(len: usize) -> usize {
    let half = len / 2;
    if half < SECTOR_LEN {
        return half;
    }
    half - half % SECTOR_LEN
}

/// A number that two numbers make (splitmix64).
pub fn mix(a: u64, b: u64) -> u64 {
    let mut z = a
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(b.wrapping_add(1).wrapping_mul(0xbf58_476d_1ce4_e5b9));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
