//! What the operations on a paged cache need to know of one step, for all layers of a model.

#[cfg(feature = "cuda")]
use super::cuda::CachedTables;
use super::{AttentionShape, CachedSpan, check_heads, check_spans};
use crate::device::Device;
use crate::error::{KernelError, check_range};

/// The spans of one step, and on a device the tables that its kernels read.
///
/// Made once and set anew for each step, so that its memory stays where it is: launches recorded into a graph may be
/// launched again after [`CachedPlan::set`] as long as [`CachedPlan::generation`] is what it was. Room once made is kept,
/// and launches have blocks for all of it: use one plan for steps of single tokens and another for prompts.
#[derive(Debug)]
pub struct CachedPlan {
    shape: AttentionShape,
    page: usize,
    n_blocks: usize,
    rows: usize,
    spans: Vec<OwnedSpan>,
    /// The blocks of all spans.
    blocks: Vec<u32>,
    #[cfg(feature = "cuda")]
    tables: Option<CachedTables>,
}

/// A span whose blocks are a range of those of all spans.
#[derive(Debug, Clone)]
struct OwnedSpan {
    row: usize,
    len: usize,
    position: usize,
    blocks: std::ops::Range<usize>,
}

impl CachedPlan {
    /// A plan of no rows for caches on `device`, in its precision, with pages of `page` positions.
    ///
    /// # Errors
    /// [`KernelError::Range`] for heads or pages that cannot be.
    pub fn new(device: &Device, shape: AttentionShape, page: usize) -> Result<CachedPlan, KernelError> {
        const OP: &str = "CachedPlan::new";
        check_heads(OP, shape)?;
        check_range(page > 0, OP, "page", page, ">= 1")?;
        #[cfg(not(feature = "cuda"))]
        let Device::Cpu = device;
        Ok(CachedPlan {
            shape,
            page,
            n_blocks: 0,
            rows: 0,
            spans: Vec::new(),
            blocks: Vec::new(),
            #[cfg(feature = "cuda")]
            tables: match device {
                Device::Cpu => None,
                Device::Cuda(device) => Some(CachedTables::new(OP, device, device.precision(), shape, page)?),
            },
        })
    }

    /// Takes the spans of a step.
    ///
    /// - `spans`: covering the first rows of the batch in order
    /// - `rows`: rows of the batch N; those behind the spans are padding: nothing is cached of them, and they get zeros
    /// - `n_blocks`: blocks of the cache
    ///
    /// # Errors
    /// [`KernelError::Range`] for a span outside the batch or the cache; errors of the device. The plan is then of no use
    /// until it is set again.
    pub fn set(&mut self, spans: &[CachedSpan<'_>], rows: usize, n_blocks: usize) -> Result<(), KernelError> {
        const OP: &str = "CachedPlan::set";
        let covered = check_spans(OP, spans, self.page, n_blocks)?;
        check_range(covered <= rows, OP, "spans", format!("{covered} rows"), format!("at most {rows} rows"))?;
        (self.rows, self.n_blocks) = (rows, n_blocks);
        self.spans.clear();
        self.blocks.clear();
        for span in spans {
            let first = self.blocks.len();
            self.blocks.extend_from_slice(span.blocks);
            let blocks = first..self.blocks.len();
            self.spans.push(OwnedSpan { row: span.row, len: span.len, position: span.position, blocks });
        }
        #[cfg(feature = "cuda")]
        if let Some(tables) = &mut self.tables {
            tables.set(OP, spans, rows)?;
        }
        Ok(())
    }

    /// A number that changes when launches recorded before do not fit any more: a table has moved, or there are more tiles
    /// than the launches have blocks for. Always 0 on the CPU.
    #[must_use]
    pub fn generation(&self) -> u64 {
        #[cfg(feature = "cuda")]
        if let Some(tables) = &self.tables {
            return tables.generation();
        }
        0
    }

    /// Rows of the batch N.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn shape(&self) -> AttentionShape {
        self.shape
    }

    pub(super) fn page(&self) -> usize {
        self.page
    }

    pub(super) fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    pub(super) fn spans(&self) -> Vec<CachedSpan<'_>> {
        let span = |span: &OwnedSpan| CachedSpan {
            row: span.row,
            len: span.len,
            position: span.position,
            blocks: &self.blocks[span.blocks.clone()],
        };
        self.spans.iter().map(span).collect()
    }

    #[cfg(feature = "cuda")]
    pub(super) fn tables(&self) -> Option<&CachedTables> {
        self.tables.as_ref()
    }
}
