//! Pieces of a device's memory that nobody uses, kept for the next tensor or operation.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::CudaSlice;

/// Pieces by size, for all threads.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Pieces>);

#[derive(Debug, Default)]
struct Pieces {
    /// No list is empty.
    by_size: BTreeMap<usize, Vec<CudaSlice<u8>>>,
    bytes: usize,
}

impl Pool {
    /// The smallest piece of at least `bytes`, unless it is larger than `most`. Of several, the one that came last.
    pub(super) fn take(&self, bytes: usize, most: usize) -> Option<CudaSlice<u8>> {
        let mut pieces = self.pieces();
        let (&size, of_size) = pieces.by_size.range_mut(bytes..=most.max(bytes)).next()?;
        let piece = of_size.pop()?;
        if of_size.is_empty() {
            pieces.by_size.remove(&size);
        }
        pieces.bytes -= size;
        Some(piece)
    }

    pub(super) fn give(&self, piece: CudaSlice<u8>) {
        self.pieces().add(piece);
    }

    /// Takes a piece, or returns it if there would be more than `most` bytes with it.
    pub(super) fn give_within(&self, piece: CudaSlice<u8>, most: usize) -> Option<CudaSlice<u8>> {
        let mut pieces = self.pieces();
        if pieces.bytes.saturating_add(piece.len()) > most {
            return Some(piece);
        }
        pieces.add(piece);
        None
    }

    /// All pieces; none are left here.
    pub(super) fn take_all(&self) -> Pool {
        Pool(Mutex::new(std::mem::take(&mut *self.pieces())))
    }

    /// Takes over all pieces of another pool.
    pub(super) fn take_over(&self, other: &Pool) {
        let (other, mut pieces) = (std::mem::take(&mut *other.pieces()), self.pieces());
        other.by_size.into_values().flatten().for_each(|piece| pieces.add(piece));
    }

    /// Bytes of all pieces.
    pub(super) fn bytes(&self) -> usize {
        self.pieces().bytes
    }

    fn pieces(&self) -> MutexGuard<'_, Pieces> {
        // Pieces are taken and given whole, so a panic of another thread leaves them usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pieces {
    fn add(&mut self, piece: CudaSlice<u8>) {
        self.bytes += piece.len();
        self.by_size.entry(piece.len()).or_default().push(piece);
    }
}
