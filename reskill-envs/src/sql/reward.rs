//! The reward of InterCode-SQL: how many rows agree, and in which order.

use std::collections::HashMap;

/// The reward of an answer, both given as rendered rows.
///
/// `iou = |a ∩ g| / |a ∪ g|` over the multisets of rows; two empty results give 1. Where Kendall's tau-b between the
/// common rows in their two orders is defined, the reward is `round(tau * iou, 2)` and may be negative; else it is `iou`.
///
/// Rounding is NumPy's: the nearest integer of `100 x`, ties to even, divided by 100.
///
/// Source: `SqlEnv.get_reward` of InterCode (arXiv:2306.14898, section 3.3).
#[must_use]
pub fn reward(answer: &[String], gold: &[String]) -> f64 {
    let (answer_counts, gold_counts) = (counts(answer), counts(gold));
    let mut common: HashMap<&str, usize> = HashMap::new();
    for (&row, &count) in &answer_counts {
        if let Some(&other) = gold_counts.get(row) {
            common.insert(row, count.min(other));
        }
    }
    let intersection: usize = common.values().sum();
    let union = answer.len() + gold.len() - intersection;
    if union == 0 {
        return 1.0;
    }
    let iou = intersection as f64 / union as f64;
    let tau = kendall_tau_b(&first_of_each(answer, &common), &first_of_each(gold, &common));
    tau.map_or(iou, |tau| (tau * iou * 100.0).round_ties_even() / 100.0)
}

/// Kendall's tau-b of two equally long sequences, ordered by code point; `None` where it is not defined (fewer than two
/// items, or all items of a sequence equal).
///
/// `tau = (P - Q) / sqrt(P + Q + X) / sqrt(P + Q + Y)` with `P` concordant and `Q` discordant pairs, `X` tied in the
/// first and `Y` tied in the second sequence only, counted in O(n log n) (Knight 1966).
///
/// Lengths that differ leave the longer one's end out.
#[must_use]
pub fn kendall_tau_b(first: &[&str], second: &[&str]) -> Option<f64> {
    let (first, second) = (ranks(first), ranks(second));
    let mut pairs: Vec<(usize, usize)> = first.into_iter().zip(second).collect();
    let total = n_pairs(pairs.len() as u64);
    pairs.sort_unstable();
    let ties_of_both = ties(pairs.iter());
    let ties_of_first = ties(pairs.iter().map(|pair| pair.0));
    let mut second: Vec<usize> = pairs.iter().map(|pair| pair.1).collect();
    let discordant = sort_counting_inversions(&mut second);
    let ties_of_second = ties(second.iter());
    if ties_of_first == total || ties_of_second == total {
        return None;
    }
    // The counts are below 2^53 for any list that fits memory.
    let concordant_minus_discordant = total as f64 - ties_of_first as f64 - ties_of_second as f64
        + ties_of_both as f64
        - 2.0 * discordant as f64;
    let tau = concordant_minus_discordant
        / ((total - ties_of_first) as f64).sqrt()
        / ((total - ties_of_second) as f64).sqrt();
    Some(tau.clamp(-1.0, 1.0))
}

fn counts(rows: &[String]) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for row in rows {
        *counts.entry(row.as_str()).or_default() += 1;
    }
    counts
}

/// The rows that are common, in order: of a row that occurs more often than in both, the first ones.
fn first_of_each<'a>(rows: &'a [String], common: &HashMap<&str, usize>) -> Vec<&'a str> {
    let mut left = common.clone();
    let mut take = |row: &&'a str| {
        let count = left.get_mut(*row).filter(|count| **count > 0);
        count.map(|count| *count -= 1).is_some()
    };
    rows.iter().map(String::as_str).filter(|row| take(row)).collect()
}

/// The place of each item among the distinct items in code-point order (which is that of the bytes of UTF-8).
fn ranks(items: &[&str]) -> Vec<usize> {
    let mut distinct = items.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    items.iter().map(|item| distinct.partition_point(|other| other < item)).collect()
}

fn n_pairs(count: u64) -> u64 {
    count * count.saturating_sub(1) / 2
}

/// Pairs of equal neighbours in a sorted sequence, over all runs.
fn ties<T: PartialEq>(sorted: impl Iterator<Item = T>) -> u64 {
    let (mut total, mut run) = (0, 0);
    let mut previous: Option<T> = None;
    for item in sorted {
        run = if previous.as_ref() == Some(&item) { run + 1 } else { 1 };
        // Each item makes a pair with those of its run before it.
        total += run - 1;
        previous = Some(item);
    }
    total
}

/// Sorts and returns how many pairs stood in the wrong order.
fn sort_counting_inversions(items: &mut [usize]) -> u64 {
    if items.len() < 2 {
        return 0;
    }
    let (left, right) = items.split_at_mut(items.len() / 2);
    let mut inversions = sort_counting_inversions(left) + sort_counting_inversions(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut from_left, mut from_right) = (0, 0);
    while from_left < left.len() && from_right < right.len() {
        if left[from_left] <= right[from_right] {
            merged.push(left[from_left]);
            from_left += 1;
        } else {
            merged.push(right[from_right]);
            from_right += 1;
            inversions += (left.len() - from_left) as u64;
        }
    }
    merged.extend_from_slice(&left[from_left..]);
    merged.extend_from_slice(&right[from_right..]);
    items.copy_from_slice(&merged);
    inversions
}
