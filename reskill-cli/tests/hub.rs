//! Models by name, from a server that plays the Hugging Face hub and misbehaves on demand.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const REPO: &str = "some-org/tiny-model";

/// How the server answers.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Well,
    /// Everything but the list of files is on another path, with the headers that the hub sends along.
    Elsewhere,
    /// Any request.
    Status(u16),
    /// The first answers for weights break off after this many bytes, as many as the second number says.
    BreaksOff(usize, usize),
    /// Weights are said to be one byte longer than what is sent.
    Lies,
}

struct Hub {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// Serves the files of a folder as [`REPO`].
    fn start(folder: PathBuf, manner: Manner) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, broken) = (Arc::clone(&requests), Arc::new(AtomicUsize::new(0)));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (folder, log, broken) = (folder.clone(), Arc::clone(&log), Arc::clone(&broken));
                std::thread::spawn(move || answer(stream.unwrap(), &folder, manner, &log, &broken));
            }
        });
        Hub { url, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// One request, and the end of the connection. A client that goes away is its own business.
fn answer(stream: TcpStream, folder: &Path, manner: Manner, log: &Mutex<Vec<String>>, broken: &AtomicUsize) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    log.lock().unwrap().push(format!("{request}\n{}", headers.join("\n")));
    let path = request.split(' ').nth(1).unwrap().to_string();
    let mut out = stream;
    let mut send = |status: u16, headers: &str, body: &[u8], promised: usize| {
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {promised}\r\nConnection: close\r\n{headers}\r\n"
        );
        let _ = out.write_all(head.as_bytes()).and_then(|()| out.write_all(body));
    };
    if let Manner::Status(status) = manner {
        return send(status, "", b"no", 2);
    }
    if path.starts_with(&format!("/api/models/{REPO}/revision/")) {
        if !path.ends_with("/main") && !path.ends_with(COMMIT) {
            return send(404, "", b"", 0);
        }
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let files: Vec<_> =
            names.map(|name| serde_json::json!({ "rfilename": name.to_str().unwrap() })).collect();
        let body = serde_json::json!({ "sha": COMMIT, "siblings": files }).to_string();
        return send(200, "", body.as_bytes(), body.len());
    }
    let name = path.rsplit('/').next().unwrap().to_string();
    let Ok(content) = std::fs::read(folder.join(&name)) else { return send(404, "", b"", 0) };
    let mut about = format!("ETag: \"etag-{name}\"\r\nX-Repo-Commit: {COMMIT}\r\n");
    if manner == Manner::Elsewhere && !path.starts_with("/elsewhere/") {
        about = format!("X-Linked-ETag: \"linked-{name}\"\r\nX-Repo-Commit: {COMMIT}\r\n");
        return send(302, &format!("{about}Location: /elsewhere/{name}\r\n"), b"", 0);
    }
    let range =
        headers.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(String::from));
    let range = range.unwrap();
    let (from, to) = range.split_once('-').unwrap();
    let from: usize = from.parse().unwrap();
    let to = to.parse().map_or(content.len(), |last: usize| content.len().min(last + 1));
    let total = content.len() + usize::from(manner == Manner::Lies && name.ends_with(".safetensors"));
    about += &format!("Content-Range: bytes {from}-{}/{total}\r\n", to - 1);
    let body = &content[from..to];
    if let Manner::BreaksOff(bytes, times) = manner {
        let is_whole = name.ends_with(".safetensors") && to - from > 1;
        if is_whole && broken.fetch_add(1, Ordering::SeqCst) < times {
            return send(206, &about, &body[..bytes], body.len());
        }
    }
    send(206, &about, body, body.len());
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../reskill-model/tests/fixtures/parity").join(name)
}

/// `score` of three tokens with `model`; the cache is under `home`.
fn score(model: &str, home: &Path, variables: &[(&str, &str)]) -> Output {
    let ids = home.join("ids.json");
    std::fs::write(&ids, "[[1, 2, 3]]").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_reskill-cli"));
    for name in
        ["HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HTTP_PROXY", "http_proxy", "ALL_PROXY"]
    {
        command.env_remove(name);
    }
    command.env("HF_HOME", home.join("hf")).envs(variables.iter().copied());
    command.args(["score", "--model", model, "--ids-file", ids.to_str().unwrap()]).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn local(folder: &Path) -> String {
    let home = tempfile::tempdir().unwrap();
    stdout(&score(folder.to_str().unwrap(), home.path(), &[]))
}

#[test]
fn a_model_is_downloaded_once_into_the_cache_that_others_share() {
    for manner in [Manner::Well, Manner::Elsewhere] {
        let home = tempfile::tempdir().unwrap();
        let hub = Hub::start(fixture("qwen3"), manner);
        let endpoint = [("HF_ENDPOINT", hub.url.as_str()), ("HF_TOKEN", "secret")];
        let first = stdout(&score(REPO, home.path(), &endpoint));
        assert_eq!(first, local(&fixture("qwen3")));
        let repo = home.path().join("hf/hub/models--some-org--tiny-model");
        assert_eq!(std::fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
        let weights = repo.join("snapshots").join(COMMIT).join("model.safetensors");
        assert!(weights.symlink_metadata().unwrap().is_symlink());
        assert!(
            hub.requests()[0].to_lowercase().contains("authorization: bearer secret"),
            "{:?}",
            hub.requests()
        );
        let before = hub.requests().len();
        assert_eq!(stdout(&score(&format!("hf:{REPO}"), home.path(), &endpoint)), first);
        assert_eq!(hub.requests().len(), before + 1, "the list of files alone");
        // Named by its commit, or without a network, nobody is asked.
        assert_eq!(stdout(&score(&format!("{REPO}@{COMMIT}"), home.path(), &endpoint)), first);
        let offline = [("HF_ENDPOINT", hub.url.as_str()), ("HF_HUB_OFFLINE", "1")];
        assert_eq!(stdout(&score(REPO, home.path(), &offline)), first);
        assert_eq!(hub.requests().len(), before + 1);
    }
}

#[test]
fn a_model_in_shards_comes_with_the_files_that_its_index_names() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::start(fixture("qwen2-sharded"), Manner::Well);
    let got = stdout(&score(REPO, home.path(), &[("HF_ENDPOINT", &hub.url)]));
    assert_eq!(got, local(&fixture("qwen2-sharded")));
    // One shard less, and the copy is not complete.
    let snapshot = home.path().join("hf/hub/models--some-org--tiny-model/snapshots").join(COMMIT);
    let shard = std::fs::read_dir(snapshot).unwrap().map(|entry| entry.unwrap().path());
    std::fs::remove_file(shard.filter(|path| path.to_str().unwrap().contains("-of-")).max().unwrap())
        .unwrap();
    let error = refusal(&score(REPO, home.path(), &[("HF_HUB_OFFLINE", "1")]));
    assert!(error.contains("-of-") && error.contains("HF_HUB_OFFLINE is set"), "{error}");
}

#[test]
fn a_gguf_file_is_named_after_its_repository() {
    let home = tempfile::tempdir().unwrap();
    let folder = fixture("..");
    let hub = Hub::start(folder.clone(), Manner::Well);
    let endpoint = [("HF_ENDPOINT", hub.url.as_str())];
    let got = stdout(&score(&format!("hf:{REPO}/tiny-llama.gguf"), home.path(), &endpoint));
    assert_eq!(got, local(&folder.join("tiny-llama.gguf")));
    let error = refusal(&score(&format!("hf:{REPO}/other.gguf"), home.path(), &endpoint));
    assert!(error.contains("has no file other.gguf; it has tiny-llama.gguf, tiny-qwen3.gguf"), "{error}");
    let error = refusal(&score(&format!("hf:{REPO}"), home.path(), &endpoint));
    assert!(error.contains("has neither model.safetensors nor model.safetensors.index.json"), "{error}");
}

#[test]
fn refusals_of_the_hub_say_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let told = |status: u16| {
        let hub = Hub::start(fixture("qwen3"), Manner::Status(status));
        refusal(&score(REPO, home.path(), &[("HF_ENDPOINT", &hub.url)]))
    };
    assert!(told(404).contains("answered 404: there is no such model, revision or file"));
    assert!(told(401).contains("gated or private: ask for access on its page and set HF_TOKEN"));
    assert!(told(403).contains("the token in HF_TOKEN may not read it"));
    assert!(told(503).contains("run again later"));
    let hub = Hub::start(fixture("qwen3"), Manner::Well);
    let error = refusal(&score(&format!("{REPO}@v9"), home.path(), &[("HF_ENDPOINT", &hub.url)]));
    assert!(error.contains("some-org/tiny-model@v9") && error.contains("404"), "{error}");
    let error = refusal(&score("hf:no model", home.path(), &[("HF_ENDPOINT", &hub.url)]));
    assert!(error.contains("`no model` is no model: write org/name"), "{error}");
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_stopped() {
    let home = tempfile::tempdir().unwrap();
    // Once: the program tries again by itself.
    let hub = Hub::start(fixture("qwen3"), Manner::BreaksOff(1000, 1));
    assert_eq!(stdout(&score(REPO, home.path(), &[("HF_ENDPOINT", &hub.url)])), local(&fixture("qwen3")));
    assert!(hub.requests().iter().any(|request| request.to_lowercase().contains("range: bytes=1000-")));
    // Again and again: the next run goes on with what there is.
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::start(fixture("qwen3"), Manner::BreaksOff(500, usize::MAX));
    let error = refusal(&score(REPO, home.path(), &[("HF_ENDPOINT", &hub.url)]));
    assert!(error.contains("the download of model.safetensors broke off; run again"), "{error}");
    let hub = Hub::start(fixture("qwen3"), Manner::Well);
    assert_eq!(stdout(&score(REPO, home.path(), &[("HF_ENDPOINT", &hub.url)])), local(&fixture("qwen3")));
    let asked = hub.requests().into_iter().filter(|request| request.contains("model.safetensors"));
    let from: Vec<String> = asked
        .filter_map(|request| {
            request.to_lowercase().split_once("range: bytes=").map(|(_, range)| range.to_string())
        })
        .collect();
    assert!(
        from.iter().any(|range| range.starts_with("2000-")),
        "four attempts of 500 bytes came before: {from:?}"
    );
}

#[test]
fn a_file_of_another_size_than_announced_is_not_kept() {
    let home = tempfile::tempdir().unwrap();
    let hub = Hub::start(fixture("qwen3"), Manner::Lies);
    let error = refusal(&score(REPO, home.path(), &[("HF_ENDPOINT", &hub.url)]));
    assert!(error.contains("model.safetensors came with") && error.contains("it was deleted"), "{error}");
    let error = refusal(&score(REPO, home.path(), &[("HF_HUB_OFFLINE", "1")]));
    assert!(error.contains("is not in the cache"), "{error}");
}

#[test]
fn without_a_network_the_copy_is_used_and_its_lack_is_said() {
    let home = tempfile::tempdir().unwrap();
    // A port that nobody listens on.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = format!("http://{closed}");
    let error = refusal(&score(REPO, home.path(), &[("HF_ENDPOINT", &nowhere)]));
    assert!(
        error.contains(&format!("{nowhere} cannot be reached; HF_ENDPOINT names another hub")),
        "{error}"
    );
    let hub = Hub::start(fixture("qwen3"), Manner::Well);
    let first = stdout(&score(REPO, home.path(), &[("HF_ENDPOINT", &hub.url)]));
    let second = score(REPO, home.path(), &[("HF_ENDPOINT", &nowhere)]);
    assert_eq!(stdout(&second), first);
    assert!(String::from_utf8_lossy(&second.stderr).contains("using the copy of commit 01234567"));
}

#[test]
fn an_index_cannot_name_files_outside_its_folder() {
    let (home, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::copy(fixture("qwen3").join("config.json"), folder.path().join("config.json")).unwrap();
    let index = r#"{"weight_map": {"a": "../../../../evil.safetensors"}}"#;
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    let hub = Hub::start(folder.path().to_path_buf(), Manner::Well);
    let error = refusal(&score(REPO, home.path(), &[("HF_ENDPOINT", &hub.url)]));
    assert!(error.contains("its model.safetensors.index.json names no files"), "{error}");
    assert!(!hub.requests().iter().any(|request| request.contains("evil")));
}
