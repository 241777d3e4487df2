//! Rates at which the statistical creator finds planted causes, and at which it sees causes where there are none.
//!
//! Each rate is over 200 seeds that take the five wordings in turn; `examples/planted_causes.rs` prints the whole table.

use reskill_skills::OfflineConfig;
use reskill_skills::creator::{Creator, CreatorInput};
use reskill_skills::{OfflineCreator, Operation};

use crate::planted::{CAUSES, Planted, WORDINGS, World, answered, proposed, without_cause};

const SEEDS: u64 = 200;

/// The share of seeds with the planted cause answered must be at least 0.9.
fn check(name: &str, world: fn(World) -> World, cause: Planted) {
    let hits: u64 =
        WORDINGS.iter().map(|wording| answered(world(World::of(*wording, cause)), SEEDS / 5)).sum();
    assert!(hits * 10 >= SEEDS * 9, "{name}, {cause:?}: {hits} of {SEEDS}");
}

/// The share of seeds without any proposal must be at least 0.95.
fn check_silent(name: &str, n_proposed: u64) {
    assert!(n_proposed * 20 <= SEEDS, "{name}: {n_proposed} of {SEEDS} with a proposal");
}

#[test]
fn a_missing_prerequisite_is_named() {
    check("two episodes a task", |world| World { n: 200, per_task: 2, ..world }, Planted::Missing);
}

#[test]
fn a_wrong_order_is_named() {
    check("100 episodes", |world| World { n: 100, ..world }, Planted::WrongOrder);
}

#[test]
fn repeats_are_named_where_families_differ() {
    check("families", |world| World { confounded: true, ..world }, Planted::Repeats);
}

#[test]
fn a_premature_end_is_named_at_ten_percent_success() {
    let rare = |world| World { n: 200, success: [0.9, 0.02], good: 0.09, ..world };
    check("10% success", rare, Planted::TooEarly);
}

#[test]
fn a_place_never_looked_at_is_named_at_ninety_percent_success() {
    let easy = |world| World { n: 200, success: [0.99, 0.55], good: 0.8, ..world };
    check("90% success", easy, Planted::NeverLooks);
}

#[test]
fn a_trap_is_named() {
    check("150 episodes", |world| world, Planted::Trap);
}

#[test]
fn two_causes_become_two_skills_of_one_bundle() {
    let config = OfflineConfig { max_operations: 2, ..OfflineConfig::default() };
    let (mut both, n) = (0, 100);
    for seed in 0..n {
        let wording = WORDINGS[usize::try_from(seed % 5).unwrap()];
        let world = World { also: Planted::Trap, good: 0.6, n: 200, ..World::of(wording, Planted::Missing) };
        let operations = world.propose(seed, &config).map_or_else(Vec::new, |it| it.operations);
        let answers = |cause| {
            let contents = operations.iter().filter_map(Operation::content);
            contents.into_iter().any(|content| world.is_answered_by(cause, content, seed))
        };
        both += u64::from(answers(Planted::Missing) && answers(Planted::Trap));
    }
    assert!(both * 10 >= n * 9, "{both} of {n}");
}

#[test]
fn every_cause_is_answered_in_every_wording() {
    for cause in CAUSES {
        for wording in WORDINGS {
            let hits = answered(World::of(wording, cause), 2);
            assert!(hits >= 1, "{cause:?}, {wording:?}: {hits} of 2");
        }
    }
}

#[test]
fn nothing_is_proposed_where_outcomes_are_coins() {
    let rates = WORDINGS.iter().enumerate().map(|(index, wording)| {
        let world = World {
            per_task: 1 + index % 3,
            confounded: index % 2 == 0,
            ..World::of(*wording, Planted::Nothing)
        };
        proposed(world, SEEDS / 5)
    });
    check_silent("coins", rates.sum());
}

#[test]
fn nothing_is_proposed_where_outcomes_are_shuffled() {
    let hits = (0..SEEDS).filter(|seed| {
        let wording = WORDINGS[usize::try_from(seed % 5).unwrap()];
        let episodes = without_cause(World::of(wording, Planted::WrongOrder), *seed);
        let vocabulary = wording.vocabulary();
        let input = CreatorInput::new(&episodes, &vocabulary);
        OfflineCreator::default().propose(&input.context()).unwrap().is_some()
    });
    check_silent("shuffled", hits.count().try_into().unwrap());
}

#[test]
fn a_cause_that_the_bank_answers_is_not_proposed_again() {
    let world = World::of(WORDINGS[0], Planted::Missing);
    let (episodes, vocabulary) = (world.episodes(3), world.wording.vocabulary());
    let mut input = CreatorInput::new(&episodes, &vocabulary);
    let proposal = OfflineCreator::default().propose(&input.context()).unwrap().unwrap();
    input.bank = input.bank.apply(&proposal.operations, 1, &input.limits).unwrap();
    let again = OfflineCreator::default().propose(&input.context()).unwrap();
    assert!(again.is_none(), "{again:?}");
}
