//! The host's side of copies to the device, kept until they are certainly done.

/// Bytes kept before a copy waits for the device.
const MOST: usize = 64 << 20;

/// What copies that were started read from; dropped when the stream has been waited for.
///
/// Most drivers have read pageable memory when the call returns, but they do not promise it: where a device reads the
/// host's memory itself, the copy may come later.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    kept: Vec<Vec<u8>>,
    bytes: usize,
}

impl Uploads {
    /// `bytes` where they stay as long as this lives; false if so much is kept that the device should be waited for.
    pub(super) fn keep(&mut self, bytes: Vec<u8>) -> (&[u8], bool) {
        self.bytes += bytes.len();
        self.kept.push(bytes);
        (self.kept.last().map_or(&[], Vec::as_slice), self.bytes <= MOST)
    }
}
