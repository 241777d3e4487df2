//! Free text from a pretrained model, token by token: how the next token is picked, and when a reply ends.

use rand::{Rng, RngExt};

use crate::error::ModelError;
use crate::generate::Generator;
use crate::tokenizer::PolicyTokenizer;
use crate::transformer::Transformer;

/// How tokens are drawn and when a reply ends. Limits apply in the order of the fields.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeOptions {
    /// Divides the logits, >= 0; 0 takes the likeliest token.
    pub temperature: f32,
    /// Only this many of the likeliest tokens are drawn from; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability are drawn from, in (0, 1]; 1 for all.
    pub top_p: f32,
    /// Only tokens that are at least this many times as likely as the likeliest are drawn from, in 0..=1; 0 for all.
    pub min_p: f32,
    /// Longest reply, in tokens.
    pub max_new_tokens: usize,
    /// Texts that end a reply; not part of it.
    pub stop: Vec<String>,
    /// Tokens that end a reply; not part of it.
    pub end_tokens: Vec<u32>,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        DecodeOptions {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            max_new_tokens: 256,
            stop: Vec::new(),
            end_tokens: Vec::new(),
        }
    }
}

impl DecodeOptions {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn validate(&self) -> Result<(), ModelError> {
        let check = |holds: bool, key: &'static str, value: f32, expected: &str| {
            if holds {
                return Ok(());
            }
            Err(ModelError::Config { key, value: value.to_string(), expected: expected.to_string() })
        };
        let t = self.temperature;
        check(t >= 0.0 && t.is_finite(), "temperature", t, "a number >= 0")?;
        check(self.top_p > 0.0 && self.top_p <= 1.0, "top_p", self.top_p, "a number in (0, 1]")?;
        check((0.0..=1.0).contains(&self.min_p), "min_p", self.min_p, "a number in [0, 1]")
    }

    /// The next token after these logits; `rng` is drawn from unless the temperature is 0.
    #[must_use]
    pub fn pick(&self, logits: &[f32], rng: &mut impl Rng) -> u32 {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let logit = |token: u32| logits[token as usize];
        if self.temperature == 0.0 {
            // The first of equal ones.
            let better = |best: u32, token: u32| if logit(token) > logit(best) { token } else { best };
            return order.into_iter().reduce(better).unwrap_or_default();
        }
        // A stable order: likeliest first, then by number.
        order.sort_by(|&a, &b| logit(b).total_cmp(&logit(a)));
        if self.top_k > 0 {
            order.truncate(self.top_k);
        }
        let top = order.first().map_or(0.0, |&token| logit(token));
        let weight = |token: u32| f64::from((logit(token) - top) / self.temperature).exp();
        let mut weights: Vec<f64> = order.iter().map(|&token| weight(token)).collect();
        let total: f64 = weights.iter().sum();
        let mut before = 0.0;
        let by_sum = weights.iter().take_while(|&&weight| {
            let keep = before < f64::from(self.top_p) * total;
            before += weight;
            keep
        });
        let kept = by_sum.count().max(1);
        weights.truncate(kept);
        // The likeliest has weight 1.
        let kept = weights.iter().take_while(|&&weight| weight >= f64::from(self.min_p)).count().max(1);
        weights.truncate(kept);
        let mut draw = rng.random::<f64>() * weights.iter().sum::<f64>();
        for (token, weight) in order.iter().zip(&weights) {
            draw -= weight;
            if draw < 0.0 {
                return *token;
            }
        }
        order.get(weights.len() - 1).copied().unwrap_or_default()
    }
}

/// Why a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A token that ends replies was drawn.
    EndToken,
    /// A stop text appeared.
    Stop,
    /// The reply, or the context, was full.
    Length,
}

/// A reply as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextReply {
    /// Its tokens, without the one that ended it.
    pub ids: Vec<u32>,
    /// Its text, without special tokens and stop texts.
    pub text: String,
    /// Why it ended.
    pub ending: Ending,
}

/// Generates a reply after `prompt`, which is added to `slot` of `generator`; the reply is in the slot afterwards, but
/// for its last token. `on_text` is given the reply piece by piece, as soon as no stop text can begin in it.
///
/// # Errors
/// [`ModelError::Context`] if the prompt does not fit; [`ModelError::EmptySpan`] if it is empty;
/// [`ModelError::Tokenizer`]; [`ModelError::Config`].
pub fn reply(
    model: &Transformer,
    tokenizer: &PolicyTokenizer,
    (generator, slot): (&mut Generator, usize),
    prompt: &[u32],
    options: &DecodeOptions,
    rng: &mut impl Rng,
    on_text: &mut dyn FnMut(&str),
) -> Result<TextReply, ModelError> {
    options.validate()?;
    let mut ids: Vec<u32> = Vec::new();
    let mut text = String::new();
    // Bytes of `text` that `on_text` has seen.
    let mut shown = 0;
    let mut pieces = tokenizer.pieces();
    let mut pending = prompt.to_vec();
    let ending = loop {
        let room = generator.cache().capacity() - generator.cache().len(slot);
        if ids.len() >= options.max_new_tokens || (room == 0 && !ids.is_empty()) {
            break Ending::Length;
        }
        let logits = generator.next_logits(model, slot, &pending)?;
        let token = options.pick(logits.as_slice(), rng);
        if options.end_tokens.contains(&token) {
            break Ending::EndToken;
        }
        ids.push(token);
        pending = vec![token];
        text.push_str(&pieces.next(token)?);
        let stop = options.stop.iter().filter_map(|stop| text[shown..].find(stop.as_str())).min();
        if let Some(at) = stop {
            text.truncate(shown + at);
            break Ending::Stop;
        }
        let safe = text.len() - longest_beginning(&text[shown..], &options.stop);
        on_text(&text[shown..safe]);
        shown = safe;
    };
    if ending != Ending::Stop {
        text.push_str(&pieces.rest()?);
    }
    on_text(&text[shown..]);
    Ok(TextReply { ids, text, ending })
}

/// Bytes at the end of `text` that may be the beginning of a stop text.
fn longest_beginning(text: &str, stops: &[String]) -> usize {
    let beginning = |stop: &String| {
        let lens = stop.char_indices().map(|(at, _)| at).filter(|&at| at > 0 && at <= text.len());
        lens.filter(|&at| text.ends_with(&stop[..at])).max().unwrap_or(0)
    };
    stops.iter().map(beginning).max().unwrap_or(0)
}
