//! Questions with their gold answers, from JSON lines, JSON or Parquet, in the formats of the published sets.

mod files;
mod record;
mod table;

use std::path::Path;

use super::dataset::Dataset;
use crate::error::EnvError;

pub(crate) use files::{Packed, line_reader};

/// The part of its set that a file or a record says a question belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Meant for training.
    Train,
    /// Everything else: development and test sets.
    HeldOut,
}

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The set it comes from.
    pub dataset: Dataset,
    /// Its id within the set.
    pub id: String,
    /// The question.
    pub text: String,
    /// The gold answers, at least one; any of them counts.
    pub answers: Vec<String>,
    /// Titles of the articles that hold the evidence, where the set names them.
    pub supporting_titles: Vec<String>,
    /// Whether the corpus at hand is known to answer it; `None` if nothing is known.
    pub answerable: Option<bool>,
    /// Training or held out.
    pub part: Part,
}

/// Reads the questions of a file, or of every question file of a folder: those in `questions/` if there is such a folder,
/// else those in the folder itself whose names do not begin with `corpus`. Files are read in the order of their names;
/// `.jsonl`, `.json`, `.parquet`, and the first two with `.gz` or `.zst`.
///
/// # Errors
/// [`EnvError::NoGames`], [`EnvError::Read`], [`EnvError::Record`].
pub fn read_questions(path: &Path) -> Result<Vec<Question>, EnvError> {
    let mut questions = Vec::new();
    for file in files::question_files(path)? {
        let origin = record::Origin::of(&file);
        let mut problem = None;
        files::for_each_record(&file, &mut |number, value| {
            match record::question(&value, &origin, number) {
                Ok(question) => questions.push(question),
                Err((field, reason)) => {
                    problem = Some(EnvError::Record { path: file.clone(), number, field, reason });
                }
            }
            problem.is_none()
        })?;
        if let Some(problem) = problem {
            return Err(problem);
        }
    }
    Ok(questions)
}
