//! Restricting a reply to given token sequences: the compact action head of small policies.

/// What may follow the tokens generated so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// One of these tokens, sorted, without repeats. None of them: as [`Next::Done`].
    OneOf(Vec<u32>),
    /// Any token.
    Any,
    /// Nothing: the reply is complete.
    Done,
}

/// A rule for the tokens of one reply.
pub trait TokenConstraint: Send + Sync {
    /// What may follow `generated`.
    fn next(&self, generated: &[u32]) -> Next;
}

/// Allows exactly the given sequences and ends a reply as soon as it fits only one of them.
///
/// With the admissible commands `go drawer 1`, `go drawer 2`, `open fridge 1` a reply is `open`, or three tokens that
/// begin with `go`. Where one sequence begins another, the end token tells them apart.
#[derive(Debug, Clone)]
pub struct TokenTrie {
    /// Sorted, without repeats.
    sequences: Vec<Vec<u32>>,
    /// Where each of the sequences stood in the list given.
    origins: Vec<usize>,
    end_token: u32,
}

impl TokenTrie {
    /// A trie over `sequences`; of equal ones the first counts.
    #[must_use]
    pub fn new(sequences: &[&[u32]], end_token: u32) -> TokenTrie {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|&index| (sequences[index], index));
        order.dedup_by_key(|index| sequences[*index]);
        TokenTrie {
            sequences: order.iter().map(|&index| sequences[index].to_vec()).collect(),
            origins: order,
            end_token,
        }
    }

    /// Index, in the list given to [`TokenTrie::new`], of the sequence that a complete reply stands for.
    #[must_use]
    pub fn resolve(&self, generated: &[u32]) -> Option<usize> {
        if let Some((&last, head)) = generated.split_last()
            && last == self.end_token
        {
            let found = self.sequences.iter().position(|sequence| sequence == head)?;
            return Some(self.origins[found]);
        }
        let range = self.matching(generated);
        (range.len() == 1).then(|| self.origins[range.start])
    }

    /// The sequences that begin with `generated`.
    fn matching(&self, generated: &[u32]) -> std::ops::Range<usize> {
        let start = self.sequences.partition_point(|sequence| sequence.as_slice() < generated);
        let count =
            self.sequences[start..].iter().take_while(|sequence| sequence.starts_with(generated)).count();
        start..start + count
    }
}

impl TokenConstraint for TokenTrie {
    fn next(&self, generated: &[u32]) -> Next {
        let range = self.matching(generated);
        if range.len() <= 1 || generated.last() == Some(&self.end_token) {
            return Next::Done;
        }
        let mut tokens: Vec<u32> = self.sequences[range]
            .iter()
            .map(|sequence| sequence.get(generated.len()).copied().unwrap_or(self.end_token))
            .collect();
        tokens.sort_unstable();
        tokens.dedup();
        Next::OneOf(tokens)
    }
}

/// Any tokens at all; the reply ends with its end token or its length limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unconstrained;

impl TokenConstraint for Unconstrained {
    fn next(&self, _generated: &[u32]) -> Next {
        Next::Any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u32 = 99;

    #[test]
    fn trie_ends_as_soon_as_one_sequence_is_left() {
        let trie = TokenTrie::new(&[&[1, 2, 3], &[1, 2, 4], &[5, 6]], END);
        assert_eq!(trie.next(&[]), Next::OneOf(vec![1, 5]));
        assert_eq!(trie.next(&[1]), Next::OneOf(vec![2]));
        assert_eq!(trie.next(&[1, 2]), Next::OneOf(vec![3, 4]));
        assert_eq!(trie.next(&[5]), Next::Done);
        assert_eq!(trie.resolve(&[5]), Some(2));
        assert_eq!(trie.resolve(&[1, 2, 4]), Some(1));
        assert_eq!(trie.resolve(&[1, 2]), None);
    }

    #[test]
    fn trie_tells_a_sequence_from_its_extension_by_the_end_token() {
        let trie = TokenTrie::new(&[&[1], &[1, 2]], END);
        assert_eq!(trie.next(&[1]), Next::OneOf(vec![2, END]));
        assert_eq!(trie.next(&[1, END]), Next::Done);
        assert_eq!(trie.resolve(&[1, END]), Some(0));
        assert_eq!(trie.resolve(&[1, 2]), Some(1));
    }

    #[test]
    fn trie_counts_equal_sequences_once() {
        let trie = TokenTrie::new(&[&[7], &[7]], END);
        assert_eq!(trie.next(&[]), Next::Done);
        assert_eq!(trie.resolve(&[]), Some(0));
    }
}
