//! The life of every skill: under test, live, changed, gone.

use reskill_skills::{Operation, SkillContent};

use crate::report::trials::Trial;

/// What a skill has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// In the bank.
    Live,
    /// Still under test when the records end.
    UnderTest,
    /// Did not pass its test.
    Rejected,
    /// Was in the bank and was taken out.
    Deleted,
}

/// One skill.
#[derive(Debug)]
pub(super) struct Life<'a> {
    /// Its id.
    pub(super) id: String,
    /// What it says now, or said last.
    pub(super) content: Option<&'a SkillContent>,
    /// Tests of the skill or of a change of it: first step, and last if it ended.
    pub(super) tests: Vec<(u64, Option<u64>)>,
    /// In the bank: first step, and last if it ended.
    pub(super) live: Option<(u64, Option<u64>)>,
    /// Step at which the first version was rejected.
    pub(super) rejected: Option<u64>,
    /// Steps at which a change was accepted.
    pub(super) modified: Vec<u64>,
    /// What it has come to.
    pub(super) status: Status,
}

/// The skills in the order in which they were proposed.
pub(super) fn lives<'a>(trials: &[Trial<'a>]) -> Vec<Life<'a>> {
    let mut lives: Vec<Life<'a>> = Vec::new();
    for trial in trials {
        for (operation, id) in trial.operations.iter().zip(&trial.ids) {
            let at = lives.iter().position(|life| life.id == *id).unwrap_or_else(|| {
                lives.push(unborn(id, operation));
                lives.len() - 1
            });
            follow(&mut lives[at], trial, operation);
        }
    }
    lives
}

/// A skill before its first test. One that is changed without ever having been added was in the bank from the start.
fn unborn<'a>(id: &str, operation: &'a Operation) -> Life<'a> {
    let from_the_start = !matches!(operation, Operation::Add(_));
    Life {
        id: id.to_string(),
        content: operation.content(),
        tests: Vec::new(),
        live: from_the_start.then_some((0, None)),
        rejected: None,
        modified: Vec::new(),
        status: if from_the_start { Status::Live } else { Status::UnderTest },
    }
}

fn follow<'a>(life: &mut Life<'a>, trial: &Trial<'a>, operation: &'a Operation) {
    life.tests.push((trial.started(), trial.ended()));
    let (Some(end), Some(accepted)) = (trial.ended(), trial.accepted()) else { return };
    match (operation, accepted) {
        (Operation::Add(_), true) => {
            life.live = Some((end, None));
            life.status = Status::Live;
        }
        (Operation::Add(_), false) => {
            life.rejected = Some(end);
            life.status = Status::Rejected;
        }
        (Operation::Modify { content, .. }, true) => {
            life.modified.push(end);
            life.content = Some(content);
        }
        (Operation::Delete { .. }, true) => {
            life.live = life.live.map(|(from, _)| (from, Some(end)));
            life.status = Status::Deleted;
        }
        (Operation::Modify { .. } | Operation::Delete { .. }, false) => {}
    }
}
