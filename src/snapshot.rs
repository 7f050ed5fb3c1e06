//! The snapshot port of an InfluxDB 1.x server (TCP 8088, the `rpc` service of `influxd backup`).
//!
//! ```text
//! request   byte 3, the type, one line of JSON
//!           1 meta store · 4 shards of an RP · 5 shard within times · 0 shard
//! reply     bytes until the connection ends: there is no other way to say that something failed
//! ```
//!
//! Asked for a shard while it writes its cache to disk, a server answers at once with what happens to
//! be in its files: nothing, or a whole tar without the newest points. So each shard is asked for
//! behind a *barrier*: type 5 with times in 1970 never passes over the cache. No byte means that the
//! server is busy, and is asked again; any byte means that every write which was acknowledged before is
//! in a file now. Tested on 1.6.7 and 1.13.2.
//!
//! The port knows neither encryption nor users: it is for a host that is trusted, or a tunnel.

use crate::error::{Error, ErrorKind, Result};
use crate::http::{Attempts, Retry};
use crate::tarball::Failure;
use serde::Serialize;
use serde_json::json;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest wait for the next bytes: a server writes its cache to disk before it answers.
const READ: Duration = Duration::from_secs(120);
/// Most bytes of a reply that is not a shard.
const REPLY_MAX: u64 = 256 << 20;
/// How often a shard is asked for whose tar is not whole.
const TRIES: u32 = 5;
/// What the first byte of a connection says: the service of snapshots.
const SERVICE: u8 = 3;
/// The types of requests.
const SHARD: u8 = 0;
const META: u8 = 1;
const SHARDS_OF_RP: u8 = 4;
const SHARD_WITHIN: u8 = 5;
/// What Go writes for no time.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// A server's snapshot port.
#[derive(Clone, Debug)]
pub struct Port {
    host: String,
    port: u16,
    retry: Retry,
}

/// A shard by its names.
#[derive(Clone, Copy, Debug)]
pub struct ShardName<'a> {
    /// Database.
    pub database: &'a str,
    /// Retention policy.
    pub retention_policy: &'a str,
    /// Number.
    pub id: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Request<'a> {
    r#type: u8,
    backup_database: &'a str,
    backup_retention_policy: &'a str,
    #[serde(rename = "ShardID")]
    shard_id: u64,
    since: &'a str,
    export_start: &'a str,
    export_end: &'a str,
}

impl Request<'_> {
    fn new(r#type: u8) -> Self {
        Self {
            r#type,
            backup_database: "",
            backup_retention_policy: "",
            shard_id: 0,
            since: NO_TIME,
            export_start: NO_TIME,
            export_end: NO_TIME,
        }
    }
}

impl<'a> Request<'a> {
    fn of_shard(r#type: u8, shard: ShardName<'a>) -> Self {
        Self {
            backup_database: shard.database,
            backup_retention_policy: shard.retention_policy,
            shard_id: shard.id,
            ..Self::new(r#type)
        }
    }
}

impl Port {
    /// A port that is asked as often as `retry` says while the server is busy or away.
    #[must_use]
    pub fn new(host: String, port: u16, retry: Retry) -> Self {
        Self { host, port, retry }
    }

    /// Host and port.
    #[must_use]
    pub fn name(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }

    /// The meta store, in the frame that [`crate::meta::backup::framed`] unwraps.
    ///
    /// # Errors
    /// Where the server cannot be reached, or answers nothing.
    pub fn meta(&self) -> Result<Vec<u8>> {
        self.repeated("the meta store", || {
            let mut bytes = Vec::new();
            self.ask(&Request::new(META))?.take(REPLY_MAX).read_to_end(&mut bytes)?;
            let empty = || Again::Busy("it answered nothing".into());
            if bytes.is_empty() { Err(empty()) } else { Ok(bytes) }
        })
    }

    /// True where the server has a shard.
    ///
    /// # Errors
    /// Where the server cannot be reached, or its answer is not understood.
    pub fn has(&self, shard: ShardName<'_>) -> Result<bool> {
        Ok(self.shards(shard.database, shard.retention_policy)?.contains(&shard.id))
    }

    /// The shards of a retention policy of which the server has files, sorted.
    ///
    /// # Errors
    /// Where the server cannot be reached, or its answer is not understood.
    pub fn shards(&self, database: &str, retention_policy: &str) -> Result<Vec<u64>> {
        let request =
            Request::of_shard(SHARDS_OF_RP, ShardName { database, retention_policy, id: 0 });
        let below = format!("{database}/{retention_policy}/");
        self.repeated("the shards of a retention policy", || {
            let mut bytes = Vec::new();
            self.ask(&request)?.take(REPLY_MAX).read_to_end(&mut bytes)?;
            let paths: Paths = serde_json::from_slice(&bytes)
                .map_err(|error| Again::Busy(format!("its answer is not understood: {error}")))?;
            let paths = paths.paths.unwrap_or_default();
            let ids = paths.iter().map(|path| path.strip_prefix(&below)?.parse().ok());
            let mut ids: Vec<u64> = ids
                .collect::<Option<_>>()
                .ok_or_else(|| Again::Busy(format!("its answer is not understood: {paths:?}")))?;
            ids.sort_unstable();
            ids.dedup();
            Ok(ids)
        })
    }

    /// Opens a shard: a tar, which has to be read to its end. Every write that was acknowledged before
    /// is in it. `None` where the server has no such shard (any more).
    ///
    /// # Errors
    /// Where the server cannot be reached, or stays busy.
    pub fn shard(&self, shard: ShardName<'_>) -> Result<Option<TcpStream>> {
        let mut gone = false;
        let opened = self.repeated(&format!("shard {}", shard.id), || {
            if self.barrier(shard)? {
                return Ok(Some(self.ask(&Request::of_shard(SHARD, shard))?));
            }
            gone = !self.has(shard).map_err(Again::Failed)?;
            if gone { Ok(None) } else { Err(Again::Busy("it is writing its cache to disk".into())) }
        })?;
        Ok(opened)
    }

    /// Hands a shard to `take`, again where its tar was not whole. `None` where the server has no such
    /// shard (any more).
    ///
    /// # Errors
    /// Where the server cannot be reached, stays busy or never hands over a whole tar, with `advice`; or
    /// as `take`.
    pub fn whole_shard<T>(
        &self,
        shard: ShardName<'_>,
        advice: &str,
        mut take: impl FnMut(TcpStream) -> Result<T, Failure>,
    ) -> Result<Option<T>> {
        let mut attempts = Attempts::new(self.retry);
        loop {
            let Some(reply) = self.shard(shard)? else { return Ok(None) };
            let problem = match take(reply) {
                Ok(taken) => return Ok(Some(taken)),
                Err(Failure::Other(error)) => return Err(error),
                Err(Failure::Tar(problem)) => problem,
            };
            // A server that is short of memory or at work needs time more than questions.
            if attempts.made() >= TRIES || !attempts.wait(None) {
                let reason = format!("{problem} ({} tries)", attempts.made());
                let (server, query) = (self.name(), format!("shard {}", shard.id));
                return Err(Error::from(ErrorKind::Reply { server, query, reason })
                    .with_next(format!("the server's log says why it stopped; {advice}")));
            }
        }
    }

    /// Waits until what was acknowledged is in files. False where the server is busy, or has no such
    /// shard.
    fn barrier(&self, shard: ShardName<'_>) -> Result<bool, Again> {
        let request = Request {
            export_start: "1970-01-01T00:00:00Z",
            export_end: "1970-01-01T00:00:01Z",
            ..Request::of_shard(SHARD_WITHIN, shard)
        };
        let mut reply = self.ask(&request)?;
        Ok(io::copy(&mut reply, &mut io::sink())? > 0)
    }

    fn ask(&self, request: &Request<'_>) -> io::Result<TcpStream> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(READ))?;
        stream.set_write_timeout(Some(READ))?;
        let mut bytes = vec![SERVICE, request.r#type];
        bytes.extend(json!(request).to_string().into_bytes());
        bytes.push(b'\n');
        stream.write_all(&bytes)?;
        Ok(stream)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn repeated<T>(&self, what: &str, mut once: impl FnMut() -> Result<T, Again>) -> Result<T> {
        let mut attempts = Attempts::new(self.retry);
        loop {
            let reason = match once() {
                Ok(done) => return Ok(done),
                Err(Again::Failed(error)) => return Err(error),
                Err(Again::Busy(reason)) => reason,
            };
            if !attempts.wait(None) {
                let reason = format!("{what} was not handed over: {reason}");
                let (server, attempts) = (self.name(), attempts.made());
                return Err(Error::from(ErrorKind::Connection { server, reason, attempts }).with_next(
                    "is this the server's snapshot port (8088, bind-address in its configuration), and \
                     open to this machine?",
                ));
            }
        }
    }
}

/// Why a request is made again, or not.
enum Again {
    Busy(String),
    Failed(Error),
}

impl From<io::Error> for Again {
    fn from(error: io::Error) -> Self {
        Self::Busy(error.to_string())
    }
}

#[derive(serde::Deserialize)]
struct Paths {
    #[serde(rename = "Paths")]
    paths: Option<Vec<String>>,
}
