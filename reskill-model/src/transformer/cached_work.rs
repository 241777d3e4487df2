//! What a pass over a cache works in: buffers of its rows, tables of its pages, and the recorded steps of a device.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use reskill_kernels::ops::CachedPlan;
use reskill_kernels::{Device, Graph, KernelError, Tensor};

use super::Transformer;
use crate::activations::HeadNorms;
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::kv_cache::{KvCache, PAGE};

/// Rows of a recorded step are rounded up to a multiple of this, so that few numbers of sequences need a graph each.
const ROWS_PER_GRAPH: usize = 8;
/// Graphs that are kept; beyond that all are forgotten.
const MOST_GRAPHS: usize = 64;

/// The memory of passes over one cache. A clone of a cache begins with none.
#[derive(Debug, Default)]
pub(crate) struct CachedWork {
    /// Of passes in which every sequence gets one token.
    pub(super) decode: Option<Box<CachedPass>>,
    /// Of passes over prompts.
    pub(super) prefill: Option<Box<CachedPass>>,
    /// Steps of a device, by their rows.
    graphs: HashMap<usize, Recorded>,
    /// Whether steps are recorded and replayed where the device can.
    pub(super) graphs_off: bool,
}

impl Clone for CachedWork {
    fn clone(&self) -> CachedWork {
        CachedWork { graphs_off: self.graphs_off, ..CachedWork::default() }
    }
}

/// A step that was run with this memory, and perhaps recorded since.
#[derive(Debug)]
struct Recorded {
    /// All memory that the step reads and writes.
    memory: u64,
    graph: Option<Graph>,
    /// Whether the device would not record it.
    refused: bool,
}

/// Buffers of one kind of pass, of N rows.
#[derive(Debug)]
pub(super) struct CachedPass {
    /// (N) u32.
    pub(super) tokens: Tensor<u32>,
    pub(super) positions: Tensor<u32>,
    /// (spans) u32: the last row of each span.
    pub(super) last_rows: Tensor<u32>,
    /// (N, C).
    pub(super) residual: Tensor,
    pub(super) normed: Tensor,
    /// (N, (H + 2K) D).
    pub(super) qkv: Tensor,
    pub(super) head_norms: HeadNorms,
    /// (N, H D).
    pub(super) attended: Tensor,
    /// (N, 2F), (N, F).
    pub(super) gate_up: Tensor,
    pub(super) gated: Tensor,
    /// (N) f32.
    pub(super) rstd: Tensor,
    /// (spans, C): the rows that end a span, before and after the last norm.
    pub(super) ends: Tensor,
    pub(super) hidden: Tensor,
    pub(super) end_rstd: Tensor,
    pub(super) plan: CachedPlan,
}

impl CachedPass {
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Result<CachedPass, ModelError> {
        let shape = config.attention_shape();
        let rows = |width: usize| Tensor::zeros_as(&[0, width], device, device.precision());
        let column = || Tensor::<u32>::zeros(&[0], device);
        let (c, f) = (config.hidden_size, config.intermediate_size);
        Ok(CachedPass {
            tokens: column()?,
            positions: column()?,
            last_rows: column()?,
            residual: rows(c)?,
            normed: rows(c)?,
            qkv: rows(shape.qkv_width())?,
            head_norms: HeadNorms::new(config, device)?,
            attended: rows(shape.out_width())?,
            gate_up: rows(2 * f)?,
            gated: rows(f)?,
            rstd: Tensor::zeros(&[0], device)?,
            ends: rows(c)?,
            hidden: rows(c)?,
            end_rstd: Tensor::zeros(&[0], device)?,
            plan: CachedPlan::new(device, shape, PAGE)?,
        })
    }

    /// Room for `n` rows in `spans` spans.
    pub(super) fn set_rows(&mut self, n: usize, spans: usize) -> Result<(), ModelError> {
        for column in [&mut self.tokens, &mut self.positions] {
            column.set_rows(n)?;
        }
        self.last_rows.set_rows(spans)?;
        self.head_norms.set_rows(n)?;
        for rows in [
            &mut self.residual,
            &mut self.normed,
            &mut self.qkv,
            &mut self.attended,
            &mut self.gate_up,
            &mut self.gated,
            &mut self.rstd,
        ] {
            rows.set_rows(n)?;
        }
        for rows in [&mut self.ends, &mut self.hidden, &mut self.end_rstd] {
            rows.set_rows(spans)?;
        }
        Ok(())
    }

    fn memory(&self) -> impl Iterator<Item = u64> {
        let columns = [&self.tokens, &self.positions, &self.last_rows].map(Tensor::memory_id);
        let rows = [
            &self.residual,
            &self.normed,
            &self.qkv,
            &self.head_norms.raw,
            &self.head_norms.rstd,
            &self.attended,
            &self.gate_up,
            &self.gated,
            &self.rstd,
            &self.ends,
            &self.hidden,
            &self.end_rstd,
        ];
        columns.into_iter().chain(rows.map(Tensor::memory_id)).chain([self.plan.generation()])
    }
}

/// Rows of a pass over `n` sequences of one token each.
pub(super) fn decode_rows(device: &Device, work: &CachedWork, n: usize) -> usize {
    if device.can_record() && !work.graphs_off { n.next_multiple_of(ROWS_PER_GRAPH) } else { n }
}

/// Runs `step`, the pass of `model` in `pass`: at first operation by operation, then recorded, then in one launch, as long
/// as all its memory is the same.
pub(super) fn run_step(
    model: &Transformer,
    cache: &mut KvCache,
    pass: &mut CachedPass,
    step: impl Fn(&mut KvCache, &mut CachedPass) -> Result<(), ModelError>,
) -> Result<(), ModelError> {
    let (device, rows) = (model.device(), pass.tokens.len());
    if !device.can_record() || cache.work.graphs_off {
        return step(cache, pass);
    }
    let memory = fingerprint(model, cache, pass);
    match cache.work.graphs.remove(&rows) {
        Some(Recorded { memory: then, refused: true, .. }) if then == memory => {
            cache.work.graphs.insert(rows, Recorded { memory, graph: None, refused: true });
            step(cache, pass)
        }
        Some(Recorded { memory: then, graph, .. }) if then == memory => {
            let recorded = match graph {
                Some(graph) => Ok(graph),
                None => device.record(|| step(cache, pass)),
            };
            let graph = match recorded {
                Ok(graph) => graph,
                // An operation that takes memory or waits cannot be recorded; it can be run.
                Err(ModelError::Kernel(KernelError::Unsupported { .. })) => {
                    cache.work.graphs.insert(rows, Recorded { memory, graph: None, refused: true });
                    return step(cache, pass);
                }
                Err(error) => return Err(error),
            };
            let done = graph.launch().map_err(ModelError::from);
            cache.work.graphs.insert(rows, Recorded { memory, graph: Some(graph), refused: false });
            done
        }
        _ => {
            step(cache, pass)?;
            if cache.work.graphs.len() >= MOST_GRAPHS {
                cache.work.graphs.clear();
            }
            cache.work.graphs.insert(rows, Recorded { memory, graph: None, refused: false });
            Ok(())
        }
    }
}

/// A number of all memory that a step reads and writes. A graph owns the memory it was recorded with, so another tensor never
/// has the same.
fn fingerprint(model: &Transformer, cache: &KvCache, pass: &CachedPass) -> u64 {
    let mut hasher = DefaultHasher::new();
    let adapter = model.active_adapter().map(|lora| lora.tensors());
    adapter.is_some().hash(&mut hasher);
    for tensor in model.params.tensors().into_iter().chain(adapter.into_iter().flatten()) {
        tensor.memory_id().hash(&mut hasher);
    }
    for (keys, values) in cache.layers() {
        (keys.memory_id(), values.memory_id()).hash(&mut hasher);
    }
    cache.held_pages().hash(&mut hasher);
    pass.memory().for_each(|memory| memory.hash(&mut hasher));
    hasher.finish()
}

impl KvCache {
    /// Turns the recording of steps on or off. It is on where the device can record; results are the same.
    pub fn set_graphs(&mut self, on: bool) {
        self.work.graphs_off = !on;
        self.work.graphs.clear();
    }

    /// Steps that have been recorded and stand ready.
    #[must_use]
    pub fn recorded_steps(&self) -> usize {
        self.work.graphs.values().filter(|recorded| recorded.graph.is_some()).count()
    }
}
