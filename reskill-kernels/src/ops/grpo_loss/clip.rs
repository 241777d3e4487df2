//! PPO's clipped surrogate: `-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)`, for `A < 0` at most `-dual_clip A`.

use super::real::Real;
use super::term::{Clipped, Numbers, Term};

pub(super) fn clip<F: Real>(log_ratio: F, advantage: F, numbers: &Numbers<F>) -> (Term<F>, Clipped) {
    let ratio = numbers.clamped(log_ratio).exp();
    let ratio_slope = if numbers.is_clamped(log_ratio) { F::default() } else { ratio };
    let one = F::from_f64(1.0);
    let unclipped = -ratio * advantage;
    let clipped = -ratio.within(one - numbers.clip_low, one + numbers.clip_high) * advantage;
    let larger = if clipped > unclipped { clipped } else { unclipped };
    if let Some(dual) = numbers.dual_clip
        && advantage < F::default()
        && larger > -dual * advantage
    {
        return (Term { value: -dual * advantage, ..Term::default() }, Clipped::Dual);
    }
    if clipped > unclipped {
        let side = if ratio > one { Clipped::High } else { Clipped::Low };
        return (Term { value: clipped, ..Term::default() }, side);
    }
    (Term { value: unclipped, by_log_ratio: -ratio_slope * advantage, ..Term::default() }, Clipped::No)
}
