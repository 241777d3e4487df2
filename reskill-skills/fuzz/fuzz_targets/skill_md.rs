//! SKILL.md files from anywhere: they are read or refused, and what is read survives a round trip, changed or not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reskill_skills::{SkillStatus, skill_md};

fuzz_target!(|text: &str| {
    let (Some(skill), _) = skill_md::parse(text, None) else { return };
    // Nothing has changed: byte for byte, or at least the same skill.
    let written = skill_md::write(&skill);
    if skill.foreign.source.is_some() {
        assert_eq!(written, text);
    }
    let mut changed = skill.clone();
    changed.status = if skill.status == SkillStatus::Active { SkillStatus::Inactive } else { SkillStatus::Active };
    let written = skill_md::write(&changed);
    let (again, problems) = skill_md::parse(&written, None);
    let again = again.unwrap_or_else(|| panic!("{problems:?} in {written}"));
    assert_eq!(again.status, changed.status);
    assert_eq!((again.name(), &again.id, again.version), (changed.name(), &changed.id, changed.version));
    assert_eq!(again.content, changed.content, "{written}");
    assert_eq!(again.foreign.metadata, changed.foreign.metadata, "{written}");
    // Written twice, it says the same.
    assert_eq!(skill_md::write(&again), written);
});
