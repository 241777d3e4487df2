//! A generation engine: continuous batching over a paged cache whose pages are shared by prefix.
//!
//! Requests wait until there is a place and memory; their prompts are run in chunks, except for what an earlier sequence has
//! left in the cache; then every running sequence gets one token a step, and whoever is done makes room at once. When memory
//! runs short the youngest sequence leaves and is run again later: replies do not change, because a row of the model does
//! not depend on the rows beside it and every request draws from a stream of its own.

mod prefix;
mod request;

use std::collections::VecDeque;
use std::ops::ControlFlow;

use rand::RngExt;
use reskill_kernels::ops::{SampledToken, sample_logits};
use reskill_kernels::{Device, Tensor};

use self::prefix::PrefixTree;
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::kv_cache::{KvCache, PAGE};

pub use self::request::{EngineStats, Finish, Generation, GenerationRequest, RequestId};

/// A model that continues sequences of a cache.
pub trait Decoder {
    /// The sizes.
    fn config(&self) -> &ModelConfig;

    /// Runs tokens that continue slots of `cache`; see `Transformer::forward_cached`.
    ///
    /// # Errors
    /// Those of `Transformer::forward_cached`; the slots are left as they were.
    fn forward_cached(
        &self,
        cache: &mut KvCache,
        tokens: &[u32],
        spans: &[(usize, usize)],
    ) -> Result<Tensor, ModelError>;

    /// Logits of hidden states.
    ///
    /// - `hidden`: (N, C) f32
    /// - result: (N, V) f32
    ///
    /// # Errors
    /// [`ModelError::Kernel`] for a tensor of another width.
    fn logits(&self, hidden: &Tensor) -> Result<Tensor, ModelError>;
}

/// Sizes of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineConfig {
    /// Sequences that run at once; at least 1.
    pub max_sequences: usize,
    /// Longest sequence, prompt and reply together, in tokens; at most the model's positions.
    pub max_len: usize,
    /// Memory of the key-value cache, in bytes. Taken as it is needed.
    pub cache_bytes: usize,
    /// Tokens of a prompt that are run at once; at least 1. Bounds the memory of activations, not the results.
    pub prefill_chunk: usize,
}

impl EngineConfig {
    /// 32 sequences as long as the model allows, 2 GiB of cache, chunks of 256 tokens.
    #[must_use]
    pub fn for_model(config: &ModelConfig) -> EngineConfig {
        EngineConfig {
            max_sequences: 32,
            max_len: config.max_position_embeddings,
            cache_bytes: 2 << 30,
            prefill_chunk: 256,
        }
    }
}

/// Who receives tokens as they are drawn; an answer of `Break` ends the reply.
pub type TokenSink<'a> = dyn FnMut(RequestId, &SampledToken) -> ControlFlow<()> + 'a;

/// A generation engine.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    cache: KvCache,
    prefixes: PrefixTree,
    free_slots: Vec<usize>,
    waiting: VecDeque<Sequence>,
    /// Oldest first.
    running: Vec<Sequence>,
    next_id: u64,
    stats: EngineStats,
}

/// A request on its way.
#[derive(Debug)]
struct Sequence {
    id: RequestId,
    request: GenerationRequest,
    reply: Vec<SampledToken>,
    /// Meaningful while it runs.
    slot: usize,
}

impl Sequence {
    /// Prompt and reply.
    fn tokens(&self) -> Vec<u32> {
        let reply = self.reply.iter().map(|token| token.token);
        self.request.tokens.iter().copied().chain(reply).collect()
    }

    fn len(&self) -> usize {
        self.request.tokens.len() + self.reply.len()
    }
}

impl Engine {
    /// An engine without requests.
    ///
    /// # Errors
    /// [`ModelError::Config`] for a size out of range; [`ModelError::Context`] if `max_len` exceeds the model's positions.
    pub fn new(model: &ModelConfig, config: EngineConfig) -> Result<Engine, ModelError> {
        Engine::on(&Device::Cpu, model, config)
    }

    /// [`Engine::new`] with the cache on a device, in its precision.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn on(device: &Device, model: &ModelConfig, config: EngineConfig) -> Result<Engine, ModelError> {
        for (key, value) in [
            ("max_sequences", config.max_sequences),
            ("max_len", config.max_len),
            ("prefill_chunk", config.prefill_chunk),
        ] {
            if value == 0 {
                return Err(ModelError::Config {
                    key,
                    value: "0".to_owned(),
                    expected: "at least 1".to_owned(),
                });
            }
        }
        let page_bytes = KvCache::page_bytes(model, device);
        let max_pages = config.cache_bytes / page_bytes;
        if max_pages == 0 {
            return Err(ModelError::Config {
                key: "cache_bytes",
                value: config.cache_bytes.to_string(),
                expected: format!("at least one page of {PAGE} tokens, {page_bytes} bytes for this model"),
            });
        }
        Ok(Engine {
            config,
            cache: KvCache::with_max_pages(device, model, config.max_sequences, config.max_len, max_pages)?,
            prefixes: PrefixTree::default(),
            free_slots: (0..config.max_sequences).rev().collect(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            next_id: 0,
            stats: EngineStats::default(),
        })
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        self.stats
    }

    /// Pages of the cache that nothing holds.
    #[must_use]
    pub fn free_pages(&self) -> usize {
        self.cache.free_pages()
    }

    /// Whether nothing waits or runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Forgets what earlier sequences have left in the cache: needed after the weights have changed.
    pub fn forget_prefixes(&mut self) {
        self.prefixes.clear(&mut self.cache);
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`ModelError::EmptyPrompt`]; [`ModelError::Context`] if the prompt leaves no room for a reply;
    /// [`ModelError::CacheFull`] if the cache cannot hold the prompt even alone.
    pub fn submit(&mut self, request: GenerationRequest) -> Result<RequestId, ModelError> {
        if request.tokens.is_empty() {
            return Err(ModelError::EmptyPrompt);
        }
        let len = request.tokens.len() + 1;
        if len > self.cache.capacity() {
            return Err(ModelError::Context { len, capacity: self.cache.capacity() });
        }
        let needed = request.tokens.len().div_ceil(PAGE);
        if needed > self.cache.max_pages() {
            return Err(ModelError::CacheFull { needed, free: self.cache.max_pages() });
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.waiting.push_back(Sequence { id, request, reply: Vec::new(), slot: 0 });
        Ok(id)
    }

    /// Runs until nothing waits; the replies in the order of their requests.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn run(
        &mut self,
        model: &impl Decoder,
        sink: &mut TokenSink<'_>,
    ) -> Result<Vec<Generation>, ModelError> {
        let mut done = Vec::new();
        while !self.is_idle() {
            done.extend(self.step(model, sink)?);
        }
        done.sort_by_key(|generation| generation.id);
        Ok(done)
    }

    /// Admits what fits, and draws one token for every running sequence; returns the replies that ended.
    ///
    /// # Errors
    /// [`ModelError::Kernel`] for a token outside the vocabulary, or if the model computes no finite logits. A sequence whose
    /// prompt fails is dropped, and if drawing fails all that run are; the rest can go on.
    pub fn step(
        &mut self,
        model: &impl Decoder,
        sink: &mut TokenSink<'_>,
    ) -> Result<Vec<Generation>, ModelError> {
        let mut done = Vec::new();
        self.decode(model, sink, &mut done)?;
        self.admit(model, sink, &mut done)?;
        Ok(done)
    }

    /// One token for every running sequence.
    fn decode(
        &mut self,
        model: &impl Decoder,
        sink: &mut TokenSink<'_>,
        done: &mut Vec<Generation>,
    ) -> Result<(), ModelError> {
        self.make_room_to_decode(done);
        if self.running.is_empty() {
            return Ok(());
        }
        let last = |sequence: &Sequence| sequence.reply.last().expect("a running sequence has a token").token;
        let tokens: Vec<u32> = self.running.iter().map(last).collect();
        let spans: Vec<(usize, usize)> = self.running.iter().map(|sequence| (sequence.slot, 1)).collect();
        let filters: Vec<_> = self.running.iter().map(|sequence| sequence.request.filter).collect();
        let uniforms: Vec<f32> =
            self.running.iter_mut().map(|sequence| sequence.request.rng.random::<f32>()).collect();
        let drawn = model
            .forward_cached(&mut self.cache, &tokens, &spans)
            .and_then(|hidden| model.logits(&hidden))
            .and_then(|logits| Ok(sample_logits(&logits, &filters, &uniforms)?));
        let drawn = match drawn {
            Ok(drawn) => drawn,
            Err(error) => {
                // Which sequence is at fault is not known, and their caches hold a token without successor.
                for sequence in std::mem::take(&mut self.running) {
                    self.cache.truncate(sequence.slot, 0);
                    self.free_slots.push(sequence.slot);
                }
                return Err(error);
            }
        };
        let mut still = Vec::with_capacity(self.running.len());
        for (sequence, token) in std::mem::take(&mut self.running).into_iter().zip(drawn) {
            still.extend(self.receive(sequence, token, sink, done));
        }
        self.running = still;
        Ok(())
    }

    /// Lets sequences leave until every running one can grow by a token.
    fn make_room_to_decode(&mut self, done: &mut Vec<Generation>) {
        loop {
            let needed: usize =
                self.running.iter().map(|sequence| self.cache.pages_to_grow(sequence.slot, 1)).sum();
            self.prefixes.evict(&mut self.cache, needed);
            if needed <= self.cache.free_pages() {
                return;
            }
            let Some(youngest) = self.running.pop() else { return };
            self.leave(&youngest);
            if self.running.is_empty() {
                // Alone it fills the cache: run again, it would stand here again.
                done.push(Generation { id: youngest.id, tokens: youngest.reply, finish: Finish::Memory });
            } else {
                self.stats.preemptions += 1;
                self.waiting.push_front(youngest);
            }
        }
    }

    /// Runs the prompts of waiting sequences as long as there are places and memory.
    fn admit(
        &mut self,
        model: &impl Decoder,
        sink: &mut TokenSink<'_>,
        done: &mut Vec<Generation>,
    ) -> Result<(), ModelError> {
        while let Some(sequence) = self.waiting.front() {
            let Some(&slot) = self.free_slots.last() else { return Ok(()) };
            let tokens = sequence.tokens();
            // The last token must be run, for its hidden state.
            let (pages, shared) = self.prefixes.find(&tokens[..tokens.len() - 1]);
            self.cache.attach(slot, &pages, shared);
            let needed = self.cache.pages_to_grow(slot, tokens.len() - shared);
            // Everyone who runs may need a page for the next token: otherwise who is admitted would leave at once.
            let spare = self.running.len();
            self.prefixes.evict(&mut self.cache, needed + spare);
            if needed + spare > self.cache.free_pages() {
                self.cache.truncate(slot, 0);
                if !self.running.is_empty() {
                    return Ok(());
                }
                // Nothing runs: what is shared with the tree may be all that is missing.
                self.prefixes.clear(&mut self.cache);
                if tokens.len().div_ceil(PAGE) > self.cache.free_pages() {
                    let sequence = self.waiting.pop_front().expect("the front is there");
                    done.push(Generation { id: sequence.id, tokens: sequence.reply, finish: Finish::Memory });
                }
                continue;
            }
            self.free_slots.pop();
            let mut sequence = self.waiting.pop_front().expect("the front is there");
            sequence.slot = slot;
            self.stats.reused_tokens += shared as u64;
            let token = match self.prefill(model, &mut sequence, &tokens[shared..]) {
                Ok(token) => token,
                Err(error) => {
                    self.cache.truncate(slot, 0);
                    self.free_slots.push(slot);
                    return Err(error);
                }
            };
            self.prefixes.add(&mut self.cache, slot, &tokens);
            let running = self.receive(sequence, token, sink, done);
            self.running.extend(running);
        }
        Ok(())
    }

    /// Runs the rest of a prompt, chunk by chunk, and draws the first token after it.
    fn prefill(
        &mut self,
        model: &impl Decoder,
        sequence: &mut Sequence,
        rest: &[u32],
    ) -> Result<SampledToken, ModelError> {
        self.stats.prefilled_tokens += rest.len() as u64;
        let mut hidden = None;
        for chunk in rest.chunks(self.config.prefill_chunk) {
            hidden = Some(model.forward_cached(&mut self.cache, chunk, &[(sequence.slot, chunk.len())])?);
        }
        let hidden = hidden.ok_or(ModelError::EmptyPrompt)?;
        let uniform = sequence.request.rng.random::<f32>();
        let drawn = sample_logits(&model.logits(&hidden)?, &[sequence.request.filter], &[uniform])?;
        Ok(drawn[0])
    }

    /// Hands a token on; the sequence, unless its reply ended with it.
    fn receive(
        &mut self,
        mut sequence: Sequence,
        token: SampledToken,
        sink: &mut TokenSink<'_>,
        done: &mut Vec<Generation>,
    ) -> Option<Sequence> {
        self.stats.generated_tokens += 1;
        sequence.reply.push(token);
        let stopped = sink(sequence.id, &token).is_break();
        let finish = if sequence.request.stop_tokens.contains(&token.token) {
            Finish::StopToken
        } else if stopped {
            Finish::Stopped
        } else if sequence.reply.len() >= sequence.request.max_new_tokens {
            Finish::Length
        } else if sequence.len() >= self.cache.capacity() {
            Finish::Context
        } else {
            return Some(sequence);
        };
        self.leave(&sequence);
        done.push(Generation { id: sequence.id, tokens: sequence.reply, finish });
        None
    }

    /// Frees the place of a sequence; its full pages stay for those who begin alike, as long as memory allows.
    fn leave(&mut self, sequence: &Sequence) {
        self.prefixes.add(&mut self.cache, sequence.slot, &sequence.tokens());
        self.cache.truncate(sequence.slot, 0);
        self.free_slots.push(sequence.slot);
    }
}
