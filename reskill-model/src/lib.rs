//! A decoder-only transformer (RMSNorm, RoPE, grouped-query attention, SwiGLU, tied or untied head) with its backward
//! pass written out, trunk/branch packing and generation from a key-value cache.
//!
//! ```
//! use reskill_model::{ModelConfig, PackedBatch, Transformer, Workspace};
//!
//! let config = ModelConfig { vocab_size: 16, hidden_size: 8, ..ModelConfig::tiny() };
//! let mut rng = <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(0);
//! let model = Transformer::init(&config, &mut rng)?;
//! let mut workspace = Workspace::new(&config)?;
//! assert_eq!(model.forward(&mut workspace, &PackedBatch::causal(&[1, 2, 3])?)?.shape(), &[3, 8]);
//! # Ok::<(), reskill_model::ModelError>(())
//! ```
#![deny(unsafe_code)]

pub mod config;
pub mod rope_config;
pub mod hf_config;
pub mod params;
pub mod layout;
pub mod weights;
pub mod gguf;
pub mod batch;
pub mod activations;
pub mod transformer;
pub mod lora;
pub mod gradients;
pub mod kv_cache;
pub mod constraint;
pub mod generate;
pub mod engine;
pub mod tokenizer;
pub mod chat;
pub mod pretrained;
pub mod score;
pub mod decode;
pub mod sentence_encoder;
pub mod error;

pub use activations::Workspace;
pub use batch::PackedBatch;
pub use chat::{ChatTemplate, Message};
pub use config::ModelConfig;
pub use constraint::{Next, TokenConstraint, TokenTrie};
pub use engine::{Decoder, Engine, EngineConfig};
pub use error::ModelError;
pub use generate::{Generator, Reply, ReplyToken, Request, SamplingParams};
pub use gradients::Gradients;
pub use kv_cache::KvCache;
pub use lora::{Lora, LoraConfig};
pub use params::Params;
pub use pretrained::Pretrained;
pub use reskill_kernels::ops::{SampledToken, SamplingFilter, WeightStorage};
pub use rope_config::{RopeAngles, RopeScaling};
pub use tokenizer::PolicyTokenizer;
pub use transformer::Transformer;
/// The README's example is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
