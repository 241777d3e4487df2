//! Many short texts in little room: names in one string, commands as numbers of words.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::sexpr::syntax;
use crate::error::EnvError;

/// A game with more distinct commands, or more distinct words in them, is refused: both are numbered in 16 bits.
const MAX_COMMANDS: usize = u16::MAX as usize;

/// Texts one after the other.
#[derive(Debug, Default)]
pub(super) struct Texts {
    text: Box<str>,
    ends: Box<[u32]>,
}

impl<'a> FromIterator<&'a str> for Texts {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Texts {
        let (mut all, mut ends) = (String::new(), Vec::new());
        for text in texts {
            all.push_str(text);
            ends.push(all.len() as u32);
        }
        Texts { text: all.into(), ends: ends.into() }
    }
}

impl Texts {
    /// Text number `index`; empty if there is none.
    pub(super) fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(index).copied().unwrap_or(start);
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }
}

/// The distinct commands of a game, sorted by code point. Each is a list of words: they are few, and commands are many.
#[derive(Debug, Default)]
pub(super) struct Commands {
    words: Texts,
    numbers: Box<[u16]>,
    /// Where each command ends, from where the first of its block begins.
    ends: Box<[u16]>,
    /// Where each block of [`BLOCK`] commands begins.
    blocks: Box<[u32]>,
}

/// Commands that share a starting point, and how many words they may have together.
const BLOCK: usize = 32;
const MAX_BLOCK_WORDS: usize = u16::MAX as usize;

impl Commands {
    /// The commands, with the rank of each of `texts` among them.
    pub(super) fn new(texts: &[String]) -> Result<(Commands, Vec<u16>), EnvError> {
        let mut order: Vec<u32> = (0..texts.len() as u32).collect();
        order.sort_unstable_by_key(|&index| texts[index as usize].as_str());
        let mut known: HashMap<&str, u16> = HashMap::new();
        let mut words: Vec<&str> = Vec::new();
        let (mut numbers, mut ends, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
        let mut ranks = vec![0; texts.len()];
        let mut last: Option<&str> = None;
        for index in order {
            let text = texts[index as usize].as_str();
            if last != Some(text) {
                if ends.len() % BLOCK == 0 {
                    blocks.push(numbers.len() as u32);
                }
                for word in text.split(' ') {
                    numbers.push(*known.entry(word).or_insert_with(|| {
                        words.push(word);
                        (words.len() - 1) as u16
                    }));
                }
                let n_words = numbers.len() - blocks.last().map_or(0, |&start| start as usize);
                if n_words > MAX_BLOCK_WORDS {
                    return Err(syntax("problem", "commands of over a thousand words"));
                }
                ends.push(n_words as u16);
                last = Some(text);
            }
            if ends.len() > MAX_COMMANDS || words.len() > MAX_COMMANDS {
                return Err(syntax("problem", format!("more than {MAX_COMMANDS} commands or words in them")));
            }
            ranks[index as usize] = (ends.len() - 1) as u16;
        }
        let words = words.into_iter().collect();
        let (numbers, ends, blocks) = (numbers.into(), ends.into(), blocks.into());
        Ok((Commands { words, numbers, ends, blocks }, ranks))
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The command of a rank.
    pub(super) fn text(&self, rank: u16) -> String {
        let words = self.words(rank);
        let mut text = String::with_capacity(words.len() * 8);
        for (index, &word) in words.iter().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            text.push_str(self.words.get(usize::from(word)));
        }
        text
    }

    /// How the command of a rank stands to a text, in code-point order.
    pub(super) fn compare(&self, rank: u16, text: &str) -> Ordering {
        let words = self.words(rank);
        let bytes = words.iter().enumerate().flat_map(|(index, &word)| {
            let blank = if index > 0 { " " } else { "" };
            blank.bytes().chain(self.words.get(usize::from(word)).bytes())
        });
        bytes.cmp(text.bytes())
    }

    fn words(&self, rank: u16) -> &[u16] {
        let rank = usize::from(rank);
        let block = self.blocks[rank / BLOCK] as usize;
        let start = if rank % BLOCK == 0 { 0 } else { self.ends[rank - 1] };
        &self.numbers[block + usize::from(start)..block + usize::from(self.ends[rank])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_back_sorted_as_they_were() {
        let texts = ["go to bed 10", "unlock vault ", "go to bed 2", "", "go  to", "go to bed 10", "É 1"];
        let texts = texts.map(String::from);
        let (commands, ranks) = Commands::new(&texts).unwrap();
        let sorted: Vec<String> = (0..commands.len() as u16).map(|rank| commands.text(rank)).collect();
        assert_eq!(sorted, ["", "go  to", "go to bed 10", "go to bed 2", "unlock vault ", "É 1"]);
        assert_eq!(ranks, [2, 4, 3, 0, 1, 2, 5]);
        for (rank, text) in sorted.iter().enumerate() {
            for (other, other_text) in sorted.iter().enumerate() {
                assert_eq!(
                    commands.compare(rank as u16, other_text),
                    rank.cmp(&other),
                    "{text} {other_text}"
                );
            }
        }
    }

    #[test]
    fn texts_are_kept_in_order() {
        let texts: Texts = ["a", "", "bc"].into_iter().collect();
        assert_eq!([0, 1, 2, 3].map(|index| texts.get(index)), ["a", "", "bc", ""]);
    }
}
