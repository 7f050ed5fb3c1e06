//! The HTTP client: one server, its credentials and TLS settings, and when a request is repeated.
//! A server may be several nodes, each of which answers for all of it.
//!
//! It owns the tokio runtime on which sockets are read and written; callers are ordinary threads
//! that wait. Bodies of unknown size are handed over in chunks through a bounded channel
//! ([`BodyReader`]), so that they are decoded on the caller's thread. It follows no redirect, uses
//! no system proxy and decompresses nothing. It does not know what requests mean.
//!
//! Invariants: a [`Secret`] is never formatted and never part of a URL; every wait, body and
//! number of attempts is bounded.

mod anywhere;
mod fault;
mod nodes;
mod reader;
mod retry;
mod secret;
mod text;
mod trace;

pub use fault::{Fault, FaultKind};
pub use nodes::{Listener, NODES_MAX, News, NodeSummary, Summary};
pub use reader::BodyReader;
pub use retry::{Attempts, Retry};
pub use secret::Secret;
pub use text::{form, shorten};

use crate::error::{Error, ErrorKind, Result};
use nodes::Nodes;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use text::error_text;

/// Longest wait for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the next bytes of a reply.
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests under way at once to one node, unless fewer are asked for.
const AT_ONCE_MAX: usize = 256;
/// One of so many parts of the time for all attempts may pass until a reply has ended, or, where it
/// is streamed, while only a few bytes come.
const REPLY_SHARE: u32 = 3;
/// Most bytes that are kept of a reply which is not streamed.
const REPLY_MAX: usize = 1 << 20;

/// Which side of a command a server is, for messages that name an option or a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Data are read from it.
    Source,
    /// Data are written to it.
    Destination,
}

impl Role {
    /// The environment variable that holds the password.
    #[must_use]
    pub fn password_variable(self) -> &'static str {
        match self {
            Self::Source => "GAPLESS_SOURCE_PASSWORD",
            Self::Destination => "GAPLESS_DESTINATION_PASSWORD",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Destination => "destination",
        })
    }
}

/// Where a server is and how to speak to it.
#[derive(Clone, Debug)]
pub struct Server {
    /// True for HTTPS.
    pub tls: bool,
    /// Host name or address; IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// URL path in front of every request, without a slash at its end; empty where there is none.
    pub prefix: String,
    /// User name.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// File of certificates (PEM) that are trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// Any certificate is taken: whoever stands between can read and change everything.
    pub insecure: bool,
}

impl Server {
    /// A server that is spoken to without encryption, user or prefix.
    #[must_use]
    pub fn at(host: &str, port: u16) -> Self {
        Self {
            tls: false,
            host: host.to_owned(),
            port,
            prefix: String::new(),
            user: None,
            password: None,
            ca: None,
            insecure: false,
        }
    }

    /// Host and port, as they stand in a URL.
    #[must_use]
    pub fn name(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn base(&self) -> Result<reqwest::Url> {
        if self.host.is_empty() || self.host.contains(['/', '?', '#', '@', '\\']) {
            return Err(Error::location(self.name(), "no host name"));
        }
        let scheme = if self.tls { "https" } else { "http" };
        let text = format!("{scheme}://{}{}", self.name(), self.prefix);
        let url = reqwest::Url::parse(&text)
            .map_err(|error| Error::location(self.name(), format!("no usable address: {error}")))?;
        Ok(url)
    }
}

/// Bytes of a request, shared by its attempts.
#[derive(Clone, Debug)]
pub struct Body(bytes::Bytes);

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl Body {
    /// A part of it, which shares its bytes.
    ///
    /// # Panics
    /// Where the part is not inside.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        Self(self.0.slice(range))
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A request: GET where it has no body, else POST.
#[derive(Debug, Default)]
pub struct Call<'a> {
    /// What is asked for, for messages ("write to nab.autogen").
    pub what: &'a str,
    /// Path after the prefix, with its leading slash.
    pub path: &'a str,
    /// Query parameters; they are percent-encoded here.
    pub query: &'a [(&'a str, &'a [u8])],
    /// Headers.
    pub headers: &'a [(&'static str, &'static str)],
    /// The body of a POST.
    pub body: Option<Body>,
}

/// A reply that was read to its end, or to the limit of what is kept.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The server's clock, nanoseconds since 1970, to the second.
    pub date: Option<i64>,
    /// `X-Influxdb-Version`.
    pub version: Option<String>,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
    /// Where a redirect points, which is not followed here.
    pub location: Option<String>,
    /// The beginning of the body, at most 1 MiB.
    pub body: Vec<u8>,
}

impl Reply {
    /// The server's own words: the error of a JSON or MessagePack reply, or the body's text.
    #[must_use]
    pub fn words(&self) -> String {
        error_text(&self.body)
    }
}

/// A client of one server. Shared by worker threads.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    /// One server by each of its nodes, and where that is.
    servers: Vec<(Server, reqwest::Url)>,
    nodes: Arc<Nodes>,
    role: Role,
    retry: Retry,
    /// The server answered at least once: what fails from now on may pass.
    reached: AtomicBool,
    /// Server's clock as the last reply gave it; `i64::MIN` before.
    clock: AtomicI64,
    /// Connections that failed or broke since the server was reached.
    faults: AtomicU64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("servers", &self.servers)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client with the ordinary limits. Nothing is sent yet.
    ///
    /// # Errors
    /// Where the address cannot be used or certificates cannot be read.
    pub fn new(server: Server, role: Role) -> Result<Self> {
        Self::with_limits(server, role, Retry::default(), READ_TIMEOUT)
    }

    /// A client with limits of its own. `read_timeout` is the longest wait for the next bytes.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_limits(
        server: Server,
        role: Role,
        retry: Retry,
        read_timeout: Duration,
    ) -> Result<Self> {
        Self::of_nodes(vec![server], role, retry, read_timeout, AT_ONCE_MAX)
    }

    /// A client of a server that has several nodes, which are alike but for their addresses, with
    /// at most `at_once` requests under way to each of them.
    ///
    /// # Errors
    /// As [`Client::new`]; and where there is no node, or more than [`NODES_MAX`].
    pub fn of_nodes(
        nodes: Vec<Server>,
        role: Role,
        retry: Retry,
        read_timeout: Duration,
        at_once: usize,
    ) -> Result<Self> {
        // A provider that someone installed before is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let Some(first) = nodes.first().filter(|_| nodes.len() <= NODES_MAX) else {
            return Err(Error::usage(format!("name at least one node, and at most {NODES_MAX}")));
        };
        let http = build(first, read_timeout)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("sockets")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| Error::io("tokio", "start", error))?;
        let names = nodes.iter().map(Server::name).collect();
        let servers = nodes.into_iter().map(|node| Ok((node.clone(), node.base()?)));
        Ok(Self {
            runtime,
            http,
            servers: servers.collect::<Result<_>>()?,
            nodes: Arc::new(Nodes::new(names, at_once)),
            role,
            retry,
            reached: AtomicBool::new(false),
            clock: AtomicI64::new(i64::MIN),
            faults: AtomicU64::new(0),
        })
    }

    /// Host and port, of every node.
    #[must_use]
    pub fn name(&self) -> String {
        let names: Vec<String> = self.servers.iter().map(|(node, _)| node.name()).collect();
        names.join(",")
    }

    /// The number of its nodes.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.servers.len()
    }

    /// Says whom to tell of back-offs and of nodes that come and go; the first one said stays. It
    /// is told by the thread that waits for a reply, and must not hold it up.
    pub fn tell(&self, listener: Listener) {
        self.nodes.tell(listener);
    }

    /// How much was asked of the server at once, and of which nodes.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.nodes.summary()
    }

    /// Bytes that a write should not exceed, by what the server took lately; `usize::MAX` where
    /// nothing speaks against any.
    #[must_use]
    pub fn write_bytes_max(&self) -> usize {
        self.nodes.batch_bytes()
    }

    /// Notes that the server refused a query because it runs so many: fewer are sent at once.
    /// `at_once` is its limit, where it names one.
    pub fn refuse_query(&self, at_once: Option<usize>) {
        self.nodes.refuse_query(at_once);
    }

    /// What is the same for every node: the user, for one.
    fn server(&self) -> &Server {
        &self.servers[0].0
    }

    /// Which side the server is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// When and how often requests are repeated.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.retry
    }

    /// The server's clock at its last reply, nanoseconds since 1970, to the second.
    #[must_use]
    pub fn clock(&self) -> Option<i64> {
        Some(self.clock.load(Ordering::Relaxed)).filter(|&clock| clock != i64::MIN)
    }

    /// How often a connection failed or broke since the server was reached: it may have restarted.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// Sends a request until it is answered: passing failures are repeated within the limits.
    /// The reply may still be a refusal.
    ///
    /// # Errors
    /// Where the server cannot be reached, or keeps failing.
    pub fn call(&self, call: &Call<'_>) -> Result<Reply> {
        let mut attempts = Attempts::new(self.retry);
        loop {
            match self.once(call) {
                Ok(reply) if !retry::is_passing(&reply) => return Ok(reply),
                Ok(reply) => {
                    if !attempts.wait(reply.retry_after) {
                        return Err(self.gave_up(call.what, &reply, attempts.made()));
                    }
                }
                Err(fault) => {
                    if !fault.is_passing() || !attempts.wait(None) {
                        return Err(self.failed(fault, attempts.made()));
                    }
                }
            }
        }
    }

    /// Sends a request and hands the body of its reply over as it comes. Passing failures before
    /// the first byte are repeated within the limits.
    ///
    /// # Errors
    /// Where the server cannot be reached, keeps failing, or does not answer 200.
    pub fn stream(&self, call: &Call<'_>) -> Result<BodyReader> {
        let mut attempts = Attempts::new(self.retry);
        loop {
            match self.stream_once(call, &mut attempts) {
                Ok(Ok(body)) => return Ok(body),
                Ok(Err(reply)) if !retry::is_passing(&reply) => {
                    return Err(self.refused(call.what, &reply));
                }
                Ok(Err(reply)) => {
                    if !attempts.wait(reply.retry_after) {
                        return Err(self.gave_up(call.what, &reply, attempts.made()));
                    }
                }
                Err(fault) => {
                    if !fault.is_passing() || !attempts.wait(None) {
                        return Err(self.failed(fault, attempts.made()));
                    }
                }
            }
        }
    }

    /// The error of a server that refused a request.
    #[must_use]
    pub fn refused(&self, what: &str, reply: &Reply) -> Error {
        let user = self.server().user.as_deref();
        let words = secret::redacted(reply.words(), self.server().password.as_ref());
        let who = match (reply.status, user) {
            (401, None) => "without a user: ".to_owned(),
            (401 | 403, Some(user)) => format!("user {user:?}: "),
            _ => String::new(),
        };
        let error = Error::from(ErrorKind::Refused {
            server: self.name(),
            request: what.to_owned(),
            status: reply.status,
            message: format!("{who}{words}"),
        });
        let variable = self.role.password_variable();
        match (reply.status, user) {
            (401, None) => error.with_next(format!(
                "name a user in the {} (USER@HOST) and set {variable}",
                self.role
            )),
            (401, Some(user)) => {
                error.with_next(format!("check {variable}: the password of {user:?}"))
            }
            (300..=399, _) => error.with_next(format!(
                "redirects are not followed, since credentials would go with them: name the {} where it \
                 is itself",
                self.role
            )),
            (403, Some(user)) => error.with_next(format!(
                "grant {user:?} what is missing, or name another user and set {variable}"
            )),
            _ => error,
        }
    }

    /// The error of a request that got no reply.
    #[must_use]
    pub fn failed(&self, fault: Fault, attempts: u32) -> Error {
        let error = Error::from(ErrorKind::Connection {
            server: self.name(),
            reason: fault.reason,
            attempts,
        });
        match fault.next {
            Some(next) => error.with_next(next),
            None => error,
        }
    }

    fn gave_up(&self, what: &str, reply: &Reply, attempts: u32) -> Error {
        self.refused(what, reply).with_next(format!(
            "the server stayed busy for {attempts} attempts: run again when it has recovered"
        ))
    }

    fn server_of(&self, node: usize) -> &Server {
        &self.servers[node].0
    }

    fn request(&self, node: usize, call: &Call<'_>) -> reqwest::RequestBuilder {
        let (server, base) = &self.servers[node];
        let mut url = base.clone();
        url.set_path(&format!("{}{}", server.prefix, call.path));
        url.set_query((!call.query.is_empty()).then(|| form(call.query)).as_deref());
        let mut request = match &call.body {
            None => self.http.get(url),
            Some(body) => self.http.post(url).body(body.0.clone()),
        };
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        if let Some(user) = &server.user {
            request = request.basic_auth(user, server.password.as_ref().map(Secret::expose));
        }
        request
    }

    fn fault(&self, node: usize, error: &reqwest::Error) -> Fault {
        let server = &self.servers[node].0;
        let reached = self.reached.load(Ordering::Relaxed);
        self.faults.fetch_add(u64::from(reached), Ordering::Relaxed);
        let mut fault = fault::of(error, server, reached);
        if self.servers.len() > 1 {
            fault.reason = format!("{}: {}", server.name(), fault.reason);
        }
        fault
    }

    /// Notes that the server answered, and its clock.
    fn arrived(&self, response: &reqwest::Response) {
        self.reached.store(true, Ordering::Relaxed);
        if let Some(date) = date(response) {
            self.clock.store(date, Ordering::Relaxed);
        }
    }

    /// Reads the body, as much of it as is kept. Bytes that come one by one do not make it endless.
    async fn finish(&self, node: usize, response: reqwest::Response) -> Result<Reply, Fault> {
        let whole =
            tokio::time::timeout(self.retry.total / REPLY_SHARE, self.read_whole(node, response));
        whole.await.unwrap_or_else(|_late| Err(fault::too_slow()))
    }

    async fn read_whole(
        &self,
        node: usize,
        mut response: reqwest::Response,
    ) -> Result<Reply, Fault> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.fault(node, &e))? {
            let room = REPLY_MAX - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() >= room {
                break;
            }
        }
        let status = response.status().as_u16();
        if status >= 300 {
            // Whatever is quoted of it later: what stands before a server may repeat the request.
            body = secret::without(body, self.servers[node].0.password.as_ref());
        }
        let reply = Reply {
            status,
            date: date(&response),
            version: header(&response, "x-influxdb-version").map(str::to_owned),
            retry_after: header(&response, "retry-after")
                .and_then(|text| retry::retry_after(text, date(&response))),
            location: header(&response, "location").map(str::to_owned),
            body,
        };
        // Go's servers and nginx answer a plain request on a TLS port so.
        let text = String::from_utf8_lossy(&reply.body);
        if reply.status == 400 && text.contains("HTTP request") && text.contains("HTTPS") {
            return Err(fault::plain_on_tls());
        }
        Ok(reply)
    }
}

fn build(server: &Server, read_timeout: Duration) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("gapless/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .http1_only()
        // An InfluxDB repeats its error, which quotes the data, in a header.
        .http1_ignore_invalid_headers_in_responses(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(read_timeout)
        .tls_version_min(reqwest::tls::Version::TLS_1_2);
    if !server.tls {
        // A machine without certificates can still speak plain HTTP.
        builder = builder.tls_certs_only([]);
    } else if server.insecure {
        builder = builder.tls_certs_only([]).tls_danger_accept_invalid_certs(true);
    } else if let Some(path) = &server.ca {
        let pem = std::fs::read(path).map_err(|error| Error::io(path, "read", error))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| Error::location(path.display(), "holds no certificate in PEM form"))?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| {
        let reason = fault::root_cause(&error);
        let error = Error::location(server.name(), format!("TLS cannot be set up: {reason}"));
        error.with_next("install the system's certificates, or name a file with --ca FILE")
    })
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn date(response: &reqwest::Response) -> Option<i64> {
    let zoned = jiff::fmt::rfc2822::parse(header(response, "date")?).ok()?;
    i64::try_from(zoned.timestamp().as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str) -> Server {
        Server {
            tls: false,
            host: host.into(),
            port: 8086,
            prefix: "/influx".into(),
            user: Some("ann".into()),
            password: Some(Secret::new("hunter2".into())),
            ca: None,
            insecure: false,
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let client = Client::new(server("127.0.0.1"), Role::Source).unwrap();
        let reply = Reply {
            status: 401,
            date: None,
            version: None,
            retry_after: None,
            location: None,
            body: br#"{"error":"authorization failed"}"#.to_vec(),
        };
        let error = client.refused("ping", &reply);
        for text in [
            format!("{client:?}"),
            format!("{error:?} {error}"),
            format!("{:?}", client.request(0, &Call::default())),
        ] {
            assert!(!text.contains("hunter2") && !text.contains("aHVudGVyM"), "{text}");
        }
        assert!(error.to_string().contains("user \"ann\": authorization failed"));
        assert!(error.next_step().unwrap().contains("GAPLESS_SOURCE_PASSWORD"));
    }

    #[test]
    fn addresses_are_written_as_urls_want_them() {
        assert_eq!(server("::1").name(), "[::1]:8086");
        assert_eq!(server("::1").base().unwrap().as_str(), "http://[::1]:8086/influx");
        for host in ["", "a b", "a/b", "u:p@h", "h#"] {
            assert!(server(host).base().is_err(), "{host}");
        }
    }
}
