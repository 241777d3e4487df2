//! The stages together: what is asked, what is checked, what comes out.

use std::sync::{Arc, Mutex};

use reskill_skills::assertion::AssertionEdit;
use reskill_skills::{Operation, SkillContent, Trigger};
use serde_json::{Value, json};

use super::{World, brain, cost, quick, scripted, sensible};

fn content(operation: &Operation) -> &SkillContent {
    operation.content().unwrap()
}

#[test]
fn a_sensible_model_gives_a_candidate_with_the_work_of_every_stage() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let mut creator = sensible(&quick()).with_artefacts(dir.path().to_owned());
    let proposal = world.ask(&mut creator, 5).unwrap().unwrap();
    assert_eq!(proposal.operations.len(), 1);
    assert_eq!(content(&proposal.operations[0]).name, "open-on-arrival");
    assert_eq!(content(&proposal.operations[0]).guidance.as_ref().unwrap().verb, "open");
    let artefacts = &proposal.artefacts;
    assert_eq!((artefacts.insights.len(), artefacts.diagnosis.clusters.len()), (5, 3));
    assert!(matches!(artefacts.diagnosis.assertion_edits[0], AssertionEdit::Put(_)));
    // Graded with the assertion that was just added: opening separates successes from failures here.
    assert!(artefacts.assertions.rows[0].success.total > 0 && artefacts.assertions.rows[0].failure.total > 0);
    assert!(artefacts.verified[0].fired.hits > 0 && artefacts.verified[0].problems.is_empty());
    for stage in ["contrast", "grade", "diagnose", "recommend", "author-0"] {
        let path = dir.path().join(format!("step-000003/{stage}.json"));
        let stored: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(stored.is_array() || stored.is_object(), "{stage}");
    }
    let cost = cost(&creator);
    assert_eq!((cost.calls, cost.prompt_tokens, cost.completion_tokens), (8, 80, 16));
    assert!(cost.errors.is_empty());
}

#[test]
fn prompts_show_the_task_the_episodes_the_commands_and_the_schema() {
    let world = World::new();
    let prompts: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let kept = Arc::clone(&prompts);
    let mut creator = scripted(&quick(), move |stage, prompt, _| {
        kept.lock().unwrap().push((stage.to_owned(), prompt.to_owned()));
        Ok(brain::answer(stage, prompt).to_string())
    });
    world.ask(&mut creator, 1).unwrap();
    let prompts = prompts.lock().unwrap();
    let of = |stage: &str| prompts.iter().find(|(name, _)| name == stage).unwrap().1.clone();
    for (stage, fragments) in [
        (
            "contrast",
            vec!["put a apple in table", "did: go to", "SUCCESS", "take {o} from {r}", "\"confidence\""],
        ),
        ("diagnose", vec!["0. [pick] Closed containers", "1 to 8 groups", "\"assertion_edits\"", "pick: "]),
        ("recommend", vec!["cause 0", "opens-something", "has room: 0 of 8", "go to drawer #: "]),
        ("author", vec!["80% of failures", "at most 50 words", "at least 50%", "\"trigger\""]),
    ] {
        for fragment in fragments {
            assert!(of(stage).contains(fragment), "{fragment} in {stage}: {}", of(stage));
        }
        assert!(!of(stage).contains("{{"), "{stage} has an unfilled placeholder");
    }
}

/// An author who writes this first and something good when it is told of `fragment`.
fn second_try(first: Value, fragment: &'static str) -> (World, super::LlmCreator) {
    let creator = scripted(&quick(), move |stage, prompt, _| {
        let good = brain::answer(stage, prompt);
        let told = prompt.contains("Earlier tries") && prompt.contains(fragment);
        Ok(if stage == "author" && !told { first.to_string() } else { good.to_string() })
    });
    (World::new(), creator)
}

fn skill(trigger: Value) -> Value {
    json!({"name": "x", "when_to_use": "Now.", "action": "next open", "example": null, "trigger": trigger})
}

#[test]
fn the_author_is_told_what_was_wrong_and_tries_again() {
    let mut long = skill(json!({"kind": "beginning", "pattern": null}));
    long["action"] = json!("open ".repeat(60));
    for (first, fragment) in [
        (skill(json!({"kind": "action_pattern", "pattern": "^sing"})), "fires in 0 of "),
        (skill(json!({"kind": "action_pattern", "pattern": "("})), "unclosed group"),
        (skill(json!({"kind": "action_pattern", "pattern": "o|n|e|l"})), "matches all "),
        (skill(json!({"kind": "action_pattern", "pattern": ".*"})), "matches the empty text"),
        (skill(json!({"kind": "action_pattern", "pattern": "(a{1000}){1000}"})), "size limit"),
        (skill(json!({"kind": "action_pattern", "pattern": null})), "`trigger.pattern` is missing"),
        (long, "60 words"),
    ] {
        let (world, mut creator) = second_try(first, fragment);
        let proposal = world.ask(&mut creator, 2).unwrap().unwrap();
        assert_eq!(content(&proposal.operations[0]).name, "open-on-arrival", "{fragment}");
    }
}

#[test]
fn words_that_the_agent_cannot_read_are_told_to_the_author() {
    let mut first = skill(json!({"kind": "action_pattern", "pattern": "^go to"}));
    first["action"] = json!("Ponder, then open.");
    let (world, creator) = second_try(first, "cannot read these words of `action`: ponder");
    let unknown = |text: &str| if text.contains("onder") { vec!["ponder".to_owned()] } else { Vec::new() };
    let mut creator = creator.with_lexicon(Arc::new(unknown), "Short words only.".into());
    let proposal = world.ask(&mut creator, 2).unwrap().unwrap();
    assert_eq!(content(&proposal.operations[0]).action, "next open");
}

#[test]
fn after_three_tries_the_author_has_failed_and_the_error_says_why() {
    let world = World::new();
    let never = skill(json!({"kind": "action_pattern", "pattern": "^sing"}));
    let mut creator = scripted(&quick(), move |stage, prompt, _| {
        Ok(if stage == "author" { never.to_string() } else { brain::answer(stage, prompt).to_string() })
    });
    let error = world.ask(&mut creator, 2).unwrap_err().to_string();
    assert!(error.contains("after 3 tries") && error.contains("fires in 0 of"), "{error}");
    assert_eq!(cost(&creator).calls, 2 + 1 + 1 + 3);
}

#[test]
fn skills_can_be_modified_and_deleted_by_id_or_name() {
    let mut world = World::new();
    let old = SkillContent {
        name: "old".into(),
        when_to_use: "Now.".into(),
        action: "next look".into(),
        example: None,
        trigger: Trigger::Always,
        guidance: None,
    };
    let other = SkillContent { name: "other".into(), ..old.clone() };
    world.bank = world.bank.apply(&[Operation::Add(old), Operation::Add(other)], 0, &world.limits).unwrap();
    let mut creator = scripted(&quick(), |stage, prompt, _| {
        let advice = |change: &str, skill: &str| json!({"change": change, "skill": skill, "what": "w", "why": "y", "clusters": []});
        let both = json!({"recommendations": [advice("modify", "s0000"), advice("delete", "other")]});
        let answer = if stage == "recommend" { both } else { brain::answer(stage, prompt) };
        Ok(answer.to_string())
    });
    let proposal = world.ask(&mut creator, 2).unwrap().unwrap();
    let [Operation::Delete { id: deleted }, Operation::Modify { id, content }] =
        proposal.operations.as_slice()
    else {
        panic!("{:?}", proposal.operations);
    };
    assert_eq!((deleted.0.as_str(), id.0.as_str(), content.action.as_str()), ("s0001", "s0000", "next open"));
}

#[test]
fn no_episodes_is_an_error_and_not_a_hang() {
    let mut world = World::new();
    world.reservoir = reskill_skills::Reservoir::default();
    assert!(world.ask(&mut sensible(&quick()), 2).is_err());
}
