//! Estimators of the divergence from the reference at one token, with `d = ref - logprob` (Schulman 2020,
//! joschu.net/blog/kl-approx.html): k1 = `-d`, k2 = `d^2 / 2`, k3 = `e^d - d - 1`. Values and derivatives by `logprob`.

use super::KlEstimator;
use super::real::Real;
use super::term::Numbers;

/// Value and derivative by the log-probability; `full` is the divergence itself, whose gradient goes another way.
pub(super) fn kl<F: Real>(estimator: KlEstimator, reference: F, logprob: F, numbers: &Numbers<F>) -> (F, F) {
    let d = reference - logprob;
    match estimator {
        KlEstimator::K1 => (-d, F::from_f64(1.0)),
        KlEstimator::K2 => (F::from_f64(0.5) * d * d, -d),
        KlEstimator::K3 => k3(d, numbers),
        KlEstimator::Full => (reference, F::default()),
    }
}

fn k3<F: Real>(d: F, numbers: &Numbers<F>) -> (F, F) {
    let inner = numbers.clamped(d);
    let value = inner.exp_m1() - inner;
    let cut = numbers.k3_clamp.filter(|limit| value > *limit);
    if numbers.is_clamped(d) || cut.is_some() {
        return (cut.unwrap_or(value), F::default());
    }
    (value, -inner.exp_m1())
}
