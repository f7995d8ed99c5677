//! Every bound on what comes from outside, with what it stops.
//!
//! All are far above what real repositories need (field measurements: a timestamp is 0.5 kB, a
//! snapshot of 2,048 bins 62 kB, 10,000 targets 2.2 MB) and far below what hurts a device.

/// Nested arrays and objects in JSON; stops a stack overflow by `[[[[…`.
pub const JSON_DEPTH_MAX: usize = 32;

/// Root versions fetched in one refresh; stops a thief of root keys from feeding for ever. A
/// device that missed more continues at its next refresh, since each step is stored.
pub const ROOT_STEPS_MAX: u32 = 256;

/// Delegated roles visited for one lookup; stops endless or exploding delegation graphs.
pub const DELEGATED_ROLES_MAX: usize = 32;

/// Delegations in one targets file, and keys in one file.
pub const DELEGATIONS_MAX: usize = 16_384;

/// Signatures on one metadata file; each may cost a verification.
pub const SIGNATURES_MAX: usize = 256;

/// `bit_length` of succinct hash bins (TAP 15 allows 1 to 32).
pub const SUCCINCT_BITS_MAX: u32 = 32;

/// Bytes of a target path or role name.
pub const NAME_LEN_MAX: usize = 1024;

/// Blocks of one image; at 64 KiB each this is an image of 1 TiB.
pub const BLOCKS_MAX: u64 = 1 << 24;

/// Smallest and largest block of the hash tree, in bytes.
pub const BLOCK_LEN_MIN: u32 = 4096;
/// See [`BLOCK_LEN_MIN`].
pub const BLOCK_LEN_MAX: u32 = 1 << 20;

/// Components, deltas of a component, and other lists in a release description.
pub const RELEASE_LIST_MAX: usize = 256;

/// Hardware ids and device ids that one bundle names.
pub const BUNDLE_LIST_MAX: usize = 4096;

/// Text fields of a release description, in bytes.
pub const RELEASE_TEXT_MAX: usize = 4096;

/// The lengths up to which each kind of metadata file is read, in bytes (endless data attack).
///
/// Where signed metadata gives a length, the smaller of the two holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    /// `N.root.json`.
    pub root: u64,
    /// `timestamp.json`.
    pub timestamp: u64,
    /// The statement of a bundle.
    pub bundle: u64,
    /// `N.snapshot.json`, where the timestamp does not say its length.
    pub snapshot: u64,
    /// `N.ROLE.json`, where the snapshot does not say its length.
    pub targets: u64,
}

impl Lengths {
    /// Bounds for a device with some hundred MiB of memory.
    pub const DEFAULT: Self = Self {
        root: 512_000,
        timestamp: 16_384,
        bundle: 512_000,
        snapshot: 2_000_000,
        targets: 5_000_000,
    };
}

impl Default for Lengths {
    fn default() -> Self {
        Self::DEFAULT
    }
}
