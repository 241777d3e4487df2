//! Banks and histories on disk.

use reskill_skills::store::{load_bank, load_history, save_bank, save_history};
use reskill_skills::{
    HistoryKind, HistoryRecord, Operation, SkillBank, SkillContent, SkillError, SkillLimits, Trigger,
};

fn add(name: &str) -> Operation {
    Operation::Add(SkillContent {
        name: name.into(),
        when_to_use: "Right after a `go to` command.".into(),
        action: "next open".into(),
        example: None,
        trigger: Trigger::after_action(r"^go to (drawer|cabinet)\b").unwrap(),
        guidance: Some("next open".parse().unwrap()),
    })
}

#[test]
fn a_bank_reads_back_equal_and_deleted_skills_leave_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let limits = SkillLimits::default();
    let bank = SkillBank::default().apply(&[add("b"), add("a")], 7, &limits).unwrap();
    save_bank(folder.path(), &bank).unwrap();
    assert_eq!(load_bank(folder.path()).unwrap(), bank);

    std::fs::create_dir(folder.path().join("third-party")).unwrap();
    let foreign = "---\nname: third-party\ndescription: Theirs.\n---\nDo it.\n";
    std::fs::write(folder.path().join("third-party/SKILL.md"), foreign).unwrap();
    std::fs::write(folder.path().join("a/notes.txt"), "kept").unwrap();
    let smaller = bank
        .apply(
            &[
                Operation::Delete { id: bank.skills()[0].id.clone() },
                Operation::Delete { id: bank.skills()[1].id.clone() },
            ],
            8,
            &limits,
        )
        .unwrap();
    save_bank(folder.path(), &smaller).unwrap();
    assert!(!folder.path().join("b").exists());
    assert!(folder.path().join("a/notes.txt").exists() && !folder.path().join("a/SKILL.md").exists());
    let names: Vec<String> =
        load_bank(folder.path()).unwrap().skills().iter().map(|skill| skill.name().to_owned()).collect();
    assert_eq!(names, ["third-party"]);
}

#[test]
fn a_history_reads_back_equal_and_a_bad_line_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.jsonl");
    let record = HistoryRecord {
        step: 3,
        kind: HistoryKind::Proposed,
        operations: vec![add("a")],
        reason: "why".into(),
        decision: None,
        artefacts: None,
    };
    let history = vec![record.clone(), HistoryRecord { step: 4, kind: HistoryKind::Rejected, ..record }];
    save_history(&file, &history).unwrap();
    assert_eq!(load_history(&file).unwrap(), history);
    std::fs::write(&file, "{\"step\":1}\n").unwrap();
    assert!(matches!(load_history(&file), Err(SkillError::Json { line: 1, .. })));
}
