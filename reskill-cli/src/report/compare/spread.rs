//! A mean over runs, and how far it can be trusted.

/// 97.5% quantiles of Student's t for 1 to 30 degrees of freedom (any table of the t distribution, e.g. NIST/SEMATECH
/// e-Handbook of Statistical Methods, 1.3.6.7.2).
const T975: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// Numbers of the runs of one arm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    /// Runs.
    pub(super) n: usize,
    /// Their mean.
    pub(super) mean: f64,
    /// The smallest and the largest.
    pub(super) range: (f64, f64),
    /// Variance between runs, with n - 1; absent of a single one.
    variance: Option<f64>,
}

impl Spread {
    /// Of at least one number.
    pub(super) fn of(values: &[f64]) -> Option<Spread> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Spread {
            n,
            mean,
            range: values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(*value), high.max(*value))
            }),
            variance: (n > 1).then(|| squares / (n - 1) as f64),
        })
    }

    /// 95% interval of the mean over further seeds (Student's t); absent of a single run.
    pub(super) fn interval(&self) -> Option<[f64; 2]> {
        let half = t975((self.n - 1) as f64) * (self.variance? / self.n as f64).sqrt();
        Some([self.mean - half, self.mean + half])
    }

    /// `self` less `other`, with Welch's 95% interval, which is absent if one of them is a single run.
    ///
    /// Source: B. L. Welch, Biometrika 34 (1947) 28; degrees of freedom by Satterthwaite, rounded down.
    pub(super) fn less(&self, other: &Spread) -> (f64, Option<[f64; 2]>) {
        let difference = self.mean - other.mean;
        let interval = self.variance.zip(other.variance).map(|(ours, theirs)| {
            let (ours, theirs) = (ours / self.n as f64, theirs / other.n as f64);
            let (n_ours, n_theirs) = ((self.n - 1) as f64, (other.n - 1) as f64);
            let freedom = (ours + theirs).powi(2) / (ours.powi(2) / n_ours + theirs.powi(2) / n_theirs);
            // Two arms whose runs all came out alike have no spread to divide by.
            let freedom = if freedom.is_finite() { freedom } else { n_ours + n_theirs };
            let half = t975(freedom) * (ours + theirs).sqrt();
            [difference - half, difference + half]
        });
        (difference, interval)
    }
}

/// 97.5% quantile of Student's t, for degrees of freedom rounded down; beyond the table the normal quantile with the first
/// term of its expansion in 1/df.
fn t975(freedom: f64) -> f64 {
    let whole = freedom.floor().max(1.0) as usize;
    T975.get(whole - 1).copied().unwrap_or_else(|| 1.959_964 + 2.372 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() < 2e-3, "{got}, expected {expected}");
    }

    #[test]
    fn interval_of_a_mean_matches_hand_computed_numbers() {
        // Mean 2, standard deviation 1: 2 +- 4.303 / sqrt(3).
        let three = Spread::of(&[1.0, 2.0, 3.0]).unwrap();
        let [low, high] = three.interval().unwrap();
        near(low, 2.0 - 2.4843);
        near(high, 2.0 + 2.4843);
        assert_eq!((three.range, three.mean), ((1.0, 3.0), 2.0));
        assert!(Spread::of(&[5.0]).unwrap().interval().is_none() && Spread::of(&[]).is_none());
        // t at 40 degrees of freedom is 2.021.
        near(t975(40.0), 2.021);
        near(t975(30.9), 2.042);
    }

    #[test]
    fn difference_of_means_has_welchs_interval() {
        // Variances 1 and 4, 3 runs each: standard error sqrt(5/3), Satterthwaite 2.94, rounded down to 2.
        let (a, b) = (Spread::of(&[1.0, 2.0, 3.0]).unwrap(), Spread::of(&[0.0, 2.0, 4.0]).unwrap());
        let (difference, interval) = a.less(&b);
        near(difference, 0.0);
        near(interval.unwrap()[1], 4.303 * (5.0_f64 / 3.0).sqrt());
        let alike = Spread::of(&[1.0, 1.0]).unwrap();
        assert_eq!(alike.less(&alike), (0.0, Some([0.0, 0.0])));
        assert_eq!(alike.less(&Spread::of(&[3.0]).unwrap()), (-2.0, None));
    }
}
