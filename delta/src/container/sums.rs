//! Sums of the containers: CRC-32 (IEEE 802.3) and CRC-64 (ECMA-182), both reflected, and Adler-32.

const CRC32: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut sum, mut bit) = (at as u32, 0);
        while bit < 8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 };
            bit += 1;
        }
        table[at] = sum;
        at += 1;
    }
    table
};

#[cfg(feature = "xz")]
const CRC64: [u64; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut sum, mut bit) = (at as u64, 0);
        while bit < 8 {
            sum = sum >> 1
                ^ if sum & 1 == 1 {
                    0xc96c_5795_d787_0f42
                } else {
                    0
                };
            bit += 1;
        }
        table[at] = sum;
        at += 1;
    }
    table
};

#[cfg(feature = "xz")]
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = Crc32::default();
    sum.update(bytes);
    sum.sum()
}

/// A CRC-32 over bytes as they come.
pub(super) struct Crc32(u32);

impl Default for Crc32 {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Crc32 {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, byte| {
            CRC32[((sum ^ u32::from(*byte)) & 0xff) as usize] ^ sum >> 8
        });
    }

    pub(super) fn sum(&self) -> u32 {
        !self.0
    }
}

/// A CRC-64 over bytes as they come.
#[cfg(feature = "xz")]
pub(super) struct Crc64(u64);

#[cfg(feature = "xz")]
impl Default for Crc64 {
    fn default() -> Self {
        Self(u64::MAX)
    }
}

#[cfg(feature = "xz")]
impl Crc64 {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, byte| {
            CRC64[((sum ^ u64::from(*byte)) & 0xff) as usize] ^ sum >> 8
        });
    }

    pub(super) fn sum(&self) -> u64 {
        !self.0
    }
}

/// The sum of zlib's format (RFC 1950) over bytes as they come.
pub(super) struct Adler32 {
    low: u32,
    high: u32,
}

impl Default for Adler32 {
    fn default() -> Self {
        Self { low: 1, high: 0 }
    }
}

impl Adler32 {
    const PRIME: u32 = 65521;
    /// So many bytes are added before either half could overflow.
    const RUN: usize = 5552;

    pub(super) fn update(&mut self, bytes: &[u8]) {
        for run in bytes.chunks(Self::RUN) {
            for byte in run {
                self.low += u32::from(*byte);
                self.high += self.low;
            }
            self.low %= Self::PRIME;
            self.high %= Self::PRIME;
        }
    }

    pub(super) fn sum(&self) -> u32 {
        self.high << 16 | self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_are_the_published_ones() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let mut sum = Crc64::default();
        sum.update(b"123456789");
        assert_eq!(sum.sum(), 0x995d_c9bb_df19_39fa);
        let mut sum = Adler32::default();
        sum.update(b"Wikipedia");
        assert_eq!(sum.sum(), 0x11e6_0398);
    }
}
