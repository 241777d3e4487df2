//! The operations, one folder each.

#[cfg(feature = "cuda")]
pub(crate) mod elementwise;
pub mod embedding;
pub mod rms_norm;
pub mod matmul;
pub mod bias;
pub mod low_rank;
pub mod qk_norm;
pub mod packed_matmul;
pub mod rope;
pub mod attention;
pub mod swiglu;
pub mod linear_logprob;
pub mod linear_kl;
pub mod sampling;
pub mod grpo_loss;
pub mod sum_squares;
pub mod adamw;
pub mod cost;

pub use adamw::{AdamWParams, Moments8, adamw, adamw_8bit, adamw_8bit_scaled, adamw_scaled};
pub use attention::{
    AttentionCost, AttentionShape, CachedPlan, CachedSpan, PackedSegment, PackedSegments, attention_backward,
    attention_cached, attention_cached_planned, attention_forward, cache_append, cache_append_planned,
    cached_cost, packed_cost,
};
pub use bias::{bias_backward, bias_forward};
pub use cost::Cost;
pub use embedding::{embedding_backward, embedding_forward};
pub use grpo_loss::{
    GrpoLossInputs, GrpoLossParams, GrpoLossSums, KlEstimator, RatioLevel, Real, Surrogate, grpo_loss,
    grpo_loss_into,
};
pub use linear_kl::{Distribution, linear_kl_backward, linear_kl_forward};
pub use linear_logprob::{
    TokenSets, linear_logprob_backward, linear_logprob_backward_filtered, linear_logprob_forward,
};
pub use low_rank::{LowRank, low_rank_backward, low_rank_forward};
pub use matmul::{matmul, matmul_backward_input, matmul_backward_weight};
pub use packed_matmul::{PackedWeight, WeightStorage, packed_matmul};
pub use qk_norm::{Rotation, qk_norm_backward, qk_norm_forward, qk_norm_rope_backward, qk_norm_rope_forward};
pub use rms_norm::{residual_rms_norm_forward, rms_norm_backward, rms_norm_forward};
pub use rope::{RopeTable, rope_backward, rope_forward};
pub use sampling::{SampledToken, SamplingFilter, linear_sample, linear_sample_packed, sample_logits};
pub use sum_squares::{add_sum_squares, clip_scale, sum_squares};
pub use swiglu::{swiglu_backward, swiglu_forward};
