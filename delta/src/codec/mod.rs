//! How numbers and streams are written down: nothing in here knows what a patch is.

pub(crate) mod frame;
mod history;
pub(crate) mod mix;
pub(crate) mod model;
pub(crate) mod numbers;
pub(crate) mod range;
mod shifts;
pub(crate) mod varint;
pub(crate) mod zstd;

pub(crate) use check::check;

/// A short sum that finds accidents. It is no protection against a person: the block hash tree is.
pub(crate) mod check {
    use twox_hash::XxHash3_64;

    /// Bytes of a sum.
    pub(crate) const LEN: usize = 4;

    /// The sum of `bytes` as the piece that begins at `offset` of a patch.
    pub(crate) fn check(offset: u64, bytes: &[u8]) -> [u8; LEN] {
        let sum = XxHash3_64::oneshot_with_seed(offset, bytes).to_le_bytes();
        [sum[0], sum[1], sum[2], sum[3]]
    }
}
