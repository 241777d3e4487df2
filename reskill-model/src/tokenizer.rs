//! The tokenizer of a policy: a thin layer over the `tokenizers` crate that remembers what it has encoded.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, RwLock};

use tokenizers::models::wordlevel::WordLevel;
use tokenizers::normalizers::utils::Lowercase;
use tokenizers::pre_tokenizers::whitespace::Whitespace;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::ModelError;

/// Stands for a word outside the vocabulary.
pub const UNKNOWN: &str = "<unk>";
/// Ends a reply.
pub const END: &str = "<end>";

/// Encodes segments of text, each on its own.
#[derive(Debug)]
pub struct PolicyTokenizer {
    inner: Tokenizer,
    end_token: u32,
    /// Segments that came before. Observations and commands repeat all the time in a benchmark.
    seen: RwLock<HashMap<String, Arc<[u32]>>>,
}

/// Segments remembered at most; beyond that new ones are encoded each time.
const REMEMBERED: usize = 200_000;

impl PolicyTokenizer {
    /// A word-level tokenizer over all words of `texts`: lower-cased runs of letters and digits, and runs of
    /// punctuation. Ids follow the alphabet, after the special tokens.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn word_level<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<PolicyTokenizer, ModelError> {
        let specials = [UNKNOWN, END];
        let splitter = bare(WordLevel::default());
        let mut words = BTreeSet::new();
        for text in texts {
            // An empty vocabulary maps no word, so the words are read off the pre-tokenizer.
            use tokenizers::{Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
            let mut normalized = tokenizers::NormalizedString::from(text);
            if let Some(normalizer) = splitter.get_normalizer() {
                normalizer.normalize(&mut normalized).map_err(odd)?;
            }
            let mut pieces = PreTokenizedString::from(normalized);
            if let Some(pre_tokenizer) = splitter.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut pieces).map_err(odd)?;
            }
            for (piece, _, _) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
                words.insert(piece.to_string());
            }
        }
        let all = specials.iter().map(ToString::to_string).chain(words);
        let vocab = all.enumerate().map(|(id, word)| (word, id as u32)).collect();
        let model = WordLevel::builder().vocab(vocab).unk_token(UNKNOWN.to_string()).build().map_err(odd)?;
        let mut inner = bare(model);
        inner.add_special_tokens(&specials.map(|token| AddedToken::from(token, true)));
        PolicyTokenizer::new(inner)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] names the file.
    pub fn load(path: &Path) -> Result<PolicyTokenizer, ModelError> {
        let inner = Tokenizer::from_file(path)
            .map_err(|source| ModelError::Tokenizer { reason: format!("{}: {source}", path.display()) })?;
        PolicyTokenizer::new(inner)
    }

    /// A tokenizer that came with a checkpoint, from the text of its `tokenizer.json`.
    ///
    /// - `end_token`: ends a reply
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn pretrained(json: &[u8], end_token: u32) -> Result<PolicyTokenizer, ModelError> {
        let mut inner = Tokenizer::from_bytes(json).map_err(odd)?;
        // What a file says of cutting and filling belongs to the batches it was made for.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(odd)?;
        Ok(PolicyTokenizer { inner, end_token, seen: RwLock::new(HashMap::new()) })
    }

    /// The tokenizer as the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn to_json(&self) -> Result<String, ModelError> {
        self.inner.to_string(true).map_err(odd)
    }

    fn new(inner: Tokenizer) -> Result<PolicyTokenizer, ModelError> {
        let end_token = inner
            .token_to_id(END)
            .ok_or_else(|| ModelError::Tokenizer { reason: format!("has no token `{END}`") })?;
        Ok(PolicyTokenizer { inner, end_token, seen: RwLock::new(HashMap::new()) })
    }

    /// Size of the vocabulary.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The token that ends a reply.
    #[must_use]
    pub fn end_token(&self) -> u32 {
        self.end_token
    }

    /// Ids of one segment, without anything added around it.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn encode(&self, segment: &str) -> Result<Arc<[u32]>, ModelError> {
        if let Some(ids) = self.seen.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(segment) {
            return Ok(Arc::clone(ids));
        }
        let encoding = self.inner.encode_fast(segment, false).map_err(odd)?;
        let ids: Arc<[u32]> = encoding.get_ids().into();
        let mut seen = self.seen.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if seen.len() < REMEMBERED {
            seen.insert(segment.to_string(), Arc::clone(&ids));
        }
        Ok(ids)
    }

    /// Ids of a text on its own, with the tokens around it that the checkpoint was trained with (a first token, for
    /// models that have one).
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        Ok(self.inner.encode_fast(text, true).map_err(odd)?.get_ids().to_vec())
    }

    /// Ids of a prompt: the concatenation of its segments' ids. Merges across their borders do not happen, so that what
    /// was encoded before stays what it was when a prompt grows.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn encode_segments(&self, segments: &[&str]) -> Result<Vec<u32>, ModelError> {
        let mut ids = Vec::new();
        for segment in segments {
            ids.extend_from_slice(&self.encode(segment)?);
        }
        Ok(ids)
    }

    /// The id of a token, by its text.
    #[must_use]
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The text of a token, by its id.
    #[must_use]
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Text of ids that come one by one, special tokens left out.
    #[must_use]
    pub fn pieces(&self) -> Pieces<'_> {
        Pieces { tokenizer: self, ids: Vec::new(), done: 0, before: 0 }
    }

    /// Text of some ids, special tokens left out.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn decode_plain(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.inner.decode(ids, true).map_err(odd)
    }

    /// Text of some ids, special tokens included.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        self.inner.decode(ids, false).map_err(odd)
    }
}

/// Turns ids that come one by one into text, holding back characters that are not complete.
#[derive(Debug)]
pub struct Pieces<'a> {
    tokenizer: &'a PolicyTokenizer,
    ids: Vec<u32>,
    /// Ids whose text was handed out.
    done: usize,
    /// Ids before these, whose text is decoded again: some decoders treat the beginning of a text apart.
    before: usize,
}

impl Pieces<'_> {
    /// The text that `id` completes, perhaps none.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn next(&mut self, id: u32) -> Result<String, ModelError> {
        self.ids.push(id);
        let text = self.new_text()?;
        // Half a character is decoded as the replacement character.
        if text.ends_with('\u{FFFD}') {
            return Ok(String::new());
        }
        (self.before, self.done) = (self.done, self.ids.len());
        Ok(text)
    }

    /// What was held back, once there are no more ids.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn rest(&mut self) -> Result<String, ModelError> {
        let text = self.new_text()?;
        (self.before, self.done) = (self.done, self.ids.len());
        Ok(text)
    }

    fn new_text(&self) -> Result<String, ModelError> {
        let old = self.tokenizer.decode_plain(&self.ids[self.before..self.done])?;
        let all = self.tokenizer.decode_plain(&self.ids[self.before..])?;
        Ok(all.get(old.len()..).unwrap_or_default().to_string())
    }
}

fn bare(model: WordLevel) -> Tokenizer {
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(Lowercase));
    tokenizer.with_pre_tokenizer(Some(Whitespace {}));
    tokenizer
}

fn odd(source: Box<dyn std::error::Error + Send + Sync>) -> ModelError {
    ModelError::Tokenizer { reason: source.to_string() }
}
