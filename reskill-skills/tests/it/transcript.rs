//! Transcripts keep their budget and name what they leave out.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_skills::transcript::{Budget, CharsPerToken, TranscriptConfig, format_episode, format_group};
use reskill_skills::{Arm, SkillBank, SkillEpisode};

use crate::world::{FORGETFUL, play};

const ESTIMATE: CharsPerToken = CharsPerToken(3.0);

fn long_episode(seed: u64, observation: usize) -> SkillEpisode {
    let mut played = play(seed, FORGETFUL, &SkillBank::default(), Arm::Incumbent, 0, seed);
    for turn in &mut played.episode.turns {
        turn.observation = "word ".repeat(observation);
    }
    played
}

#[test]
fn no_budget_is_exceeded_and_what_is_left_out_is_named() {
    let config = TranscriptConfig::default();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for seed in 0..200 {
        let played = long_episode(seed, rng.random_range(0..300));
        let budget = Budget { chars: rng.random_range(0..9000), tokens: rng.random_range(0..3000) };
        let text = format_episode(1, &played, &SkillBank::default(), &config, budget, &ESTIMATE);
        assert!(text.chars().count() <= budget.chars, "{} > {}", text.chars().count(), budget.chars);
        assert!(text.chars().count().div_ceil(3) <= budget.tokens);
        let shown = text.lines().filter(|line| line.trim_start().starts_with("did:")).count();
        let n_turns = played.episode.turns.len();
        if text.ends_with("[cut]\n") || text.is_empty() {
            continue;
        }
        let marked: usize = text
            .split(" left out: ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .map_or(0, |number| number.parse().unwrap());
        assert_eq!(shown + marked, n_turns, "every turn is shown or counted:\n{text}");
        if shown >= 3 && marked > 0 {
            assert!(text.contains("[0] saw:"), "the head stays");
            assert!(text.contains(&format!("[{}] saw:", n_turns - 1)), "the tail stays");
        }
    }
}

#[test]
fn long_observations_keep_their_ends_and_tell_their_size() {
    let played = long_episode(3, 500);
    let budget = Budget { chars: 1_000_000, tokens: 1_000_000 };
    let text =
        format_episode(1, &played, &SkillBank::default(), &TranscriptConfig::default(), budget, &ESTIMATE);
    // 500 words of four letters with blanks between: 2499 characters, of which 560 stay.
    assert!(text.contains("[1939 characters left out]"), "{text}");
}

#[test]
fn a_group_shows_both_outcomes_and_all_versions_within_its_budget() {
    let mut group: Vec<SkillEpisode> = (0..10).map(|seed| long_episode(seed, 100)).collect();
    for (index, played) in group.iter_mut().enumerate() {
        let success = index == 2 || index == 5;
        played.arm = if index >= 5 { Arm::Candidate(0) } else { Arm::Incumbent };
        played.episode.outcome =
            if success { reskill_envs::Outcome::Success } else { reskill_envs::Outcome::Failure };
    }
    let group: Vec<&SkillEpisode> = group.iter().collect();
    let config = TranscriptConfig { group_chars: 6000, ..TranscriptConfig::default() };
    let text = format_group(&group, &SkillBank::default(), &config, &ESTIMATE);
    assert!(text.starts_with("[4 of 10 episodes of this task shown]"), "{text}");
    assert_eq!(text.matches("SUCCESS, ").count(), 2);
    assert_eq!(text.matches("bank version: candidate 0").count(), 2);
    assert!(text.chars().count() <= 6000 && text.chars().count().div_ceil(3) <= config.group_tokens);
    // An exact tokenizer may stand in for the estimate.
    let by_words = |text: &str| text.split_whitespace().count();
    let config = TranscriptConfig { group_tokens: 500, text_chars: 80, ..TranscriptConfig::default() };
    let text = format_group(&group, &SkillBank::default(), &config, &by_words);
    assert!(by_words(&text) <= 500 && by_words(&text) > 250, "{}", by_words(&text));
}
