//! A small HTTP/1.1 client, independent of the code under test.
//!
//! One request a connection, body whole in memory. Refuses (by a panic, as this is a test) what it
//! cannot read to its proper end: a reply cut short is never taken for a whole one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

const TIMEOUT: Duration = Duration::from_secs(120);

/// A reply: its status and its body, which has to be UTF-8 for `text`.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What a request needs to know of its server.
#[derive(Debug, Clone)]
pub struct Endpoint<'a> {
    pub port: u16,
    /// The authority that vouches for an HTTPS server; plain HTTP without one.
    pub ca: Option<&'a Path>,
    pub user: Option<(&'a str, &'a str)>,
}

/// Sends one request and reads its reply.
///
/// # Errors
/// When no connection is made or it breaks before the end of the reply.
pub fn request(
    endpoint: &Endpoint<'_>,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Response> {
    let tcp = TcpStream::connect(("127.0.0.1", endpoint.port))?;
    tcp.set_read_timeout(Some(TIMEOUT))?;
    tcp.set_write_timeout(Some(TIMEOUT))?;
    let head = request_head(endpoint, method, target, headers, body.len());
    match endpoint.ca {
        None => exchange(tcp, &head, body),
        Some(ca) => exchange(tls(tcp, ca), &head, body),
    }
}

/// Percent-encodes everything but unreserved characters.
pub fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn request_head(
    endpoint: &Endpoint<'_>,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    length: usize,
) -> String {
    let port = endpoint.port;
    let mut head = format!(
        "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n"
    );
    if let Some((user, password)) = endpoint.user {
        let token = base64(format!("{user}:{password}").as_bytes());
        head.push_str(&format!("Authorization: Basic {token}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head
}

fn tls(tcp: TcpStream, ca: &Path) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).expect("the CA's file") {
        roots.add(certificate.expect("a certificate")).expect("a usable certificate");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").expect("a server name");
    let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a TLS session");
    rustls::StreamOwned::new(session, tcp)
}

fn exchange<S: Read + Write>(mut stream: S, head: &str, body: &[u8]) -> std::io::Result<Response> {
    // A server may answer 413 and close before it has taken the body: its answer still counts.
    let sent = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body))
        .and_then(|()| stream.flush());
    match read_response(&mut BufReader::new(stream)) {
        Ok(response) => Ok(response),
        Err(error) => Err(sent.err().unwrap_or(error)),
    }
}

fn read_response(stream: &mut impl BufRead) -> std::io::Result<Response> {
    let status_line = read_line(stream)?;
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| std::io::Error::other(format!("not a status line: {status_line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(stream)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut response = Response { status, headers, body: Vec::new() };
    if response.header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        read_chunks(stream, &mut response.body)?;
    } else if let Some(length) = response.header("content-length") {
        let length: u64 = length.parse().map_err(std::io::Error::other)?;
        stream.take(length).read_to_end(&mut response.body)?;
        if u64::try_from(response.body.len()).ok() != Some(length) {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    } else if status != 204 {
        stream.read_to_end(&mut response.body)?;
    }
    Ok(response)
}

fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let line = read_line(stream)?;
        let size = u64::from_str_radix(&line, 16).map_err(std::io::Error::other)?;
        let before = body.len();
        stream.by_ref().take(size).read_to_end(body)?;
        if u64::try_from(body.len() - before).ok() != Some(size) {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        read_line(stream)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn read_line(stream: &mut impl BufRead) -> std::io::Result<String> {
    // Error messages in headers repeat what was written, whatever bytes it held.
    let mut line = Vec::new();
    if stream.read_until(b'\n', &mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
}

pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut word = 0_usize;
        for at in 0..3 {
            word = word << 8 | usize::from(chunk.get(at).copied().unwrap_or(0));
        }
        for at in 0..4 {
            let digit = ALPHABET[word >> (18 - 6 * at) & 63];
            out.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}
