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
    /// A name is not that of a model on a hub.
    #[error("`{name}` is no model: write org/name, org/name@revision or org/name/FILE.gguf")]
    HubName {
        /// The name.
        name: String,
    },
    /// A hub refused to hand a model out.
    #[error("{model}: {endpoint} answered {status}: {remedy}", remedy = hub_remedy(*status))]
    HubStatus {
        /// The model, and the file if one was asked for.
        model: String,
        /// Address of the hub.
        endpoint: String,
        /// Status of its answer.
        status: u16,
    },
    /// A hub could not be reached.
    #[error(
        "{model}: {endpoint} cannot be reached; HF_ENDPOINT names another hub, HF_HUB_OFFLINE=1 uses what was downloaded before"
    )]
    HubUnreachable {
        /// The model.
        model: String,
        /// Address of the hub.
        endpoint: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A download broke off.
    #[error("{model}: the download of {file} broke off; run again, it goes on where it stopped")]
    HubBrokenOff {
        /// The model.
        model: String,
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A download is not as long as the hub says.
    #[error("{model}: {file} came with {bytes} bytes, expected {expected}; it was deleted, run again")]
    HubTruncated {
        /// The model.
        model: String,
        /// The file.
        file: String,
        /// Bytes that came.
        bytes: u64,
        /// Bytes that the hub says.
        expected: u64,
    },
    /// Something was not downloaded before, and nobody may be asked.
    #[error("{model}: {file} is not in the cache {cache}, and HF_HUB_OFFLINE is set: run once without it", cache = cache.display())]
    HubOffline {
        /// The model.
        model: String,
        /// What is missing.
        file: String,
        /// The cache.
        cache: PathBuf,
    },
    /// A model on a hub has not the files that are needed.
    #[error("{model}: {reason}")]
    HubFiles {
        /// The model.
        model: String,
        /// What is missing or odd.
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

/// What to do about a status of a hub.
fn hub_remedy(status: u16) -> &'static str {
    match status {
        401 => {
            "there is no such model, or it is gated or private: ask for access on its page and set HF_TOKEN"
        }
        403 => "the token in HF_TOKEN may not read it: ask for access on the model's page",
        404 => "there is no such model, revision or file: check the name",
        429 => "too many requests: wait a while and run again",
        500.. => "the hub is in trouble: run again later",
        _ => "the hub refuses the request",
    }
}
