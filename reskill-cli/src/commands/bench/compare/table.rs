//! Pairs of measurements as a table.

use super::Pair;
use crate::commands::bench::figures::{figure, percent, separated};

/// A line for each pair.
pub(super) fn table(pairs: &[Pair]) -> String {
    let header = [
        "operation",
        "shape",
        "dtype",
        "mode",
        "other",
        "ours us",
        "other us",
        "other/ours",
        "noise",
        "says",
        "our error",
        "other's",
    ];
    let mut rows: Vec<Vec<String>> = vec![header.map(str::to_string).to_vec()];
    rows.extend(pairs.iter().map(row));
    let widths: Vec<usize> = (0..header.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            5..=8 | 10.. => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        text += cells.collect::<Vec<String>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn row(pair: &Pair) -> Vec<String> {
    let error = |error: Option<f64>| error.map_or_else(|| "-".to_string(), |error| format!("{error:.1e}"));
    vec![
        pair.case.op.clone(),
        sizes(&pair.case.shape),
        pair.case.dtype.clone(),
        pair.case.mode.clone(),
        pair.who.clone(),
        figure(pair.ours.seconds * 1e6),
        figure(pair.other.seconds * 1e6),
        format!("{}x", figure(pair.ratio())),
        pair.noise().map_or_else(|| "-".to_string(), percent),
        pair.verdict().name().to_string(),
        error(pair.ours.error),
        error(pair.other.error),
    ]
}

/// `N=8 C=4` of a shape in JSON.
fn sizes(shape: &str) -> String {
    let shape: serde_json::Map<String, serde_json::Value> = serde_json::from_str(shape).unwrap_or_default();
    let size =
        |size: &serde_json::Value| size.as_u64().map_or_else(|| size.to_string(), |n| separated(n as usize));
    shape.iter().map(|(letter, n)| format!("{letter}={}", size(n))).collect::<Vec<String>>().join(" ")
}
