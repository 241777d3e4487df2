//! An HTTP server of one thread a connection, for tests: it misbehaves on demand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What the server does with a request.
pub(crate) enum Act {
    /// Answers with status, further headers and body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Promises a longer body than it sends.
    BreakOff(String),
    /// Says nothing for so long.
    Hang(Duration),
    /// Closes the connection at once.
    Close,
}

/// A running server. It stops when it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Starts a server; `act` gets each request and its number, from 0.
    pub(crate) fn start(act: impl Fn(&Seen, usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (all, stopped, act) = (Arc::clone(&seen), Arc::clone(&stop), Arc::new(act));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), all, act) = (stream, Arc::clone(&all), Arc::clone(&act)) else { continue };
                std::thread::spawn(move || serve(stream, &all, act.as_ref()));
            }
        });
        Self { url, seen, stop }
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let address = self.url.trim_start_matches("http://").trim_end_matches("/v1");
        drop(TcpStream::connect(address));
    }
}

fn serve(mut stream: TcpStream, all: &Mutex<Vec<Seen>>, act: &(impl Fn(&Seen, usize) -> Act + ?Sized)) {
    let Some(request) = read(&stream) else { return };
    let number = {
        let mut all = all.lock().unwrap();
        all.push(request.clone());
        all.len() - 1
    };
    // Errors of writing are the client's business: it may have gone.
    let _ = match act(&request, number) {
        Act::Answer(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            stream.write_all((head + "connection: close\r\n\r\n" + &body).as_bytes())
        }
        Act::BreakOff(body) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len() + 100);
            stream.write_all((head + &body).as_bytes())
        }
        Act::Hang(time) => {
            std::thread::sleep(time);
            Ok(())
        }
        Act::Close => Ok(()),
    };
}

fn read(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Some(Seen { path, headers, body })
}
