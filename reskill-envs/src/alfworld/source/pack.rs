//! All games in one compressed file of JSON lines, with the shared domain and grammar beside it in `logic/`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{AlfworldOptions, Content, Found, Listed, family_of};
use crate::alfworld::game_file::GameFile;
use crate::error::EnvError;
use crate::suite::{Split, TaskId};

pub(super) const FILE_NAME: &str = "games_all.jsonl.zst";

/// The pack is written with a window of 128 MiB.
const WINDOW_LOG_MAX: u32 = 27;

/// Each line is kept on its own at this level: a game is then read without touching the others.
const LINE_LEVEL: i32 = 1;

/// No line is longer.
const MAX_LINE_BYTES: usize = 8 << 20;

/// What the games of a pack have in common.
#[derive(Debug)]
pub(super) struct Shared {
    path: PathBuf,
    domain: String,
    grammar: String,
}

/// The part of a line that lists a game. The problem is skipped.
#[derive(Deserialize)]
struct Head {
    id: TaskId,
    split: Split,
    task: String,
    solvable: bool,
    #[serde(rename = "pddl_problem")]
    _problem: IgnoredAny,
}

/// The part of a line that makes a game.
#[derive(Deserialize)]
struct Body {
    id: TaskId,
    task: String,
    walkthrough: Vec<String>,
    solvable: bool,
    pddl_problem: String,
}

/// Lists the games of a pack.
pub(super) fn open(path: &Path, options: &AlfworldOptions) -> Result<(Shared, Vec<Listed>), EnvError> {
    let read = |source| EnvError::Read { path: path.into(), source };
    let logic = path.parent().unwrap_or_else(|| Path::new(".")).join("logic");
    let shared = Shared {
        path: path.into(),
        domain: read_text(&logic.join("game_domain.pddl"))?,
        grammar: read_text(&logic.join("game_grammar.twl2"))?,
    };
    let mut decoder = zstd::stream::read::Decoder::new(File::open(path).map_err(read)?).map_err(read)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(read)?;
    let mut lines = BufReader::with_capacity(1 << 18, decoder);
    let mut compressor = zstd::bulk::Compressor::new(LINE_LEVEL).map_err(read)?;
    let mut line = Vec::new();
    let mut found = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).map_err(read)? == 0 {
            break;
        }
        let head: Head =
            serde_json::from_slice(&line).map_err(|error| shared.malformed("json", error.to_string()))?;
        if head.solvable && options.wants(head.split, family_of(&head.id)) {
            let packed = compressor.compress(&line).map_err(read)?.into_boxed_slice();
            found.push(Found { id: head.id, split: head.split, content: (head.task, packed) });
        }
    }
    let games = options.thin(found).into_iter().map(|game| {
        let (task_line, packed) = game.content;
        Listed { id: game.id, split: game.split, task_line, content: Content::Packed(packed) }
    });
    Ok((shared, games.collect()))
}

impl Shared {
    /// A game of the pack as if it had a file of its own.
    pub(super) fn read(&self, packed: &[u8]) -> Result<(GameFile, PathBuf), EnvError> {
        let line = zstd::bulk::decompress(packed, MAX_LINE_BYTES)
            .map_err(|source| EnvError::Read { path: self.path.clone(), source })?;
        let body: Body =
            serde_json::from_slice(&line).map_err(|error| self.malformed("json", error.to_string()))?;
        let file = GameFile {
            pddl_domain: self.domain.clone(),
            grammar: self.with_task(&body.task)?,
            pddl_problem: body.pddl_problem,
            solvable: body.solvable,
            walkthrough: body.walkthrough,
        };
        Ok((file, self.path.join(body.id.0)))
    }

    /// The grammar with a task line put in.
    fn with_task(&self, task: &str) -> Result<String, EnvError> {
        let literal = serde_json::Value::from(task).to_string();
        crate::alfworld::grammar::put_task(&self.grammar, &literal)
            .ok_or_else(|| self.malformed("grammar", "no rule for `task`".into()))
    }

    fn malformed(&self, field: &'static str, reason: String) -> EnvError {
        EnvError::Game { path: self.path.clone(), field, reason }
    }
}

fn read_text(path: &Path) -> Result<String, EnvError> {
    std::fs::read_to_string(path).map_err(|source| EnvError::Read { path: path.into(), source })
}
