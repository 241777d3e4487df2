//! What the skills of a run are worth: the bank against none, each skill left out and alone, how often guidance is followed,
//! and what every tested version would change, all on the same fixed games with the same draws.

mod player;
mod versions;
mod table;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use reskill_envs::Split;
use reskill_skills::{Rate, Skill, SkillBank, SkillId, SkillStatus};
use serde::{Deserialize, Serialize};

pub use self::table::render;
pub use self::versions::VersionAudit;

use self::player::{Played, Player};
use crate::failure_modes::FailureMode;
use crate::statistics::{Difference, Mean, difference, mean};
use crate::trainer::{HowToPlay, Trained};

/// How an audit plays.
#[derive(Debug, Clone)]
pub struct AuditSettings {
    /// Games, seeds and draws, the same for every bank.
    pub how: HowToPlay,
    /// Whether every version of the history is played as well, before and after.
    pub versions: bool,
    /// A bank to compare with, and what it is called.
    pub reference: Option<(String, SkillBank)>,
}

/// Success of the policy with one bank. Rates are in 0..=1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BankAudit {
    /// Share of games won: of each game over its seeds, then over games.
    pub success: Mean,
    /// Turns of an episode, mean.
    pub mean_turns: f64,
    /// Episodes.
    pub n_episodes: usize,
    /// Episodes that failed, by how.
    pub failures: BTreeMap<FailureMode, u64>,
    /// Episodes that the environment lost; no other number counts them.
    pub faults: u64,
}

/// One skill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SkillAudit {
    /// Its id.
    pub id: SkillId,
    /// Its name.
    pub name: String,
    /// Training step at which it was born.
    pub born_step: u64,
    /// Episodes in which it was shown, of those with the whole bank.
    pub shown_in: Rate,
    /// Turns on which its guidance was followed, of those on which it was shown and could be followed; `null` for a skill
    /// that names no action.
    pub heeded: Option<Rate>,
    /// Turns on which the same was done in the same situation with no skills at all; `null` as above.
    pub unprompted: Option<Rate>,
    /// Success with the bank without this skill.
    pub without: Mean,
    /// Success with the whole bank minus success without this skill, in pairs of games.
    pub adds: Difference,
    /// Success with this skill alone.
    pub alone: Mean,
    /// Success with this skill alone minus success with none.
    pub adds_alone: Difference,
}

/// A bank that was given for comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReferenceAudit {
    /// What it is called.
    pub name: String,
    /// Success with it.
    pub bank: BankAudit,
    /// Success with it minus success with the run's bank: the room that is left for better skills, as far as it shows.
    pub room: Difference,
}

/// One split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitAudit {
    /// The split.
    pub split: Split,
    /// Games, the same for every bank.
    pub n_games: usize,
    /// With the run's bank.
    pub all: BankAudit,
    /// Without skills.
    pub none: BankAudit,
    /// `all` minus `none`, in pairs of games.
    pub worth: Difference,
    /// The active skills.
    pub skills: Vec<SkillAudit>,
    /// Tested versions, if asked for.
    pub versions: Vec<VersionAudit>,
    /// The bank for comparison, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<ReferenceAudit>,
    /// Share of games that were won at least once with some bank of this audit: what a perfect choice of these banks could
    /// reach.
    pub within_reach: f64,
    /// Banks that were played.
    pub n_banks: usize,
}

/// Audits one split.
///
/// # Errors
/// If the split has no games, one cannot be played, or the history does not lead to the run's bank.
pub fn audit(trained: &Trained, split: Split, settings: &AuditSettings) -> Result<SplitAudit> {
    let bank = &trained.bank;
    let mut player = Player::new(trained, &settings.how, split);
    let all = player.play("all skills", bank)?;
    let none = player.play("no skills", &SkillBank::default())?;
    let mut skills = Vec::new();
    for skill in bank.skills().iter().filter(|skill| skill.status == SkillStatus::Active) {
        skills.push(of_skill(&mut player, bank, skill, &all, &none)?);
    }
    let versions = match settings.versions {
        true => versions::audit(trained, &mut player)?,
        false => Vec::new(),
    };
    let reference = match &settings.reference {
        None => None,
        Some((name, other)) => {
            let played = player.play(name, other)?;
            let room = difference(&played.minus(&all));
            Some(ReferenceAudit { name: name.clone(), bank: of_bank(&played), room })
        }
    };
    Ok(SplitAudit {
        split,
        n_games: all.games.len(),
        all: of_bank(&all),
        none: of_bank(&none),
        worth: difference(&all.minus(&none)),
        skills,
        versions,
        reference,
        within_reach: player.within_reach(),
        n_banks: player.n_banks(),
    })
}

fn of_bank(played: &Played) -> BankAudit {
    BankAudit {
        success: mean(&played.values()),
        mean_turns: played.mean_turns(),
        n_episodes: played.n_episodes,
        failures: played.failures.clone(),
        faults: played.faults,
    }
}

fn of_skill(
    player: &mut Player<'_>,
    bank: &SkillBank,
    skill: &Skill,
    all: &Played,
    none: &Played,
) -> Result<SkillAudit> {
    let name = skill.name();
    let without = player.play(&format!("without {name}"), &chosen(bank, |other| other.id != skill.id)?)?;
    let alone = player.play(&format!("only {name}"), &chosen(bank, |other| other.id == skill.id)?)?;
    let is_guided = skill.content.guidance.is_some();
    let rate = |played: &Played, of: fn(&reskill_skills::Heed) -> Rate| {
        is_guided.then(|| played.heed.get(&skill.id).map(of).unwrap_or_default())
    };
    Ok(SkillAudit {
        id: skill.id.clone(),
        name: name.to_string(),
        born_step: skill.born_step,
        shown_in: Rate {
            hits: all.shown_in.get(&skill.id).copied().unwrap_or(0),
            total: all.n_episodes as u64,
        },
        heeded: rate(all, |heed| heed.shown),
        unprompted: rate(none, |heed| heed.unshown),
        without: mean(&without.values()),
        adds: difference(&all.minus(&without)),
        alone: mean(&alone.values()),
        adds_alone: difference(&alone.minus(none)),
    })
}

/// The bank with some of its skills.
fn chosen(bank: &SkillBank, is_in: impl Fn(&Skill) -> bool) -> Result<SkillBank> {
    let skills = bank.skills().iter().filter(|skill| is_in(skill)).cloned().collect();
    SkillBank::from_skills(skills).context("a part of the bank is no bank")
}
