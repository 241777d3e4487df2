//! The GRPO loss on the CPU: one pass over the tokens, a second where ratios belong to sequences.

use super::cispo::cispo;
use super::clip::clip;
use super::kl::kl;
use super::real::Real;
use super::sapo::sapo;
use super::sequence::Sequences;
use super::term::{Clipped, Numbers, Term};
use super::{GrpoLossInputs, GrpoLossParams, GrpoLossSums, RatioLevel, Surrogate};
use crate::tensor::Tensor;

pub(super) fn loss<F: Real>(
    d_logprobs: &mut Tensor<F>,
    d_entropy: &mut Tensor<F>,
    inputs: &GrpoLossInputs<'_, F>,
    params: &GrpoLossParams,
) -> GrpoLossSums {
    let numbers = Numbers::new(params);
    let mut sums = GrpoLossSums::default();
    let (d_logprobs, d_entropy) = (d_logprobs.as_mut_slice(), d_entropy.as_mut_slice());
    let logprobs = inputs.logprobs.as_slice();
    let (old, entropy) = (inputs.old_logprobs.as_slice(), inputs.entropy.as_slice());
    let (advantages, weights) = (inputs.advantages.as_slice(), inputs.weights.as_slice());
    let ids = inputs.sequences.as_slice();
    let mut sequences =
        (params.ratio == RatioLevel::Sequence).then(|| Sequences::new(ids, logprobs, old, weights));
    let zero = F::default();
    for n in 0..logprobs.len() {
        let weight = weights[n];
        if weight == zero {
            d_logprobs[n] = zero;
            d_entropy[n] = zero;
            continue;
        }
        let token_log_ratio = logprobs[n] - old[n];
        let log_ratio = sequences.as_ref().map_or(token_log_ratio, |it| it.log_ratio(ids[n]));
        let mut policy =
            surrogate(params.surrogate, log_ratio, logprobs[n], advantages[n], &numbers, &mut sums);
        if let Some(limit) = numbers.importance_truncation {
            let correction = truncated(old[n] - inputs.sampler_logprobs.as_slice()[n], limit);
            policy.value = correction * policy.value;
            policy.by_log_ratio = correction * policy.by_log_ratio;
            policy.by_logprob = correction * policy.by_logprob;
        }
        let divergence = if params.kl_coef == 0.0 {
            (zero, zero)
        } else {
            kl(params.kl, inputs.ref_logprobs.as_slice()[n], logprobs[n], &numbers)
        };
        let value = policy.value + numbers.kl_coef * divergence.0 - numbers.entropy_coef * entropy[n];
        let own_slope = match &mut sequences {
            None => policy.by_log_ratio + policy.by_logprob,
            Some(sequences) => {
                sequences.add(ids[n], weight * policy.by_log_ratio);
                policy.by_logprob
            }
        };
        d_logprobs[n] = weight * (own_slope + numbers.kl_coef * divergence.1);
        d_entropy[n] = -weight * numbers.entropy_coef;
        let token_log_ratio = token_log_ratio.to_f64();
        sums.loss += weight.to_f64() * value.to_f64();
        sums.tokens += 1;
        sums.approx_kl += token_log_ratio.exp_m1() - token_log_ratio;
        sums.ref_kl += divergence.0.to_f64();
        sums.entropy += entropy[n].to_f64();
        sums.max_log_ratio = sums.max_log_ratio.max(token_log_ratio.abs());
    }
    if let Some(sequences) = sequences {
        for (n, d_logprob) in d_logprobs.iter_mut().enumerate().filter(|(n, _)| weights[*n] != zero) {
            *d_logprob = *d_logprob + sequences.share(ids[n]);
        }
    }
    sums
}

fn surrogate<F: Real>(
    kind: Surrogate,
    log_ratio: F,
    logprob: F,
    advantage: F,
    numbers: &Numbers<F>,
    sums: &mut GrpoLossSums,
) -> Term<F> {
    // An infinite ratio times no advantage is nothing, not NaN.
    if advantage == F::default() {
        return Term::default();
    }
    let (term, clipped) = match kind {
        Surrogate::Clip => clip(log_ratio, advantage, numbers),
        Surrogate::Cispo => cispo(log_ratio, logprob, advantage, numbers),
        Surrogate::Sapo => (sapo(log_ratio, advantage, numbers), Clipped::No),
        Surrogate::PolicyGradient => {
            let slope = -advantage;
            (Term { value: slope * logprob, by_logprob: slope, ..Term::default() }, Clipped::No)
        }
    };
    sums.clipped_high += u64::from(clipped == Clipped::High);
    sums.clipped_low += u64::from(clipped == Clipped::Low || clipped == Clipped::Dual);
    sums.clipped_dual += u64::from(clipped == Clipped::Dual);
    term
}

/// `min(e^x, limit)`.
fn truncated<F: Real>(log_ratio: F, limit: F) -> F {
    let ratio = log_ratio.exp();
    if ratio > limit { limit } else { ratio }
}
