//! Episodes as text for a language model, within a budget.
//!
//! Nothing is cut silently: what is left out is named where it was, with its size. The first and the last turns stay,
//! since they show what the agent set out to do and how it ended.

use serde::{Deserialize, Serialize};

use crate::bank::SkillBank;
use crate::episode::SkillEpisode;
use crate::error::SkillError;

/// Estimates how many tokens a text has. Any `Fn(&str) -> usize` is one; a tokenizer makes it exact.
pub trait TokenEstimate: Send + Sync {
    /// Tokens of `text`.
    fn tokens(&self, text: &str) -> usize;
}

impl<F: Fn(&str) -> usize + Send + Sync> TokenEstimate for F {
    fn tokens(&self, text: &str) -> usize {
        self(text)
    }
}

/// Characters divided by a constant, rounded up.
#[derive(Debug, Clone, Copy)]
pub struct CharsPerToken(pub f64);

impl TokenEstimate for CharsPerToken {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number of characters, far below 2^52"
    )]
    fn tokens(&self, text: &str) -> usize {
        (text.chars().count() as f64 / self.0).ceil() as usize
    }
}

/// Budgets of transcripts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TranscriptConfig {
    /// Longest transcript of one task group, in characters, 2,000..=1,000,000. Its episodes share it.
    pub group_chars: usize,
    /// The same in tokens, 500..=1,000,000.
    pub group_tokens: usize,
    /// Most episodes of a group, 1..=16; both outcomes and all versions are kept as far as possible.
    pub episodes_per_group: usize,
    /// Longest observation, reply or action, in characters, 80..=100,000.
    pub text_chars: usize,
    /// Whether the agent's whole reply is shown where it says more than the action.
    pub replies: bool,
    /// Characters of a token, for the estimate of tokens, 0.5..=10.
    pub chars_per_token: f64,
}

impl Default for TranscriptConfig {
    fn default() -> Self {
        Self {
            group_chars: 16_000,
            group_tokens: 6_000,
            episodes_per_group: 4,
            text_chars: 600,
            replies: true,
            chars_per_token: 3.0,
        }
    }
}

impl TranscriptConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SkillError::Config`].
    pub fn validate(&self) -> Result<(), SkillError> {
        let counts = [
            ("creator.transcript.group_chars", self.group_chars, 2_000..=1_000_000, "2000 to 1000000"),
            ("creator.transcript.group_tokens", self.group_tokens, 500..=1_000_000, "500 to 1000000"),
            ("creator.transcript.episodes_per_group", self.episodes_per_group, 1..=16, "1 to 16"),
            ("creator.transcript.text_chars", self.text_chars, 80..=100_000, "80 to 100000"),
        ];
        for (key, value, range, expected) in counts {
            if !range.contains(&value) {
                return Err(SkillError::Config { key, value: value.to_string(), expected });
            }
        }
        if !(0.5..=10.0).contains(&self.chars_per_token) {
            let (key, value) = ("creator.transcript.chars_per_token", self.chars_per_token.to_string());
            return Err(SkillError::Config { key, value, expected: "in [0.5, 10]" });
        }
        Ok(())
    }
}

/// The episodes of one task, the telling ones first, within the group's budget.
///
/// Skills that fired are named after `bank`, or by id if it does not hold them.
#[must_use]
pub fn format_group(
    group: &[&SkillEpisode],
    bank: &SkillBank,
    config: &TranscriptConfig,
    estimate: &dyn TokenEstimate,
) -> String {
    let shown = choose(group, config.episodes_per_group);
    let note = if shown.len() < group.len() {
        format!("[{} of {} episodes of this task shown]\n", shown.len(), group.len())
    } else {
        String::new()
    };
    let n = shown.len().max(1);
    let chars = config.group_chars.saturating_sub(note.chars().count()) / n;
    let tokens = config.group_tokens.saturating_sub(estimate.tokens(&note)) / n;
    let texts = shown.iter().enumerate().map(|(index, played)| {
        // One character and one token for the line break between two of them.
        let budget = Budget { chars: chars.saturating_sub(1), tokens: tokens.saturating_sub(1) };
        format_episode(index + 1, played, bank, config, budget, estimate)
    });
    note + &texts.collect::<Vec<_>>().join("\n")
}

/// What a transcript may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Characters.
    pub chars: usize,
    /// Tokens, by the estimate.
    pub tokens: usize,
}

impl Budget {
    fn holds(self, text: &str, estimate: &dyn TokenEstimate) -> bool {
        text.chars().count() <= self.chars && estimate.tokens(text) <= self.tokens
    }
}

/// One episode: a header, its turns, its end. If it does not fit, turns in the middle go, and a line says which and how
/// long they were. A budget too small even for the header and that line gives that much of the header.
#[must_use]
pub fn format_episode(
    number: usize,
    played: &SkillEpisode,
    bank: &SkillBank,
    config: &TranscriptConfig,
    budget: Budget,
    estimate: &dyn TokenEstimate,
) -> String {
    let episode = &played.episode;
    let outcome = if episode.is_success() { "SUCCESS" } else { "FAILURE" };
    let header = format!(
        "### Episode {number}: {outcome}, {} turns, bank version: {}\n",
        episode.turns.len(),
        played.arm
    );
    let turns: Vec<String> =
        (0..episode.turns.len()).map(|turn_idx| turn(played, turn_idx, bank, config)).collect();
    let end = format!("end: {outcome}. {}\n", shorten(&episode.final_observation, config.text_chars));
    let assemble = |head: usize, tail: usize| {
        let (left, n) = (&turns[head..turns.len() - tail], turns.len());
        let marker = if left.is_empty() {
            String::new()
        } else {
            let chars: usize = left.iter().map(|turn| turn.chars().count()).sum();
            format!(
                "[turns {} to {} left out: {} turns, {chars} characters]\n",
                head,
                n - tail - 1,
                left.len()
            )
        };
        [&header, &turns[..head].concat(), &marker, &turns[n - tail..].concat(), &end]
            .map(String::as_str)
            .concat()
    };
    let whole = assemble(turns.len(), 0);
    if budget.holds(&whole, estimate) {
        return whole;
    }
    let (mut head, mut tail) = (0, 0);
    let mut best = assemble(0, 0);
    if !budget.holds(&best, estimate) {
        return cut(&best, budget, estimate);
    }
    // Two turns at the end for each at the beginning, while they fit; then whichever side still does.
    let mut blocked = [false; 2];
    while head + tail < turns.len() && blocked != [true; 2] {
        let to_head = if blocked[0] || blocked[1] { blocked[1] } else { tail >= 2 * (head + 1) };
        let (h, t) = if to_head { (head + 1, tail) } else { (head, tail + 1) };
        let text = assemble(h, t);
        if budget.holds(&text, estimate) {
            (head, tail, best) = (h, t, text);
        } else {
            blocked[usize::from(!to_head)] = true;
        }
    }
    best
}

fn turn(played: &SkillEpisode, turn_idx: usize, bank: &SkillBank, config: &TranscriptConfig) -> String {
    let turn = &played.episode.turns[turn_idx];
    let short = |text: &str| shorten(text, config.text_chars);
    let mut text = format!("[{turn_idx}] saw: {}\n", short(&turn.observation));
    let shown: Vec<&str> = played
        .triggered
        .get(turn_idx)
        .into_iter()
        .flatten()
        .map(|id| bank.get(id).map_or(id.0.as_str(), |skill| skill.name()))
        .collect();
    if !shown.is_empty() {
        text.push_str(&format!("    skills shown: {}\n", shown.join(", ")));
    }
    let action = turn.action.as_deref().unwrap_or("(no action could be read)");
    if config.replies && turn.reply.trim() != action && !turn.reply.trim().is_empty() {
        text.push_str(&format!("    said: {}\n", short(&turn.reply)));
    }
    let invalid = if turn.valid { "" } else { " (not possible here)" };
    text.push_str(&format!("    did: {}{invalid}\n", short(action)));
    text
}

/// A text in one line; of a long one the beginning and the end, with the size of what lies between.
fn shorten(text: &str, max_chars: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let chars: Vec<char> = line.chars().collect();
    if chars.len() <= max_chars {
        return line;
    }
    // The marker takes at most 40 characters.
    let keep = max_chars.saturating_sub(40).max(1);
    let head = keep - keep / 3;
    let tail = keep - head;
    let (first, last) = (&chars[..head], &chars[chars.len() - tail..]);
    let left_out = chars.len() - keep;
    let (first, last) = (first.iter().collect::<String>(), last.iter().collect::<String>());
    format!("{first} [{left_out} characters left out] {last}")
}

/// The longest beginning that fits, for budgets that hold nothing better.
fn cut(text: &str, budget: Budget, estimate: &dyn TokenEstimate) -> String {
    const MARK: &str = " [cut]\n";
    let chars: Vec<char> = text.chars().collect();
    let (mut low, mut high) = (0, chars.len());
    while low < high {
        let middle = (low + high).div_ceil(2);
        let candidate = chars[..middle].iter().collect::<String>() + MARK;
        if budget.holds(&candidate, estimate) { low = middle } else { high = middle - 1 }
    }
    if low == 0 { String::new() } else { chars[..low].iter().collect::<String>() + MARK }
}

/// Up to `n` episodes: outcomes and versions take turns, the newest of each first.
fn choose<'a>(group: &[&'a SkillEpisode], n: usize) -> Vec<&'a SkillEpisode> {
    let mut classes: Vec<((bool, usize), Vec<&'a SkillEpisode>)> = Vec::new();
    for played in group.iter().rev() {
        let class = (played.episode.is_success(), played.arm.index());
        match classes.iter_mut().find(|(known, _)| *known == class) {
            Some((_, members)) => members.push(played),
            None => classes.push((class, vec![played])),
        }
    }
    // Failure beside success of the same arm, arm after arm.
    classes.sort_by_key(|((success, arm), _)| (*arm, *success));
    let mut chosen = Vec::new();
    for round in 0.. {
        let next: Vec<&SkillEpisode> =
            classes.iter().filter_map(|(_, members)| members.get(round)).copied().collect();
        if next.is_empty() || chosen.len() >= n {
            break;
        }
        chosen.extend(next);
    }
    chosen.truncate(n);
    chosen
}
