//! Replies that are not what was asked for, and calls that are repeated from files.

use reskill_skills::CreatorKind;
use reskill_skills::SkillError;
use reskill_skills::creator::llm::{FailureKind, LlmCreator};
use serde_json::json;

use super::{World, brain, cost, quick, scripted, sensible};

fn kind(error: &SkillError) -> FailureKind {
    let SkillError::Chat { source, .. } = error else { panic!("{error}") };
    source.kind
}

#[test]
fn prose_fences_and_trailing_commas_are_forgiven_without_a_further_call() {
    let world = World::new();
    let mut creator = scripted(&quick(), |stage, prompt, n| {
        let json = brain::answer(stage, prompt).to_string();
        Ok(match n % 3 {
            0 => format!("Sure! Here it is:\n```json\n{json}\n```\nHope this helps."),
            1 => json.replace("}", ",}").replace(",,}", ",}"),
            _ => format!("<think>{{hm}}</think> {json}"),
        })
    });
    world.ask(&mut creator, 3).unwrap().unwrap();
    let cost = cost(&creator);
    assert_eq!((cost.calls, cost.corrections, cost.n_errors()), (6, 0, 0));
}

#[test]
fn a_wrong_shape_is_sent_back_once_with_what_is_wrong() {
    let world = World::new();
    for (stage_of_fault, bad, fragment) in [
        ("contrast", "no idea".to_owned(), "no JSON object"),
        ("contrast", json!({"finding": "x"}).to_string(), "lacks the key"),
        (
            "diagnose",
            json!({"summary": "s", "causes": [], "clusters": [], "assertion_edits": []}).to_string(),
            "`causes`",
        ),
        (
            "recommend",
            json!({"recommendations": [{"change": "modify", "skill": "s9", "what": "w", "why": "y",
            "clusters": []}]})
            .to_string(),
            "there is no skill `s9`",
        ),
        ("recommend", json!({"recommendations": []}).to_string(), "0 items"),
        ("author", json!({"name": 3}).to_string(), "`"),
    ] {
        let bad_once = bad.clone();
        let mut creator = scripted(&quick(), move |stage, prompt, _| {
            // A correction's last message names the violation; every other is the stage's own prompt.
            let corrected =
                prompt.starts_with("Your last answer cannot be used") && prompt.contains(fragment);
            let first = "`clusters`: 1 to 8";
            let prompt = if stage == "diagnose" && corrected { first } else { prompt };
            let good = brain::answer(stage, prompt).to_string();
            Ok(if stage == stage_of_fault && !corrected { bad_once.clone() } else { good })
        });
        let proposal = world.ask(&mut creator, 1).unwrap();
        assert!(proposal.is_some(), "{bad}");
        let cost = cost(&creator);
        assert_eq!((cost.corrections, cost.n_errors()), (1, 1), "{bad}: {:?}", cost.errors);
        // Without end it is an error, after one correction.
        let mut stubborn = scripted(&quick(), move |stage, prompt, _| {
            let good = brain::answer(stage, prompt).to_string();
            Ok(if stage == stage_of_fault { bad.clone() } else { good })
        });
        let error = world.ask(&mut stubborn, 1).unwrap_err();
        assert!(matches!(kind(&error), FailureKind::NotJson | FailureKind::WrongSchema), "{error}");
        assert_eq!(super::cost(&stubborn).corrections, 1);
    }
}

#[test]
fn empty_replies_are_tried_again_and_then_an_error() {
    let world = World::new();
    let mut creator = scripted(&quick(), |_, _, _| Ok("  ".into()));
    assert_eq!(kind(&world.ask(&mut creator, 1).unwrap_err()), FailureKind::Empty);
    let cost = cost(&creator);
    assert_eq!((cost.calls, cost.retries, cost.errors["empty"]), (1, 3, 4));
}

#[test]
fn one_group_that_fails_does_not_stop_the_others() {
    let world = World::new();
    let mut config = quick();
    config.max_concurrent = 1;
    let mut creator = scripted(&config, |stage, prompt, n| {
        Ok(if n < 2 { "nonsense".into() } else { brain::answer(stage, prompt).to_string() })
    });
    let proposal = world.ask(&mut creator, 3).unwrap().unwrap();
    assert_eq!(proposal.artefacts.insights.len(), 2);
    assert_eq!(cost(&creator).errors["not_json"], 2);
}

#[test]
fn recorded_calls_repeat_the_proposal_without_a_model() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let mut config = quick();
    config.record_dir = Some(dir.path().to_owned());
    let mut live = sensible(&config);
    let proposal = world.ask(&mut live, 4).unwrap();
    let mut cost_live = cost(&live);
    // A second creator on the same record makes no call.
    let mut again = scripted(&config, |_, _, _| panic!("a call that is recorded is not made again"));
    assert_eq!(world.ask(&mut again, 4).unwrap(), proposal);

    let mut replay = quick();
    replay.kind = CreatorKind::Replay;
    replay.replay_dir = Some(dir.path().to_owned());
    let mut replayed = LlmCreator::new(&replay, None, 0).unwrap();
    assert_eq!(world.ask(&mut replayed, 4).unwrap(), proposal);
    let cost_replayed = cost(&replayed);
    cost_live.seconds = cost_replayed.seconds;
    assert_eq!(cost_replayed, cost_live);

    // Another request is not answered with the record of this one.
    let mut other = World::new();
    other.limits.action_words = 7;
    let error = other.ask(&mut LlmCreator::new(&replay, None, 0).unwrap(), 4).unwrap_err();
    assert_eq!(kind(&error), FailureKind::RecordDiffers);
    std::fs::remove_file(dir.path().join("step-000003-recommend.json")).unwrap();
    let error = world.ask(&mut LlmCreator::new(&replay, None, 0).unwrap(), 4).unwrap_err();
    assert_eq!(kind(&error), FailureKind::NotRecorded);
    assert!(error.to_string().contains("recommend"), "{error}");
}
