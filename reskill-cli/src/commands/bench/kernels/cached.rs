//! Attention to a paged cache: a step of decoding, with pages of its own for each sequence or shared by eight of them, and
//! rows that continue sequences at once; writing new rows into the cache.

use anyhow::Result;
use reskill_kernels::ops::{self, AttentionShape, CachedPlan, CachedSpan, Cost, cached_cost, cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::{inner, log_softmax};
use super::operation::{Build, Inputs, Operation, poison, relative_error};
use super::sample::{Sample, row_of};

/// Positions of a page, as in the model's cache.
const PAGE: usize = 32;
/// Sequences of a step, and positions of each; fewer where fewer rows are measured.
const DECODE: usize = 128;
const CONTEXT: usize = 2048;
const SHORT_CONTEXT: usize = 128;
/// Sequences that share the first half of their pages.
const GROUP: usize = 8;
/// Rows that continue a sequence as long as they are, where rows are read at once.
const PREFILL: usize = 1024;

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 4] = [
    ("attention_cached", |inputs| Ok(Box::new(Attend::decode(inputs, 1)?))),
    ("attention_cached_shared", |inputs| Ok(Box::new(Attend::decode(inputs, GROUP)?))),
    ("attention_cached_prefill", |inputs| Ok(Box::new(Attend::prefill(inputs)?))),
    ("cache_append", |inputs| Ok(Box::new(Append::new(inputs)?))),
];

/// Sequences of one length, and the pages they are on.
struct Cache {
    keys: Tensor,
    values: Tensor,
    qkv: Tensor,
    shape: AttentionShape,
    /// Of each sequence, in order.
    pages: Vec<Vec<u32>>,
    context: usize,
    /// New rows of each sequence: its last positions.
    len: usize,
    plan: CachedPlan,
    size: usize,
}

impl Cache {
    /// `n` sequences of `context` positions, of which `len` are new; groups of `group` sequences have the first half of their
    /// pages in common. Pages are handed out in turns, so those of
    /// a sequence lie apart.
    fn new(inputs: &Inputs<'_>, n: usize, group: usize, (context, len): (usize, usize)) -> Result<Cache> {
        let shape = inputs.model.attention();
        let (n_pages, n_shared) = (context / PAGE, if group > 1 { context / PAGE / 2 } else { 0 });
        let mut pages: Vec<Vec<u32>> = vec![Vec::new(); n];
        let mut next = 0..;
        for index in 0..n_pages {
            let mut page = 0;
            for (sequence, own) in pages.iter_mut().enumerate() {
                if index >= n_shared || sequence % group == 0 {
                    page = next.next().unwrap_or_default();
                }
                own.push(page);
            }
        }
        let n_blocks = next.start as usize;
        let width = shape.kv_width();
        let mut plan = CachedPlan::new(inputs.device, shape, PAGE)?;
        plan.set(&spans(&pages, context, len), n * len, n_blocks)?;
        Ok(Cache {
            keys: inputs.tensor(1, &[n_blocks, width, PAGE], 2.0)?,
            values: inputs.tensor(2, &[n_blocks, PAGE, width], 1.0)?,
            qkv: inputs.tensor(3, &[n * len, shape.qkv_width()], 2.0)?,
            shape,
            pages,
            context,
            len,
            plan,
            size: inputs.size(),
        })
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let AttentionShape { n_heads, n_kv_heads, head_dim } = self.shape;
        let (n, context) = (self.qkv.rows(), self.context);
        vec![("N", n), ("T", context), ("H", n_heads), ("K", n_kv_heads), ("D", head_dim)]
    }
}

/// Positions of each sequence, by the rows that are asked for.
fn context(inputs: &Inputs<'_>) -> usize {
    if inputs.n < DECODE { SHORT_CONTEXT } else { CONTEXT }
}

/// `len` new rows of each sequence, at its last positions.
fn spans(pages: &[Vec<u32>], context: usize, len: usize) -> Vec<CachedSpan<'_>> {
    let position = context - len;
    let sequences = pages.iter().enumerate();
    sequences.map(|(index, blocks)| CachedSpan { row: index * len, len, position, blocks }).collect()
}

struct Attend {
    cache: Cache,
    out: Tensor,
    tolerance: f64,
}

impl Attend {
    /// A row of each sequence.
    fn decode(inputs: &Inputs<'_>, group: usize) -> Result<Attend> {
        Attend::new(inputs, Cache::new(inputs, inputs.n.min(DECODE), group, (context(inputs), 1))?)
    }

    /// As many new rows as the sequence has positions before them, to the next page.
    fn prefill(inputs: &Inputs<'_>) -> Result<Attend> {
        let len = inputs.n.min(PREFILL);
        let context = (2 * len).next_multiple_of(PAGE);
        Attend::new(inputs, Cache::new(inputs, inputs.n / len, 1, (context, len))?)
    }

    fn new(inputs: &Inputs<'_>, cache: Cache) -> Result<Attend> {
        let out = inputs.tensor(4, &[cache.qkv.rows(), cache.shape.out_width()], 1.0)?;
        Ok(Attend { cache, out, tolerance: inputs.rounding(2e-5) })
    }
}

impl Operation for Attend {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        self.cache.sizes()
    }
    fn cost(&self) -> Cost {
        let Cache { pages, context, len, shape, size, .. } = &self.cache;
        let (flops, bytes) = cached_cost(&spans(pages, *context, *len), *shape, *size, PAGE, false);
        Cost { bytes: bytes as u64, flops: flops as u64 }
    }
    fn poison(&mut self) -> Result<()> {
        poison(&mut [&mut self.out])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let Cache { keys, values, qkv, plan, .. } = &self.cache;
        ops::attention_cached_planned(&mut self.out, qkv, keys, values, plan)
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        let Cache { shape, pages, context, len, .. } = &self.cache;
        let (d, width) = (shape.head_dim, shape.kv_width());
        let scale = 1.0 / (d as f64).sqrt();
        let mut pairs = Vec::new();
        for n in sample.few(self.cache.qkv.rows()) {
            let n_seen = context - len + n % len + 1;
            let read = |tensor: &Tensor| -> Result<Vec<Vec<f64>>> {
                pages[n / len].iter().map(|&page| row_of(tensor, page as usize)).collect()
            };
            let (keys, cached) = (read(&self.cache.keys)?, read(&self.cache.values)?);
            let (qkv, got) = (row_of(&self.cache.qkv, n)?, row_of(&self.out, n)?);
            for head in [0, shape.n_heads - 1] {
                let first = head / (shape.n_heads / shape.n_kv_heads) * d;
                let query = &qkv[head * d..][..d];
                let score = |position: usize| {
                    let (page, at) = (&keys[position / PAGE], position % PAGE);
                    let key: Vec<f64> = (0..d).map(|x| page[(first + x) * PAGE + at]).collect();
                    scale * inner(query, &key)
                };
                let weights = log_softmax(&(0..n_seen).map(score).collect::<Vec<f64>>());
                for x in 0..d {
                    let value =
                        |position: usize| cached[position / PAGE][position % PAGE * width + first + x];
                    let want = weights.iter().enumerate().map(|(at, p)| p.exp() * value(at)).sum();
                    pairs.push((got[head * d + x], want));
                }
            }
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.out]
    }
}

struct Append {
    cache: Cache,
}

impl Append {
    fn new(inputs: &Inputs<'_>) -> Result<Append> {
        // The last page of each sequence is written to; those before it only take room.
        Ok(Append { cache: Cache::new(inputs, inputs.n.min(DECODE), 1, (SHORT_CONTEXT, 1))? })
    }
}

impl Operation for Append {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        self.cache.sizes()
    }
    fn cost(&self) -> Cost {
        cost::cache_append(self.cache.qkv.rows(), self.cache.shape.kv_width(), self.cache.size)
    }
    fn poison(&mut self) -> Result<()> {
        poison(&mut [&mut self.cache.keys, &mut self.cache.values])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let Cache { keys, values, qkv, plan, .. } = &mut self.cache;
        ops::cache_append_planned(keys, values, qkv, plan)
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        let Cache { shape, pages, context, .. } = &self.cache;
        let (width, last) = (shape.kv_width(), context - 1);
        let mut pairs = Vec::new();
        for n in sample.rows(pages.len()) {
            let (page, at) = (pages[n][last / PAGE] as usize, last % PAGE);
            let (keys, cached) = (row_of(&self.cache.keys, page)?, row_of(&self.cache.values, page)?);
            let qkv = row_of(&self.cache.qkv, n)?.split_off(shape.out_width());
            for x in 0..width {
                pairs.push((keys[x * PAGE + at], qkv[x]));
                pairs.push((cached[at * width + x], qkv[width + x]));
            }
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        // Rows are copied.
        0.0
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.cache.keys, &self.cache.values]
    }
    /// All but a position of each sequence.
    fn left_poisoned(&self) -> usize {
        let Cache { keys, values, qkv, shape, .. } = &self.cache;
        keys.len() + values.len() - 2 * qkv.rows() * shape.kv_width()
    }
}
