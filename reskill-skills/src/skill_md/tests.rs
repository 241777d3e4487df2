//! SKILL.md: both directions, odd but legal files, and what is refused.
use std::path::Path;

use super::*;
use crate::skill::{ForeignFields, SkillContent, SkillId, SkillStatus};

fn skill() -> Skill {
    Skill {
        id: SkillId("s0003".into()),
        content: SkillContent {
            name: "open-after-go-to".into(),
            when_to_use: "Right after: a `go to` command # yes.".into(),
            action: "next open".into(),
            example: Some(Example::Dont("go to drawer 1, go to drawer 2".into())),
            trigger: Trigger::after_action(r"^go to (drawer|cabinet) \d+$").unwrap(),
            guidance: Some("next open".parse().unwrap()),
        },
        version: 4,
        status: SkillStatus::Active,
        born_step: 17,
        foreign: ForeignFields::default(),
    }
}

#[test]
fn what_is_written_reads_back_as_the_same_skill() {
    let mut variants = vec![skill(), skill(), skill()];
    variants[1].content.example = Some(Example::Do("open drawer 1".into()));
    variants[1].content.trigger = Trigger::EpisodeStart;
    variants[2].content.example = None;
    variants[2].content.guidance = None;
    variants[2].status = SkillStatus::Inactive;
    variants[2].foreign.license = Some("MIT".into());
    variants[2].foreign.metadata.insert("author".into(), "007".into());
    for skill in variants {
        let text = write(&skill);
        assert_eq!(read(&text, Path::new("bank/open-after-go-to/SKILL.md")).unwrap(), skill, "{text}");
    }
}

#[test]
fn metadata_values_are_strings() {
    let text = write(&skill());
    assert!(text.contains("reskill-version: \"4\""), "{text}");
    assert!(text.contains("reskill-trigger: action_pattern"), "{text}");
    assert!(text.ends_with("---\n\nnext open\n\nDon't: go to drawer 1, go to drawer 2\n"), "{text}");
}

#[test]
fn a_third_party_skill_is_general_and_its_body_the_guidance() {
    let text = "\u{feff}---\r\nname: pdf-tools\r\ndescription: >-\r\n  Work with\r\n  PDF files.\r\nlicense: MIT\r\nallowed-tools: [Read, Bash]\r\nmetadata:\r\n  author: org\r\n  version: 1.0\r\n---\r\n# PDF\r\n\r\nUse it.\r\n\r\n---\r\nend\r\n";
    let skill = read(text, Path::new("pdf-tools/SKILL.md")).unwrap();
    assert_eq!(skill.content.when_to_use, "Work with PDF files.");
    assert_eq!(skill.content.action, "# PDF\n\nUse it.\n\n---\nend");
    assert_eq!(skill.content.trigger, Trigger::Always);
    assert_eq!(skill.foreign.allowed_tools.as_deref(), Some("Read Bash"));
    assert_eq!(skill.foreign.metadata["version"], "1.0");
}

#[test]
fn malformed_files_say_what_is_wrong() {
    let path = Path::new("a/SKILL.md");
    for (text, expected) in [
        ("name: a", "no front matter"),
        ("---\nname: b\ndescription: d\n---\nx", "differs from its folder"),
        ("---\nname: a\ndescription: ''\n---\nx", "`description` is empty"),
        (
            "---\nname: a\ndescription: d\nmetadata: {reskill-trigger: action_pattern}\n---\nx",
            "pattern` is missing",
        ),
        ("---\nname: a\ndescription: d\nmetadata: {reskill-version: two}\n---\nx", "not a number"),
        ("---\nname: [\n---\n", "front matter"),
    ] {
        let error = read(text, path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

fn read_text(text: &str) -> Skill {
    read(text, Path::new("a/SKILL.md")).unwrap()
}

#[test]
fn a_third_party_file_is_written_back_byte_for_byte() {
    for text in [
        "\u{feff}---\r\nname: a\r\ndescription: >-\r\n  folded\r\n  text\r\n---\r\n# Body\r\n\r\n",
        "---\n# a comment\n'name': a\n\"description\": &d \"x: y\"\nauthor: *d\nmetadata:\n  n: 1.50\n---\nBody  \n",
        "---\n{name: a, description: flow style, version: 2}\n---\n",
    ] {
        let skill = read_text(text);
        assert_eq!(write(&skill), text);
        let json = serde_json::to_string(&skill).unwrap();
        assert_eq!(write(&serde_json::from_str::<Skill>(&json).unwrap()), text);
    }
}

#[test]
fn unknown_keys_outlive_a_change_as_they_were_written() {
    let unknown = "version:   1.10   # theirs\ntags:\n- one\n-   two\nblock: |\n  a\n\n  b\n";
    let text =
        format!("---\nname: a\n{unknown}description: d\nmetadata: {{k: [1, 2]}}\nlicense: MIT\n---\nOld.\n");
    let mut skill = read_text(&text);
    skill.content.action = "New.".into();
    skill.version += 1;
    let written = write(&skill);
    assert!(written.contains(unknown), "{written}");
    let again = read_text(&written);
    assert_eq!(
        (again.foreign.metadata["k"].as_str(), again.foreign.license.as_deref()),
        ("1 2", Some("MIT"))
    );
    assert_eq!((again.content.action.as_str(), again.version), ("New.", 2));
    // A second change leaves them alone too.
    assert_eq!(write(&again), written);
}

#[test]
fn unknown_keys_that_lean_on_anchors_elsewhere_keep_their_values() {
    let mut skill = read_text("---\nname: a\ndescription: &d shared\nsummary: *d\n---\nx");
    skill.status = SkillStatus::Inactive;
    let again = read_text(&write(&skill));
    assert!(again.foreign.extra.contains("summary: shared"), "{}", again.foreign.extra);
}

#[test]
fn bombs_are_refused() {
    let mut yaml =
        String::from("---\nname: a\ndescription: d\nx0: &x0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..12 {
        let before = format!("*x{}, ", level - 1).repeat(9);
        yaml.push_str(&format!("x{level}: &x{level} [{before}]\n"));
    }
    yaml.push_str("---\nbody");
    assert!(read(&yaml, Path::new("a/SKILL.md")).is_err());
    let deep = format!("---\nname: a\ndescription: d\nx: {}{}\n---\n", "[".repeat(5000), "]".repeat(5000));
    assert!(read(&deep, Path::new("a/SKILL.md")).is_err());
    let long = format!("---\nname: a\ndescription: d\n# {}\n---\n", "x".repeat(70_000));
    assert!(read(&long, Path::new("a/SKILL.md")).unwrap_err().to_string().contains("bytes"));
}

#[test]
fn every_problem_comes_with_its_line() {
    let text = "---\nname: B\nauthor: me\ndescription: d\nmetadata:\n  reskill-status: on\n  reskill-trigger: never\n---\n";
    let (skill, problems) = parse(text, Some("a"));
    assert!(skill.is_none());
    let lines: Vec<(usize, bool)> = problems.iter().map(|it| (it.line, it.fatal)).collect();
    assert_eq!(lines, [(2, true), (3, false), (6, true), (7, true)], "{problems:#?}");
    let (_, problems) = parse("---\nname: a\nname: a\n---\n", None);
    assert_eq!(problems[0].line, 3, "{problems:#?}");
}
