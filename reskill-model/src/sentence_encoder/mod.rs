//! Sentence embeddings by a BERT encoder, e.g. all-MiniLM-L6-v2: text in, a unit vector out.
//!
//! ```text
//! x   = LayerNorm(word[id] + position[i] + type[0])                    tokenizer.json, cut to max_seq_length
//! a   = softmax(q k^T / sqrt(D)) v                                     every token sees every other
//! x   = LayerNorm(x + a W_o + b_o)
//! x   = LayerNorm(x + gelu(x W_1 + b_1) W_2 + b_2)                      L times
//! e   = mean over the tokens of x (or the first token's), divided by its length
//! ```
//!
//! Source: Devlin et al. 2019, arXiv:1810.04805; Reimers & Gurevych 2019, arXiv:1908.10084. Inference only, in f32.

mod config;
mod layer;
mod numerics;

use std::path::Path;

use rayon::prelude::*;
use reskill_kernels::{Device, Tensor};
use tokenizers::{Tokenizer, TruncationParams};

use crate::error::ModelError;
use crate::weights::Shards;

use config::{EncoderConfig, Pooling};
use layer::{Layer, Norm, Source};

/// A sentence-embedding model.
#[derive(Debug)]
pub struct SentenceEncoder {
    config: EncoderConfig,
    tokenizer: Tokenizer,
    /// (V, C) f32.
    words: Tensor,
    /// (P, C) f32.
    positions: Tensor,
    /// (C) f32: the type of the first sentence, added to every token.
    sentence_type: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

impl SentenceEncoder {
    /// Opens a folder as sentence-transformers writes it: `config.json` of a BERT, `model.safetensors`, `tokenizer.json`, and
    /// where they are there `sentence_bert_config.json` (longest text) and `1_Pooling/config.json` (mean or first token).
    ///
    /// # Errors
    /// [`ModelError::File`], [`ModelError::CheckpointConfig`], [`ModelError::Weights`], [`ModelError::Tokenizer`].
    pub fn open(dir: &Path) -> Result<SentenceEncoder, ModelError> {
        let config = EncoderConfig::read(dir)?;
        let tokenizer = tokenizer(dir, config.max_tokens)?;
        let shards = Shards::open(dir)?;
        let source = Source::new(&shards, dir);
        let c = config.hidden_size;
        let words = source.tensor("embeddings.word_embeddings.weight", &[config.vocab_size, c])?;
        let positions =
            source.tensor("embeddings.position_embeddings.weight", &[config.max_position_embeddings, c])?;
        let types = source.tensor("embeddings.token_type_embeddings.weight", &[config.type_vocab_size, c])?;
        let norm = Norm::read(&source, "embeddings.LayerNorm", &config)?;
        let layers = (0..config.num_hidden_layers)
            .map(|l| Layer::read(&source, l, &config))
            .collect::<Result<_, _>>()?;
        let sentence_type = types.as_slice()[..c].to_vec();
        Ok(SentenceEncoder { config, tokenizer, words, positions, sentence_type, norm, layers })
    }

    /// C, the length of an embedding.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.config.hidden_size
    }

    /// Most tokens of a text that are read, the two around it included.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.config.max_tokens
    }

    /// Token ids of a text, between the tokens that open and close it, cut to [`SentenceEncoder::max_tokens`].
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn token_ids(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self.tokenizer.encode_fast(text, true).map_err(|error| refused(&error))?;
        let ids = encoding.get_ids().to_vec();
        match ids.iter().find(|&&id| id as usize >= self.config.vocab_size) {
            Some(id) => {
                let reason =
                    format!("token {id} is beyond the model's vocabulary of {}", self.config.vocab_size);
                Err(ModelError::Tokenizer { reason })
            }
            None => Ok(ids),
        }
    }

    /// Unit vectors of texts.
    ///
    /// A text's vector does not depend, to the bit, on the texts beside it.
    ///
    /// - result: one vector of C numbers a text
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`], [`ModelError::Kernel`].
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, ModelError> {
        let ids: Vec<Vec<u32>> =
            texts.par_iter().map(|text| self.token_ids(text)).collect::<Result<_, _>>()?;
        let mut lengths: Vec<usize> = ids.iter().map(Vec::len).collect();
        if let Some(empty) = lengths.iter().position(|&length| length == 0) {
            return Err(ModelError::Tokenizer { reason: format!("text {empty} has no tokens at all") });
        }
        let mut hidden = self.embeddings(&ids)?;
        for layer in &self.layers {
            layer.forward(&mut hidden, &lengths, &self.config)?;
        }
        let c = self.config.hidden_size;
        let mut rest = hidden.as_slice();
        Ok(lengths
            .drain(..)
            .map(|length| {
                let (rows, after) = rest.split_at(length * c);
                rest = after;
                self.pooled(rows)
            })
            .collect())
    }

    /// (N, C): what the first block reads, all texts one after the other.
    fn embeddings(&self, ids: &[Vec<u32>]) -> Result<Tensor, ModelError> {
        let c = self.config.hidden_size;
        let n: usize = ids.iter().map(Vec::len).sum();
        let mut hidden = Tensor::zeros(&[n, c], &Device::Cpu)?;
        let places = ids.iter().flat_map(|ids| ids.iter().enumerate());
        for (row, (position, &id)) in hidden.as_mut_slice().chunks_exact_mut(c).zip(places) {
            let word = &self.words.as_slice()[id as usize * c..][..c];
            let place = &self.positions.as_slice()[position * c..][..c];
            for (((x, word), place), kind) in row.iter_mut().zip(word).zip(place).zip(&self.sentence_type) {
                *x = word + place + kind;
            }
        }
        self.norm.apply(&mut hidden);
        Ok(hidden)
    }

    /// (T, C) -> (C): one vector for all tokens, of length 1.
    fn pooled(&self, rows: &[f32]) -> Vec<f32> {
        let c = self.config.hidden_size;
        let mut sum = vec![0.0_f64; c];
        let taken = if self.config.pooling == Pooling::Mean { rows } else { &rows[..c] };
        for row in taken.chunks_exact(c) {
            sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        // The mean's direction is that of the sum.
        let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
        sum.into_iter().map(|x| (x / length) as f32).collect()
    }
}

fn tokenizer(dir: &Path, max_tokens: usize) -> Result<Tokenizer, ModelError> {
    let path = dir.join("tokenizer.json");
    let bytes = std::fs::read(&path).map_err(|source| ModelError::File { path, action: "read", source })?;
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| refused(&error))?;
    let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(|error| refused(&error))?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

fn refused(error: &tokenizers::Error) -> ModelError {
    ModelError::Tokenizer { reason: error.to_string() }
}
