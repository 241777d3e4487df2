//! The operations, one folder each.

pub mod embedding;
pub mod rms_norm;
pub mod matmul;
pub mod packed_matmul;
pub mod rope;
pub mod attention;
pub mod swiglu;
pub mod linear_logprob;
pub mod sampling;
pub mod grpo_loss;
pub mod sum_squares;
pub mod adamw;

pub use adamw::{AdamWParams, adamw};
pub use attention::{
    AttentionShape, CachedSpan, PackedSegment, attention_backward, attention_cached, attention_forward,
    cache_append,
};
pub use embedding::{embedding_backward, embedding_forward};
pub use grpo_loss::{GrpoLossInputs, GrpoLossParams, GrpoLossSums, grpo_loss};
pub use linear_logprob::{TokenSets, linear_logprob_backward, linear_logprob_forward};
pub use matmul::{matmul, matmul_backward_input, matmul_backward_weight};
pub use packed_matmul::{PackedWeight, WeightStorage, packed_matmul};
pub use rms_norm::{rms_norm_backward, rms_norm_forward};
pub use rope::{RopeTable, rope_backward, rope_forward};
pub use sampling::{SampledToken, SamplingFilter, linear_sample, sample_logits};
pub use sum_squares::sum_squares;
pub use swiglu::{swiglu_backward, swiglu_forward};
