//! A port that forwards to a server: it can be slow, take few writes at once, die and come back.
//!
//! One request a connection, so that each can be counted, held up or refused. Ends when dropped.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::ports::Port;

/// How a [`Forward`] behaves.
#[derive(Debug, Clone, Copy)]
pub struct Behaviour {
    /// Writes that are taken at once; more are refused with status 503.
    pub writes_at_once: usize,
    /// Bytes of requests that are taken a second, over all connections; 0 for any number.
    pub bytes_a_second: u64,
    /// Seconds for which the first write is told to come again; 0 where it is taken.
    pub first_busy: u64,
    /// Writes after which it dies, cutting all connections; 0 for none.
    pub dies_after: u64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { writes_at_once: usize::MAX, bytes_a_second: 0, first_busy: 0, dies_after: 0 }
    }
}

#[derive(Debug)]
struct Shared {
    to: u16,
    behaviour: Behaviour,
    dead: AtomicBool,
    ended: AtomicBool,
    writes: AtomicU64,
    refused: AtomicU64,
    under_way: AtomicUsize,
    most: AtomicUsize,
    /// When all that was taken is paid for.
    paid: Mutex<Instant>,
    open: Mutex<Vec<TcpStream>>,
}

/// The port.
#[derive(Debug)]
pub struct Forward {
    port: Port,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Forward {
    /// Forwards to a port of this machine.
    pub fn start(to: u16, behaviour: Behaviour) -> Self {
        let port = Port::take();
        let shared = Arc::new(Shared {
            to,
            behaviour,
            dead: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            writes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            paid: Mutex::new(Instant::now()),
            open: Mutex::default(),
        });
        let (number, theirs) = (port.number, Arc::clone(&shared));
        let first = listen(number);
        let thread = std::thread::spawn(move || theirs.serve(number, first));
        Self { port, shared, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Writes that were forwarded and answered.
    pub fn writes(&self) -> u64 {
        self.shared.writes.load(Ordering::SeqCst)
    }

    /// Writes that were refused.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::SeqCst)
    }

    pub fn is_dead(&self) -> bool {
        self.shared.dead.load(Ordering::SeqCst)
    }

    /// Cuts all connections and takes no more.
    pub fn die(&self) {
        self.shared.die();
    }

    /// Takes connections again.
    pub fn revive(&self) {
        self.shared.dead.store(false, Ordering::SeqCst);
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.die();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn listen(port: u16) -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port that is held");
    listener.set_nonblocking(true).expect("a listener that does not block");
    listener
}

impl Shared {
    fn serve(self: Arc<Self>, port: u16, first: TcpListener) {
        let mut listener = Some(first);
        while !self.ended.load(Ordering::SeqCst) {
            if self.dead.load(Ordering::SeqCst) {
                // Dropped: who connects is refused.
                listener = None;
            } else if let Ok((stream, _)) = listener.get_or_insert_with(|| listen(port)).accept() {
                let shared = Arc::clone(&self);
                std::thread::spawn(move || shared.forward(stream));
                continue;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        for stream in self.open.lock().expect("the connections").drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Forwards one request. A connection that breaks is no concern of ours.
    fn forward(&self, client: TcpStream) -> Option<()> {
        client.set_nonblocking(false).ok()?;
        self.open.lock().expect("the connections").push(client.try_clone().ok()?);
        if self.dead.load(Ordering::SeqCst) {
            self.die();
        }
        let (head, body) = read_request(&mut &client)?;
        if !head.starts_with("POST /write") {
            let mut server = ask(self.to, &head, &body)?;
            std::io::copy(&mut server, &mut &client).ok()?;
            return client.shutdown(Shutdown::Both).ok();
        }
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(under_way, Ordering::SeqCst);
        let first_busy = self.behaviour.first_busy;
        let first = first_busy > 0 && self.refused.load(Ordering::SeqCst) == 0;
        let answered = if first || under_way > self.behaviour.writes_at_once {
            self.refused.fetch_add(1, Ordering::SeqCst);
            let after =
                if first { format!("Retry-After: {first_busy}\r\n") } else { String::new() };
            let head = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close";
            (&client).write_all(format!("{head}\r\n{after}\r\n").as_bytes()).ok()
        } else {
            self.pay(body.len());
            self.take(&head, &body, &client)
        };
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        answered
    }

    fn take(&self, head: &str, body: &[u8], mut client: &TcpStream) -> Option<()> {
        let mut reply = Vec::new();
        ask(self.to, head, body)?.read_to_end(&mut reply).ok()?;
        // Counted first, so that whoever has the reply finds it counted.
        let writes = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        client.write_all(&reply).ok()?;
        client.shutdown(Shutdown::Both).ok()?;
        if writes == self.behaviour.dies_after {
            self.die();
        }
        Some(())
    }

    /// Waits until so many bytes may have come.
    fn pay(&self, bytes: usize) {
        if self.behaviour.bytes_a_second == 0 {
            return;
        }
        let nanos = bytes as u64 * 1_000_000_000 / self.behaviour.bytes_a_second;
        let mut paid = self.paid.lock().expect("the account");
        *paid = (*paid).max(Instant::now()) + Duration::from_nanos(nanos);
        let wait = paid.saturating_duration_since(Instant::now());
        drop(paid);
        std::thread::sleep(wait);
    }
}

fn read_request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 65_536];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 2;
        }
        let length = stream.read(&mut buffer).ok().filter(|&length| length > 0)?;
        bytes.extend_from_slice(&buffer[..length]);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut body = bytes.split_off(end + 2);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
    });
    let missing = length.unwrap_or(0).checked_sub(body.len())?;
    stream.take(missing as u64).read_to_end(&mut body).ok()?;
    (body.len() == length.unwrap_or(0)).then_some((head, body))
}

/// Sends a request on; the reply is what comes until the server closes.
fn ask(to: u16, head: &str, body: &[u8]) -> Option<TcpStream> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).ok()?;
    server.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).ok()?;
    server.write_all(body).ok()?;
    Some(server)
}
