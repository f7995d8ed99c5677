//! zstd as a stream that is read in pieces, and as a one-shot compressor.

use alloc::vec::Vec;

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// Window of our own zstd streams: 2^20, so that a device needs little memory.
pub(crate) const WINDOW_LOG: u32 = 20;

/// Reads one zstd stream out of a slice, piece by piece.
pub(crate) struct Stream<'a> {
    context: DCtx<'static>,
    bytes: &'a [u8],
    position: usize,
    /// Decoded bytes that were not asked for yet: pieces are mostly small, calls are dear.
    ahead: Vec<u8>,
    ahead_at: usize,
}

/// So much is decoded ahead.
const AHEAD: usize = 64 << 10;
/// Memory of a stream that is read: zstd's window and what we decode ahead.
pub(crate) const MEMORY: u64 = (1 << WINDOW_LOG) + AHEAD as u64;

impl<'a> Stream<'a> {
    /// A reader of `bytes`; `None` when there is no memory for it.
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        let mut context = DCtx::try_create()?;
        context
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG))
            .ok()?;
        Some(Self {
            context,
            bytes,
            position: 0,
            ahead: Vec::new(),
            ahead_at: 0,
        })
    }

    /// Fills `out` whole; `None` when the stream is damaged or too short.
    pub(crate) fn read(&mut self, mut out: &mut [u8]) -> Option<()> {
        while !out.is_empty() {
            if self.ahead_at == self.ahead.len() {
                self.decode_ahead()?;
            }
            let known = &self.ahead[self.ahead_at..];
            let len = known.len().min(out.len());
            let (now, later) = out.split_at_mut(len);
            now.copy_from_slice(&known[..len]);
            self.ahead_at += len;
            out = later;
        }
        Some(())
    }

    /// Decodes what comes next; `None` when that is nothing.
    fn decode_ahead(&mut self) -> Option<()> {
        self.ahead.resize(AHEAD, 0);
        self.ahead_at = 0;
        let mut output = OutBuffer::around(&mut self.ahead[..]);
        let mut input = InBuffer::around(self.bytes);
        input.set_pos(self.position);
        while output.pos() < AHEAD {
            let before = (output.pos(), input.pos());
            let decoded = self.context.decompress_stream(&mut output, &mut input);
            // What was decoded before a mistake is asked for first; then the mistake is met again.
            if decoded.is_err() || (output.pos(), input.pos()) == before {
                break;
            }
        }
        let len = output.pos();
        self.position = input.pos();
        self.ahead.truncate(len);
        (len > 0).then_some(())
    }

    /// Whether the stream ends here.
    pub(crate) fn at_end(&mut self) -> bool {
        if self.ahead_at < self.ahead.len() {
            return false;
        }
        // An empty read lets the decoder take the epilogue of the last block.
        let mut nothing = [0u8; 1];
        let mut output = OutBuffer::around(&mut nothing[..]);
        let mut input = InBuffer::around(self.bytes);
        input.set_pos(self.position);
        while input.pos() < self.bytes.len() {
            let before = input.pos();
            if self
                .context
                .decompress_stream(&mut output, &mut input)
                .is_err()
                || output.pos() > 0
                || input.pos() == before
            {
                return false;
            }
        }
        true
    }
}

/// Compresses `bytes` at `level` within our window.
#[cfg(feature = "diff")]
pub(crate) fn compress(bytes: &[u8], level: i32) -> Vec<u8> {
    use alloc::vec::Vec;

    use zstd_safe::{CCtx, CParameter, compress_bound};
    if bytes.is_empty() {
        return Vec::new();
    }
    let mut context = CCtx::create();
    let mut out = alloc::vec![0; compress_bound(bytes.len())];
    for parameter in [
        CParameter::CompressionLevel(level),
        CParameter::WindowLog(WINDOW_LOG),
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
    ] {
        context
            .set_parameter(parameter)
            .expect("a parameter within zstd's documented bounds");
    }
    let len = context
        .compress2(&mut out[..], bytes)
        .expect("the buffer has zstd's own bound");
    out.truncate(len);
    out
}
