//! Optional parts: Java and ScienceWorld, Python, data of environments, models, keys of creators.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Finding;

/// The oldest Java that the simulator runs on.
const JAVA: u32 = 17;

/// All of them; `data` are the folders and files that the person named.
pub(super) fn findings(data: &[PathBuf]) -> Vec<Finding> {
    let mut findings = vec![java(), jar(data), python()];
    findings.extend(data.iter().map(|path| folder(path)));
    if data.is_empty() {
        findings.push(Finding::absent(
            "data",
            "no folder was named",
            "--data PATH says what is in one; household and wands need none, `reskill-cli train --help` shows the others",
        ));
    }
    findings.extend(models());
    findings.push(keys());
    findings
}

fn java() -> Finding {
    let get = "apt-get install default-jre-headless (Debian, Ubuntu), or any Java runtime, 17 or newer, on the path";
    let Some(said) = first_line("java", "-version") else {
        return Finding::absent("java", "no program `java` (for ScienceWorld)", get);
    };
    match java_version(&said) {
        Some(version) if version < JAVA => {
            Finding::absent("java", format!("{said}: too old for ScienceWorld, which needs {JAVA}"), get)
        }
        _ => Finding::ok("java", said),
    }
}

/// 17 of `openjdk version "17.0.2" 2022-01-18`, 8 of `java version "1.8.0"`.
fn java_version(said: &str) -> Option<u32> {
    let mut numbers = said.split('"').nth(1)?.split(['.', '-', '_', '+']).map_while(|part| part.parse().ok());
    match numbers.next()? {
        1 => numbers.next(),
        major => Some(major),
    }
}

fn jar(data: &[PathBuf]) -> Finding {
    let folders = data.iter().cloned().chain([PathBuf::from("target/scienceworld")]);
    let found = folders.map(|folder| folder.join("scienceworld.jar")).find(|jar| jar.is_file());
    match found {
        Some(jar) => Finding::ok("scienceworld", jar.display().to_string()),
        None => Finding::absent(
            "scienceworld",
            "no scienceworld.jar in target/scienceworld or a folder of --data",
            "scripts/get-scienceworld target/scienceworld",
        ),
    }
}

fn python() -> Finding {
    match first_line("python3", "--version") {
        Some(said) => {
            Finding::ok("python", format!("{said} (for scripts/get-... and environments in Python)"))
        }
        None => Finding::absent(
            "python",
            "no program `python3` (for scripts/get-... and environments in Python; nothing else needs it)",
            "apt-get install python3 python3-pip",
        ),
    }
}

/// Which environment a path has data for.
fn folder(path: &Path) -> Finding {
    let shown = path.display();
    let kinds = kinds(path);
    if kinds.is_empty() {
        let found = if path.exists() { "holds no data that is known" } else { "is not there" };
        return Finding::absent(
            "data",
            format!("{shown}: {found}"),
            "what each environment reads: reskill-envs/README.md, \"What is read\"",
        );
    }
    let runs = kinds.iter().map(|kind| format!("reskill-cli train --config {kind} --set env.data={shown}"));
    Finding::ok("data", format!("{shown}: {}; {}", kinds.join(", "), runs.collect::<Vec<_>>().join("; ")))
}

/// Names of the presets whose data lie here, told by the names of files.
fn kinds(path: &Path) -> Vec<&'static str> {
    let has = |names: &[&str]| names.iter().all(|name| path.join(name).exists());
    let names = || std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let has_corpus = || names().any(|name| name.to_string_lossy().starts_with("corpus."));
    let is_game = path.extension().is_some_and(|extension| extension == "tw-pddl") && path.is_file();
    let is_tree = ["train", "valid_seen", "valid_unseen"].iter().any(|split| path.join(split).is_dir());
    let mut kinds = Vec::new();
    if is_game || is_tree || has(&["json_2.1.1"]) || has(&["games_all.jsonl.zst", "logic"]) {
        kinds.push("alfworld");
    }
    if has(&["scienceworld.jar"]) {
        kinds.push("scienceworld");
    }
    if has(&["ic_spider_dev.json", "sqlite_sql"]) {
        kinds.push("sql");
    }
    if has(&["product.csv", "query.csv", "label.csv"]) {
        kinds.push("wands");
    }
    if has_corpus() {
        kinds.push("search");
    }
    kinds
}

/// Models on this machine: the cache of the hub, and what the scripts fetched.
fn models() -> Vec<Finding> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let files = cache.map(|cache| cache.join("reskill"));
    let mut found: Vec<String> = Vec::new();
    for entry in files.iter().flat_map(std::fs::read_dir).flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "gguf") {
            found.push(entry.path().display().to_string());
        }
    }
    found.extend(hub_models());
    found.sort();
    if found.is_empty() {
        return vec![Finding::absent(
            "models",
            "no pretrained model in the caches (small policies need none)",
            "scripts/get-smollm2, or by name: reskill-cli generate --model HuggingFaceTB/SmolLM2-135M-Instruct --chat",
        )];
    }
    vec![Finding::ok("models", found.join(", "))]
}

/// Names of the models in the hub's cache, as `model.path` takes them.
#[cfg(feature = "hub")]
fn hub_models() -> Vec<String> {
    use reskill_model::pretrained::hub::HubConfig;

    let config = HubConfig::from_variables(|name| std::env::var(name).ok());
    let entries = std::fs::read_dir(&config.cache).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().strip_prefix("models--")?.replace("--", "/");
        Some(format!("hf:{name}"))
    };
    entries.filter_map(name).collect()
}

#[cfg(not(feature = "hub"))]
fn hub_models() -> Vec<String> {
    Vec::new()
}

/// Whether keys for language models as creators are set; never what they are.
fn keys() -> Finding {
    let names = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_ACCESS_KEY_ID"];
    let set: Vec<&str> = names.into_iter().filter(|name| std::env::var_os(name).is_some()).collect();
    if set.is_empty() {
        return Finding::absent(
            "keys",
            "no key of a vendor of language models is set (the statistical creator needs none)",
            "export OPENAI_API_KEY=..., or a local server: skills.creator.kind=openai with skills.creator.api_key_env=''",
        );
    }
    Finding::ok("keys", format!("set: {}", set.join(", ")))
}

/// The first line that a program prints, to either stream; `None` if it is not there or fails.
fn first_line(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    output.status.success().then(|| line.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_java_are_read_in_both_styles() {
        for (said, version) in [
            ("openjdk version \"17.0.2\" 2022-01-18", Some(17)),
            ("java version \"1.8.0_392\"", Some(8)),
            ("openjdk version \"21-ea\" 2023-09-19", Some(21)),
            ("openjdk version \"25\" 2025-09-16", Some(25)),
            ("no version", None),
        ] {
            assert_eq!(java_version(said), version, "{said}");
        }
    }

    #[test]
    fn data_is_told_by_the_names_of_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| std::fs::write(dir.path().join(name), "").unwrap();
        assert!(kinds(dir.path()).is_empty());
        make("product.csv");
        make("query.csv");
        assert!(kinds(dir.path()).is_empty(), "label.csv is missing");
        make("label.csv");
        assert_eq!(kinds(dir.path()), ["wands"]);
        make("scienceworld.jar");
        make("corpus.jsonl.gz");
        assert_eq!(kinds(dir.path()), ["scienceworld", "wands", "search"]);
        let game = dir.path().join("game.tw-pddl");
        std::fs::write(&game, "").unwrap();
        assert_eq!(kinds(&game), ["alfworld"]);
    }
}
