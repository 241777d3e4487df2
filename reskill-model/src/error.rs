//! Errors of the model.

use std::path::PathBuf;

use reskill_kernels::KernelError;

/// What can go wrong when a model is built, read or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// An operation refused its arguments.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A configuration value is out of range.
    #[error("`{key}` = {value}, expected {expected}")]
    Config {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// A file could not be read or written.
    #[error("{path}: cannot be {action}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A `config.json` or `adapter_config.json` cannot be read, or asks for what is not supported.
    #[error("{path}: {reason}", path = path.display())]
    CheckpointConfig {
        /// The file.
        path: PathBuf,
        /// The key and what is supported.
        reason: String,
    },
    /// A weight file does not hold what the configuration asks for.
    #[error("{path}: {reason}", path = path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// All that is missing or odd.
        reason: String,
    },
    /// The tokenizer refused a text or a file.
    #[error("tokenizer: {reason}")]
    Tokenizer {
        /// Why.
        reason: String,
    },
    /// An adapter was made for a model of another size.
    #[error("the adapter ({blocks} blocks) was made for a model of another size")]
    AdapterSize {
        /// Blocks it has adapters for.
        blocks: usize,
    },
    /// Gradients were asked of what is not trained.
    #[error("{what} cannot be trained: {because}")]
    Frozen {
        /// What.
        what: &'static str,
        /// Why.
        because: &'static str,
    },
    /// A chat template is no Jinja, uses what is not supported, or refuses a conversation.
    #[error("chat template: {reason}")]
    ChatTemplate {
        /// Why.
        reason: String,
    },
    /// A slot of the cache was to go on without a token.
    #[error("slot {slot} was given no token to run")]
    EmptySpan {
        /// The slot.
        slot: usize,
    },
    /// A request without tokens.
    #[error("the prompt has no tokens, at least one is needed")]
    EmptyPrompt,
    /// The cache has too few pages left.
    #[error("the key-value cache has {free} free pages of {page} tokens, {needed} are needed: allow it more memory or fewer sequences", page = crate::kv_cache::PAGE)]
    CacheFull {
        /// Pages needed.
        needed: usize,
        /// Pages left.
        free: usize,
    },
    /// A sequence outgrew its context.
    #[error("a sequence of {len} tokens does not fit the context of {capacity}")]
    Context {
        /// Tokens needed.
        len: usize,
        /// Tokens that fit.
        capacity: usize,
    },
}
