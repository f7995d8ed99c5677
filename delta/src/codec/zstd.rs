//! zstd as a stream that is read in pieces, and as a one-shot compressor.

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// Window of our own zstd streams: 2^20, so that a device needs little memory.
pub(crate) const WINDOW_LOG: u32 = 20;

/// Reads one zstd stream out of a slice, piece by piece.
pub(crate) struct Stream<'a> {
    context: DCtx<'static>,
    bytes: &'a [u8],
    position: usize,
}

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
        })
    }

    /// Fills `out` whole; `None` when the stream is damaged or too short.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Option<()> {
        let len = out.len();
        let mut output = OutBuffer::around(out);
        let mut input = InBuffer::around(self.bytes);
        input.set_pos(self.position);
        while output.pos() < len {
            let before = (output.pos(), input.pos());
            self.context
                .decompress_stream(&mut output, &mut input)
                .ok()?;
            if (output.pos(), input.pos()) == before {
                return None;
            }
        }
        self.position = input.pos();
        Some(())
    }

    /// Whether the stream ends here.
    pub(crate) fn at_end(&mut self) -> bool {
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
pub(crate) fn compress(bytes: &[u8], level: i32) -> alloc::vec::Vec<u8> {
    use zstd_safe::{CCtx, CParameter, compress_bound};
    if bytes.is_empty() {
        return alloc::vec::Vec::new();
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
