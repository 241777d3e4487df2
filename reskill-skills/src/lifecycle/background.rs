//! Creation beside training: a request at the end of one step, its answer at the end of a later one.
//!
//! The creator works in its own thread while the trainer goes on. The step at which the answer joins is fixed when the
//! request is made and both are part of the lifecycle's state, so a run does not depend on how quick an author is: the
//! joining step waits, up to a limit, and records a miss beyond it. Outcomes can be kept in files; a run that finds an
//! outcome there repeats it, failures and misses included.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use reskill_envs::ActionVocabulary;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::creator::cost::{CreatorCost, CreatorHandle};
use crate::creator::request::CreatorRequest;
use crate::creator::{Creator, Proposal};
use crate::error::SkillError;
use crate::lifecycle::{HistoryKind, HistoryRecord, Lifecycle, SkillMode};
use crate::store::write_atomically;

/// Longest pause after failures in a row, in steps.
const MAX_PAUSE: u64 = 16;

/// Files of outcomes: `step-000012-outcome.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeFiles {
    /// The folder.
    pub folder: PathBuf,
    /// Whether new outcomes are added; otherwise the folder is only read.
    pub write: bool,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RecordedOutcome {
    /// Of the request.
    request_sha256: String,
    /// What came of it.
    outcome: OutcomeKind,
    /// What it cost up to then.
    cost: CreatorCost,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutcomeKind {
    /// The creator answered; the answer follows from its recorded calls.
    Answered,
    /// It failed, with this message.
    Failed(String),
    /// There was no answer within the limit.
    Missed,
}

enum Answer {
    Proposal(Option<Box<Proposal>>),
    Failed(String),
    Missed,
}

type Result_ = Result<Option<Proposal>, SkillError>;

/// A creator in a thread of its own.
#[derive(Debug)]
pub struct BackgroundCreator {
    jobs: Sender<CreatorRequest>,
    answers: Receiver<(u64, Result_)>,
    handle: CreatorHandle,
    /// Step of the request the thread has.
    working_on: Option<u64>,
    join_after_steps: u64,
    wait: Duration,
    files: Option<OutcomeFiles>,
}

impl BackgroundCreator {
    /// Starts the thread. `handle` is the creator's own ([`CreatorHandle::default`] for one that has none); the answer
    /// to a request joins `join_after_steps` steps later (0: in the same step), and that step waits for it no longer
    /// than `wait`.
    #[must_use]
    pub fn new(
        mut creator: Box<dyn Creator + Send>,
        handle: CreatorHandle,
        join_after_steps: u64,
        wait: Duration,
    ) -> Self {
        let (jobs, inbox) = channel::<CreatorRequest>();
        let (outbox, answers) = channel();
        std::thread::spawn(move || {
            for request in inbox {
                let answer = request.ask(creator.as_mut());
                if outbox.send((request.step, answer)).is_err() {
                    return;
                }
            }
        });
        Self { jobs, answers, handle, working_on: None, join_after_steps, wait, files: None }
    }

    /// Keeps outcomes in files, and repeats those it finds there.
    #[must_use]
    pub fn with_outcome_files(mut self, files: OutcomeFiles) -> Self {
        self.files = Some(files);
        self
    }

    /// Hands a request to the thread, unless it has it already.
    fn start(&mut self, request: &CreatorRequest) {
        let repeated = |recorded: RecordedOutcome| recorded.outcome != OutcomeKind::Answered;
        if self.working_on == Some(request.step) || self.recorded(request).is_some_and(repeated) {
            return;
        }
        self.working_on = Some(request.step);
        // A thread that ended is found when its answer is due.
        let _ = self.jobs.send(request.clone());
    }

    /// Waits for the answer to a request.
    fn join(&mut self, request: &CreatorRequest) -> (Answer, CreatorCost) {
        let recorded = self.recorded(request);
        if let Some(recorded) = &recorded {
            let repeated = match &recorded.outcome {
                OutcomeKind::Answered => None,
                OutcomeKind::Failed(reason) => Some(Answer::Failed(reason.clone())),
                OutcomeKind::Missed => Some(Answer::Missed),
            };
            if let Some(answer) = repeated {
                self.handle.call_off(request.step);
                self.working_on = None;
                return (answer, recorded.cost.clone());
            }
        }
        self.start(request);
        let answer = self.wait_for(request.step);
        self.working_on = None;
        let spent = self.handle.take_cost();
        let cost = recorded.as_ref().map_or(spent, |recorded| recorded.cost.clone());
        if recorded.is_none() {
            self.write(request, &answer, &cost);
        }
        (answer, cost)
    }

    fn wait_for(&mut self, step: u64) -> Answer {
        let deadline = Instant::now() + self.wait;
        loop {
            match self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((of, result)) if of == step => {
                    return match result {
                        Ok(proposal) => Answer::Proposal(proposal.map(Box::new)),
                        Err(error) => Answer::Failed(describe(&error)),
                    };
                }
                // The late answer to a request that was missed.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.handle.call_off(step);
                    return Answer::Missed;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Answer::Failed(
                        "the creator's thread has ended; see the log for its panic".into(),
                    );
                }
            }
        }
    }

    fn recorded(&self, request: &CreatorRequest) -> Option<RecordedOutcome> {
        let path = outcome_path(&self.files.as_ref()?.folder, request.step);
        let bytes = std::fs::read(&path).ok()?;
        let recorded: Result<RecordedOutcome, _> = serde_json::from_slice(&bytes);
        match recorded {
            Ok(recorded) if recorded.request_sha256 == request.fingerprint() => Some(recorded),
            Ok(_) => {
                warn!(path = %path.display(), "a recorded outcome belongs to another request and is not used");
                None
            }
            Err(error) => {
                warn!(path = %path.display(), %error, "a recorded outcome cannot be read and is not used");
                None
            }
        }
    }

    fn write(&self, request: &CreatorRequest, answer: &Answer, cost: &CreatorCost) {
        let Some(files) = self.files.as_ref().filter(|files| files.write) else { return };
        let outcome = match answer {
            Answer::Proposal(_) => OutcomeKind::Answered,
            Answer::Failed(reason) => OutcomeKind::Failed(reason.clone()),
            Answer::Missed => OutcomeKind::Missed,
        };
        let recorded = RecordedOutcome { request_sha256: request.fingerprint(), outcome, cost: cost.clone() };
        let path = outcome_path(&files.folder, request.step);
        let written = std::fs::create_dir_all(&files.folder)
            .map_err(|source| SkillError::Io { path: files.folder.clone(), verb: "made", source })
            .and_then(|()| {
                write_atomically(&path, &serde_json::to_vec_pretty(&recorded).unwrap_or_default())
            });
        if let Err(error) = written {
            // Tolerated: the run is as good as before, it only cannot be repeated exactly.
            warn!(%error, "the outcome of a creator request could not be recorded");
        }
    }
}

impl Drop for BackgroundCreator {
    fn drop(&mut self) {
        self.handle.call_off(u64::MAX - 1);
    }
}

fn outcome_path(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("step-{step:06}-outcome.json"))
}

/// An error with its causes, in one line.
pub(super) fn describe(error: &SkillError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl Lifecycle {
    /// The request whose answer has not joined yet.
    #[must_use]
    pub fn pending_request(&self) -> Option<&CreatorRequest> {
        self.pending.as_deref()
    }

    /// What all joined requests cost.
    #[must_use]
    pub fn creator_cost(&self) -> &CreatorCost {
        &self.creator_cost
    }

    /// How many requests were made of a creator beside training.
    #[must_use]
    pub fn n_creator_requests(&self) -> u64 {
        self.n_creator_requests
    }

    /// How many of them had no answer when it was due.
    #[must_use]
    pub fn n_creator_misses(&self) -> u64 {
        self.n_creator_misses
    }

    /// Hands the pending request, if there is one, to a new thread: after a checkpoint was loaded.
    pub fn resume_creation(&self, creator: &mut BackgroundCreator) {
        if let Some(request) = &self.pending {
            creator.start(request);
        }
    }

    /// [`Lifecycle::evolve`] with a creator beside training: makes a request, or lets the answer of an earlier one join
    /// at its step. Call it at the end of every step.
    ///
    /// Returns the record of what happened, if anything did. After failures or misses in a row the next request waits
    /// 1, 2, 4, ... at most 16 steps.
    pub fn evolve_beside(
        &mut self,
        step: u64,
        creator: &mut BackgroundCreator,
        vocabulary: &ActionVocabulary,
    ) -> Option<&HistoryRecord> {
        if self.config.mode != SkillMode::Evolve {
            return None;
        }
        let n_before = self.history.len();
        if self.pending.is_none() {
            if !self.may_test(step) || step < self.creator_paused_until {
                return None;
            }
            let request = self.request(step, step.saturating_add(creator.join_after_steps), vocabulary);
            creator.start(&request);
            self.n_creator_requests += 1;
            self.pending = Some(Box::new(request));
        }
        let due = self.pending.as_ref().is_some_and(|request| step >= request.join_step);
        let request = self.pending.take_if(|_| due)?;
        let (answer, cost) = creator.join(&request);
        self.creator_cost.add(&cost);
        match answer {
            Answer::Proposal(proposal) => {
                self.creator_failures_in_a_row = 0;
                match proposal {
                    Some(proposal) => self.adopt(step, *proposal),
                    None => info!(step, "the skill creator proposes nothing"),
                }
            }
            Answer::Failed(reason) => {
                self.n_creator_failures += 1;
                self.creator_trouble(step, HistoryKind::CreatorFailed, &reason);
            }
            Answer::Missed => {
                self.n_creator_misses += 1;
                let reason = format!(
                    "no answer to the request of step {} within {} s",
                    request.step,
                    creator.wait.as_secs_f64()
                );
                self.creator_trouble(step, HistoryKind::CreatorMissed, &reason);
            }
        }
        self.history.get(n_before..)?.last()
    }

    /// Tolerated by design: training does not depend on an author that may be a remote service.
    fn creator_trouble(&mut self, step: u64, kind: HistoryKind, reason: &str) {
        warn!(step, reason, "skill creator failed");
        let pause = (1_u64 << self.creator_failures_in_a_row.min(8)).min(MAX_PAUSE);
        self.creator_failures_in_a_row += 1;
        self.creator_paused_until = step.saturating_add(pause);
        self.push(step, kind, Vec::new(), reason.to_owned());
    }

    fn request(&self, step: u64, join_step: u64, vocabulary: &ActionVocabulary) -> CreatorRequest {
        let without_artefacts = |record: &HistoryRecord| HistoryRecord { artefacts: None, ..record.clone() };
        CreatorRequest {
            step,
            join_step,
            sample_groups: self.config.reservoir.sample_groups,
            bank: self.incumbent.clone(),
            reservoir: self.reservoir.clone(),
            vocabulary: vocabulary.clone(),
            assertions: self.assertions.clone(),
            history: self.history.iter().map(without_artefacts).collect(),
            limits: self.config.limits(),
            verify: self.config.verify.clone(),
        }
    }
}
