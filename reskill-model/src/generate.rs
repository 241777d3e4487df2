//! Generation of replies for many sequences at once, from their slots of a cache.

use rand::{Rng, RngExt};
use reskill_kernels::ops::{self, TokenSets};
use reskill_kernels::{DType, Device, KernelError, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::constraint::{Next, TokenConstraint};
use crate::error::ModelError;
use crate::kv_cache::KvCache;
use crate::transformer::Transformer;

/// Tokens that one pass over prompts runs at most, but for a longer prompt, which stands alone: what a pass needs beside the
/// cache does not grow with the number of sequences. No result depends on it.
pub const PROMPT_ROWS: usize = 8192;

/// How tokens are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SamplingParams {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Longest reply, in tokens.
    pub max_new_tokens: usize,
    /// A reply without constraint ends with this token.
    pub end_token: u32,
}

/// One reply to generate.
pub struct Request<'a, R> {
    /// Slot of the cache.
    pub slot: usize,
    /// Tokens to add to the slot before the reply; at least one.
    pub tokens: &'a [u32],
    /// What the reply may be.
    pub constraint: &'a dyn TokenConstraint,
    /// Source of the draws: of this request alone, so that a reply does not depend on the batch.
    pub rng: R,
}

/// One token of a reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplyToken {
    /// The token.
    pub token: u32,
    /// Its log-probability under the distribution it was drawn from.
    pub logprob: f32,
    /// The tokens it was drawn from; empty for the whole vocabulary. A single one was forced, not drawn.
    pub allowed: Vec<u32>,
}

impl ReplyToken {
    /// Whether there was no choice: such a token has log-probability 0 and carries no gradient.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        self.allowed.len() == 1
    }
}

/// A generated reply.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The tokens in order.
    pub tokens: Vec<ReplyToken>,
    /// Whether the length limit cut it.
    pub truncated: bool,
}

impl Reply {
    /// The ids alone.
    #[must_use]
    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.token).collect()
    }
}

/// A cache and the work of one generation round.
#[derive(Debug, Clone)]
pub struct Generator {
    cache: KvCache,
}

/// A request on its way.
struct Running<'a, 'r, R> {
    index: usize,
    request: &'a mut Request<'r, R>,
    /// Tokens not yet in the cache.
    pending: Vec<u32>,
    generated: Vec<u32>,
}

impl Generator {
    /// An empty generator for `slots` sequences of at most `capacity` tokens.
    ///
    /// # Errors
    /// [`ModelError::Context`] if `capacity` exceeds the model's positions.
    pub fn new(config: &ModelConfig, slots: usize, capacity: usize) -> Result<Generator, ModelError> {
        Generator::on(&Device::Cpu, config, slots, capacity)
    }

    /// [`Generator::new`] on a device, in its precision.
    ///
    /// # Errors
    /// [`ModelError::Context`] if `capacity` exceeds the model's positions.
    pub fn on(
        device: &Device,
        config: &ModelConfig,
        slots: usize,
        capacity: usize,
    ) -> Result<Generator, ModelError> {
        Ok(Generator { cache: KvCache::on(device, config, slots, capacity)? })
    }

    /// A generator over a cache.
    #[must_use]
    pub fn with_cache(cache: KvCache) -> Generator {
        Generator { cache }
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// The cache, to truncate or copy slots.
    pub fn cache_mut(&mut self) -> &mut KvCache {
        &mut self.cache
    }

    /// Adds tokens to slots, without a reply; returns how many were run.
    ///
    /// # Errors
    /// [`ModelError::Context`], [`ModelError::Kernel`]; the slots are left as they were.
    pub fn extend(&mut self, model: &Transformer, slots: &[(usize, &[u32])]) -> Result<usize, ModelError> {
        let slots: Vec<(usize, &[u32])> =
            slots.iter().copied().filter(|(_, tokens)| !tokens.is_empty()).collect();
        let (_, n) = self.run(model, &slots)?;
        Ok(n)
    }

    /// Generates one reply per request. The tokens of a request, and all of its reply but the last token, are in its
    /// slot afterwards, whether tokens were drawn or forced: truncate it to drop them. Also returns how many tokens
    /// were run.
    ///
    /// # Errors
    /// [`ModelError::Context`]; [`ModelError::EmptySpan`] for a request without tokens; [`ModelError::Kernel`].
    pub fn generate<R: Rng>(
        &mut self,
        model: &Transformer,
        requests: &mut [Request<'_, R>],
        params: &SamplingParams,
    ) -> Result<(Vec<Reply>, usize), ModelError> {
        let mut replies: Vec<Reply> = requests.iter().map(|_| Reply::default()).collect();
        let mut n_run = 0;
        let mut running: Vec<Running<'_, '_, R>> = Vec::new();
        // Tokens of complete replies that no draw has run: forced ones, and those of requests that left no choice.
        let mut unread: Vec<(usize, Vec<u32>)> = Vec::new();
        for (index, request) in requests.iter_mut().enumerate() {
            let pending = request.tokens.to_vec();
            running.push(Running { index, request, pending, generated: Vec::new() });
        }
        loop {
            let mut allowed = TokenSets::new();
            running.retain_mut(|one| match admit(one, &mut replies[one.index], params) {
                Some(set) => {
                    allowed.push(&set);
                    true
                }
                None => {
                    let n_unread = one.pending.len() - usize::from(!one.generated.is_empty());
                    unread.push((one.request.slot, one.pending[..n_unread].to_vec()));
                    false
                }
            });
            if running.is_empty() {
                let unread: Vec<(usize, &[u32])> =
                    unread.iter().map(|(slot, tokens)| (*slot, tokens.as_slice())).collect();
                n_run += self.extend(model, &unread)?;
                return Ok((replies, n_run));
            }
            let slots: Vec<(usize, &[u32])> =
                running.iter().map(|one| (one.request.slot, one.pending.as_slice())).collect();
            let (hidden, n) = self.run(model, &slots)?;
            n_run += n;
            let device = hidden.device();
            let uniforms: Vec<f32> = running.iter_mut().map(|one| one.request.rng.random::<f32>()).collect();
            let uniforms = Tensor::from_slice(&[running.len()], &uniforms, &device, DType::F32)?;
            let mut tokens = Tensor::<u32>::zeros(&[running.len()], &device)?;
            let mut logprobs = Tensor::<f32>::zeros(&[running.len()], &device)?;
            let out = (&mut tokens, &mut logprobs);
            draw(out, model, &hidden, &allowed, params.temperature, &uniforms)?;
            let drawn = tokens.to_vec()?.into_iter().zip(logprobs.to_vec()?);
            for (row, (one, (token, logprob))) in running.iter_mut().zip(drawn).enumerate() {
                let drawn = ReplyToken { token, logprob, allowed: allowed.row(row).to_vec() };
                replies[one.index].tokens.push(drawn);
                one.generated.push(token);
                one.pending = vec![token];
            }
        }
    }

    /// The hidden state of the last token of each slot, and how many tokens were run, at most [`PROMPT_ROWS`] in a pass.
    fn run(&mut self, model: &Transformer, slots: &[(usize, &[u32])]) -> Result<(Tensor, usize), ModelError> {
        let n_tokens = slots.iter().map(|(_, new)| new.len()).sum();
        if n_tokens <= PROMPT_ROWS {
            return Ok((self.run_at_once(model, slots)?, n_tokens));
        }
        let before: Vec<usize> = slots.iter().map(|(slot, _)| self.cache.len(*slot)).collect();
        let hidden = self.run_by_passes(model, slots);
        if hidden.is_err() {
            for ((slot, _), len) in slots.iter().zip(before) {
                self.cache.truncate(*slot, len);
            }
        }
        Ok((hidden?, n_tokens))
    }

    fn run_by_passes(
        &mut self,
        model: &Transformer,
        slots: &[(usize, &[u32])],
    ) -> Result<Tensor, ModelError> {
        let (device, width) = (model.device(), model.config().hidden_size);
        let mut all = Tensor::zeros_as(&[slots.len(), width], &device, device.precision())?;
        let mut done = 0;
        for pass in passes(slots) {
            let hidden = self.run_at_once(model, pass)?;
            all.copy_rows_from(done, &hidden, 0, pass.len())?;
            done += pass.len();
        }
        Ok(all)
    }

    fn run_at_once(&mut self, model: &Transformer, slots: &[(usize, &[u32])]) -> Result<Tensor, ModelError> {
        let spans: Vec<(usize, usize)> = slots.iter().map(|(slot, new)| (*slot, new.len())).collect();
        let tokens: Vec<u32> = slots.iter().flat_map(|(_, new)| new.iter().copied()).collect();
        model.forward_cached(&mut self.cache, &tokens, &spans)
    }
}

/// Draws a token for each row of `hidden`, by the panels of the head where there are any.
fn draw(
    (tokens, logprobs): (&mut Tensor<u32>, &mut Tensor),
    model: &Transformer,
    hidden: &Tensor,
    allowed: &TokenSets,
    temperature: f32,
    uniforms: &Tensor,
) -> Result<(), KernelError> {
    let head = model.params().head();
    match model.packed_head() {
        Some(panels) => {
            ops::linear_sample_packed(tokens, logprobs, hidden, head, panels, allowed, temperature, uniforms)
        }
        None => ops::linear_sample(tokens, logprobs, hidden, head, allowed, temperature, uniforms),
    }
}

/// Runs of slots with at most [`PROMPT_ROWS`] tokens together; one with more stands alone.
fn passes<'s, 't>(slots: &'s [(usize, &'t [u32])]) -> impl Iterator<Item = &'s [(usize, &'t [u32])]> {
    let mut rest = slots;
    std::iter::from_fn(move || {
        let mut n_tokens = 0;
        let fits = |(_, new): &&(usize, &[u32])| {
            n_tokens += new.len();
            n_tokens <= PROMPT_ROWS
        };
        let n = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (pass, after) = rest.split_at(n);
        rest = after;
        (!pass.is_empty()).then_some(pass)
    })
}

/// Takes forced tokens at once; the set to draw the next token from, or `None` if the reply is complete.
fn admit<R>(one: &mut Running<'_, '_, R>, reply: &mut Reply, params: &SamplingParams) -> Option<Vec<u32>> {
    loop {
        let ended = one.generated.last() == Some(&params.end_token);
        let next = if ended { Next::Done } else { one.request.constraint.next(&one.generated) };
        if next == Next::Done {
            return None;
        }
        if one.generated.len() >= params.max_new_tokens {
            reply.truncated = true;
            return None;
        }
        match next {
            Next::Done => return None,
            Next::Any => return Some(Vec::new()),
            Next::OneOf(set) if set.len() == 1 => {
                one.generated.push(set[0]);
                one.pending.push(set[0]);
                reply.tokens.push(ReplyToken { token: set[0], logprob: 0.0, allowed: set });
            }
            // An empty set would stand for the whole vocabulary below.
            Next::OneOf(set) if set.is_empty() => return None,
            Next::OneOf(set) => return Some(set),
        }
    }
}
