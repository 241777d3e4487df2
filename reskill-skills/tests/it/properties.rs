//! Properties of banks, diffs, files and triggers over generated inputs.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use reskill_skills::prompt::{SectionBudget, render};
use reskill_skills::skill::ForeignFields;
use reskill_skills::{
    Example, Operation, Skill, SkillBank, SkillContent, SkillError, SkillId, SkillLimits, SkillStatus,
    Trigger, skill_md,
};

/// A line of text with whatever YAML finds awkward.
fn line() -> impl Strategy<Value = String> {
    let awkward = prop::sample::select(vec![
        "plain words",
        "a: b",
        "# no comment",
        "---",
        "- item",
        "'single'",
        "\"double\"",
        "\\ back",
        "{x}",
        "[y]",
        "*z",
        "&a",
        "!t",
        "%",
        "@",
        "`",
        "| pipe",
        "> fold",
        "ünï 東京 🦀",
        "true",
        "null",
        "007",
        "~",
        "?",
        ": ",
        "Do: x",
        "-",
        "\u{a0}",
        "\u{200b}\u{feff}",
    ]);
    vec(prop_oneof![3 => awkward.prop_map(str::to_owned), 1 => "[ -~]{0,12}", 1 => "\\PC{0,6}"], 1..4)
        .prop_map(|parts| parts.join(" ").split_whitespace().collect::<Vec<_>>().join(" "))
        .prop_filter("a text is not blank", |text| !text.is_empty() && text.split_whitespace().count() <= 20)
}

fn trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![
        Just(Trigger::Always),
        Just(Trigger::EpisodeStart),
        "[a-z]{1,8}( [a-z]{1,8})?".prop_map(|verb| Trigger::after_action(&format!(r"^{verb}\b")).unwrap()),
    ]
}

fn content(name: impl Strategy<Value = String>) -> impl Strategy<Value = SkillContent> {
    let example = prop::option::of(
        (any::<bool>(), line()).prop_map(
            |(good, text)| {
                if good { Example::Do(text) } else { Example::Dont(text) }
            },
        ),
    );
    let guidance = prop::option::of("[a-z]{1,8}".prop_map(|verb| format!("next {verb}").parse().unwrap()));
    (name, line(), line(), example, trigger(), guidance).prop_map(
        |(name, when_to_use, action, example, trigger, guidance)| SkillContent {
            name,
            when_to_use,
            action,
            example,
            trigger,
            guidance,
        },
    )
}

/// Few names, so that they collide.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"]).prop_map(str::to_owned)
}

/// Few ids, so that they meet.
fn id() -> impl Strategy<Value = SkillId> {
    (0u32..14).prop_map(|number| SkillId(format!("s{number:04}")))
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => content(name()).prop_map(Operation::Add),
        1 => (id(), content(name())).prop_map(|(id, content)| Operation::Modify { id, content }),
        1 => id().prop_map(|id| Operation::Delete { id }),
    ]
}

/// The bank after those bundles that apply.
fn bank() -> impl Strategy<Value = SkillBank> {
    vec(vec(operation(), 1..4), 0..8).prop_map(|bundles| {
        bundles.iter().enumerate().fold(SkillBank::default(), |bank, (step, bundle)| {
            bank.apply(bundle, step as u64, &SkillLimits::default()).unwrap_or(bank)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_bundle_applies_as_its_operations_one_by_one_or_not_at_all(
        bank in bank(),
        bundle in vec(operation(), 0..5),
    ) {
        let limits = SkillLimits::default();
        let before = bank.clone();
        let whole = bank.apply(&bundle, 9, &limits);
        prop_assert_eq!(&bank, &before);
        match whole {
            Ok(after) => {
                prop_assert!((1..=limits.max_operations).contains(&bundle.len()));
                prop_assert!(after.n_active() <= limits.max_skills);
                // In steps, with room for what a later operation takes back.
                let wide = SkillLimits { max_skills: 100, ..limits };
                let steps = bundle.iter().try_fold(bank, |bank, one| bank.apply(std::slice::from_ref(one), 9, &wide));
                // A name may be taken in between, in steps only.
                if let Ok(steps) = steps {
                    prop_assert_eq!(steps, after);
                }
            }
            Err(SkillError::Count { .. }) => {}
            Err(SkillError::UnknownSkill { .. } | SkillError::Duplicate { .. } | SkillError::Limit { .. }) => {}
            Err(other) => return Err(TestCaseError::fail(format!("unexpected: {other}"))),
        }
    }

    #[test]
    fn ids_and_names_are_unique_and_ids_only_grow(bundles in vec(vec(operation(), 1..4), 1..10)) {
        let mut bank = SkillBank::default();
        let mut born: Vec<SkillId> = Vec::new();
        for bundle in bundles {
            let Ok(next) = bank.apply(&bundle, 0, &SkillLimits::default()) else { continue };
            for skill in next.skills() {
                if bank.get(&skill.id).is_none() {
                    prop_assert!(!born.contains(&skill.id), "{} was there before", skill.id);
                    born.push(skill.id.clone());
                }
            }
            prop_assert!(SkillBank::from_skills(next.skills().to_vec()).is_ok());
            bank = next;
        }
    }

    #[test]
    fn a_diff_is_undone_by_the_diff_the_other_way(one in bank(), other in bank()) {
        let there = one.patch(&one.diff(&other)).unwrap();
        prop_assert_eq!(there.skills(), other.skills());
        let back = other.patch(&other.diff(&one)).unwrap();
        prop_assert_eq!(back.skills(), one.skills());
        prop_assert_eq!(one.diff(&other).is_empty(), one.diff(&other).added.is_empty()
            && one.diff(&other).modified.is_empty() && one.diff(&other).deleted.is_empty());
    }

    #[test]
    fn banks_read_back_from_json(bank in bank()) {
        let json = serde_json::to_string(&bank).unwrap();
        prop_assert_eq!(serde_json::from_str::<SkillBank>(&json).unwrap(), bank);
    }

    #[test]
    fn skills_read_back_from_skill_md(
        content in content("[a-z0-9]{1,10}(-[a-z0-9]{1,10}){0,3}".prop_map(|name| name)),
        version in 1u32..1000,
        active in any::<bool>(),
        born_step in any::<u64>(),
        license in prop::option::of(line()),
        (key, value) in ("[a-z][a-z-]{0,10}", line()),
    ) {
        prop_assume!(SkillLimits::default().check(&content).is_ok() && !key.starts_with("reskill-"));
        let foreign = ForeignFields {
            license,
            metadata: [(key, value)].into_iter().collect(),
            ..ForeignFields::default()
        };
        let status = if active { SkillStatus::Active } else { SkillStatus::Inactive };
        let skill = Skill { id: SkillId("s0007".into()), content, version, status, born_step, foreign };
        let text = skill_md::write(&skill);
        let path = Path::new(skill.name()).join("SKILL.md");
        prop_assert_eq!(skill_md::read(&text, &path).unwrap(), skill.clone(), "{}", text);
        // The front matter ends where the simplest reader would look for its end.
        prop_assert_eq!(text.split("---").nth(1).unwrap().lines().count(), text.lines().skip(1)
            .position(|line| line == "---").unwrap() + 1);
    }

    #[test]
    fn third_party_files_come_back_as_they_were(body in "\\PC{0,40}(\n\\PC{0,40}){0,3}\r?\n?", mark in any::<bool>()) {
        let mark = if mark { "\u{feff}" } else { "" };
        let text = format!("{mark}---\nname: a\ndescription: >\n  folded\n  text # not a comment\nauthor: me\n---\n{body}");
        let skill = skill_md::read(&text, Path::new("a/SKILL.md")).unwrap();
        prop_assert_eq!(skill_md::write(&skill), text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(---\n)?(name: a\n)?(\\PC{0,30}\n){0,6}(---\n)?\\PC{0,20}") {
        let (skill, problems) = skill_md::parse(&text, Some("a"));
        prop_assert_eq!(skill.is_none(), problems.iter().any(|problem| problem.fatal));
        prop_assert!(problems.iter().all(|problem| problem.line <= text.lines().count() + 1));
    }

    #[test]
    fn triggers_fire_on_their_own_turns_only(verb in "[a-z]{1,8}", rest in "[a-z0-9 ]{0,12}", turn_idx in 0usize..50) {
        let after = Trigger::after_action(&format!(r"^{verb}\b")).unwrap();
        let action = format!("{verb} {rest}");
        prop_assert!(after.fires(turn_idx, Some(&action)) && after.fires(turn_idx, Some(&action.to_uppercase())));
        let longer = format!("x{action}");
        prop_assert!(!after.fires(turn_idx, Some(&longer)) && !after.fires(turn_idx, None));
        prop_assert_eq!(Trigger::EpisodeStart.fires(turn_idx, Some(&action)), turn_idx == 0);
        prop_assert!(Trigger::Always.fires(turn_idx, None));
    }

    #[test]
    fn patterns_are_refused_or_compile_and_never_match_nothing(source in "\\PC{0,40}") {
        if let Ok(Trigger::AfterAction(pattern)) = Trigger::after_action(&source) {
            prop_assert!(!pattern.is_match(""));
        }
    }

    #[test]
    fn a_section_keeps_its_budget_and_accounts_for_every_skill(
        bank in bank(),
        max_chars in prop::option::of(0usize..400),
        max_tokens in prop::option::of(0usize..60),
    ) {
        let words = |text: &str| text.split_whitespace().count();
        let skills: Vec<&Skill> = bank.skills().iter().collect();
        let section = render(&skills, &SectionBudget { max_chars, max_tokens }, &words);
        prop_assert!(max_chars.is_none_or(|max| section.text.chars().count() <= max));
        prop_assert!(max_tokens.is_none_or(|max| words(&section.text) <= max));
        prop_assert_eq!(section.shown.len() + section.left_out.len(), skills.len());
        prop_assert!(section.shown.iter().all(|id| section.text.contains(bank.get(id).unwrap().name())));
        prop_assert!(max_chars.is_some() || max_tokens.is_some() || section.left_out.is_empty());
    }
}
