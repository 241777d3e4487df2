//! A retrieval server for tests: it misbehaves on demand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// What the server does with a request.
pub(super) enum Act {
    /// Answers with status and body.
    Answer(u16, String),
    /// Says nothing for so long.
    Hang(Duration),
    /// Closes the connection at once.
    Close,
}

/// A running server. It stops when it is dropped.
pub(super) struct Server {
    pub(super) url: String,
    seen: Arc<Mutex<Vec<Value>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Starts a server; `act` gets each request's body and its number, from 0.
    pub(super) fn start(act: impl Fn(&Value, usize) -> Act + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/retrieve", listener.local_addr().unwrap());
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
        Server { url, seen, stop }
    }

    /// The bodies of the requests so far.
    pub(super) fn seen(&self) -> Vec<Value> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let address = self.url.trim_start_matches("http://").trim_end_matches("/retrieve");
        drop(TcpStream::connect(address));
    }
}

fn serve(mut stream: TcpStream, all: &Mutex<Vec<Value>>, act: &(impl Fn(&Value, usize) -> Act + ?Sized)) {
    let Some(body) = read(&stream) else { return };
    let number = {
        let mut all = all.lock().unwrap();
        all.push(body.clone());
        all.len() - 1
    };
    match act(&body, number) {
        Act::Answer(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} Status\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            // The client may have gone.
            let _ = stream.write_all((head + &body).as_bytes());
        }
        Act::Hang(time) => std::thread::sleep(time),
        Act::Close => {}
    }
}

fn read(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    // A client whose patience ends before it has written closes an empty connection.
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    assert!(line.starts_with("POST /retrieve "), "{line}");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).unwrap())
}
