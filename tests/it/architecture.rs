//! The rules of ARCHITECTURE.md, enforced: who imports whom, where `unsafe` is, how long files are, what the text says.

use std::fs;
use std::path::{Path, PathBuf};

const CRATES: [&str; 6] =
    ["reskill-kernels", "reskill-model", "reskill-grpo", "reskill-skills", "reskill-envs", "reskill-cli"];

/// Which of our crates each may depend on.
const ALLOWED: [(&str, &[&str]); 6] = [
    ("reskill-kernels", &[]),
    ("reskill-model", &["reskill-kernels"]),
    ("reskill-grpo", &["reskill-kernels", "reskill-model"]),
    ("reskill-envs", &[]),
    ("reskill-skills", &["reskill-envs"]),
    ("reskill-cli", &["reskill-kernels", "reskill-model", "reskill-grpo", "reskill-skills", "reskill-envs"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// All files below `dir` with this extension.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The lines of a manifest's `[dependencies]`, without development dependencies.
fn dependencies(manifest: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(manifest).join("Cargo.toml")).unwrap();
    let section = text.split("\n[dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section
        .lines()
        .filter_map(|line| line.split(['=', '.']).next())
        .map(|name| name.trim().to_string())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect()
}

#[test]
fn crates_import_only_what_stands_below_them() {
    for (name, allowed) in ALLOWED {
        for dependency in dependencies(name).iter().filter(|it| it.starts_with("reskill-")) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn command_line_and_anyhow_stay_in_the_cli() {
    for name in CRATES.iter().filter(|name| **name != "reskill-cli") {
        for forbidden in ["clap", "anyhow", "indicatif", "tracing-subscriber"] {
            assert!(!dependencies(name).iter().any(|it| it == forbidden), "{name} depends on {forbidden}");
        }
    }
}

#[test]
fn unsafe_stays_in_kernels_but_for_mapping_files_of_weights() {
    for name in CRATES.iter().filter(|name| **name != "reskill-kernels") {
        let lib = fs::read_to_string(root().join(name).join("src/lib.rs")).unwrap();
        let rule = if *name == "reskill-model" { "#![deny(unsafe_code)]" } else { "#![forbid(unsafe_code)]" };
        assert!(lib.contains(rule), "{name} must have {rule}");
    }
    let lifted =
        |path: &PathBuf| fs::read_to_string(path).unwrap().contains(concat!("expect(unsafe", "_code"));
    let places: Vec<PathBuf> =
        files(&root().join("reskill-model/src"), "rs").into_iter().filter(lifted).collect();
    assert_eq!(places, [root().join("reskill-model/src/weights/mapped.rs")]);
}

#[test]
fn files_stay_short() {
    for name in CRATES {
        for path in files(&root().join(name).join("src"), "rs") {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            let limit = match path.file_name().unwrap().to_str().unwrap() {
                "lib.rs" => 60,
                "main.rs" => 100,
                _ => 500,
            };
            assert!(lines <= limit, "{} has {lines} lines, the limit is {limit}", path.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for name in CRATES {
        for path in files(&root().join(name).join("src"), "rs") {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("//!"), "{} has no module documentation", path.display());
        }
    }
}

#[test]
fn nothing_is_left_to_do_in_the_code() {
    let (todo, unimplemented) = (concat!("todo", "!("), concat!("unimplemented", "!("));
    for name in CRATES {
        for path in files(&root().join(name), "rs") {
            let text = fs::read_to_string(&path).unwrap();
            assert!(!text.contains(todo) && !text.contains(unimplemented), "{}", path.display());
        }
    }
}

#[test]
fn every_arm_of_the_studies_can_begin() {
    for path in files(&root().join("configs/studies"), "toml") {
        let study = reskill_cli::study::StudyFile::read(&path).unwrap();
        for arm in 0..study.arms.len() {
            let config = study.config(arm, 0).unwrap();
            // A study may begin where another one ended; that one lies in studies/ once it was run.
            let bank = config.bank.filter(|bank| !bank.starts_with("studies")).map(|bank| root().join(bank));
            assert!(bank.is_none_or(|bank| bank.is_dir()), "{}: {}", path.display(), study.arms[arm].name);
        }
    }
}

#[test]
fn the_embedded_configuration_is_the_one_in_configs() {
    let text = fs::read_to_string(root().join("configs/default.toml")).unwrap();
    assert_eq!(reskill_cli::presets::preset("default"), Some(text.as_str()));
    let config = reskill_cli::config::TrainConfig::load(None, &[]).unwrap();
    let studies = root().join("configs/studies");
    for path in files(&root().join("configs"), "toml").into_iter().filter(|path| !path.starts_with(&studies))
    {
        // What a preset leaves to the user.
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        assert!(reskill_cli::presets::preset(&stem).is_some(), "{stem} is not among the presets");
        let path = match reskill_cli::presets::is_overlay(&stem) {
            true => PathBuf::from(format!("default+{}", path.display())),
            false => path,
        };
        let mut more = Vec::new();
        more.extend(stem.starts_with("paper-").then(|| "skills.creator.model=\"m\"".to_string()));
        more.extend((stem == "ablation-static").then(|| "bank=\"x\"".to_string()));
        let needs_data =
            ["alfworld", "scienceworld", "search", "sql"].iter().any(|name| stem.ends_with(name));
        more.extend(needs_data.then(|| "env.data=x".to_string()));
        more.extend(stem.starts_with("smollm2").then(|| "model.path=x".to_string()));
        more.extend((stem == "external").then(|| "env.external.command=[\"x\"]".to_string()));
        reskill_cli::config::TrainConfig::load(Some(&path), &more).unwrap();
    }
    // What is written into a run directory reads back as the same configuration.
    let dir = tempfile::tempdir().unwrap();
    let written = dir.path().join("config.toml");
    fs::write(&written, config.to_toml().unwrap()).unwrap();
    assert_eq!(reskill_cli::config::TrainConfig::load(Some(&written), &[]).unwrap(), config);
}
