//! The corpus of the fuzzer, replayed: SKILL.md files that once were trouble, or easily could be.

use std::path::Path;

use reskill_skills::{SkillStatus, skill_md};

/// What the fuzz target asserts, on one file. Returns whether it holds a skill.
fn replay(text: &str) -> bool {
    let (Some(skill), _) = skill_md::parse(text, None) else { return false };
    if skill.foreign.source.is_some() {
        assert_eq!(skill_md::write(&skill), text);
    }
    let mut changed = skill;
    changed.status =
        if changed.status == SkillStatus::Active { SkillStatus::Inactive } else { SkillStatus::Active };
    let written = skill_md::write(&changed);
    let (again, problems) = skill_md::parse(&written, None);
    let again = again.unwrap_or_else(|| panic!("{problems:?} in {written}"));
    assert_eq!(again.content, changed.content, "{written}");
    assert_eq!((again.status, again.version), (changed.status, changed.version));
    assert_eq!(again.foreign.metadata, changed.foreign.metadata, "{written}");
    assert_eq!(skill_md::write(&again), written);
    true
}

#[test]
fn every_file_of_the_corpus_is_refused_or_survives_a_round_trip() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/skill_md");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = files.iter().filter(|file| std::fs::read_to_string(file).is_ok_and(|text| replay(&text)));
    assert!(read.count() >= 4, "{files:?}");
}
