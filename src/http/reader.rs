//! A reply's body as it comes: read on tokio, decoded by whoever reads here.

use super::fault;
use super::nodes::Under;
use bytes::Bytes;
use std::fmt;
use std::io::{self, Read};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Chunks that wait to be decoded; each is at most what a socket gave at once, well below 1 MiB.
const CHUNKS_MAX: usize = 4;

/// Fewest bytes for each stretch of waiting. A server that works on a long query is silent or sends
/// rows by the thousand; one that sends byte after byte would never be done.
const BYTES_MIN: usize = 4 << 10;

/// A body that is being received. Dropping it cancels the request.
///
/// Reading ends with 0 bytes only where the server ended the body; a connection that broke is an
/// [`io::Error`].
pub struct BodyReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
    at: usize,
    ended: bool,
    task: tokio::task::JoinHandle<()>,
    /// The query is under way until this is dropped.
    _under: Under,
}

impl BodyReader {
    /// Begins to receive. Of `stretch`, a time spent in waiting, some thousand bytes are expected.
    pub(super) fn start(
        handle: &tokio::runtime::Handle,
        response: reqwest::Response,
        under: Under,
        stretch: Duration,
    ) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        Self {
            chunks,
            chunk: Bytes::new(),
            at: 0,
            ended: false,
            task: handle.spawn(pump(response, sender, stretch)),
            _under: under,
        }
    }

    /// Fetches the next chunk; false at the end of the body.
    fn refill(&mut self) -> io::Result<bool> {
        while self.at == self.chunk.len() {
            if self.ended {
                return Ok(false);
            }
            let Some(chunk) = self.chunks.blocking_recv() else {
                // The task says when the body ends; without that it was stopped.
                return Err(io::Error::other("the connection was closed on this side"));
            };
            self.chunk = chunk?;
            self.at = 0;
            self.ended = self.chunk.is_empty();
        }
        Ok(true)
    }
}

/// Passes chunks on; an empty one says that the body has ended.
async fn pump(
    mut response: reqwest::Response,
    sender: mpsc::Sender<io::Result<Bytes>>,
    stretch: Duration,
) {
    let (mut waited, mut bytes) = (Duration::ZERO, 0);
    loop {
        let begun = Instant::now();
        let chunk = response.chunk().await;
        waited += begun.elapsed();
        bytes += chunk.as_ref().ok().and_then(Option::as_ref).map_or(0, Bytes::len);
        let is_late = waited > stretch && bytes < BYTES_MIN;
        if waited > stretch {
            (waited, bytes) = (Duration::ZERO, 0);
        }
        let chunk = match chunk {
            Ok(Some(_)) if is_late => {
                Err(io::Error::new(io::ErrorKind::TimedOut, fault::too_slow().reason))
            }
            Ok(Some(chunk)) if chunk.is_empty() => continue,
            Ok(chunk) => Ok(chunk.unwrap_or_default()),
            Err(error) => Err(broken(&error)),
        };
        let last = chunk.as_ref().map_or(true, Bytes::is_empty);
        if sender.send(chunk).await.is_err() || last {
            return;
        }
    }
}

fn broken(error: &reqwest::Error) -> io::Error {
    if error.is_timeout() {
        io::Error::new(io::ErrorKind::TimedOut, "no further bytes in time")
    } else {
        io::Error::new(io::ErrorKind::ConnectionAborted, fault::root_cause(error))
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || !self.refill()? {
            return Ok(0);
        }
        let ready = &self.chunk[self.at..];
        let length = ready.len().min(buffer.len());
        buffer[..length].copy_from_slice(&ready[..length]);
        self.at += length;
        Ok(length)
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyReader").field("ended", &self.ended).finish_non_exhaustive()
    }
}
