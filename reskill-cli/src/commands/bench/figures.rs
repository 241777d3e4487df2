//! Numbers as people read them.

/// An integer in groups of three digits: `16,777,216`.
pub(super) fn separated(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number that is not negative, in groups of three digits, with so many places: more where it is small.
pub(super) fn figure(value: f64) -> String {
    let places = match value.abs() {
        size if size >= 1000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.01 => 3,
        _ => 5,
    };
    let text = format!("{value:.places$}");
    match text.split_once('.') {
        Some((whole, part)) => format!("{}.{part}", grouped(whole)),
        None => grouped(&text),
    }
}

/// As it is where it is no plain integer: `inf`, `NaN`.
fn grouped(digits: &str) -> String {
    digits.parse().map_or_else(|_| digits.to_string(), separated)
}

/// A rate with the prefix that suits it: `12.3 T`, `456 G`; a dash where there is none.
pub(super) fn rate(value: f64) -> String {
    if value == 0.0 {
        return "-".to_string();
    }
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (unit, name) = units.into_iter().find(|(unit, _)| value.abs() >= *unit).unwrap_or((1.0, ""));
    format!("{} {name}", figure(value / unit)).trim_end().to_string()
}

/// Bytes with the prefix that suits them: `1.50 GiB`.
pub(super) fn bytes(n: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(power, _)| n >> power > 0) {
        Some((power, name)) => format!("{} {name}", figure(n as f64 / (1_u64 << power) as f64)),
        None => format!("{n} bytes"),
    }
}

/// A share in percent that keeps to its column.
pub(super) fn percent(share: f64) -> String {
    if share > 9.99 { ">999 %".to_string() } else { format!("{:.1} %", 100.0 * share) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_in_groups_and_small_ones_keep_digits() {
        assert_eq!([0, 999, 1000, 16_777_216].map(separated), ["0", "999", "1,000", "16,777,216"]);
        let figures = [1_234_567.8, 123.45, 1.234, 0.0456, 0.000_123, f64::INFINITY].map(figure);
        assert_eq!(figures, ["1,234,568", "123.5", "1.23", "0.046", "0.00012", "inf"]);
    }

    #[test]
    fn rates_have_the_prefix_that_suits_them() {
        assert_eq!([7.98e14, 1.5e9, 2e3, 3.0, 0.0].map(rate), ["798.0 T", "1.50 G", "2.00 k", "3.00", "-"]);
        assert_eq!([3 << 29, 1536, 12].map(bytes), ["1.50 GiB", "1.50 KiB", "12 bytes"]);
        assert_eq!([0.012, 9.0, 47.0].map(percent), ["1.2 %", "900.0 %", ">999 %"]);
    }
}
