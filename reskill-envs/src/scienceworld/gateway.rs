//! One connection to one simulator.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::wire::{self, Argument, BadAnswer, Value};
use crate::fault::Fault;

/// The simulator's class.
const SIMULATOR: &str = "scienceworld.runtime.pythonapi.PythonInterface";

/// The object behind a gateway, as the gateway names it.
const ENTRY_POINT: &str = "t";

/// Longest answer, in bytes. The longest real ones, lists of valid actions, have some 100 kB.
const LONGEST_ANSWER: usize = 64 << 20;

/// A connection; one call at a time.
#[derive(Debug)]
pub(super) struct Gateway {
    stream: BufReader<TcpStream>,
    /// The simulator, as the gateway names it.
    simulator: String,
    /// Longest wait for an answer.
    limit: Duration,
}

impl Gateway {
    /// Connects to a port of this machine, behind which a simulator is.
    pub(super) fn connect(port: u16, limit: Duration) -> Result<Gateway, Fault> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let connect = || -> std::io::Result<TcpStream> {
            let stream = TcpStream::connect_timeout(&address, limit)?;
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(limit))?;
            Ok(stream)
        };
        let failed = |error: std::io::Error| Fault::Lost {
            request: format!("connect to {address}"),
            reason: error.to_string(),
        };
        let stream = BufReader::new(connect().map_err(failed)?);
        Ok(Gateway { stream, simulator: ENTRY_POINT.into(), limit })
    }

    /// Connects to a port of this machine and makes a simulator behind it.
    pub(super) fn create(port: u16, limit: Duration) -> Result<Gateway, Fault> {
        let mut gateway = Gateway::connect(port, limit)?;
        gateway.simulator = match gateway.ask("create", &wire::create(SIMULATOR))? {
            Value::Object(id) => id,
            other => return Err(unexpected("create", "a simulator", &other)),
        };
        Ok(gateway)
    }

    /// Whether anybody answers.
    pub(super) fn answers(&mut self) -> bool {
        self.ask("ping", &wire::call("z:java.lang.System", "nanoTime", &[])).is_ok()
    }

    /// Calls a method of the simulator.
    pub(super) fn call(&mut self, method: &str, arguments: &[Argument<'_>]) -> Result<Value, Fault> {
        self.ask(method, &wire::call(&self.simulator, method, arguments))
    }

    /// Calls a method that returns a text.
    pub(super) fn text(&mut self, method: &str, arguments: &[Argument<'_>]) -> Result<String, Fault> {
        match self.call(method, arguments)? {
            Value::Text(text) => Ok(text),
            other => Err(unexpected(method, "a text", &other)),
        }
    }

    /// Calls a method that returns a list of texts without line ends, and frees the list.
    pub(super) fn list(&mut self, method: &str) -> Result<Vec<String>, Fault> {
        let id = match self.call(method, &[])? {
            Value::Object(id) => id,
            other => return Err(unexpected(method, "a list", &other)),
        };
        let join = wire::call("z:java.lang.String", "join", &[Argument::Text("\n"), Argument::Object(&id)]);
        let joined = self.ask(method, &join);
        self.ask(method, &wire::free(&id))?;
        match joined? {
            Value::Text(text) if text.is_empty() => Ok(Vec::new()),
            Value::Text(text) => Ok(text.split('\n').map(ToString::to_string).collect()),
            other => Err(unexpected(method, "texts", &other)),
        }
    }

    /// Calls a method that returns an object, for the object as Java prints it.
    pub(super) fn printed(&mut self, method: &str) -> Result<String, Fault> {
        let id = match self.call(method, &[])? {
            Value::Object(id) => id,
            other => return Err(unexpected(method, "an object", &other)),
        };
        let printed = self.ask(method, &wire::call(&id, "toString", &[]));
        self.ask(method, &wire::free(&id))?;
        match printed? {
            Value::Text(text) => Ok(text),
            other => Err(unexpected(method, "a text", &other)),
        }
    }

    /// Calls a method that returns a number.
    pub(super) fn double(&mut self, method: &str) -> Result<f64, Fault> {
        match self.call(method, &[])? {
            Value::Double(number) => Ok(number),
            other => Err(unexpected(method, "a number", &other)),
        }
    }

    /// Calls a method that returns a truth value.
    pub(super) fn bool(&mut self, method: &str) -> Result<bool, Fault> {
        match self.call(method, &[])? {
            Value::Bool(flag) => Ok(flag),
            other => Err(unexpected(method, "true or false", &other)),
        }
    }

    /// Sends a command and waits for its answer.
    fn ask(&mut self, request: &str, command: &str) -> Result<Value, Fault> {
        let deadline = Instant::now() + self.limit;
        let lost = |reason: String| Fault::Lost { request: request.to_string(), reason };
        self.stream.get_mut().write_all(command.as_bytes()).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.timed_out(request),
            _ => lost(error.to_string()),
        })?;
        let line = self.line(request, deadline)?;
        wire::parse(&line).map_err(|bad| match bad {
            BadAnswer::Thrown(reason) => Fault::Refused { request: request.to_string(), reason },
            BadAnswer::Nonsense(reason) => Fault::Protocol { request: request.to_string(), reason },
        })
    }

    /// The next line, without its end.
    fn line(&mut self, request: &str, deadline: Instant) -> Result<String, Fault> {
        let lost = |reason: String| Fault::Lost { request: request.to_string(), reason };
        let protocol =
            |reason: &str| Fault::Protocol { request: request.to_string(), reason: reason.to_string() };
        let mut line = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.timed_out(request));
            }
            self.stream.get_mut().set_read_timeout(Some(left)).map_err(|error| lost(error.to_string()))?;
            let chunk = match self.stream.fill_buf() {
                Ok([]) => return Err(lost("the connection was closed".into())),
                Ok(chunk) => chunk,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(self.timed_out(request));
                }
                Err(error) => return Err(lost(error.to_string())),
            };
            let end = chunk.iter().position(|&byte| byte == b'\n');
            line.extend_from_slice(&chunk[..end.unwrap_or(chunk.len())]);
            let n_used = end.map_or(chunk.len(), |end| end + 1);
            self.stream.consume(n_used);
            if line.len() > LONGEST_ANSWER {
                return Err(protocol("an answer without end"));
            }
            if end.is_some() {
                return String::from_utf8(line).map_err(|_| protocol("an answer that is not UTF-8"));
            }
        }
    }

    fn timed_out(&self, request: &str) -> Fault {
        Fault::TimedOut { request: request.to_string(), limit: self.limit }
    }
}

fn unexpected(method: &str, expected: &str, got: &Value) -> Fault {
    let got: String = format!("{got:?}").chars().take(80).collect();
    Fault::Protocol { request: method.to_string(), reason: format!("expected {expected}, got {got}") }
}
