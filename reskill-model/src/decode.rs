//! Free text from a pretrained model, token by token: how the next token is picked, and when a reply ends.

use std::ops::ControlFlow;

use rand_chacha::ChaCha8Rng;
use reskill_kernels::ops::{SampledToken, SamplingFilter};

use crate::engine::{Decoder, Engine, GenerationRequest};
use crate::error::ModelError;
use crate::tokenizer::{Pieces, PolicyTokenizer};

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

    fn filter(&self) -> SamplingFilter {
        SamplingFilter {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
        }
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
#[derive(Debug, Clone, PartialEq)]
pub struct TextReply {
    /// Its tokens with their log-probabilities, without an end token.
    pub tokens: Vec<SampledToken>,
    /// Its text, without special tokens and stop texts.
    pub text: String,
    /// Why it ended.
    pub ending: Ending,
}

impl TextReply {
    /// The tokens alone.
    #[must_use]
    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.token).collect()
    }
}

/// Generates a reply after `prompt`. What the prompt shares with those before it is found in the engine's cache. `on_text`
/// is given the reply piece by piece, as soon as no stop text can begin in it. Requests that the engine held before are run
/// beside it, and their replies are dropped.
///
/// # Errors
/// [`ModelError::Context`] or [`ModelError::CacheFull`] if the prompt does not fit; [`ModelError::EmptyPrompt`];
/// [`ModelError::Tokenizer`]; [`ModelError::Config`].
pub fn reply(
    model: &impl Decoder,
    tokenizer: &PolicyTokenizer,
    engine: &mut Engine,
    prompt: &[u32],
    options: &DecodeOptions,
    rng: ChaCha8Rng,
    on_text: &mut dyn FnMut(&str),
) -> Result<TextReply, ModelError> {
    options.validate()?;
    let id = engine.submit(GenerationRequest {
        tokens: prompt.to_vec(),
        filter: options.filter(),
        max_new_tokens: options.max_new_tokens,
        stop_tokens: options.end_tokens.clone(),
        rng,
    })?;
    let mut stream = TextStream { pieces: tokenizer.pieces(), text: String::new(), shown: 0, options };
    let mut failed = Ok(());
    let mut stopped = false;
    let done = engine.run(model, &mut |of, token| {
        if of != id {
            return ControlFlow::Continue(());
        }
        match stream.take(token.token, on_text) {
            Ok(false) => ControlFlow::Continue(()),
            Ok(true) => {
                stopped = true;
                ControlFlow::Break(())
            }
            Err(error) => {
                failed = Err(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed?;
    let own = done.into_iter().find(|generation| generation.id == id);
    let mut tokens = own.map_or_else(Vec::new, |generation| generation.tokens);
    let ended = tokens.last().is_some_and(|token| options.end_tokens.contains(&token.token));
    if ended {
        tokens.pop();
    }
    let ending = match (ended, stopped) {
        (true, _) => Ending::EndToken,
        (_, true) => Ending::Stop,
        _ => Ending::Length,
    };
    if ending != Ending::Stop {
        stream.text.push_str(&stream.pieces.rest()?);
    }
    on_text(&stream.text[stream.shown..]);
    Ok(TextReply { tokens, text: stream.text, ending })
}

/// A reply that is being shown.
struct TextStream<'a> {
    pieces: Pieces<'a>,
    text: String,
    /// Bytes of `text` that were shown.
    shown: usize,
    options: &'a DecodeOptions,
}

impl TextStream<'_> {
    /// Shows what a token adds; whether a stop text has appeared, from which on the text is cut.
    fn take(&mut self, token: u32, on_text: &mut dyn FnMut(&str)) -> Result<bool, ModelError> {
        if self.options.end_tokens.contains(&token) {
            return Ok(false);
        }
        self.text.push_str(&self.pieces.next(token)?);
        let stops = &self.options.stop;
        if let Some(at) = stops.iter().filter_map(|stop| self.text[self.shown..].find(stop.as_str())).min() {
            self.text.truncate(self.shown + at);
            return Ok(true);
        }
        let safe = self.text.len() - longest_beginning(&self.text[self.shown..], stops);
        on_text(&self.text[self.shown..safe]);
        self.shown = safe;
        Ok(false)
    }
}

/// Bytes at the end of `text` that may be the beginning of a stop text.
fn longest_beginning(text: &str, stops: &[String]) -> usize {
    let beginning = |stop: &String| {
        let lens = stop.char_indices().map(|(at, _)| at).filter(|&at| at > 0 && at <= text.len());
        lens.filter(|&at| text.ends_with(&stop[..at])).max().unwrap_or(0)
    };
    stops.iter().map(beginning).max().unwrap_or(0)
}
