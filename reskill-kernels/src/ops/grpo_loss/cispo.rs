//! CISPO (MiniMax 2025, arXiv:2506.13585, eq. 4): `-sg(clip(r, 1 - clip_low, 1 + clip_high)) A logprob`. The ratio is a
//! weight that is clipped but not differentiated, so every token keeps a gradient.

use super::real::Real;
use super::term::{Clipped, Numbers, Term};

pub(super) fn cispo<F: Real>(
    log_ratio: F,
    logprob: F,
    advantage: F,
    numbers: &Numbers<F>,
) -> (Term<F>, Clipped) {
    let ratio = numbers.clamped(log_ratio).exp();
    let one = F::from_f64(1.0);
    let (low, high) = (one - numbers.clip_low, one + numbers.clip_high);
    let side = if ratio > high {
        Clipped::High
    } else if ratio < low {
        Clipped::Low
    } else {
        Clipped::No
    };
    let slope = -ratio.within(low, high) * advantage;
    (Term { value: slope * logprob, by_logprob: slope, ..Term::default() }, side)
}
