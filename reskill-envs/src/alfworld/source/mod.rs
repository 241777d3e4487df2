//! Where games come from: a tree of files, one file, or a pack.

mod pack;
mod tree;

use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::game_file::GameFile;
use crate::error::EnvError;
use crate::suite::{Split, TaskId};

/// Which games to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AlfworldOptions {
    /// The splits to take. Default: `train`, `valid_seen` and `valid_unseen`.
    pub splits: Vec<Split>,
    /// The task families to take, e.g. `pick_and_place_simple`; `None` for all.
    pub families: Option<Vec<String>>,
    /// At most this many games of each split, evenly spread over the sorted ids; `None` for all.
    pub limit: Option<usize>,
    /// Each split in an order drawn from this seed; `None` for the order of the ids.
    pub order_seed: Option<u64>,
}

impl Default for AlfworldOptions {
    fn default() -> Self {
        Self {
            splits: vec![Split::Train, Split::ValidSeen, Split::ValidUnseen],
            families: None,
            limit: None,
            order_seed: None,
        }
    }
}

impl AlfworldOptions {
    fn wants(&self, split: Split, family: &str) -> bool {
        self.splits.contains(&split)
            && self.families.as_ref().is_none_or(|families| families.iter().any(|wanted| wanted == family))
    }

    /// Sorts the games and thins each split out to the limit.
    fn thin<T>(&self, mut games: Vec<Found<T>>) -> Vec<Found<T>> {
        games.sort_by(|left, right| left.id.cmp(&right.id));
        let Some(limit) = self.limit else { return self.ordered(games) };
        let mut kept = Vec::new();
        for split in Split::ALL {
            let mut of_split: Vec<_> = games.extract_if(.., |game| game.split == split).map(Some).collect();
            let n = of_split.len();
            let n_kept = limit.min(n);
            kept.extend((0..n_kept).filter_map(|index| of_split[index * n / n_kept].take()));
        }
        self.ordered(kept)
    }
}

impl AlfworldOptions {
    /// The games in the order that was asked for.
    fn ordered<T>(&self, mut games: Vec<Found<T>>) -> Vec<Found<T>> {
        let Some(seed) = self.order_seed else { return games };
        let mut ordered = Vec::with_capacity(games.len());
        for (split, stream) in Split::ALL.into_iter().zip(0..) {
            let mut of_split: Vec<_> = games.extract_if(.., |game| game.split == split).collect();
            // A split's order does not depend on which others are taken.
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream);
            of_split.shuffle(&mut rng);
            ordered.append(&mut of_split);
        }
        ordered
    }
}

/// One game that was found, with where its content is.
#[derive(Debug)]
pub(super) struct Found<T> {
    pub(super) id: TaskId,
    pub(super) split: Split,
    pub(super) content: T,
}

/// One game of a source.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) id: TaskId,
    pub(super) split: Split,
    /// The task line of its grammar.
    pub(super) task_line: String,
    pub(super) content: Content,
}

/// Where the content of a game is.
#[derive(Debug)]
pub(super) enum Content {
    /// In a file of its own.
    File(PathBuf),
    /// In a line of a pack, compressed.
    Packed(Box<[u8]>),
}

/// A source of games.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// Domain and grammar of a pack.
    shared: Option<pack::Shared>,
}

impl Source {
    /// Finds the games under a path.
    pub(super) fn open(path: &Path, options: &AlfworldOptions) -> Result<(Source, Vec<Listed>), EnvError> {
        let packed = path.join(pack::FILE_NAME);
        let pack_file = if path.extension().is_some_and(|extension| extension == "zst") {
            Some(path.to_owned())
        } else {
            packed.is_file().then_some(packed)
        };
        let (shared, games) = match pack_file {
            Some(file) => {
                let (shared, games) = pack::open(&file, options)?;
                (Some(shared), games)
            }
            None => (None, tree::open(path, options)?),
        };
        if games.is_empty() {
            return Err(EnvError::NoGames {
                path: path.into(),
                expected: "a game.tw-pddl file, a folder with train/, valid_seen/ or valid_unseen/, or games_all.jsonl.zst \
                           with logic/ beside it, holding solvable games of the wanted splits and families",
            });
        }
        Ok((Source { path: path.into(), shared }, games))
    }

    /// Reads one game, and says which file to blame for what is wrong with it.
    pub(super) fn read(&self, content: &Content) -> Result<(GameFile, PathBuf), EnvError> {
        match (content, &self.shared) {
            (Content::File(path), _) => Ok((GameFile::read(path)?, path.clone())),
            (Content::Packed(line), Some(shared)) => shared.read(line),
            (Content::Packed(_), None) => {
                Err(EnvError::NoGames { path: self.path.clone(), expected: "a pack" })
            }
        }
    }
}

/// The family of a task: the part of its folder's name before the first `-`.
pub(super) fn family_of(id: &TaskId) -> &str {
    let folder = id.0.split('/').nth(1).unwrap_or(&id.0);
    folder.split('-').next().unwrap_or(folder)
}
