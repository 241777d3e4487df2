//! The density of a Beta distribution on the logit scale, without loss of digits at any size of its parameters.

/// Smallest and largest parameter that is told apart from 0 and from infinity.
const SMALLEST: f64 = 1e-290;
const LARGEST: f64 = 1e20;
/// How far the log-density has fallen where the density is taken to be 0: e^-38 is 3e-17.
const REACH: f64 = 38.0;
/// How much it may fall inside one panel.
const FALL: f64 = 4.0;

/// Density of t = ln(x / (1 - x)), x ~ Beta(a, b): proportional to `x^a (1 - x)^b`, one peak, at ln(a / b).
///
/// On this scale both tails are exponential and no singularity is left at the ends, whatever a and b are.
pub(crate) struct LogitDensity {
    a: f64,
    b: f64,
    /// a / (a + b) and b / (a + b).
    p: f64,
    q: f64,
    mode: f64,
    /// (1/a + 1/b)^(1/2): the width of the peak while a and b are large.
    width: f64,
}

impl LogitDensity {
    /// Parameters are brought into 1e-290..=1e20, the larger one with the smaller in proportion.
    pub(crate) fn new(a: f64, b: f64) -> Self {
        let lifted = |x: f64| if x.is_nan() { SMALLEST } else { x.clamp(SMALLEST, f64::MAX) };
        let (a, b) = (lifted(a), lifted(b));
        let scale = (LARGEST / a.max(b)).min(1.0);
        let (a, b) = ((a * scale).max(SMALLEST), (b * scale).max(SMALLEST));
        let ratio = a / b;
        let mode = if ratio.is_normal() { ratio.ln() } else { a.ln() - b.ln() };
        Self { a, b, p: a / (a + b), q: b / (a + b), mode, width: (1.0 / a + 1.0 / b).sqrt() }
    }

    /// Density at t divided by that at the mode.
    pub(crate) fn relative(&self, t: f64) -> f64 {
        self.ln_relative(t).exp()
    }

    /// Near the mode, with u = t - mode and x1 = q (e^-u - 1), x2 = p (e^u - 1):
    ///
    /// ```text
    /// -a ln(1 + x1) - b ln(1 + x2) = -a (ln(1 + x1) - x1) - b (ln(1 + x2) - x2) - 4 a b / (a + b) sinh^2(u / 2)
    /// ```
    ///
    /// The terms of first order have cancelled in the formula instead of in the digits.
    fn ln_relative(&self, t: f64) -> f64 {
        let u = t - self.mode;
        if u.abs() > 1.0 {
            let left = ln_sigmoid(t) - ln_sigmoid(self.mode);
            let right = ln_sigmoid(-t) - ln_sigmoid(-self.mode);
            return (self.a * left + self.b * right).min(0.0);
        }
        let (x1, x2) = (self.q * (-u).exp_m1(), self.p * u.exp_m1());
        let sinh = (0.5 * u).sinh();
        -self.a * ln_1p_minus(x1) - self.b * ln_1p_minus(x2) - 4.0 * self.a * self.q * sinh * sinh
    }

    /// Points that cut the line into panels on which sixteen nodes resolve the density to the last digits, from the mode
    /// outwards until nothing is left. Ascending.
    ///
    /// A panel is no wider than lets the log-density fall by 4, nor than its distance from t = 0, where e^t = 1 and the
    /// nearest poles lie (at +-i pi).
    pub(crate) fn cuts(&self) -> Vec<f64> {
        let mut cuts = vec![self.mode];
        for direction in [-1.0, 1.0] {
            let mut t = self.mode;
            let mut step = 0.5 * self.width;
            let mut height = 0.0;
            while height > -REACH {
                let inwards = t * direction < 0.0;
                let room = if inwards { 0.43 * t.abs() } else { 0.75 * t.abs() };
                step = (2.0 * step).min(room.max(1.5));
                let mut next = self.ln_relative(t + direction * step);
                while next < height - FALL && t + direction * 0.5 * step != t {
                    step *= 0.5;
                    next = self.ln_relative(t + direction * step);
                }
                t += direction * step;
                height = next;
                cuts.push(t);
            }
        }
        cuts.sort_by(f64::total_cmp);
        cuts
    }
}

/// ln(1 + x) - x for x > -1, to the last digits also near 0: with r = x / (2 + x), ln(1 + x) = 2 atanh(r) and
/// 2 r - x = -x r.
fn ln_1p_minus(x: f64) -> f64 {
    if x.abs() > 0.3 {
        return x.ln_1p() - x;
    }
    let r = x / (2.0 + x);
    let r2 = r * r;
    // 1/3 + r^2/5 + r^4/7 + ..., |r| <= 0.18: ten terms.
    let mut series = 0.0;
    let mut denominator = 23.0;
    while denominator > 2.0 {
        series = series * r2 + 1.0 / denominator;
        denominator -= 2.0;
    }
    r * (2.0 * r2 * series - x)
}

/// ln(sigmoid(t)) without overflow or cancellation.
fn ln_sigmoid(t: f64) -> f64 {
    if t > 0.0 { -(-t).exp().ln_1p() } else { t - t.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_log_density_agree_where_they_meet() {
        for (a, b) in [(1.0, 1.0), (0.3, 40.0), (1e-7, 2.0), (250.0, 3.0)] {
            let density = LogitDensity::new(a, b);
            for u in [-1.0, -0.999_999, 0.3, 1.0] {
                let t = density.mode + u;
                let direct = a * (ln_sigmoid(t) - ln_sigmoid(density.mode))
                    + b * (ln_sigmoid(-t) - ln_sigmoid(-density.mode));
                // The direct form loses digits in proportion to a + b.
                assert!((density.ln_relative(t) - direct).abs() < 1e-15 * (10.0 + a + b), "{a} {b} {u}");
            }
        }
    }

    #[test]
    fn ln_1p_minus_x_is_exact_near_zero() {
        // -x^2/2 + x^3/3 - x^4/4 + x^5/5
        for x in [1e-9, -1e-6, 1e-4] {
            let expected = x * x * (-0.5 + x / 3.0 - x * x / 4.0 + x * x * x / 5.0);
            assert!((ln_1p_minus(x) / expected - 1.0).abs() < 1e-13, "{x}");
        }
        assert!((ln_1p_minus(0.3) - (1.3_f64.ln() - 0.3)).abs() < 1e-16);
        assert!((ln_1p_minus(-0.3) - (0.7_f64.ln() + 0.3)).abs() < 1e-16);
    }
}
