//! The network against an independent f64 version, its gradients, generation, weights on disk, the tokenizer.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod reference;
mod support;
mod forward;
mod gradient;
mod generate;
mod engine;
mod cache;
mod weights;
mod parity;
mod pretrained;
mod shards;
mod gguf_biases;
mod chat;
mod lora;
mod sentence;
mod smollm2;
mod hostile;
mod decode;
mod tokenizer;
