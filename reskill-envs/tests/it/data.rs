//! Where the tests find real ALFWorld data, if there is any.

use std::path::{Path, PathBuf};

/// The folder `alfworld` of `$RESKILL_DATA`, or of `shared/data` beside the workspace; `None` without either.
pub(crate) fn alfworld_data() -> Option<PathBuf> {
    let data = data_root().join("alfworld");
    data.join("games_all.jsonl.zst").is_file().then_some(data)
}

/// `$RESKILL_DATA`, or `shared/data` beside the workspace; it need not be there.
pub(crate) fn data_root() -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    std::env::var_os("RESKILL_DATA").map_or(beside, PathBuf::from)
}
