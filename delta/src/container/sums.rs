//! The cyclic sums of the xz format: CRC-32 (IEEE 802.3) and CRC-64 (ECMA-182), both reflected.

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

pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        CRC32[((sum ^ u32::from(*byte)) & 0xff) as usize] ^ sum >> 8
    })
}

pub(super) fn crc64(bytes: &[u8]) -> u64 {
    !bytes.iter().fold(u64::MAX, |sum, byte| {
        CRC64[((sum ^ u64::from(*byte)) & 0xff) as usize] ^ sum >> 8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_are_the_published_ones() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc64(b"123456789"), 0x995d_c9bb_df19_39fa);
    }
}
