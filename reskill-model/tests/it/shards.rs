//! Folders with an index of shards that lack something.

use std::path::{Path, PathBuf};

use reskill_model::Pretrained;
use serde_json::Value;
use tempfile::TempDir;

use crate::parity::{folder, load};
use crate::pretrained::json;

const INDEX: &str = "model.safetensors.index.json";
const SECOND: &str = "model-00002-of-00003.safetensors";

/// A copy of a sharded checkpoint.
fn copy() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder("qwen2-sharded")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let index = dir.path().join(INDEX);
    (dir, index)
}

fn refused(dir: &Path) -> String {
    Pretrained::open(dir).unwrap().model().unwrap_err().to_string()
}

/// Rewrites the map from tensors to files.
fn edit(index: &Path, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let mut all = json(index);
    change(all["weight_map"].as_object_mut().unwrap());
    std::fs::write(index, all.to_string()).unwrap();
}

#[test]
fn shards_that_the_index_names_and_the_folder_lacks_are_named_all_at_once() {
    let (dir, index) = copy();
    std::fs::remove_file(dir.path().join(SECOND)).unwrap();
    let index = index.display();
    assert_eq!(
        refused(dir.path()),
        format!("{index}: names {SECOND}, not in the folder: download what is missing")
    );
    std::fs::remove_file(dir.path().join("model-00003-of-00003.safetensors")).unwrap();
    let message = refused(dir.path());
    assert!(message.contains(&format!("names {SECOND}, model-00003-of-00003.safetensors, not")), "{message}");
}

#[test]
fn tensors_of_a_shard_that_the_index_forgets_are_listed_as_missing() {
    let (dir, index) = copy();
    edit(&index, |map| map.retain(|_, file| file != SECOND));
    let message = refused(dir.path());
    let forgotten = json(&folder("qwen2-sharded").join(INDEX))["weight_map"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, file)| *file == SECOND)
        .map(|(name, _)| name.clone())
        .collect::<Vec<String>>();
    assert!(forgotten.len() > 8);
    for name in &forgotten {
        assert!(message.contains(&format!("`{name}` is missing")), "{name}: {message}");
    }
    assert_eq!(message.matches("is missing").count(), forgotten.len());
}

#[test]
fn a_tensor_that_the_index_puts_into_the_wrong_shard_is_named() {
    let (dir, index) = copy();
    edit(&index, |map| {
        map.insert("model.norm.weight".into(), SECOND.into());
    });
    assert_eq!(refused(dir.path()), format!("{}: `model.norm.weight` is not in {SECOND}", index.display()));
}

#[test]
fn a_tensor_that_only_the_index_forgets_is_read_from_its_shard() {
    let (dir, index) = copy();
    edit(&index, |map| {
        map.remove("model.layers.1.self_attn.q_proj.bias").unwrap();
    });
    let model = Pretrained::open(dir.path()).unwrap().model().unwrap();
    assert_eq!(model.params(), load("qwen2-sharded").1.params());
}
