//! A Java machine that hosts simulators, and its end.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::config::ScienceWorldOptions;
use super::gateway::Gateway;
use crate::fault::Fault;

/// `ScienceWorldHost.java`, compiled for Java 17 by `scripts/build-scienceworld-host`.
const HOST: &[u8] = include_bytes!("host/ScienceWorldHost.class");
/// Its name.
const HOST_NAME: &str = "ScienceWorldHost";

/// What should be run.
const WANTED: &str = "expected the scienceworld.jar of the package scienceworld 1.2.3";

/// How long a machine that should be well may take to say so.
const PING_LIMIT: Duration = Duration::from_secs(5);
/// How long a machine may take to exit by itself.
const EXIT_LIMIT: Duration = Duration::from_secs(2);
/// How long its last words are waited for.
const OBITUARY_LIMIT: Duration = Duration::from_millis(500);
/// So much of what it last said on standard error is kept, in bytes.
const LAST_WORDS: usize = 2000;

/// Requests that wait for their answer; `None` once the machine has closed its output.
type Waiting = Arc<Mutex<Option<HashMap<u64, Sender<String>>>>>;

/// A running Java machine. It is told to exit, and made to, when it is dropped; should this program be killed, it exits
/// at the end of its standard input.
#[derive(Debug)]
pub(super) struct Jvm {
    child: Mutex<Child>,
    stdin: Mutex<Option<ChildStdin>>,
    /// Where the gateway listens, in a machine for a single simulator.
    port: Option<u16>,
    waiting: Waiting,
    last_words: Arc<Mutex<Vec<u8>>>,
    /// Reads the last words until the machine ends.
    listener: Option<JoinHandle<()>>,
    next_request: AtomicU64,
    timeout: Duration,
    /// The folder it runs in, with the host's class: the simulator writes a table of its objects into the current folder.
    _folder: TempDir,
}

impl Jvm {
    /// Starts a machine and waits until it answers.
    pub(super) fn start(jar: &Path, options: &ScienceWorldOptions) -> Result<Jvm, Fault> {
        let folder = host_folder().map_err(|error| Fault::Start {
            reason: format!("the host's class cannot be written: {error}"),
        })?;
        let is_single = options.environments_per_jvm == 1;
        let mut child = command(jar, folder.path(), options).spawn().map_err(|error| Fault::Start {
            reason: format!(
                "`{}` cannot be run ({error}); install a Java runtime, version 17 or newer, or name one in `java`",
                options.java.display()
            ),
        })?;
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let (sender, first_line) = channel();
        if let Some(stdout) = child.stdout.take() {
            let waiting = Arc::clone(&waiting);
            std::thread::spawn(move || {
                hand_out(BufReader::new(stdout), is_single.then_some(sender), &waiting)
            });
        }
        let last_words = Arc::new(Mutex::new(Vec::new()));
        let listener = child.stderr.take().map(|stderr| {
            let last_words = Arc::clone(&last_words);
            std::thread::spawn(move || keep_last(stderr, &last_words))
        });
        let mut jvm = Jvm {
            stdin: Mutex::new(child.stdin.take()),
            child: Mutex::new(child),
            port: None,
            waiting,
            last_words,
            listener,
            next_request: AtomicU64::new(0),
            timeout: options.timeout(),
            _folder: folder,
        };
        let limit = options.start_timeout();
        let answer = match is_single {
            true => jvm.received("start", &first_line, limit),
            false => jvm.ask("ping", limit),
        };
        let answer = answer.map_err(|fault| match fault {
            Fault::Lost { reason, .. } => Fault::Start { reason: format!("{reason}; {WANTED}") },
            other => other,
        })?;
        if is_single {
            let nonsense = || Fault::Protocol {
                request: "start".into(),
                reason: format!("expected a port, got `{}`", answer.chars().take(80).collect::<String>()),
            };
            jvm.port = Some(answer.trim().parse().map_err(|_| nonsense())?);
        }
        Ok(jvm)
    }

    /// Opens one more simulator; in a machine for a single one, that one.
    pub(super) fn open(&self, limit: Duration) -> Result<Gateway, Fault> {
        if let Some(port) = self.port {
            return Gateway::create(port, self.timeout);
        }
        let answer = self.ask("open", limit)?;
        if let Some(port) = answer.strip_prefix("port ").and_then(|port| port.parse().ok()) {
            return Gateway::connect(port, self.timeout);
        }
        Err(match answer.strip_prefix("error ") {
            Some(reason) => Fault::Start { reason: format!("{reason}; {WANTED}") },
            None => {
                Fault::Protocol { request: "open".into(), reason: format!("expected a port, got `{answer}`") }
            }
        })
    }

    /// Whether it still answers, within some seconds.
    pub(super) fn is_well(&self) -> bool {
        let limit = PING_LIMIT.min(self.timeout);
        match self.port {
            Some(port) => Gateway::connect(port, limit).is_ok_and(|mut gateway| gateway.answers()),
            None => self.ask("ping", limit).is_ok_and(|answer| answer == "pong"),
        }
    }

    /// Whether the process has not ended.
    pub(super) fn is_running(&self) -> bool {
        matches!(lock(&self.child).try_wait(), Ok(None))
    }

    /// Ends it at once.
    pub(super) fn kill(&self) {
        let mut child = lock(&self.child);
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Process id.
    pub(super) fn id(&self) -> u32 {
        lock(&self.child).id()
    }

    /// What is known about its end, for messages.
    pub(super) fn obituary(&self) -> Option<String> {
        let status = lock(&self.child).try_wait().ok().flatten()?;
        wait_until(OBITUARY_LIMIT, || self.listener.as_ref().is_none_or(JoinHandle::is_finished));
        let words = lock(&self.last_words);
        let words = String::from_utf8_lossy(&words);
        let words: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Some(match words.as_slice() {
            [] => format!("the Java machine ended ({status})"),
            words => format!("the Java machine ended ({status}): {}", words.join("; ")),
        })
    }

    /// Sends a request to the host and waits for its answer.
    fn ask(&self, request: &'static str, limit: Duration) -> Result<String, Fault> {
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver): (Sender<String>, Receiver<String>) = channel();
        match lock(&self.waiting).as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(self.lost(request)),
        };
        let written = match lock(&self.stdin).as_mut() {
            Some(stdin) => writeln!(stdin, "{request} {id}").and_then(|()| stdin.flush()).is_ok(),
            None => false,
        };
        if !written {
            return Err(self.lost(request));
        }
        let answer = self.received(request, &receiver, limit);
        if let Some(waiting) = lock(&self.waiting).as_mut() {
            waiting.remove(&id);
        }
        answer
    }

    /// What comes within the limit.
    fn received(&self, request: &str, receiver: &Receiver<String>, limit: Duration) -> Result<String, Fault> {
        receiver.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => Fault::TimedOut { request: request.into(), limit },
            RecvTimeoutError::Disconnected => self.lost(request),
        })
    }

    fn lost(&self, request: &str) -> Fault {
        // Its output closes a little before it can be waited for.
        wait_until(OBITUARY_LIMIT, || !self.is_running());
        let reason = self.obituary().unwrap_or_else(|| "the Java machine closed its output".into());
        Fault::Lost { request: request.into(), reason }
    }
}

impl Drop for Jvm {
    fn drop(&mut self) {
        // The end of its input is its sign to exit.
        lock(&self.stdin).take();
        if !wait_until(EXIT_LIMIT, || !self.is_running()) {
            self.kill();
        }
    }
}

/// Waits until something holds; whether it did in time.
fn wait_until(limit: Duration, holds: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !holds() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// A folder with the host's class.
fn host_folder() -> std::io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("reskill-scienceworld-").tempdir()?;
    std::fs::write(folder.path().join(format!("{HOST_NAME}.class")), HOST)?;
    Ok(folder)
}

/// The command that starts a machine.
fn command(jar: &Path, host: &Path, options: &ScienceWorldOptions) -> Command {
    let mut command = Command::new(&options.java);
    command.arg(format!("-Xmx{}m", options.memory_mib)).args(["-XX:+UseSerialGC", "-Xshare:auto"]);
    if options.reproducible {
        command.args(["-XX:+UnlockExperimentalVMOptions", "-XX:hashCode=2"]);
    }
    if options.environments_per_jvm == 1 {
        command.arg("-cp").arg(jar).args(["py4j.GatewayServer", "--die-on-broken-pipe", "0"]);
    } else {
        command.arg("-cp").arg(host).arg(HOST_NAME).arg(jar);
    }
    command.current_dir(host);
    // Ctrl-C in a terminal is for this program, which may want to finish its episodes first.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command
}

/// Gives each answer to who waits for it, until the output ends. `first` waits for the first line, whatever it is; the
/// simulator prints others.
fn hand_out(output: impl BufRead, mut first: Option<Sender<String>>, waiting: &Waiting) {
    for line in output.split(b'\n') {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        if let Some(first) = first.take() {
            // Who asked may have given up.
            let _ = first.send(line.into_owned());
            continue;
        }
        let Some((id, answer)) = line.split_once(' ') else { continue };
        let Ok(id) = id.parse::<u64>() else { continue };
        let sender = lock(waiting).as_mut().and_then(|waiting| waiting.remove(&id));
        // Who asked may have given up.
        let _ = sender.map(|sender| sender.send(answer.to_string()));
    }
    *lock(waiting) = None;
}

/// Keeps the end of what is said.
fn keep_last(mut output: impl Read, last_words: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 1024];
    while let Ok(n @ 1..) = output.read(&mut chunk) {
        let mut words = lock(last_words);
        words.extend_from_slice(&chunk[..n]);
        let too_many = words.len().saturating_sub(LAST_WORDS);
        words.drain(..too_many);
    }
}

/// Whoever held the lock before left nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
