//! Steps over a paged cache: spans, caches, and what comes of them in f64.

use reskill_kernels::ops::{AttentionShape, CachedSpan, attention_cached};
use reskill_kernels::{DType, Tensor};

use super::*;

/// Sums of some 700 products and weights below 1 in f32.
pub(crate) const F32: f64 = 1e-5;

/// Rows that continue a sequence: tokens, tokens before, blocks.
pub(crate) type Row = (usize, usize, Vec<u32>);

/// A cache of random numbers, where nobody may look NaN, and new rows.
pub(crate) struct Step {
    pub(crate) shape: AttentionShape,
    pub(crate) page: usize,
    pub(crate) keys: Tensor,
    pub(crate) values: Tensor,
    pub(crate) qkv: Tensor,
    pub(crate) rows: Vec<Row>,
}

impl Step {
    pub(crate) fn new(shape: AttentionShape, dtype: DType, page: usize, rows: Vec<Row>) -> Step {
        let device = reskill_simt::device();
        let n_blocks =
            rows.iter().flat_map(|(_, _, blocks)| blocks).max().map_or(0, |&block| block as usize) + 2;
        let mut seen = vec![0; n_blocks];
        for (len, position, blocks) in rows.iter().filter(|(len, ..)| *len > 0) {
            for (index, &block) in blocks.iter().enumerate() {
                let here = (position + len).saturating_sub(index * page).min(page);
                seen[block as usize] = here.max(seen[block as usize]);
            }
        }
        let width = shape.kv_width();
        let (mut keys, mut values_) =
            (values(11, n_blocks * page * width, 1.0), values(12, n_blocks * page * width, 1.0));
        for block in 0..n_blocks {
            for place in seen[block]..page {
                for c in 0..width {
                    keys[(block * width + c) * page + place] = f32::NAN;
                    values_[(block * page + place) * width + c] = f32::NAN;
                }
            }
        }
        let n: usize = rows.iter().map(|(len, ..)| len).sum();
        Step {
            shape,
            page,
            keys: Tensor::from_slice(&[n_blocks, width, page], &keys, &device, dtype).unwrap(),
            values: Tensor::from_slice(&[n_blocks, page, width], &values_, &device, dtype).unwrap(),
            qkv: random(&device, dtype, &[n, shape.qkv_width()], 13, 1.0).0,
            rows,
        }
    }

    pub(crate) fn spans(&self) -> Vec<CachedSpan<'_>> {
        spans(&self.rows)
    }

    pub(crate) fn run(&self) -> Tensor {
        let mut out =
            poisoned(&self.qkv.device(), self.qkv.dtype(), &[self.qkv.rows(), self.shape.out_width()]);
        attention_cached(&mut out, &self.qkv, &self.keys, &self.values, &self.spans(), self.shape).unwrap();
        out
    }

    /// What it must be: the cache's rows and behind them the new ones are a packed batch in which only the new ones see.
    pub(crate) fn want(&self) -> Vec<Sum> {
        let (shape, page) = (self.shape, self.page);
        let (width, out_width) = (shape.kv_width(), shape.out_width());
        let (keys, values, new) = (wide(&self.keys), wide(&self.values), wide(&self.qkv));
        let n_cached = self.keys.rows() * page;
        let mut qkv = vec![0.0; n_cached * shape.qkv_width()];
        for (index, row) in qkv.chunks_exact_mut(shape.qkv_width()).enumerate() {
            let (block, place) = (index / page, index % page);
            for c in 0..width {
                row[out_width + c] = keys[(block * width + c) * page + place];
                row[out_width + width + c] = values[(block * page + place) * width + c];
            }
        }
        qkv.extend(new);
        let mut seen = vec![Vec::new(); n_cached];
        for (len, position, blocks) in &self.rows {
            for t in 0..*len {
                let places = 0..=position + t;
                seen.push(places.map(|p| blocks[p / page] as usize * page + p % page).collect());
            }
        }
        reference(&qkv, &seen, shape).0.split_off(n_cached * out_width)
    }

    pub(crate) fn check(&self) {
        let out = wide(&self.run());
        let what = format!("{:?}, pages of {}, {}", self.shape, self.page, self.qkv.dtype());
        assert_rounded(&out, &self.want(), self.qkv.dtype(), 1.0, F32, &what);
    }
}

pub(crate) fn spans(rows: &[Row]) -> Vec<CachedSpan<'_>> {
    let mut next = 0;
    rows.iter()
        .map(|(len, position, blocks)| {
            let row = next;
            next += len;
            CachedSpan { row, len: *len, position: *position, blocks }
        })
        .collect()
}

/// Blocks in odd order, for `len` positions.
pub(crate) fn blocks(first: u32, len: usize, page: usize) -> Vec<u32> {
    (0..len.div_ceil(page) as u32).rev().map(|index| first + index).collect()
}

/// Single rows and short and long spans, among them an empty one.
pub(crate) fn mixed(page: usize) -> Vec<Row> {
    let mut next = 0;
    let lens = [(1, 0), (1, 36), (5, 0), (1, 63), (0, 4), (37, 20), (1, 64), (2, 31), (1, 257)];
    lens.map(|(len, position)| {
        let blocks = blocks(next, position + len + 3, page);
        next += blocks.len() as u32;
        (len, position, blocks)
    })
    .to_vec()
}

/// A group of `n` rows that share `shared` full pages of 32, with suffixes of different lengths.
pub(crate) fn group(n: u32, shared: u32, first: u32) -> Vec<Row> {
    (0..n)
        .map(|row| {
            let mut blocks: Vec<u32> = (first..first + shared).collect();
            blocks.extend([first + shared + 2 * row, first + shared + 2 * row + 1]);
            (1, 32 * shared as usize + (row as usize * 13) % 60, blocks)
        })
        .collect()
}
