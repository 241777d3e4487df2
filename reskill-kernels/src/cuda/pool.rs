//! Pieces of a device's memory that nobody uses, kept for the next tensor or operation.

use std::collections::BTreeMap;

use cudarc::driver::CudaSlice;

/// Pieces by size.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// No list is empty.
    pieces: BTreeMap<usize, Vec<CudaSlice<u8>>>,
    bytes: usize,
}

impl Pool {
    /// The smallest piece of at least `bytes`, unless it is larger than `most`. Of several, the one that came last.
    pub(super) fn take(&mut self, bytes: usize, most: usize) -> Option<CudaSlice<u8>> {
        let (&size, pieces) = self.pieces.range_mut(bytes..=most.max(bytes)).next()?;
        let piece = pieces.pop()?;
        if pieces.is_empty() {
            self.pieces.remove(&size);
        }
        self.bytes -= size;
        Some(piece)
    }

    pub(super) fn give(&mut self, piece: CudaSlice<u8>) {
        self.bytes += piece.len();
        self.pieces.entry(piece.len()).or_default().push(piece);
    }

    /// Takes over all pieces of another pool.
    pub(super) fn take_over(&mut self, other: Pool) {
        other.pieces.into_values().flatten().for_each(|piece| self.give(piece));
    }

    /// Bytes of all pieces.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
