//! A sentence-embedding model as the search environment's embedder.

use std::path::Path;

use anyhow::{Context, Result};
use reskill_envs::EnvError;
use reskill_envs::search::Embedder;
use reskill_model::sentence_encoder::SentenceEncoder;
use sha2::{Digest, Sha256};

/// A model with what tells it from others.
#[derive(Debug)]
pub struct SentenceEmbedder {
    encoder: SentenceEncoder,
    identity: String,
}

impl SentenceEmbedder {
    /// Opens a folder as sentence-transformers writes it.
    ///
    /// # Errors
    /// If a file is missing or odd: one line names it.
    pub fn open(dir: &Path) -> Result<SentenceEmbedder> {
        let encoder = SentenceEncoder::open(dir)
            .with_context(|| format!("{}: no sentence-embedding model can be read", dir.display()))?;
        let mut hash = Sha256::new();
        for name in ["config.json", "model.safetensors", "tokenizer.json"] {
            let path = dir.join(name);
            hash.update(std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?);
        }
        hash.update(encoder.max_tokens().to_le_bytes());
        let digest: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Ok(SentenceEmbedder { encoder, identity: format!("sha256:{digest}") })
    }
}

impl Embedder for SentenceEmbedder {
    fn dimensions(&self) -> usize {
        self.encoder.dimensions()
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EnvError> {
        self.encoder.embed(texts).map_err(|error| EnvError::Embedding { reason: error.to_string() })
    }
}
