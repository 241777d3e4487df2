//! Numbers that the packs of a mini-batch leave on the device of the model, read in one copy after the last of them.

use reskill_kernels::{Device, Element, Tensor};

use crate::error::GrpoError;

/// A column that grows by one piece a pack. Nothing waits for the device before [`Gathered::read`].
#[derive(Debug)]
pub(super) struct Gathered<T: Element> {
    /// (room), of which the pieces fill the front.
    values: Tensor<T>,
    /// Where each piece ends.
    ends: Vec<usize>,
}

impl<T: Element> Gathered<T> {
    /// With room for `room` numbers in all.
    pub(super) fn new(device: &Device, room: usize) -> Result<Gathered<T>, GrpoError> {
        Ok(Gathered { values: Tensor::zeros(&[room], device)?, ends: Vec::new() })
    }

    /// Adds a piece, a column on the same device.
    pub(super) fn push(&mut self, piece: &Tensor<T>) -> Result<(), GrpoError> {
        let start = self.ends.last().copied().unwrap_or(0);
        self.values.copy_rows_from(start, piece, 0, piece.len())?;
        self.ends.push(start + piece.len());
        Ok(())
    }

    /// Waits for the device; the pieces in the order in which they came.
    pub(super) fn read(&self) -> Result<Vec<Vec<T>>, GrpoError> {
        let values = self.values.to_vec()?;
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        Ok(starts.zip(&self.ends).map(|(start, &end)| values[start..end].to_vec()).collect())
    }
}
