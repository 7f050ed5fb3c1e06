//! A server that answers every request alike, and keeps what it was asked: for faults that no real
//! server shows. In plain HTTP or TLS. It ends with the process of the tests.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a client may be silent.
const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Parrot {
    pub port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Parrot {
    /// Answers in plain HTTP. The reply is sent as it is; each connection gets one.
    pub fn start(reply: impl Into<Vec<u8>>) -> Self {
        Self::serve(reply.into(), |stream, answer| {
            answer(stream);
        })
    }

    /// Answers over TLS.
    pub fn start_tls(reply: impl Into<Vec<u8>>, config: rustls::ServerConfig) -> Self {
        let config = Arc::new(config);
        Self::serve(reply.into(), move |stream, answer| {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).expect("a session");
            let mut tls = rustls::StreamOwned::new(session, stream);
            answer(&mut tls);
            tls.conn.send_close_notify();
            // A client that refuses the certificate is gone by now.
            tls.flush().ok();
        })
    }

    /// The heads of the requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.heads.lock().expect("heads").clone()
    }

    fn serve(
        reply: Vec<u8>,
        mut open: impl FnMut(&mut TcpStream, &mut dyn FnMut(&mut dyn Stream)) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&heads);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                stream.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
                open(&mut stream, &mut |stream: &mut dyn Stream| {
                    if let Some(head) = read_head(stream) {
                        theirs.lock().expect("heads").push(head);
                        // A client may have had enough of the reply before its end.
                        stream.write_all(&reply).and_then(|()| stream.flush()).ok();
                    }
                });
            }
        });
        Self { port, heads }
    }
}

/// What is read and written.
pub trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// The head of a request; none where the connection ends before it.
fn read_head(stream: &mut dyn Stream) -> Option<String> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut buffer).unwrap_or(0);
        if read == 0 {
            return None;
        }
        head.extend_from_slice(&buffer[..read]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// A reply with a body.
pub fn reply(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
}
