//! Where the tests find real data, if there is any.

use std::path::{Path, PathBuf};

/// The folder `name` of `$RESKILL_DATA`, or of `shared/data` beside the workspace, if it has `file`.
pub(crate) fn data(name: &str, file: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let root = std::env::var_os("RESKILL_DATA").map_or(beside, PathBuf::from);
    let folder = root.join(name);
    folder.join(file).is_file().then_some(folder)
}

/// Real ALFWorld games.
pub(crate) fn alfworld_data() -> Option<PathBuf> {
    data("alfworld", "games_all.jsonl.zst")
}
