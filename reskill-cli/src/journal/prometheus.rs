//! The latest numbers of a run for Prometheus, over HTTP.
//!
//! One thread answers one request after the other; a client has two seconds. Text exposition format 0.0.4, every number a
//! gauge: `reskill_` and its name in `metrics.jsonl`, with `_` for what a name of Prometheus cannot hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tracing::debug;

use crate::journal::scalars::Scalar;

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest head of a request, in bytes.
const LONGEST_HEAD: usize = 8192;

/// The endpoint; it closes when this is dropped.
#[derive(Debug)]
pub struct PrometheusServer {
    address: SocketAddr,
    gauges: Arc<Mutex<BTreeMap<String, f64>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PrometheusServer {
    /// Listens at `address`.
    ///
    /// # Errors
    /// If the address cannot be used.
    pub fn start(address: SocketAddr) -> Result<PrometheusServer> {
        let told = || {
            format!(
                "`log.prometheus` = \"{address}\": cannot be listened at; give another port, or 0 for a free one"
            )
        };
        let listener = TcpListener::bind(address).with_context(told)?;
        let address = listener.local_addr().with_context(told)?;
        let gauges = Arc::new(Mutex::new(BTreeMap::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (gauges, stop) = (Arc::clone(&gauges), Arc::clone(&stop));
            move || serve(&listener, &gauges, &stop)
        });
        Ok(PrometheusServer { address, gauges, stop, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// New values.
    pub fn update(&self, step: u64, scalars: Vec<Scalar>) {
        let mut gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        if scalars.iter().any(|(name, _)| name.starts_with("train/")) {
            gauges.insert("reskill_step".into(), step as f64);
        }
        gauges.extend(scalars.into_iter().map(|(name, value)| (gauge_name(&name), value)));
    }
}

impl Drop for PrometheusServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread, which waits for a client.
        let woken = TcpStream::connect_timeout(&self.address, PATIENCE).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, gauges: &Mutex<BTreeMap<String, f64>>, stop: &AtomicBool) {
    for client in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        // Tolerated: a client that goes away is no matter of the run.
        if let Err(error) = client.and_then(|client| answer(client, gauges)) {
            debug!(%error, "a client of the metrics endpoint was lost");
        }
    }
}

/// Reads one request and answers it.
fn answer(mut client: TcpStream, gauges: &Mutex<BTreeMap<String, f64>>) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let deadline = Instant::now() + PATIENCE;
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let n = client.read(&mut buffer)?;
        if n == 0 || head.len() + n > LONGEST_HEAD || Instant::now() > deadline {
            break;
        }
        head.extend_from_slice(&buffer[..n]);
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let path = |target: &str| target.split('?').next().unwrap_or_default().to_string();
    let (status, body) = match (words.next(), words.next().map(path).as_deref()) {
        (Some("GET" | "HEAD"), Some("/metrics")) => {
            ("200 OK", exposition(&gauges.lock().unwrap_or_else(PoisonError::into_inner)))
        }
        (Some("GET" | "HEAD"), Some(path)) if path.starts_with('/') => {
            ("404 Not Found", "the numbers are at /metrics\n".to_string())
        }
        (Some(_), Some(path)) if path.starts_with('/') => ("405 Method Not Allowed", String::new()),
        _ => ("400 Bad Request", String::new()),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let length = body.len();
    let body = if head.starts_with("HEAD ") { "" } else { &body };
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    client.write_all(response.as_bytes())
}

/// The numbers in Prometheus' text format.
fn exposition(gauges: &BTreeMap<String, f64>) -> String {
    let mut text = String::from("# TYPE reskill_up gauge\nreskill_up 1\n");
    for (name, value) in gauges {
        // A String takes whatever is written.
        let _ = write!(text, "# TYPE {name} gauge\n{name} {value}\n");
    }
    text
}

/// `eval/unseen/success` as `reskill_eval_unseen_success`.
fn gauge_name(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("reskill_{}", name.chars().map(legal).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(server: &PrometheusServer, request: &str) -> (String, String) {
        let mut client = TcpStream::connect(server.address()).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_string(), body.to_string())
    }

    fn server() -> PrometheusServer {
        PrometheusServer::start(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
    }

    #[test]
    fn the_latest_value_of_every_number_is_served() {
        let server = server();
        server.update(4, vec![("train/success".into(), 0.5), ("skills/shown/open-it".into(), 2.0)]);
        server.update(5, vec![("train/success".into(), 0.75)]);
        server.update(0, vec![("eval/unseen/success".into(), 0.25)]);
        let (status, body) = ask(&server, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(status, "HTTP/1.1 200 OK");
        let values: Vec<&str> = body.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            "reskill_up 1",
            "reskill_eval_unseen_success 0.25",
            "reskill_skills_shown_open_it 2",
            "reskill_step 5",
            "reskill_train_success 0.75",
        ];
        assert_eq!(values, expected);
        assert!(body.contains("# TYPE reskill_train_success gauge\n"));
    }

    #[test]
    fn other_requests_get_their_status_and_the_endpoint_goes_on() {
        let server = server();
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
            ("nonsense\r\n\r\n", "HTTP/1.1 400 Bad Request"),
            ("HEAD /metrics?x=1 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK"),
        ] {
            assert_eq!(ask(&server, request).0, status, "{request}");
        }
    }

    #[test]
    fn an_address_that_is_taken_is_refused_with_the_key() {
        let first = server();
        let error = format!("{:#}", PrometheusServer::start(first.address()).unwrap_err());
        assert!(error.contains("`log.prometheus`"), "{error}");
        // And it is free again as soon as the first one is gone.
        let address = first.address();
        drop(first);
        PrometheusServer::start(address).unwrap();
    }
}
