//! A process that plays episodes, one after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde::de::DeserializeOwned;

use super::config::ExternalOptions;
use super::protocol::{Hello, PROTOCOL, Refusal, Request};
use crate::fault::Fault;

/// How long a process may take to exit by itself.
const EXIT_LIMIT: Duration = Duration::from_secs(1);

/// Longest request, in bytes: what a pipe takes without anybody reading.
const LONGEST_REQUEST: usize = 60_000;

/// A running process, the leader of a process group. It is told to exit, and made to, when it is dropped; with it ends
/// whatever it started and left running in its group.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// How it ended, once that has been asked of the system.
    ended: Option<ExitStatus>,
    stdin: Option<ChildStdin>,
    /// What it wrote, line by line; an error is the last item.
    lines: Receiver<Result<String, String>>,
    timeout: Duration,
}

impl Process {
    /// Starts the command and asks what it is.
    pub(super) fn start(options: &ExternalOptions) -> Result<(Process, Hello), Fault> {
        let [program, arguments @ ..] = options.command.as_slice() else {
            return Err(Fault::Start { reason: "there is no command".into() });
        };
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(options.folder.as_deref().unwrap_or(Path::new(".")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C in a terminal is for this program, which may want to finish its episodes first.
            .process_group(0)
            .spawn()
            .map_err(|error| Fault::Start { reason: error.to_string() })?;
        let (sender, lines) = sync_channel(1);
        if let Some(stdout) = child.stdout.take() {
            let max_line_bytes = options.max_line_bytes;
            std::thread::spawn(move || {
                let mut output = BufReader::new(stdout);
                loop {
                    let line = read_line(&mut output, max_line_bytes);
                    let is_last = line.is_err();
                    if sender.send(line).is_err() || is_last {
                        return;
                    }
                }
            });
        }
        let timeout = options.timeout();
        let mut process = Process { stdin: child.stdin.take(), child, ended: None, lines, timeout };
        let hello: Hello =
            process.ask_within(&Request::Hello { protocol: PROTOCOL }, options.start_timeout())?;
        if hello.protocol != PROTOCOL {
            return Err(Fault::Protocol {
                request: "hello".into(),
                reason: format!("it speaks protocol {}, expected {PROTOCOL}", hello.protocol),
            });
        }
        Ok((process, hello))
    }

    /// Sends a request and waits for its answer. After an error the process is of no use any more.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, request: &Request<'_>) -> Result<T, Fault> {
        self.ask_within(request, self.timeout)
    }

    fn ask_within<T: DeserializeOwned>(
        &mut self,
        request: &Request<'_>,
        limit: Duration,
    ) -> Result<T, Fault> {
        let name = request.name();
        let nonsense = |reason: String| Fault::Protocol { request: name.into(), reason };
        let mut line = serde_json::to_vec(request).map_err(|error| nonsense(error.to_string()))?;
        line.push(b'\n');
        if line.len() > LONGEST_REQUEST {
            return Err(Fault::Refused {
                request: name.into(),
                reason: format!("{} bytes, expected at most {LONGEST_REQUEST}", line.len()),
            });
        }
        let written = match &mut self.stdin {
            Some(stdin) => stdin.write_all(&line).and_then(|()| stdin.flush()),
            None => Ok(()),
        };
        if let Err(error) = written {
            return Err(self.lost(name, error.to_string()));
        }
        let answer = match self.lines.recv_timeout(limit) {
            Ok(Ok(answer)) => answer,
            Ok(Err(problem)) if problem.is_empty() => {
                return Err(self.lost(name, "it closed its output".into()));
            }
            Ok(Err(problem)) => return Err(nonsense(problem)),
            Err(RecvTimeoutError::Timeout) => return Err(Fault::TimedOut { request: name.into(), limit }),
            Err(RecvTimeoutError::Disconnected) => return Err(self.lost(name, "it closed its output".into())),
        };
        if let Ok(Refusal { error }) = serde_json::from_str(&answer) {
            return Err(Fault::Refused { request: name.into(), reason: error });
        }
        serde_json::from_str(&answer).map_err(|error| {
            let start: String = answer.chars().take(60).collect();
            nonsense(format!("`{start}`: {error}; only answers may be written to standard output"))
        })
    }

    fn lost(&mut self, request: &str, reason: String) -> Fault {
        let reason = match self.exit_status(EXIT_LIMIT) {
            Some(status) => format!("the process ended ({status})"),
            None => reason,
        };
        Fault::Lost { request: request.into(), reason }
    }

    /// How the process ended, if it does so in time.
    fn exit_status(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill()
    }

    /// Whether the process has not ended. What has ended keeps its number until [`Process::kill`], so that the number of its
    /// group cannot mean another one by then.
    pub(super) fn is_running(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.ended.is_none() && matches!(waitid(WaitId::Pid(self.pid()), look), Ok(None))
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it and its group without asking, and says how it ended.
    pub(super) fn kill(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            // Nobody may be left in the group.
            let _ = kill_process_group(self.pid(), Signal::KILL);
            self.ended = self.child.wait().ok();
        }
        self.ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input is its sign to exit.
        self.stdin.take();
        if self.exit_status(EXIT_LIMIT).is_none() {
            self.kill();
        }
    }
}

/// The next line without its end; an empty error at the end of the output.
fn read_line(output: &mut impl BufRead, max_line_bytes: usize) -> Result<String, String> {
    let mut line = Vec::new();
    let limit = max_line_bytes as u64 + 1;
    let n_read = output.take(limit).read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
    if n_read == 0 {
        return Err(String::new());
    }
    if line.pop_if(|last| *last == b'\n').is_none() && line.len() > max_line_bytes {
        return Err(format!("a line of more than {max_line_bytes} bytes (`max_line_bytes`)"));
    }
    String::from_utf8(line).map_err(|_| "a line that is not UTF-8".to_string())
}
