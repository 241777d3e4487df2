//! Questions as a suite of tasks.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::action::SearchAction;
use super::config::SearchConfig;
use super::env::{SearchEnv, Shared};
use super::questions::{Part, Question, read_questions};
use super::retriever::Retriever;
use super::scores::{AnswerScores, score_answer};
use crate::action::{ActionTemplate, ActionVocabulary};
use crate::episode::Episode;
use crate::error::EnvError;
use crate::prompt::{ActionTag, Manner};
use crate::suite::{Split, Suite, Task, TaskId, TextEnv};

/// Multi-hop question answering with a search engine.
#[derive(Debug)]
pub struct Search {
    tasks: HashMap<Split, Vec<Arc<Task>>>,
    questions: HashMap<TaskId, Arc<Question>>,
    shared: Arc<Shared>,
    vocabulary: ActionVocabulary,
}

impl Search {
    /// The questions under a path (see [`read_questions`]) with a retriever.
    ///
    /// # Errors
    /// Those of [`read_questions`] and of [`Search::new`].
    pub fn open_path(
        path: &Path,
        retriever: Arc<dyn Retriever>,
        config: &SearchConfig,
    ) -> Result<Search, EnvError> {
        let search = Search::new(read_questions(path)?, retriever, config)?;
        if search.questions.is_empty() {
            let expected =
                "questions of the sets in `datasets`, answerable ones unless `answerable_only` is off";
            return Err(EnvError::NoGames { path: path.to_path_buf(), expected });
        }
        Ok(search)
    }

    /// A suite of these questions. The id of a task is `dataset/id`, its family the dataset.
    ///
    /// Seen sets: if the data has a training part of a set, that part is `train` and the rest `valid_seen`; otherwise a
    /// share of it drawn by a hash of the ids is `train`. Other sets are `valid_unseen`, without their training parts.
    ///
    /// # Errors
    /// [`EnvError::Config`], also for an id that occurs twice in a set.
    pub fn new(
        questions: Vec<Question>,
        retriever: Arc<dyn Retriever>,
        config: &SearchConfig,
    ) -> Result<Search, EnvError> {
        config.validate()?;
        let taken = |question: &Question| {
            (config.datasets.is_empty() || config.datasets.contains(&question.dataset))
                && !(config.answerable_only && question.answerable == Some(false))
        };
        let with_training_part: std::collections::HashSet<_> = questions
            .iter()
            .filter(|question| question.part == Part::Train)
            .map(|question| question.dataset.clone())
            .collect();
        let mut suite = Search {
            tasks: HashMap::new(),
            questions: HashMap::new(),
            shared: Arc::new(Shared { retriever, config: config.clone() }),
            vocabulary: vocabulary(),
        };
        for question in questions.into_iter().filter(taken) {
            let id = TaskId(format!("{}/{}", question.dataset, question.id));
            let has_part = with_training_part.contains(&question.dataset);
            let Some(split) = split_of(&question, &id, has_part, config) else { continue };
            let task = Task {
                id: id.clone(),
                split,
                family: question.dataset.to_string(),
                goal: question.text.clone(),
            };
            if suite.questions.insert(id.clone(), Arc::new(question)).is_some() {
                let expected = "every id once in a set";
                return Err(EnvError::Config { key: "id", value: id.0, expected });
            }
            suite.tasks.entry(split).or_default().push(Arc::new(task));
        }
        suite.tasks.values_mut().for_each(|tasks| tasks.sort_by(|a, b| a.id.cmp(&b.id)));
        Ok(suite)
    }

    /// The question of a task.
    #[must_use]
    pub fn question(&self, id: &TaskId) -> Option<&Question> {
        self.questions.get(id).map(AsRef::as_ref)
    }

    /// Exact match and F1 of a finished episode's last answer; both 0 without one.
    #[must_use]
    pub fn scores(&self, episode: &Episode) -> AnswerScores {
        let last = episode.actions().filter_map(SearchAction::parse).filter_map(|action| match action {
            SearchAction::Answer(answer) => Some(answer),
            SearchAction::Search(_) => None,
        });
        match (last.last(), self.question(&episode.task.id)) {
            (Some(answer), Some(question)) => score_answer(&answer, &question.answers),
            _ => AnswerScores::default(),
        }
    }
}

impl Suite for Search {
    fn name(&self) -> &str {
        "search"
    }

    fn tasks(&self, split: Split) -> &[Arc<Task>] {
        self.tasks.get(&split).map_or(&[], Vec::as_slice)
    }

    fn open(&self, id: &TaskId) -> Result<Box<dyn TextEnv>, EnvError> {
        let question = self.questions.get(id).ok_or_else(|| EnvError::UnknownTask { id: id.to_string() })?;
        Ok(Box::new(SearchEnv::new(id.clone(), Arc::clone(question), Arc::clone(&self.shared))))
    }

    fn vocabulary(&self) -> &ActionVocabulary {
        &self.vocabulary
    }

    fn manner(&self) -> Manner {
        let tag = |name: &str, command: &str| ActionTag { name: name.into(), command: command.into() };
        Manner {
            system: SYSTEM.into(),
            request:
                "Answer with one short thought and then <search>query</search> or <answer>answer</answer>."
                    .into(),
            paper_introduction: "You answer a question with the help of a search engine.".into(),
            paper_request:
                "Think in a few words about what is known and what is missing. Then either look it up with \
                            <search>query</search> or end with <answer>answer</answer> ."
                    .into(),
            tags: vec![tag("search", "search {}"), tag("answer", "answer {}")],
            ..Manner::default()
        }
    }

    /// `exact_match` and `f1` of the last answer.
    fn measures(&self, episode: &Episode) -> Vec<(&'static str, f64)> {
        let AnswerScores { exact_match, f1 } = self.scores(episode);
        vec![("exact_match", f64::from(u8::from(exact_match))), ("f1", f1)]
    }
}

/// What a language model is told before anything else.
const SYSTEM: &str = "You answer questions with the help of a search engine. Each turn you say one short thought and then \
    either search, as in <search>capital of France</search>, or end with your answer, as in <answer>Paris</answer>. What a \
    search brings stands between <information> and </information>. The answer is a few words: a name, a number, a date, yes or \
    no.";

fn vocabulary() -> ActionVocabulary {
    let template =
        |name: &str, template: &str| ActionTemplate { name: name.into(), template: template.into() };
    ActionVocabulary {
        templates: vec![template("Search", "search {query}"), template("Answer", "answer {answer}")],
    }
}

/// The split of a question; `None` for the training part of a set that is not trained on.
fn split_of(question: &Question, id: &TaskId, has_part: bool, config: &SearchConfig) -> Option<Split> {
    match (config.seen.contains(&question.dataset), question.part) {
        (false, Part::Train) => None,
        (false, Part::HeldOut) => Some(Split::ValidUnseen),
        (true, Part::Train) => Some(Split::Train),
        (true, Part::HeldOut) if has_part => Some(Split::ValidSeen),
        (true, Part::HeldOut) => {
            let is_drawn = share_of(id) < config.train_fraction;
            Some(if is_drawn { Split::Train } else { Split::ValidSeen })
        }
    }
}

/// A number in [0, 1) that depends on the id alone.
fn share_of(id: &TaskId) -> f64 {
    let digest = Sha256::digest(id.0.as_bytes());
    let high = digest.iter().take(4).fold(0_u32, |high, &byte| high << 8 | u32::from(byte));
    f64::from(high) / 4_294_967_296.0
}
