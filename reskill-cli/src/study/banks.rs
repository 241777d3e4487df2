//! The banks that the runs of an arm ended with, as Agent Skills that say where they come from.

use std::path::Path;

use anyhow::{Context, Result, bail};
use reskill_skills::store::{load_bank, load_history, save_bank};
use reskill_skills::{HistoryKind, HistoryRecord, Operation, Skill, SkillBank};

use super::{PlannedRun, StudyDir};

/// Key of `metadata` in a skill's file.
const PROVENANCE: &str = "provenance";

/// Writes `out/ARM/seed-N/NAME/SKILL.md` for every finished run of the arm; returns how many banks and skills they are.
///
/// # Errors
/// If the study has no such arm, none of its runs is finished, or a file cannot be read or written.
pub fn export(study: &StudyDir, arm: &str, out: &Path) -> Result<(usize, usize)> {
    let arms = &study.study().arms;
    let Some(index) = arms.iter().position(|spec| spec.name == arm) else {
        let names: Vec<&str> = arms.iter().map(|spec| spec.name.as_str()).collect();
        bail!("--arm {arm}: the study has no such arm; it has {}", names.join(", "));
    };
    let (mut n_banks, mut n_skills) = (0, 0);
    let finished = |run: &PlannedRun| study.folder(run).join("summary.json").is_file();
    for run in study.study().plan().into_iter().filter(|run| run.arm == index).filter(finished) {
        let folder = study.folder(&run);
        let skills = folder.join("skills");
        if !skills.is_dir() {
            bail!(
                "{}: is not there; give the folder that `study run` made, not what was packed",
                skills.display()
            );
        }
        let history = load_history(&folder.join("history.jsonl"))
            .with_context(|| format!("{}: its history cannot be read", folder.display()))?;
        let place = format!("{}, arm `{arm}`, seed {}", study.study().title, run.seed);
        let with_provenance = |mut skill: Skill| {
            let text = format!("{place}: {}", provenance(&skill, &history));
            skill.foreign.metadata.insert(PROVENANCE.into(), text);
            skill
        };
        let bank = load_bank(&skills)?.skills().iter().cloned().map(with_provenance).collect();
        let bank = SkillBank::from_skills(bank)?;
        save_bank(&out.join(arm).join(format!("seed-{}", run.seed)), &bank)?;
        (n_banks, n_skills) = (n_banks + 1, n_skills + bank.skills().len());
    }
    if n_banks == 0 {
        bail!("--arm {arm}: none of its runs is finished");
    }
    Ok((n_banks, n_skills))
}

/// The decision that a skill's present text comes from, in a sentence.
fn provenance(skill: &Skill, history: &[HistoryRecord]) -> String {
    let wrote = |operation: &Operation| match operation {
        Operation::Add(content) => *content == skill.content,
        Operation::Modify { id, content } => *id == skill.id && *content == skill.content,
        Operation::Delete { .. } => false,
    };
    let is_it =
        |record: &&HistoryRecord| record.kind == HistoryKind::Accepted && record.operations.iter().any(wrote);
    let Some(decision) = history.iter().rev().find(is_it).and_then(|record| record.decision.as_ref()) else {
        return "given at the start".into();
    };
    let share = |index: usize| {
        decision.arms.get(index).map_or("nothing".to_string(), |arm| {
            format!("{} of {} episodes won", arm.successes, arm.episodes)
        })
    };
    let z = decision.z.map_or(String::new(), |z| format!(", z {z:.2}"));
    format!(
        "born after step {}, accepted after step {}: {} with it, {} without it in the same groups{z}, P(better) {:.3}",
        skill.born_step,
        decision.step,
        share(decision.candidate.index()),
        share(0),
        decision.p_new_better
    )
}
