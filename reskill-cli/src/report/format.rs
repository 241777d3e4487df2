//! Numbers as people read them.

/// What stands for a number that there is not.
pub(crate) const NONE: &str = "\u{2013}";

/// `61.0%`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// `54.1\u{2013}67.5`, in percent.
pub(crate) fn percent_range([low, high]: [f64; 2]) -> String {
    format!("{:.1}\u{2013}{:.1}", low * 100.0, high * 100.0)
}

/// `+32.0`, in percentage points.
pub(crate) fn points(difference: f64) -> String {
    format!("{:+.1}", difference * 100.0).replace('-', "\u{2212}")
}

/// `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<String> =
        digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    groups.join(",")
}

/// `1.05M`, `38.3k`, `950`.
pub(crate) fn short(x: f64) -> String {
    match x.abs() {
        size if size >= 1e9 => format!("{:.2}G", x / 1e9),
        size if size >= 1e6 => format!("{:.2}M", x / 1e6),
        size if size >= 1e3 => format!("{:.1}k", x / 1e3),
        _ => format!("{x:.0}"),
    }
}

/// `3 min 11 s`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 { format!("{hours} h {minutes} min") } else { format!("{minutes} min {seconds} s") }
}

/// `286 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    let mib = n as f64 / (1024.0 * 1024.0);
    if mib >= 1024.0 { format!("{:.2} GiB", mib / 1024.0) } else { format!("{mib:.0} MiB") }
}

/// Three significant digits, in powers of ten where that is shorter.
pub(crate) fn number(x: f64) -> String {
    let size = x.abs();
    if !x.is_finite() {
        return NONE.to_string();
    }
    if size == 0.0 {
        return "0".to_string();
    }
    if !(1e-3..1e5).contains(&size) {
        return format!("{x:.1e}").replace('-', "\u{2212}");
    }
    let decimals = (2.0 - size.log10().floor()).clamp(0.0, 5.0) as usize;
    format!("{x:.decimals$}").replace('-', "\u{2212}")
}

/// [`number`] without zeros that only fill up: `0.2`.
pub(crate) fn plain(x: f64) -> String {
    trim(&number(x))
}

/// [`percent`] for an axis: `20%`, `0.5%`.
pub(crate) fn plain_percent(share: f64) -> String {
    trim(&format!("{:.3}", share * 100.0)) + "%"
}

/// [`short`] for an axis: `20k`.
pub(crate) fn plain_short(x: f64) -> String {
    let written = short(x);
    match written.char_indices().last() {
        Some((at, unit)) if unit.is_alphabetic() => format!("{}{unit}", trim(&written[..at])),
        _ => written,
    }
}

fn trim(digits: &str) -> String {
    if digits.contains('.') && !digits.contains('e') {
        digits.trim_end_matches('0').trim_end_matches('.').to_string()
    } else {
        digits.to_string()
    }
}

/// `1 version`, `2 versions`.
pub(crate) fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// [`number`], or a dash.
pub(crate) fn maybe(x: Option<f64>) -> String {
    x.map_or(NONE.to_string(), number)
}

/// The middle value; `None` of nothing.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(short(38_260.0), "38.3k");
        assert_eq!(duration(190.8), "3 min 11 s");
        assert_eq!(duration(59.96), "1 min 0 s");
        assert_eq!(duration(7300.0), "2 h 1 min");
        assert_eq!(number(0.043_037), "0.0430");
        assert_eq!(number(-12.345), "\u{2212}12.3");
        assert_eq!(number(0.000_012), "1.2e\u{2212}5");
        assert_eq!(number(f64::NAN), NONE);
        assert_eq!(
            (plain(0.2), plain(150.0), plain_percent(0.005)),
            ("0.2".into(), "150".into(), "0.5%".into())
        );
        assert_eq!((counted(1, "test"), counted(0, "test")), ("1 test".into(), "0 tests".into()));
        assert_eq!(points(-0.031), "\u{2212}3.1");
    }

    #[test]
    fn median_of_an_even_number_is_the_mean_of_the_middle_two() {
        assert_eq!(median([4.0, 1.0, f64::NAN, 3.0, 2.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
