//! What the live view knows of a run, from the news it gets.

use std::collections::VecDeque;
use std::time::Duration;

use reskill_envs::Split;
use reskill_skills::PosteriorSummary;

use crate::metrics_lines::{EvaluationLine, MetricsLine, StepLine};
use crate::output::Shown;
use crate::rollout::Flight;

/// So many lines are kept.
const MAX_LINES: usize = 200;

/// What is known of a run before it begins.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Folder of the run.
    pub name: String,
    /// Training steps it should take.
    pub steps: u64,
}

/// How far a phase is.
#[derive(Debug, Clone, Default)]
pub(super) struct Phase {
    pub(super) label: String,
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) message: String,
}

/// A point of a curve.
pub(super) type Point = (f64, f64);

/// Everything that is shown.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) plan: Plan,
    /// Training steps done.
    pub(super) step: u64,
    /// Training steps done by this process.
    pub(super) own_steps: u64,
    /// Success by step.
    pub(super) train: Vec<Point>,
    pub(super) seen: Vec<Point>,
    pub(super) unseen: Vec<Point>,
    /// By step; what was not finite is left out.
    pub(super) returns: Vec<f64>,
    pub(super) kl: Vec<f64>,
    pub(super) entropy: Vec<f64>,
    pub(super) turns: Vec<f64>,
    /// The running test.
    pub(super) test: Option<PosteriorSummary>,
    /// The last step's record.
    pub(super) last: Option<StepLine>,
    pub(super) flight: Option<Flight>,
    pub(super) phase: Phase,
    /// Lines for people, oldest first.
    pub(super) lines: VecDeque<String>,
    /// Whether the person asked for a stop.
    pub(super) is_stopping: bool,
    /// When a step of this process was first seen, and how many it had done by then.
    pace: Option<(Duration, u64)>,
    /// Whether the process itself has reported something: records before that are read from a file.
    has_begun: bool,
}

impl View {
    pub(super) fn new(plan: Plan) -> View {
        View { plan, ..View::default() }
    }

    /// How long the steps that are left will take, from those that were done since the first of this process; absent until
    /// there is one. The first one comes after the warm start and tells nothing of the others.
    pub(super) fn left(&mut self, elapsed: Duration) -> Option<Duration> {
        if self.own_steps == 0 {
            return None;
        }
        let (since, first) = *self.pace.get_or_insert((elapsed, self.own_steps));
        let done = (self.own_steps > first).then(|| (self.own_steps - first) as f64)?;
        let left = self.plan.steps.saturating_sub(self.step) as f64;
        Some(elapsed.saturating_sub(since).mul_f64(left / done)).filter(|left| !left.is_zero())
    }

    /// Takes in a piece of news. A record that is not as expected is not shown.
    pub(super) fn update(&mut self, news: Shown) {
        match news {
            Shown::Line(line) => {
                self.has_begun = true;
                let lines = line.lines().map(str::trim).filter(|line| !line.is_empty());
                self.lines.extend(lines.map(ToOwned::to_owned));
                while self.lines.len() > MAX_LINES {
                    self.lines.pop_front();
                }
            }
            Shown::Progress { label, done, total, message } => {
                self.has_begun = true;
                if label != "rollout" {
                    self.flight = None;
                }
                self.phase = Phase { label, done, total, message };
            }
            Shown::Flight(flight) => self.flight = Some(flight),
            Shown::Record(record) => match serde_json::from_value(*record) {
                Ok(MetricsLine::Step(line)) => self.step(*line),
                Ok(MetricsLine::Evaluation(line)) => self.evaluation(&line),
                Ok(MetricsLine::WarmStart(_) | MetricsLine::Other) | Err(_) => {}
            },
        }
    }

    fn step(&mut self, line: StepLine) {
        self.step = line.step;
        self.own_steps += u64::from(self.has_begun);
        self.train.extend(line.success.map(|success| (line.step as f64, success)));
        self.returns.extend(line.mean_return);
        self.kl.extend(line.update.ref_kl);
        self.entropy.extend(line.update.entropy);
        self.turns.extend(line.mean_turns);
        self.test.clone_from(&line.posterior);
        self.last = Some(line);
    }

    fn evaluation(&mut self, line: &EvaluationLine) {
        if line.phase.ends_with("bank_off") {
            return;
        }
        let curve = match line.evaluation.split {
            Split::ValidSeen => &mut self.seen,
            Split::ValidUnseen => &mut self.unseen,
            _ => return,
        };
        curve.push((line.step as f64, line.evaluation.overall.rate));
    }
}
