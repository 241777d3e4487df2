//! The statistical creator on worlds with and without a cause of failure.

use reskill_envs::ActionVocabulary;
use reskill_skills::assertion::AssertionSet;
use reskill_skills::creator::VerifyConfig;
use reskill_skills::episode::heed;
use reskill_skills::{
    Arm, Creator, CreatorContext, HistoryKind, HistoryRecord, OfflineConfig, OfflineCreator, Operation,
    Proposal, Reservoir, ReservoirConfig, SkillBank, SkillEpisode, SkillLimits,
};

use crate::world::{FORGETFUL, Policy, batch, null_batch, play, vocabulary};

struct Setup {
    episodes: Vec<SkillEpisode>,
    bank: SkillBank,
    history: Vec<HistoryRecord>,
    step: u64,
}

impl Setup {
    fn of(batch: &[SkillEpisode]) -> Self {
        let mut reservoir = Reservoir::new(ReservoirConfig::default());
        reservoir.extend(batch);
        let episodes = reservoir.entries().to_vec();
        Self { episodes, bank: SkillBank::default(), history: Vec::new(), step: 10 }
    }

    fn with<T>(&self, f: impl FnOnce(&CreatorContext<'_>) -> T) -> T {
        let vocabulary: ActionVocabulary = vocabulary();
        let context = CreatorContext {
            step: self.step,
            bank: &self.bank,
            episodes: &self.episodes,
            groups: &[],
            vocabulary: &vocabulary,
            assertions: &AssertionSet::default(),
            history: &self.history,
            limits: &SkillLimits::default(),
            verify: &VerifyConfig::default(),
        };
        f(&context)
    }

    fn propose(&self, config: &OfflineConfig) -> Option<Proposal> {
        self.with(|context| OfflineCreator::new(config.clone()).propose(context).unwrap())
    }
}

/// Habits in the order of their rank, with a low bar: the house's cause is weak, and the version test decides.
fn permissive() -> OfflineConfig {
    OfflineConfig { level: 1.0, episode_causes: false, ..OfflineConfig::default() }
}

fn names(proposal: &Proposal) -> Vec<&str> {
    proposal.operations.iter().filter_map(Operation::content).map(|content| content.name.as_str()).collect()
}

#[test]
fn the_habit_that_failures_lack_is_proposed() {
    let mut found = 0;
    for seed in 0..20 {
        let setup = Setup::of(&batch(0, 100, 8, FORGETFUL, seed));
        let proposal = setup.propose(&permissive()).unwrap();
        if names(&proposal) == ["open-after-go-to"] {
            found += 1;
            let content = proposal.operations[0].content().unwrap();
            assert_eq!(content.action, "next open");
            assert_eq!(content.trigger.pattern(), Some(r"^go to (cabinet|drawer)\b"));
        }
    }
    assert!(found >= 18, "{found} of 20");
}

#[test]
fn nothing_is_proposed_where_outcomes_are_coins() {
    let config = OfflineConfig::default();
    let proposed: Vec<String> = (0..100)
        .filter_map(|seed| {
            let proposal = Setup::of(&null_batch(100, 8, seed)).propose(&config)?;
            Some(proposal.rationale)
        })
        .collect();
    assert!(proposed.len() <= 5, "{proposed:#?}");
}

#[test]
fn an_active_skill_is_not_proposed_again() {
    let mut setup = Setup::of(&batch(0, 100, 8, FORGETFUL, 1));
    let proposal = setup.propose(&permissive()).unwrap();
    setup.bank = setup.bank.apply(&proposal.operations, 10, &SkillLimits::default()).unwrap();
    let again = setup.propose(&permissive());
    assert!(again.as_ref().is_none_or(|again| names(again) != names(&proposal)), "{again:?}");
}

#[test]
fn a_rejected_skill_rests_before_it_is_tried_again() {
    let mut setup = Setup::of(&batch(0, 100, 8, FORGETFUL, 2));
    let config = permissive();
    let proposal = setup.propose(&config).unwrap();
    setup.history.push(HistoryRecord {
        step: 10,
        kind: HistoryKind::Rejected,
        operations: proposal.operations.clone(),
        reason: String::new(),
        decision: None,
        artefacts: None,
    });
    setup.step = 11;
    assert!(setup.propose(&config).is_none_or(|other| names(&other) != names(&proposal)));
    setup.step = 10 + config.cooldown_steps;
    assert_eq!(names(&setup.propose(&config).unwrap()), names(&proposal));
}

#[test]
fn a_trigger_that_covers_only_some_kinds_is_widened() {
    let mut setup = Setup::of(&batch(0, 100, 8, FORGETFUL, 3));
    let proposal = setup.propose(&permissive()).unwrap();
    let mut content = proposal.operations[0].content().unwrap().clone();
    content.trigger = reskill_skills::Trigger::after_action(r"^go to (drawer)\b").unwrap();
    setup.bank = setup.bank.apply(&[Operation::Add(content)], 10, &SkillLimits::default()).unwrap();
    let widened = setup.propose(&permissive()).unwrap();
    let Operation::Modify { content, .. } = &widened.operations[0] else { panic!("{widened:?}") };
    assert!(
        content.trigger.fires(1, Some("go to cabinet 2")) && content.trigger.fires(1, Some("go to drawer 1"))
    );
    assert!(!content.trigger.fires(1, Some("go to shelf 1")));
}

#[test]
fn a_trigger_that_fires_without_use_is_narrowed() {
    let config = OfflineConfig { min_gain: 0.5, ..permissive() };
    let mut setup = Setup::of(&batch(0, 100, 8, FORGETFUL, 4));
    let proposal = setup.propose(&permissive()).unwrap();
    let mut content = proposal.operations[0].content().unwrap().clone();
    content.trigger = reskill_skills::Trigger::after_action("^go to").unwrap();
    setup.bank = setup.bank.apply(&[Operation::Add(content)], 10, &SkillLimits::default()).unwrap();
    let narrowed = setup.propose(&config).unwrap();
    let Operation::Modify { content, .. } = &narrowed.operations[0] else { panic!("{narrowed:?}") };
    assert!(
        !content.trigger.fires(1, Some("go to shelf 1")) && content.trigger.fires(1, Some("go to drawer 1"))
    );
}

#[test]
fn an_old_skill_that_never_fires_is_put_up_for_deletion() {
    let mut setup = Setup::of(&batch(0, 100, 8, FORGETFUL, 5));
    let proposal = setup.propose(&permissive()).unwrap();
    let mut content = proposal.operations[0].content().unwrap().clone();
    content.name = "stale".into();
    content.trigger = reskill_skills::Trigger::after_action("^sing").unwrap();
    setup.bank = setup.bank.apply(&[Operation::Add(content)], 0, &SkillLimits::default()).unwrap();
    let config = OfflineConfig { min_gain: 0.9, ..permissive() };
    setup.step = 10;
    assert!(setup.propose(&config).is_none());
    setup.step = 100;
    assert!(matches!(setup.propose(&config).unwrap().operations[0], Operation::Delete { .. }));
}

#[test]
fn proposals_do_not_depend_on_anything_but_the_episodes() {
    let setup = Setup::of(&batch(0, 100, 8, FORGETFUL, 6));
    assert_eq!(setup.propose(&permissive()), setup.propose(&permissive()));
}

#[test]
fn heed_rate_compares_shown_with_unshown_turns() {
    let setup = Setup::of(&batch(0, 100, 8, FORGETFUL, 7));
    let proposal = setup.propose(&permissive()).unwrap();
    let bank = setup.bank.apply(&proposal.operations, 1, &SkillLimits::default()).unwrap();
    let policy = Policy { idles: 0.0, ..FORGETFUL };
    let mut played: Vec<SkillEpisode> =
        (0..100).map(|i| play(i, policy, &bank, Arm::Candidate(0), i, i)).collect();
    played.extend((0..100).map(|i| play(i, policy, &SkillBank::default(), Arm::Incumbent, i, i)));
    let rates = heed(&played, &bank, &vocabulary());
    let rate = rates.values().next().unwrap();
    assert!(rate.shown.value().unwrap() > 0.9, "{rate:?}");
    assert!((0.25..0.45).contains(&rate.unshown.value().unwrap()), "{rate:?}");
}
