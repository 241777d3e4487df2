//! SAPO (Gao et al. 2025, arXiv:2511.20347): `-sigmoid(tau (r - 1)) (4 / tau) A`, a soft gate in place of the clip, with
//! `tau` = 1 for `A > 0` and 1.05 else. At `r = 1` its gradient is that of `-r A`.

use super::real::Real;
use super::term::{Numbers, Term};

/// Temperatures of the gate.
const TAU_POSITIVE: f64 = 1.0;
const TAU_NEGATIVE: f64 = 1.05;

pub(super) fn sapo<F: Real>(log_ratio: F, advantage: F, numbers: &Numbers<F>) -> Term<F> {
    let tau = if advantage > F::default() { TAU_POSITIVE } else { TAU_NEGATIVE };
    let ratio = numbers.clamped(log_ratio).exp().to_f64();
    let gate = 1.0 / (1.0 + (-tau * (ratio - 1.0)).exp());
    // Where the gate is shut the ratio may be infinite; its derivative is 0 all the same.
    let open = 4.0 * gate * (1.0 - gate);
    let slope = if open == 0.0 || numbers.is_clamped(log_ratio) { 0.0 } else { open * ratio };
    Term {
        value: -F::from_f64(gate * 4.0 / tau) * advantage,
        by_log_ratio: -F::from_f64(slope) * advantage,
        ..Term::default()
    }
}
