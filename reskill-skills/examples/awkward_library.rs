//! Writes a library of skills whose texts are as awkward as this crate accepts, for other readers of the format.
//!
//! `cargo run --release -p reskill-skills --example awkward_library -- FOLDER`

use std::path::Path;

use reskill_skills::skill::ForeignFields;
use reskill_skills::store::save_bank;
use reskill_skills::{Example, Skill, SkillBank, SkillContent, SkillError, SkillId, SkillStatus, Trigger};

fn main() -> Result<(), SkillError> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "awkward-library".into());
    let long = "very long ".repeat(100);
    let texts: [&str; 24] = [
        "Plain words.",
        "Right after: a `go to` command.",
        "With # no comment, and a colon at the end:",
        "--- begins with dashes",
        "dashes --- in the middle --- and at the end ---",
        "- like a list item",
        "\"double\" and 'single' quotes, \\ backslash",
        "'",
        "{flow: mapping}",
        "[flow, sequence]",
        "*alias &anchor !tag",
        "%directive",
        "@at `backtick`",
        "| pipe",
        "> folded",
        "ünïcödé, 東京, 🦀, עברית",
        "true",
        "null",
        "007",
        "1e3",
        "2026-01-02",
        "no\u{a0}break \u{200b}zero\u{2028}separator",
        "tab\tinside",
        long.trim_end(),
    ];
    let mut skills = Vec::new();
    for (index, text) in texts.into_iter().enumerate() {
        let short: String = text.chars().take(1000).collect();
        let trigger = match index % 3 {
            0 => Trigger::Always,
            1 => Trigger::EpisodeStart,
            _ => Trigger::after_action(r#"^go to ("drawer"|cabinet: \d+)\b|--- #"#)?,
        };
        let mut foreign = ForeignFields::default();
        if index % 4 == 0 {
            foreign.license = Some(text.chars().take(60).collect());
            foreign.compatibility = Some("Needs: nothing --- at all".into());
            foreign.allowed_tools = Some("Read Bash(git:*)".into());
            foreign.metadata.insert("Author: name".into(), text.to_owned());
        }
        skills.push(Skill {
            id: SkillId(format!("s{index:04}")),
            content: SkillContent {
                name: format!("skill-{index}"),
                when_to_use: short.trim().to_owned(),
                action: format!("{text}\n\n---\n\n{text}"),
                example: (index % 2 == 0).then(|| Example::Dont(text.to_owned())),
                trigger,
                guidance: None,
            },
            version: 3,
            status: if index == 5 { SkillStatus::Inactive } else { SkillStatus::Active },
            born_step: 17,
            foreign,
        });
    }
    save_bank(Path::new(&folder), &SkillBank::from_skills(skills)?)
}
