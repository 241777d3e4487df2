//! Checkpoints by name: files of a model on the Hugging Face hub, in the cache that other programs share.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use serde_json::Value as Json;

use crate::error::ModelError;

/// Files beside the weights that are read here or by other programs, downloaded where they are there.
const SMALL_FILES: [&str; 7] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
];
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Attempts to go on with a download that broke off.
const RETRIES: usize = 2;

/// What a model on the hub is called: `org/name`, `org/name@revision`, `org/name/FILE.gguf` or `org/name/FILE.gguf@revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    /// `org/name`.
    pub repo: String,
    /// A branch, a tag or a commit; `main` if none is named.
    pub revision: String,
    /// A GGUF file of it, instead of its safetensors.
    pub file: Option<String>,
}

impl HubName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`ModelError::HubName`].
    pub fn parse(text: &str) -> Result<HubName, ModelError> {
        let odd = || ModelError::HubName { name: text.to_string() };
        let (path, revision) = text.split_once('@').unwrap_or((text, "main"));
        let mut parts = path.splitn(3, '/');
        let (org, name, file) =
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next());
        let is_word = |word: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !word.is_empty() && !word.starts_with('.') && word.chars().all(allowed)
        };
        let is_revision = revision.split('/').all(is_word);
        let is_file = file.is_none_or(|file| file.ends_with(".gguf") && is_plain(file));
        if !(is_word(org) && is_word(name) && is_revision && is_file) {
            return Err(odd());
        }
        Ok(HubName {
            repo: format!("{org}/{name}"),
            revision: revision.to_string(),
            file: file.map(str::to_string),
        })
    }
}

impl std::fmt::Display for HubName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.repo)?;
        if let Some(file) = &self.file {
            write!(out, "/{file}")?;
        }
        if self.revision == "main" { Ok(()) } else { write!(out, "@{}", self.revision) }
    }
}

/// Where the hub is and what of it is kept here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// Address of the hub, without a slash at the end.
    pub endpoint: String,
    /// The folder with `models--org--name` in it.
    pub cache: PathBuf,
    /// Who is asking, for models that not everybody may read.
    pub token: Option<String>,
    /// Uses what is in the cache and asks nobody.
    pub offline: bool,
}

impl HubConfig {
    /// From the variables that `huggingface_hub` reads: `HF_ENDPOINT`, `HF_HUB_CACHE` or `HF_HOME` or `XDG_CACHE_HOME`,
    /// `HF_TOKEN` or the file `token` in `HF_HOME`, and `HF_HUB_OFFLINE`.
    ///
    /// - `variable`: value of an environment variable, if it is set
    #[must_use]
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> HubConfig {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let cache_home = set("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
            PathBuf::from(set("HOME").or_else(|| set("USERPROFILE")).unwrap_or_default()).join(".cache")
        });
        let home = set("HF_HOME").map_or_else(|| cache_home.join("huggingface"), PathBuf::from);
        let kept = || std::fs::read_to_string(home.join("token")).ok();
        let token = set("HF_TOKEN").or_else(kept).map(|token| token.trim().to_string());
        let is_on =
            |value: String| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
        HubConfig {
            endpoint: set("HF_ENDPOINT")
                .map_or_else(|| "https://huggingface.co".into(), |url| url.trim_end_matches('/').into()),
            cache: set("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            token: token.filter(|token| !token.is_empty()),
            offline: set("HF_HUB_OFFLINE").is_some_and(is_on),
        }
    }
}

/// Is told how downloads go.
pub trait DownloadProgress {
    /// A file of `bytes` bytes begins.
    fn begin(&mut self, file: &str, bytes: u64);
    /// `bytes` more are here.
    fn advance(&mut self, bytes: u64);
    /// The file is complete.
    fn end(&mut self);
}

/// A model on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The folder, or the GGUF file.
    pub path: PathBuf,
    /// The commit it is of.
    pub commit: String,
    /// Whether the hub could not be reached, and the copy here may not be the newest.
    pub may_be_old: bool,
}

/// Finds a model by name: downloads what the cache lacks of it.
///
/// # Errors
/// [`ModelError::HubStatus`] for a model that is not there or not to be read, [`ModelError::HubUnreachable`] and
/// [`ModelError::HubBrokenOff`] for the network, [`ModelError::HubTruncated`] for a file of another size than the hub
/// says, [`ModelError::HubOffline`] for what the cache lacks, [`ModelError::HubFiles`] for a model without safetensors.
pub fn locate(
    name: &HubName,
    config: &HubConfig,
    progress: &mut dyn DownloadProgress,
) -> Result<Located, ModelError> {
    let copy = Copy::of(name, config);
    // A commit does not change: whoever names one has all there is.
    let is_commit = name.revision.len() == 40 && name.revision.chars().all(|c| c.is_ascii_hexdigit());
    if config.offline || (is_commit && copy.complete(false).is_ok()) {
        return copy.complete(false);
    }
    let api = ApiBuilder::from_cache(Cache::new(config.cache.clone()))
        .with_endpoint(config.endpoint.clone())
        .with_token(config.token.clone())
        .with_progress(false)
        .with_retries(RETRIES)
        .with_user_agent("reskill", env!("CARGO_PKG_VERSION"))
        .build()
        .map_err(|source| unreachable(name, config, source))?;
    let hub = Hub { name, config, repo: Api::repo(&api, repo_of(name)) };
    let info = match hub.info() {
        Ok(info) => info,
        Err(error @ ModelError::HubUnreachable { .. }) => return copy.complete(true).map_err(|_| error),
        Err(error) => return Err(error),
    };
    if !is_plain(&info.sha) {
        return Err(hub.files(format!("its commit is `{}`, which is no commit", info.sha)));
    }
    let snapshot = copy.repo.pointer_path(&info.sha);
    for file in hub.wanted(&info)? {
        hub.fetch(&snapshot, &file, progress)?;
    }
    if name.file.is_none() && !snapshot.join(WEIGHTS).exists() {
        for file in hub.shards(&snapshot)? {
            hub.fetch(&snapshot, &file, progress)?;
        }
    }
    copy.repo.create_ref(&info.sha).map_err(|source| ModelError::File {
        path: config.cache.clone(),
        action: "written",
        source,
    })?;
    let path = name.file.as_ref().map_or_else(|| snapshot.clone(), |file| snapshot.join(file));
    Ok(Located { path, commit: info.sha, may_be_old: false })
}

fn repo_of(name: &HubName) -> Repo {
    Repo::with_revision(name.repo.clone(), RepoType::Model, name.revision.clone())
}

/// Whether a path from the hub stays inside the folder it is meant for.
fn is_plain(path: &str) -> bool {
    !path.is_empty()
        && !path.contains('\\')
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

fn unreachable(name: &HubName, config: &HubConfig, source: ApiError) -> ModelError {
    ModelError::HubUnreachable {
        model: name.to_string(),
        endpoint: config.endpoint.clone(),
        source: Box::new(source),
    }
}

/// What the cache has of a model.
struct Copy<'a> {
    name: &'a HubName,
    config: &'a HubConfig,
    repo: CacheRepo,
}

impl<'a> Copy<'a> {
    fn of(name: &'a HubName, config: &'a HubConfig) -> Copy<'a> {
        Copy { name, config, repo: Cache::new(config.cache.clone()).repo(repo_of(name)) }
    }

    /// The copy, if nothing is missing.
    fn complete(&self, may_be_old: bool) -> Result<Located, ModelError> {
        let folder = self.config.cache.join(repo_of(self.name).folder_name());
        let missing = |file: &str| ModelError::HubOffline {
            model: self.name.to_string(),
            file: file.to_string(),
            cache: self.config.cache.clone(),
        };
        let reference = std::fs::read_to_string(folder.join("refs").join(&self.name.revision));
        let commit =
            reference.map_or_else(|_| self.name.revision.clone(), |commit| commit.trim().to_string());
        let snapshot = self.repo.pointer_path(&commit);
        let located = |path: PathBuf| Located { path, commit: commit.clone(), may_be_old };
        if !is_plain(&commit) || !snapshot.is_dir() {
            return Err(missing("the model"));
        }
        if let Some(file) = &self.name.file {
            let path = snapshot.join(file);
            return if path.exists() { Ok(located(path)) } else { Err(missing(file)) };
        }
        let mut needed: BTreeSet<String> = ["config.json".to_string()].into();
        if !snapshot.join(WEIGHTS).exists() {
            needed.extend(shard_names(&snapshot.join(INDEX)).ok_or_else(|| missing(WEIGHTS))?);
        }
        match needed.iter().find(|file| !snapshot.join(file).exists()) {
            Some(file) => Err(missing(file)),
            None => Ok(located(snapshot)),
        }
    }
}

/// The files that an index of shards names.
fn shard_names(index: &Path) -> Option<BTreeSet<String>> {
    let index: Json = serde_json::from_str(&std::fs::read_to_string(index).ok()?).ok()?;
    let names = index["weight_map"].as_object()?.values();
    names.map(|file| file.as_str().filter(|file| is_plain(file)).map(str::to_string)).collect()
}

/// A model on the hub.
struct Hub<'a> {
    name: &'a HubName,
    config: &'a HubConfig,
    repo: ApiRepo,
}

impl Hub<'_> {
    fn info(&self) -> Result<RepoInfo, ModelError> {
        self.repo.info().map_err(|source| match status_of(&source) {
            Some(status) => self.refused(None, status),
            None => unreachable(self.name, self.config, source),
        })
    }

    fn refused(&self, file: Option<&str>, status: u16) -> ModelError {
        let model = self.name.to_string();
        let model = file.map_or_else(|| model.clone(), |file| format!("{model}: {file}"));
        ModelError::HubStatus { model, endpoint: self.config.endpoint.clone(), status }
    }

    fn files(&self, reason: String) -> ModelError {
        ModelError::HubFiles { model: self.name.to_string(), reason }
    }

    /// The files to begin with: all but the shards that an index names.
    fn wanted(&self, info: &RepoInfo) -> Result<Vec<String>, ModelError> {
        let there: BTreeSet<&str> = info.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        if let Some(file) = &self.name.file {
            let is_there = there.contains(file.as_str());
            let missing = || self.files(format!("has no file {file}; it has {}", list(&there, ".gguf")));
            return if is_there { Ok(vec![file.clone()]) } else { Err(missing()) };
        }
        let weights = [WEIGHTS, INDEX].into_iter().find(|file| there.contains(file)).ok_or_else(|| {
            let gguf = list(&there, ".gguf");
            self.files(format!(
                "has neither {WEIGHTS} nor {INDEX}; name a GGUF file as {}/FILE.gguf (it has {gguf}), or another model",
                self.name.repo
            ))
        })?;
        if !there.contains("config.json") {
            return Err(self.files("has no config.json".into()));
        }
        let small = SMALL_FILES.into_iter().filter(|file| there.contains(file));
        Ok(small.chain([weights]).map(str::to_string).collect())
    }

    fn shards(&self, snapshot: &Path) -> Result<BTreeSet<String>, ModelError> {
        let odd = || self.files(format!("its {INDEX} names no files"));
        shard_names(&snapshot.join(INDEX)).ok_or_else(odd)
    }

    /// Downloads a file that the snapshot lacks.
    fn fetch(
        &self,
        snapshot: &Path,
        file: &str,
        progress: &mut dyn DownloadProgress,
    ) -> Result<(), ModelError> {
        if snapshot.join(file).exists() {
            return Ok(());
        }
        let mut expected = 0;
        let meter = Meter { progress, expected: &mut expected };
        let path =
            self.repo.download_with_progress(file, meter).map_err(|source| match status_of(&source) {
                Some(status) => self.refused(Some(file), status),
                None => ModelError::HubBrokenOff {
                    model: self.name.to_string(),
                    file: file.to_string(),
                    source: Box::new(source),
                },
            })?;
        let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if bytes != expected {
            // Neither the file nor its name may stay: the next program would take it for the whole.
            let blob = path.canonicalize();
            let _ = std::fs::remove_file(&path);
            let _ = blob.map(std::fs::remove_file);
            let (model, file) = (self.name.to_string(), file.to_string());
            return Err(ModelError::HubTruncated { model, file, bytes, expected });
        }
        if !path.starts_with(snapshot) {
            return Err(self.files(format!("has changed while {file} was downloaded; run again")));
        }
        Ok(())
    }
}

/// The names that end so, for people.
fn list(names: &BTreeSet<&str>, end: &str) -> String {
    let found: Vec<&str> = names.iter().copied().filter(|name| name.ends_with(end)).collect();
    if found.is_empty() { "none".into() } else { found.join(", ") }
}

/// The status that a hub refused with.
fn status_of(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        ApiError::TooManyRetries(error) => status_of(error),
        _ => None,
    }
}

/// Passes progress on, and remembers how large the file is said to be.
struct Meter<'a> {
    progress: &'a mut dyn DownloadProgress,
    expected: &'a mut u64,
}

impl hf_hub::api::Progress for Meter<'_> {
    fn init(&mut self, size: usize, filename: &str) {
        *self.expected = size as u64;
        self.progress.begin(filename, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.progress.advance(size as u64);
    }

    fn finish(&mut self) {
        self.progress.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_printed() {
        for text in [
            "org/name",
            "org/na-me_1.5@v1.0",
            "org/name@refs/pr/1",
            "org/name/a/b.Q4_K.gguf",
            "o/n/f.gguf@main2",
        ] {
            assert_eq!(HubName::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(HubName::parse("org/name@main").unwrap().to_string(), "org/name");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for text in [
            "",
            "name",
            "org/",
            "/name",
            "org/name@",
            "org/name@../x",
            "org/..",
            "org/name/x.bin",
            "org/name/../x.gguf",
            "a b/c",
        ] {
            assert!(HubName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn variables_name_cache_token_and_endpoint() {
        let config = HubConfig::from_variables(|name| match name {
            "HF_HOME" => Some("/data/hf".into()),
            "HF_TOKEN" => Some(" secret ".into()),
            "HF_ENDPOINT" => Some("http://mirror/".into()),
            "HF_HUB_OFFLINE" => Some("1".into()),
            _ => None,
        });
        let want = HubConfig {
            endpoint: "http://mirror".into(),
            cache: "/data/hf/hub".into(),
            token: Some("secret".into()),
            offline: true,
        };
        assert_eq!(config, want);
        let config = HubConfig::from_variables(|name| (name == "HOME").then(|| "/nowhere".into()));
        assert_eq!(config.cache, Path::new("/nowhere/.cache/huggingface/hub"));
        assert!(!config.offline && config.token.is_none() && config.endpoint == "https://huggingface.co");
    }
}
