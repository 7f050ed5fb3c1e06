//! A proxy in front of a real server that does one thing wrong: at a byte position, or with a reply
//! of its own.
//!
//! It reads a request whole or up to the fault, forwards it on a connection of its own, and passes
//! the reply on, whole or up to the fault. What goes wrong is said by [`Rule`]s, each for a few of
//! the requests that it matches. Everything that was asked is kept.

use crate::common::ports::Port;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What goes wrong with one request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection is reset before a byte of the request was read.
    Before,
    /// So many bytes of the request are read, head included, then the connection is reset.
    InRequest(usize),
    /// So many bytes of the body are read, then the connection is reset.
    InBody(usize),
    /// The request is read whole, thrown away, and the connection closed.
    Unanswered,
    /// The request is carried out, and the connection closed after so many bytes of the reply.
    Reply(usize),
    /// The request is carried out, and the connection closed after so many bytes of the body of the
    /// reply.
    ReplyBody(usize),
    /// The request is carried out, and answered by this instead.
    Carried(Vec<u8>),
    /// The request is thrown away, and answered by this.
    Instead(Vec<u8>),
    /// The request is carried out, and its reply sent byte by byte, with pauses.
    Dripped(Duration),
    /// The reply is a head, and then a byte now and then without end.
    Endless,
    /// Whoever asks [`Proxy::is_dying`] is told so; the connection is closed when it is told to.
    Dies,
}

/// Which requests a fault happens to.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// A part of the request: of its first line or of its body.
    pub(crate) part: &'static str,
    /// Requests that match and are let through before.
    pub(crate) skip: usize,
    /// Requests that it happens to.
    pub(crate) times: usize,
    pub(crate) fault: Fault,
}

impl Rule {
    /// A fault of the first request that matches.
    pub(crate) fn once(part: &'static str, fault: Fault) -> Self {
        Self { part, skip: 0, times: 1, fault }
    }
}

#[derive(Debug)]
struct Shared {
    upstream: u16,
    rules: Mutex<Vec<Rule>>,
    asked: Mutex<Vec<String>>,
    done: AtomicBool,
    dying: AtomicBool,
}

/// The proxy; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: Port,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy of the server on the loopback port `upstream`.
    pub(crate) fn start(upstream: u16, rules: Vec<Rule>) -> Self {
        let port = Port::take();
        let shared = Arc::new(Shared {
            upstream,
            rules: Mutex::new(rules),
            asked: Mutex::default(),
            done: AtomicBool::new(false),
            dying: AtomicBool::new(false),
        });
        let mut proxy = Self { port, shared, acceptor: None };
        proxy.listen();
        proxy
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number
    }

    pub(crate) fn location(&self, path: &str) -> String {
        format!("influxdb://127.0.0.1:{}/{path}", self.port.number)
    }

    /// Sets what goes wrong from now on.
    pub(crate) fn set(&self, rules: Vec<Rule>) {
        *self.shared.rules.lock().unwrap() = rules;
    }

    /// Faults that did not happen yet.
    pub(crate) fn left(&self) -> usize {
        self.shared.rules.lock().unwrap().iter().map(|rule| rule.times).sum()
    }

    /// True while a request waits of which the server dies.
    pub(crate) fn is_dying(&self) -> bool {
        self.shared.dying.load(Ordering::SeqCst)
    }

    /// Closes the connection of the request of which the server died.
    pub(crate) fn died(&self) {
        self.shared.dying.store(false, Ordering::SeqCst);
    }

    /// The requests that were read whole.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Accepts connections, until [`Proxy::refuse`].
    pub(crate) fn listen(&mut self) {
        self.shared.done.store(false, Ordering::SeqCst);
        let listener = TcpListener::bind(("127.0.0.1", self.port.number)).expect("the port");
        let shared = Arc::clone(&self.shared);
        self.acceptor = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.done.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream.expect("a connection"), &shared));
            }
        }));
    }

    /// Refuses connections from now on.
    pub(crate) fn refuse(&mut self) {
        self.shared.done.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then closes the port.
        drop(TcpStream::connect(("127.0.0.1", self.port.number)));
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().expect("the acceptor");
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.refuse();
    }
}

/// A whole reply with a length.
pub(crate) fn reply(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

/// Serves one connection: one request, since every reply closes it. What breaks is broken on
/// purpose, here or by the other side, so that it is no failure of a test.
fn serve(stream: &TcpStream, shared: &Shared) {
    let limit = Some(Duration::from_secs(60));
    stream.set_read_timeout(limit).expect("a timeout");
    let Some(line) = first_line(stream) else { return };
    let mut fault = shared.fault(&line);
    let mut request = Vec::new();
    // What is left unread when a connection is dropped makes the system reset it.
    match fault {
        Some(Fault::Before) => return,
        Some(Fault::InRequest(bytes)) => {
            read_to(stream, &mut request, bytes);
            return;
        }
        _ => {}
    }
    let Some(body_at) = read_head(stream, &mut request) else { return };
    let head = String::from_utf8_lossy(&request[..body_at]).into_owned();
    if let Some(Fault::InBody(bytes)) = fault {
        read_to(stream, &mut request, body_at + bytes);
        return;
    }
    if read_to(stream, &mut request, body_at + content_length(&head)).is_none() {
        return;
    }
    let body = &request[body_at..];
    fault = fault.or_else(|| shared.fault(body));
    shared.asked.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
    if matches!(fault, Some(Fault::Dies)) {
        shared.dying.store(true, Ordering::SeqCst);
        while shared.dying.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        return;
    }
    answer(stream, fault, &request, shared.upstream);
}

fn answer(stream: &TcpStream, fault: Option<Fault>, request: &[u8], upstream: u16) {
    match fault {
        Some(Fault::Unanswered) => return,
        Some(Fault::Instead(reply)) => return send(stream, &reply),
        Some(Fault::Endless) => return send_without_end(stream),
        _ => {}
    }
    let Ok(reply) = forward(upstream, request) else { return };
    let body_at = find(&reply, b"\r\n\r\n").map_or(reply.len(), |at| at + 4);
    let up_to = |at: usize| &reply[..at.min(reply.len())];
    match fault {
        Some(Fault::Reply(bytes)) => send(stream, up_to(bytes)),
        Some(Fault::ReplyBody(bytes)) => send(stream, up_to(body_at + bytes)),
        Some(Fault::Carried(other)) => send(stream, &other),
        Some(Fault::Dripped(pause)) => {
            for byte in &reply {
                send(stream, &[*byte]);
                std::thread::sleep(pause);
            }
        }
        _ => send(stream, &reply),
    }
}

/// The first line of a request, which is left where it is.
fn first_line(stream: &TcpStream) -> Option<Vec<u8>> {
    let mut bytes = [0; 4096];
    loop {
        let length = stream.peek(&mut bytes).ok().filter(|length| *length > 0)?;
        if let Some(end) = find(&bytes[..length], b"\r\n") {
            return Some(bytes[..end].to_vec());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads until `request` has `length` bytes.
fn read_to(mut stream: &TcpStream, request: &mut Vec<u8>, length: usize) -> Option<()> {
    let missing = length.saturating_sub(request.len());
    let from = request.len();
    request.resize(from + missing, 0);
    stream.read_exact(&mut request[from..]).ok()
}

/// Reads the head of a request, to the byte; returns where the body begins.
fn read_head(stream: &TcpStream, request: &mut Vec<u8>) -> Option<usize> {
    while !request.ends_with(b"\r\n\r\n") {
        let length = request.len();
        read_to(stream, request, length + 1)?;
    }
    Some(request.len())
}

fn content_length(head: &str) -> usize {
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    value.unwrap_or(0)
}

/// Has the server carry a request out, on a connection that ends with the reply.
fn forward(upstream: u16, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(("127.0.0.1", upstream))?;
    let line = find(request, b"\r\n").expect("a first line") + 2;
    server.write_all(&request[..line])?;
    server.write_all(b"Connection: close\r\n")?;
    server.write_all(&request[line..])?;
    let mut reply = Vec::new();
    server.read_to_end(&mut reply)?;
    Ok(reply)
}

fn send(mut stream: &TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).ok();
}

fn send_without_end(mut stream: &TcpStream) {
    send(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
    // A query is answered by a list of millions of empty results.
    send(stream, b"\x81\xa7results\xdd\x05\x00\x00\x00");
    while stream.write_all(b"\x80").is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

impl Shared {
    /// The fault of a request, if one is due.
    fn fault(&self, text: &[u8]) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let matches = |rule: &&mut Rule| find(text, rule.part.as_bytes()).is_some();
        let rule = rules.iter_mut().filter(|rule| rule.times > 0).find(matches)?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.fault.clone())
    }
}
