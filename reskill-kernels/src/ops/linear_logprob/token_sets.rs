//! The tokens that a policy may draw from, row by row.

#[cfg(feature = "cuda")]
use std::sync::{Arc, OnceLock};

#[cfg(feature = "cuda")]
use super::cuda::Rows;
#[cfg(feature = "cuda")]
use crate::cuda::CudaDevice;
#[cfg(feature = "cuda")]
use crate::error::KernelError;

/// For each row, the tokens allowed there; a row with an empty set allows the whole vocabulary.
#[derive(Debug, Clone, Default)]
pub struct TokenSets {
    /// Row `n` owns `ids[offsets[n]..offsets[n + 1]]`; one offset more than rows.
    offsets: Vec<u32>,
    /// The tokens of all rows, one after the other.
    ids: Vec<u32>,
    /// The same on the device that asked first, for all passes over a batch.
    #[cfg(feature = "cuda")]
    placed: OnceLock<(CudaDevice, Arc<Rows>)>,
}

impl TokenSets {
    /// No rows yet.
    #[must_use]
    pub fn new() -> TokenSets {
        TokenSets { offsets: vec![0], ..TokenSets::default() }
    }

    /// Adds the set of the next row; an empty set allows every token.
    pub fn push(&mut self, tokens: &[u32]) {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        #[cfg(feature = "cuda")]
        self.placed.take();
        self.ids.extend_from_slice(tokens);
        self.offsets.push(self.ids.len() as u32);
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// The set of row `n`.
    #[must_use]
    pub fn row(&self, n: usize) -> &[u32] {
        &self.ids[self.offsets[n] as usize..self.offsets[n + 1] as usize]
    }

    /// The tokens of row `n` are `ids()[offsets()[n]..offsets()[n + 1]]`.
    #[cfg(feature = "cuda")]
    pub(super) fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// The tokens of all rows, one after the other.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The rows as passes on `device` want them.
    ///
    /// # Errors
    /// [`KernelError::OutOfDeviceMemory`], [`KernelError::Driver`].
    #[cfg(feature = "cuda")]
    pub(crate) fn on(&self, device: &CudaDevice) -> Result<Arc<Rows>, KernelError> {
        if let Some((of, rows)) = self.placed.get()
            && of == device
        {
            return Ok(Arc::clone(rows));
        }
        let rows = Arc::new(Rows::new(device, self)?);
        // If another device was first, its copy stays.
        let _kept = self.placed.set((device.clone(), Arc::clone(&rows)));
        Ok(rows)
    }
}

/// By what they allow, wherever there are copies of it.
impl PartialEq for TokenSets {
    fn eq(&self, other: &TokenSets) -> bool {
        (0..self.rows()).map(|n| self.row(n)).eq((0..other.rows()).map(|n| other.row(n)))
    }
}

impl Eq for TokenSets {}
