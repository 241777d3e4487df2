//! Creation beside training: when answers join, what is missed, what a checkpoint holds.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reskill_skills::creator::CreatorHandle;
use reskill_skills::lifecycle::OutcomeFiles;
use reskill_skills::{
    BackgroundCreator, Creator, CreatorContext, HistoryKind, Lifecycle, LifecycleConfig, Proposal, SkillBank,
    SkillError,
};

use super::{quick, sensible};
use crate::world::{FORGETFUL, batch, vocabulary};

fn lifecycle() -> Lifecycle {
    let mut config = LifecycleConfig::default();
    config.reservoir.min = 10;
    config.reservoir.sample_groups = 4;
    let mut lifecycle = Lifecycle::new(config, SkillBank::default()).unwrap();
    lifecycle.observe(0, &batch(0, 12, 6, FORGETFUL, 5)).unwrap();
    lifecycle
}

fn background(join_after: u64) -> BackgroundCreator {
    let creator = sensible(&quick());
    let handle = creator.handle();
    BackgroundCreator::new(Box::new(creator), handle, join_after, Duration::from_secs(60))
}

/// The kind of the record that a step left.
fn step(lifecycle: &mut Lifecycle, step: u64, creator: &mut BackgroundCreator) -> Option<HistoryKind> {
    lifecycle.evolve_beside(step, creator, &vocabulary()).map(|record| record.kind)
}

#[test]
fn an_answer_joins_as_many_steps_later_as_configured_however_quick_it_is() {
    for join_after in [0, 1, 3] {
        let (mut lifecycle, mut creator) = (lifecycle(), background(join_after));
        for n in 1..=join_after {
            assert_eq!(step(&mut lifecycle, n, &mut creator), None);
            assert!(lifecycle.pending_request().is_some() && !lifecycle.is_testing());
            std::thread::sleep(Duration::from_millis(30));
        }
        assert_eq!(step(&mut lifecycle, join_after + 1, &mut creator), Some(HistoryKind::Proposed));
        assert!(lifecycle.is_testing() && lifecycle.pending_request().is_none());
        assert_eq!((lifecycle.n_creator_requests(), lifecycle.creator_cost().calls), (1, 7));
        // No further request while the test runs.
        assert_eq!(step(&mut lifecycle, join_after + 2, &mut creator), None);
        assert_eq!(lifecycle.n_creator_requests(), 1);
    }
}

#[test]
fn a_checkpoint_between_request_and_join_gives_the_same_candidate() {
    let (mut original, mut creator) = (lifecycle(), background(2));
    step(&mut original, 1, &mut creator);
    let json = serde_json::to_string(&original).unwrap();
    let mut restored: Lifecycle = serde_json::from_str(&json).unwrap();
    assert_eq!(restored, original);
    let mut other = background(2);
    restored.resume_creation(&mut other);
    for n in 2..=3 {
        assert_eq!(step(&mut original, n, &mut creator), step(&mut restored, n, &mut other));
    }
    assert_eq!(original.candidate(), restored.candidate());
    assert_eq!(original.history(), restored.history());
    assert!(restored.is_testing());
}

/// Fails, then sleeps, then fails.
struct Unreliable(Arc<AtomicUsize>);

impl Creator for Unreliable {
    fn propose(&mut self, _: &CreatorContext<'_>) -> Result<Option<Proposal>, SkillError> {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(None),
            2 => {
                std::thread::sleep(Duration::from_millis(400));
                Ok(None)
            }
            _ => Err(SkillError::Guidance { text: "out of ideas".into() }),
        }
    }
}

/// The records of ten steps with that creator, and how often it was asked.
fn troubled(files: Option<(&Path, bool)>) -> (Vec<(u64, HistoryKind, String)>, usize) {
    let calls = Arc::new(AtomicUsize::new(0));
    let creator = Box::new(Unreliable(Arc::clone(&calls)));
    let mut creator =
        BackgroundCreator::new(creator, CreatorHandle::default(), 1, Duration::from_millis(100));
    if let Some((folder, write)) = files {
        creator = creator.with_outcome_files(OutcomeFiles { folder: folder.to_owned(), write });
    }
    let mut lifecycle = lifecycle();
    for n in 1..=10 {
        step(&mut lifecycle, n, &mut creator);
        if lifecycle.history().last().is_some_and(|record| record.kind == HistoryKind::CreatorMissed) {
            // Let the late answer arrive: it must not be taken for that of the next request.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    assert!(!lifecycle.is_testing());
    let misses =
        lifecycle.history().iter().filter(|record| record.kind == HistoryKind::CreatorMissed).count();
    assert_eq!(lifecycle.n_creator_misses(), misses as u64);
    assert_eq!(lifecycle.n_creator_failures() + misses as u64, lifecycle.history().len() as u64);
    let records = lifecycle.history().iter();
    (
        records.map(|record| (record.step, record.kind, record.reason.clone())).collect(),
        calls.load(Ordering::SeqCst),
    )
}

#[test]
fn failures_and_misses_are_recorded_slow_the_requests_down_and_are_repeated_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let (records, _) = troubled(Some((dir.path(), true)));
    let (steps, kinds): (Vec<u64>, Vec<HistoryKind>) =
        records.iter().map(|(step, kind, _)| (*step, *kind)).unzip();
    // Requests at 1, 3, 5, 7 (one step after a first failure), 10 would be the next but one: 2 after the second.
    assert_eq!(steps[0], 4, "{records:?}");
    assert_eq!(kinds[..2], [HistoryKind::CreatorFailed, HistoryKind::CreatorMissed], "{records:?}");
    assert!(records[0].2.contains("out of ideas") && records[1].2.contains("within 0.1 s"), "{records:?}");
    assert!(steps[1] == 6 && steps.get(2).is_none_or(|third| *third >= 9), "{records:?}");
    // The same again from the files, without waiting for the slow answer.
    let (repeated, calls) = troubled(Some((dir.path(), false)));
    assert_eq!(repeated, records);
    assert!(calls <= 2, "recorded failures are not computed again: {calls}");
}

#[test]
fn a_creator_that_panics_is_a_failure_at_every_request() {
    struct Panics(Arc<Mutex<()>>);
    impl Creator for Panics {
        fn propose(&mut self, _: &CreatorContext<'_>) -> Result<Option<Proposal>, SkillError> {
            let _held = self.0.lock().unwrap();
            panic!("a bug in an author (this test expects it)");
        }
    }
    let creator = Box::new(Panics(Arc::default()));
    let mut creator = BackgroundCreator::new(creator, CreatorHandle::default(), 1, Duration::from_secs(60));
    let mut lifecycle = lifecycle();
    for n in 1..=4 {
        step(&mut lifecycle, n, &mut creator);
    }
    let kinds: Vec<HistoryKind> = lifecycle.history().iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [HistoryKind::CreatorFailed; 2]);
    assert!(lifecycle.history()[0].reason.contains("thread has ended"));
}
