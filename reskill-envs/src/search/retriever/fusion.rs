//! Several rankings as one.

use std::collections::HashMap;

/// Reciprocal rank fusion: a document's score is `sum_r 1 / (k + rank_r)`, its rank in each ranking counted from 1; best
/// first, ties by the lower document number.
///
/// - `rankings`: document numbers, best first
/// - `k`: how little the first ranks stand out, >= 1; 60 in the source
/// - result: (document, score)
///
/// Source: Cormack, Clarke, Buettcher, SIGIR 2009.
#[must_use]
pub fn reciprocal_rank_fusion(rankings: &[Vec<u64>], k: f32) -> Vec<(u64, f32)> {
    let mut scores: HashMap<u64, f32> = HashMap::new();
    for ranking in rankings {
        for (&document, rank) in ranking.iter().zip(1_u32..) {
            *scores.entry(document).or_default() += 1.0 / (k + rank as f32);
        }
    }
    let mut fused: Vec<(u64, f32)> = scores.into_iter().collect();
    fused.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_rankings_hold_comes_first() {
        // Document 3: 1/62 + 1/61; document 1: 1/61; document 7: 1/62.
        let fused = reciprocal_rank_fusion(&[vec![1, 3], vec![3, 7]], 60.0);
        let order: Vec<u64> = fused.iter().map(|(document, _)| *document).collect();
        assert_eq!(order, [3, 1, 7]);
        assert!((fused[0].1 - (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-7);
    }

    #[test]
    fn equal_scores_are_ordered_by_number() {
        let fused = reciprocal_rank_fusion(&[vec![9], vec![2]], 60.0);
        assert_eq!(fused.iter().map(|(document, _)| *document).collect::<Vec<_>>(), [2, 9]);
        assert!(reciprocal_rank_fusion(&[], 60.0).is_empty());
    }
}
