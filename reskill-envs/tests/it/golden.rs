//! The engine against the original on games of our own and on ALFWorld's, played by adversarial policies.
//!
//! `golden/` holds the records and the scripts that made them, with textworld 1.7.0 and alfworld 0.4.2. Of ALFWorld's
//! own games only commands and digests are kept; they are compared where the data is found.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use reskill_envs::alfworld::{Alfworld, AlfworldOptions, Game, GameEnv, GameFile, RulesCache};
use reskill_envs::{Split, Suite, TaskId};
use serde_json::Value;

use crate::data::alfworld_data;
use crate::transcript::{Digested, Transcript, check, digest, read_lines};

#[test]
fn household_games_in_three_wordings_read_as_in_the_original() {
    let games: Vec<Value> = read_lines(&include_bytes!("golden/household_games.jsonl.gz")[..]);
    let transcripts: Vec<Transcript> =
        read_lines(&include_bytes!("golden/household_transcripts.jsonl.gz")[..]);
    let rules = RulesCache::default();
    let mut compiled: HashMap<String, Arc<Game>> = HashMap::new();
    for game in games {
        let id = game["id"].as_str().unwrap().to_owned();
        let file = GameFile::from_json(game.to_string().as_bytes(), Path::new(&id)).unwrap();
        compiled.insert(id, Arc::new(Game::compile(&file, &rules).unwrap()));
    }
    assert_eq!((compiled.len(), transcripts.len(), rules.len()), (36, 180, 3));
    for transcript in &transcripts {
        let game = Arc::clone(&compiled[&transcript.id]);
        check(&mut GameEnv::new(game, TaskId(transcript.id.clone())), transcript);
    }
}

#[test]
fn alfworld_games_read_as_in_the_original_whatever_is_played() {
    let Some(data) = alfworld_data() else { return };
    let options = AlfworldOptions { splits: Split::ALL.to_vec(), ..AlfworldOptions::default() };
    let suite = Alfworld::open_path(&data, &options).unwrap();
    let digests: Vec<Digested> = read_lines(&include_bytes!("golden/alfworld_digests.jsonl.gz")[..]);
    assert_eq!(digests.len(), 240);
    digests.par_iter().for_each(|recorded| {
        let mut env = suite.open(&TaskId(recorded.id.clone())).unwrap();
        assert_eq!(
            digest(env.as_mut(), &recorded.actions),
            recorded.sha256,
            "{} {}",
            recorded.id,
            recorded.kind
        );
    });
}
