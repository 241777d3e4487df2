//! Axes: a range, round ticks, and how a tick is written.

/// One axis of a chart.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// Where the axis begins.
    pub(super) low: f64,
    /// Where it ends; always beyond `low`.
    pub(super) high: f64,
    /// Values with a label.
    pub(super) ticks: Vec<f64>,
    /// How a value is written.
    pub(super) label: fn(f64) -> String,
}

impl Axis {
    /// Training steps, or anything else that is counted, from `low` to `high`.
    pub(super) fn counting(low: u64, high: u64) -> Axis {
        let (low, high) = (low as f64, (high.max(low + 1)) as f64);
        let ticks = round_ticks(low, high, 5, 1.0);
        Axis { low, high, ticks, label: |x| format!("{x:.0}") }
    }

    /// Shares, from 0 to 1, in percent.
    pub(super) fn shares() -> Axis {
        Axis::shares_between(0.0, 1.0)
    }

    /// Shares between two of them, both rounded outwards to whole tenths.
    pub(super) fn shares_between(low: f64, high: f64) -> Axis {
        let low = ((low * 10.0).floor() / 10.0).clamp(0.0, 0.9);
        let high = ((high * 10.0).ceil() / 10.0).clamp(low + 0.1, 1.0);
        Axis { low, high, ticks: round_ticks(low, high, 5, 0.0), label: |x| format!("{:.0}%", x * 100.0) }
    }

    /// A range that holds all `values`, and 0 if `from_zero`, with some room. Where all are 0, only 0 has
    /// a label: the scale means nothing.
    pub(super) fn around(
        values: impl Iterator<Item = f64>,
        from_zero: bool,
        label: fn(f64) -> String,
    ) -> Axis {
        let values = values.filter(|value| value.is_finite());
        let (mut low, mut high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        let all_zero = low == 0.0 && high == 0.0;
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if from_zero {
            low = low.min(0.0);
        }
        if high - low < 1e-12 * high.abs().max(1e-6) {
            high = low + if low == 0.0 { 1.0 } else { low.abs() };
        }
        let room = 0.06 * (high - low);
        let low = if from_zero && low == 0.0 { 0.0 } else { low - room };
        let high = high + room;
        let ticks = if all_zero { vec![0.0] } else { round_ticks(low, high, 5, 0.0) };
        Axis { low, high, ticks, label }
    }

    /// Where `x` lies, 0 at the begin and 1 at the end; values outside are put on the edge.
    pub(super) fn position(&self, x: f64) -> f64 {
        ((x - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

/// About `n` or a few more multiples of 1, 2 or 5 times a power of ten, at least `smallest` apart, that lie in `low..=high`.
fn round_ticks(low: f64, high: f64, n: u32, smallest: f64) -> Vec<f64> {
    let raw = ((high - low) / f64::from(n)).max(smallest);
    let magnitude = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * magnitude >= raw * 0.75);
    let step = factor.unwrap_or(10.0) * magnitude;
    let first = (low / step - 1e-9).ceil();
    (0..=2 * n)
        .map(|index| (first + f64::from(index)) * step)
        .take_while(|tick| *tick <= high + step * 1e-9)
        .map(|tick| if tick.abs() < step * 1e-9 { 0.0 } else { tick })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(Axis::counting(0, 40).ticks, [0.0, 10.0, 20.0, 30.0, 40.0]);
        assert_eq!(Axis::counting(1, 3).ticks, [1.0, 2.0, 3.0]);
        let percents: Vec<String> = Axis::shares().ticks.iter().map(|x| (Axis::shares().label)(*x)).collect();
        assert_eq!(percents, ["0%", "20%", "40%", "60%", "80%", "100%"]);
    }

    #[test]
    fn ranges_of_nothing_and_of_one_value_are_not_empty() {
        for values in [vec![], vec![0.0], vec![7.0, 7.0], vec![f64::NAN], vec![-1e-9], vec![1e300]] {
            let axis = Axis::around(values.iter().copied(), true, |x| x.to_string());
            assert!(axis.high > axis.low && axis.position(axis.high) == 1.0, "{values:?} {axis:?}");
        }
        assert!(Axis::counting(0, 0).high > 0.0);
    }
}
