//! Gauss-Legendre quadrature, with running integrals at its nodes.

use std::sync::LazyLock;

/// Sixteen points: panels of a posterior.
pub(crate) static PANEL: LazyLock<GaussLegendre> = LazyLock::new(|| GaussLegendre::new(16));
/// Sixty-four points: the density of a test statistic between two looks.
pub(crate) static LOOK: LazyLock<GaussLegendre> = LazyLock::new(|| GaussLegendre::new(64));

/// The rule of n points on [-1, 1]: exact for polynomials of degree 2n - 1.
pub(crate) struct GaussLegendre {
    /// (n) roots of the Legendre polynomial P_n, ascending.
    pub(crate) nodes: Vec<f64>,
    /// (n) weights; they sum to 2.
    pub(crate) weights: Vec<f64>,
    /// (n, n): row i, applied to the values of a function at the nodes, is its integral from -1 to node i. Exact for
    /// polynomials of degree n - 1.
    pub(crate) running: Vec<Vec<f64>>,
}

impl GaussLegendre {
    /// Nodes by Newton's method from `cos(pi (i + 3/4) / (n + 1/2))`, weights `2 / ((1 - x^2) P_n'(x)^2)`; the running
    /// integrals from the expansion of the Lagrange polynomials in Legendre polynomials and
    /// `integral P_m = (P_{m+1} - P_{m-1}) / (2m + 1)` (DLMF 18.9, 18.16).
    #[expect(clippy::cast_precision_loss, reason = "n is small")]
    fn new(n: usize) -> Self {
        let mut nodes = Vec::with_capacity(n);
        let mut weights = Vec::with_capacity(n);
        for index in (0..n).rev() {
            let mut x = (std::f64::consts::PI * (index as f64 + 0.75) / (n as f64 + 0.5)).cos();
            let mut slope = 1.0;
            for _ in 0..8 {
                let p = legendre(n, x);
                slope = n as f64 * (p[n - 1] - x * p[n]) / (1.0 - x * x);
                x -= p[n] / slope;
            }
            nodes.push(x);
            weights.push(2.0 / ((1.0 - x * x) * slope * slope));
        }
        let values: Vec<Vec<f64>> = nodes.iter().map(|x| legendre(n, *x)).collect();
        let running = (0..n)
            .map(|row| {
                (0..n)
                    .map(|column| {
                        let sum: f64 = (1..n)
                            .map(|m| values[column][m] * (values[row][m + 1] - values[row][m - 1]))
                            .sum();
                        0.5 * weights[column] * (nodes[row] + 1.0 + sum)
                    })
                    .collect()
            })
            .collect();
        Self { nodes, weights, running }
    }
}

/// P_0(x) ..= P_n(x) by Bonnet's recursion.
#[expect(clippy::cast_precision_loss, reason = "n is small")]
fn legendre(n: usize, x: f64) -> Vec<f64> {
    let mut p = vec![1.0, x];
    for m in 1..n {
        let m_f = m as f64;
        p.push(((2.0 * m_f + 1.0) * x * p[m] - m_f * p[m - 1]) / (m_f + 1.0));
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_are_integrated_exactly_up_to_every_node() {
        for degree in [0, 1, 7, 15] {
            let values: Vec<f64> = PANEL.nodes.iter().map(|x| x.powi(degree)).collect();
            let antiderivative = |x: f64| x.powi(degree + 1) / f64::from(degree + 1);
            let total: f64 = values.iter().zip(&PANEL.weights).map(|(f, w)| f * w).sum();
            // Sixteen terms of order one: a few units of the last place.
            assert!((total - (antiderivative(1.0) - antiderivative(-1.0))).abs() < 1e-14);
            for (row, x) in PANEL.running.iter().zip(&PANEL.nodes) {
                let got: f64 = row.iter().zip(&values).map(|(s, f)| s * f).sum();
                assert!((got - (antiderivative(*x) - antiderivative(-1.0))).abs() < 1e-14, "{degree} {x}");
            }
        }
    }

    #[test]
    fn the_large_rule_integrates_a_narrow_bell() {
        // Standard deviation 0.05: integral sqrt(2 pi) 0.05; the nodes are as far apart as that.
        let sum: f64 = LOOK.nodes.iter().zip(&LOOK.weights).map(|(x, w)| w * (-200.0 * x * x).exp()).sum();
        assert!((sum - 0.05 * (2.0 * std::f64::consts::PI).sqrt()).abs() < 1e-8, "{sum}");
    }
}
