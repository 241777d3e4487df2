//! Records which commit the program is built from, as `RESKILL_COMMIT`: `unknown` without git, with `-dirty` behind it if
//! what is built differs from that commit.

use std::path::Path;
use std::process::Command;

/// What a build reads, from the root of the repository.
const SOURCES: [&str; 14] = [
    "Cargo.toml",
    "Cargo.lock",
    "benchmarks/traces",
    "configs",
    "reskill-cli/Cargo.toml",
    "reskill-cli/build.rs",
    "reskill-cli/src",
    "reskill-envs/src",
    "reskill-grpo/src",
    "reskill-kernels/Cargo.toml",
    "reskill-kernels/build.rs",
    "reskill-kernels/src",
    "reskill-model/src",
    "reskill-skills/src",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=RESKILL_COMMIT={}", commit().unwrap_or_else(|| "unknown".to_string()));
}

/// The commit, with what would change it watched.
fn commit() -> Option<String> {
    let root = git(&["rev-parse", "--show-toplevel"])?;
    // The branch has a file of its own or a line in one of all; either changes with a commit.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            watch(Path::new(&path));
        }
    }
    // A change of these builds this package anew anyway.
    SOURCES.iter().for_each(|source| watch(&Path::new(&root).join(source)));
    // A package inside a repository of somebody else has no commit of its own.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let commit = git(&["rev-parse", "--short=10", "HEAD"])?;
    let mut status = vec!["-C", &root, "--no-optional-locks", "status", "--porcelain", "--"];
    status.extend(SOURCES);
    let dirty = git(&status).is_none_or(|changed| !changed.is_empty());
    Some(if dirty { format!("{commit}-dirty") } else { commit })
}

/// What is missing is not watched: cargo would build each time.
fn watch(path: &Path) {
    if path.exists() {
        println!("cargo:rerun-if-changed={}", path.display());
    }
}

/// What git prints, if it is there and succeeds.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
