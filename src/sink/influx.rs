//! InfluxDB 1.x over HTTP as a destination: batches in, acknowledgements out.
//!
//! A batch that is refused in part is halved until the offending rows stand alone, in the order of
//! the batch: a half is sent, and halved again where it is refused, before the next. A bad row
//! costs about two requests for each halving. Rows that were stored meanwhile are sent again, which
//! changes nothing: a server keeps one value for each cell.
//!
//! A server may die of a row. Where it died during a request, the rows of that request are suspects
//! and are not sent again with the others. Asked to try them ([`Sink::write_suspects`]), it sends them in pieces, and cuts the piece
//! of which the server dies again, until the row stands alone that kills it.
//!
//! Invariant: a row is acknowledged by the 204 of a request that held it, or refused by the reply
//! to a request that held it alone; or, behind [`REQUESTS_MAX`] requests for one batch, by the reply
//! to a request that held it among others, which its reason says.

mod death;

use super::refusal::{self, Verdict};
use super::restarts::Restarts;
use super::{Ack, Batch, Epoch, Refusal, Sink};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Attempts, Body, Call, Client, Fault, FaultKind, Reply};
use crate::influxql;
use crate::line::decode::{Decoder, Item, Options as LineOptions};
use crate::plan::Namespace;
use crate::window::Window;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Requests for one batch after which rows are not tried alone: enough to refuse each of 16,384.
pub const REQUESTS_MAX: u64 = 32_768;
/// Failures of one request after which less is sent at once.
const TRIES_BEFORE_SPLIT: u32 = 2;
/// Rows of a batch that may fail a server in a way that is not known while it stores no other.
const UNCLEAR_MAX: u32 = 8;
/// Pieces into which suspects are cut: a piece that is stored costs a request, one that kills the
/// server a restart.
const PIECES: usize = 32;
/// Times that a server may die of suspects before the rest is not tried.
const DEATHS_MAX: u32 = 64;
/// Why a row is refused of which the server died.
const KILLS: &str = "the server died each time that this row was sent, in the end alone";
/// Added to the reason of rows that were refused among others.
const NOT_ALONE: &str = " (not tried alone: too many rows of this batch were refused)";

/// How many nodes of a cluster must have stored a write before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Any node, even one that only keeps it for another.
    Any,
    /// One node that owns it.
    One,
    /// Most of the nodes that own it.
    Quorum,
    /// Every node that owns it.
    All,
}

impl Consistency {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::One => "one",
            Self::Quorum => "quorum",
            Self::All => "all",
        }
    }
}

impl std::str::FromStr for Consistency {
    type Err = Error;

    /// # Errors
    /// A usage error for any other word.
    fn from_str(word: &str) -> Result<Self> {
        [Self::Any, Self::One, Self::Quorum, Self::All]
            .into_iter()
            .find(|consistency| consistency.name() == word)
            .ok_or_else(|| {
                Error::usage(format!("unknown consistency {word:?}"))
                    .with_next("use any, one, quorum or all")
            })
    }
}

/// How batches are sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Asked of a cluster; the server's default where it is `None`.
    pub consistency: Option<Consistency>,
    /// Bodies are compressed, on the calling thread.
    pub gzip: bool,
}

/// A server that stores batches.
#[derive(Debug)]
pub struct Influx {
    client: Arc<Client>,
    options: Options,
    requests_max: u64,
    /// It is a node of a cluster.
    cluster: bool,
    restarts: Restarts,
    /// Times that the server died of suspects.
    deaths: AtomicU32,
}

impl Influx {
    /// Asks the server whether it is an InfluxDB 1.x.
    ///
    /// # Errors
    /// Where it cannot be reached or is none.
    pub fn new(client: Arc<Client>, options: Options) -> Result<Self> {
        // InfluxDB Enterprise says `1.8.10-c1.8.10`.
        let cluster = influxql::ping(&client)?.contains("-c");
        let (restarts, deaths) = (Restarts::default(), AtomicU32::new(0));
        Ok(Self { client, options, requests_max: REQUESTS_MAX, cluster, restarts, deaths })
    }

    /// The same with another number in the place of [`REQUESTS_MAX`].
    #[must_use]
    pub fn with_requests_max(self, requests_max: u64) -> Self {
        Self { requests_max, ..self }
    }

    /// Host and port.
    #[must_use]
    pub fn name(&self) -> String {
        self.client.name()
    }
}

impl Sink for Influx {
    fn write(&self, batch: Batch) -> Result<Ack> {
        Job::new(self, batch, false).run()
    }

    fn write_suspects(&self, batch: Batch) -> Result<Ack> {
        Job::new(self, batch, true).run()
    }

    fn batch_bytes_max(&self) -> usize {
        self.client.write_bytes_max()
    }

    fn close_unit(&self, _namespace: &Namespace, _window: Window) -> Result<()> {
        Ok(())
    }

    /// The nodes of a cluster may differ for a while, the more so below consistency `all`.
    fn lags(&self) -> bool {
        self.cluster
            || self.client.nodes() > 1
            || self.options.consistency.is_some_and(|level| level != Consistency::All)
    }

    fn epoch(&self) -> Epoch {
        self.restarts.look(&self.client)
    }
}

/// What became of one request.
enum Outcome {
    Reply(Reply),
    Fault(Fault),
}

impl Outcome {
    fn judge(&self) -> Verdict {
        let fault = match self {
            Self::Reply(reply) => return refusal::judge(reply.status, &reply.body),
            Self::Fault(fault) => fault,
        };
        match fault.kind {
            FaultKind::Permanent => Verdict::Permanent { reason: fault.reason.clone() },
            FaultKind::Refused | FaultKind::Passing => Verdict::BackOff,
            // A server that refuses a large body may close before it was taken.
            FaultKind::Broken | FaultKind::Timeout => Verdict::Slow,
            // A server repeats its refusal, with the lines it concerns, in a header of the reply.
            FaultKind::Unreadable => {
                Verdict::Partly { reason: "a refusal that is too long to be read".into() }
            }
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Reply(reply) => reply.status,
            Self::Fault(_) => 0,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Reply(reply) => reply.retry_after,
            Self::Fault(_) => None,
        }
    }

    /// True where the connection to the server broke, here or behind a proxy, after the request was
    /// begun.
    /// The node that a broken request went to, and when: `begun` is when it began to wait for its turn.
    fn sent_to(&self, begun: Instant) -> (Option<usize>, Instant) {
        match self {
            Self::Reply(_) => (None, begun),
            Self::Fault(fault) => (fault.node, fault.begun.unwrap_or(begun)),
        }
    }

    fn is_broken(&self) -> bool {
        match self {
            Self::Reply(reply) => reply.status == 502,
            Self::Fault(fault) => fault.kind == FaultKind::Broken,
        }
    }
}

/// One batch being stored.
struct Job<'a> {
    sink: &'a Influx,
    namespace: Namespace,
    body: Body,
    what: String,
    /// Where each row stands in the body, once that is needed.
    rows: Option<Vec<Range<usize>>>,
    /// Runs of rows to be sent, the next one last; `None` stands for all rows.
    todo: Vec<Option<Range<usize>>>,
    /// Attempts since the server last answered with a decision.
    attempts: Attempts,
    ack: Ack,
    /// The server died of these rows before.
    suspect: bool,
    /// A request of this batch was acknowledged.
    stored: bool,
    /// Rows that were refused for an unknown reason.
    unclear: u32,
    /// HTTP status that came with that reason.
    unclear_status: u16,
}

impl<'a> Job<'a> {
    fn new(sink: &'a Influx, batch: Batch, suspect: bool) -> Self {
        Self {
            sink,
            what: format!("a write to {}", batch.namespace),
            namespace: batch.namespace,
            body: Body::from(batch.body),
            rows: None,
            todo: vec![None],
            attempts: Attempts::new(sink.client.retry()),
            ack: Ack::default(),
            suspect,
            stored: false,
            unclear: 0,
            unclear_status: 0,
        }
    }

    fn run(mut self) -> Result<Ack> {
        if self.suspect && self.is_long(None) {
            self.todo.clear();
            let all = 0..self.rows().len();
            self.cut(all, PIECES);
        }
        while let Some(run) = self.todo.pop() {
            self.store(run)?;
        }
        Ok(self.ack)
    }

    /// Sends a run of rows until it is stored, refused or cut into shorter ones.
    fn store(&mut self, run: Option<Range<usize>>) -> Result<()> {
        let lines = self.lines(run.as_ref());
        let body = self.encode(&lines)?;
        let (mut slow, mut unclear) = (0, 0);
        loop {
            let begun = Instant::now();
            let outcome = self.send(&body, lines.as_ref().len())?;
            let (node, begun) = outcome.sent_to(begun);
            if outcome.is_broken()
                && death::died(&self.sink.client, node, begun, &mut self.attempts)?
            {
                self.decided();
                self.set_aside(run);
                return Ok(());
            }
            let verdict = outcome.judge();
            slow += u32::from(verdict == Verdict::Slow);
            unclear += u32::from(matches!(verdict, Verdict::Unclear { .. }));
            match verdict {
                Verdict::Stored => {
                    self.stored = true;
                    self.decided();
                    return Ok(());
                }
                Verdict::Permanent { .. } => return Err(self.failed(outcome)),
                Verdict::Split => {
                    self.decided();
                    self.halve(run, "the row alone is larger than the server takes".into());
                    return Ok(());
                }
                Verdict::Partly { reason } => {
                    self.decided();
                    self.halve(run, reason);
                    return Ok(());
                }
                Verdict::Slow if slow >= TRIES_BEFORE_SPLIT && self.is_long(run.as_ref()) => {
                    self.halve(run, String::new());
                    return Ok(());
                }
                // A part of a batch was tried before, as part of the whole.
                Verdict::Unclear { reason }
                    if unclear >= TRIES_BEFORE_SPLIT
                        || run.is_some() && self.is_long(run.as_ref()) =>
                {
                    self.unclear_status = outcome.status();
                    return self.isolate(run, reason);
                }
                Verdict::Unclear { .. } | Verdict::Slow | Verdict::BackOff => {}
            }
            if !self.attempts.wait(outcome.retry_after()) {
                return Err(self.failed(outcome));
            }
            self.ack.retries += 1;
        }
    }

    /// The server decided about a request: it works, so that later failures have time to pass.
    fn decided(&mut self) {
        self.attempts = Attempts::new(self.sink.client.retry());
    }

    /// Sends a body of so many bytes before compression.
    fn send(&mut self, body: &Body, bytes: usize) -> Result<Outcome> {
        self.ack.requests += 1;
        let namespace = &self.namespace;
        let mut query =
            vec![("db", namespace.database.as_bytes()), ("precision", b"ns".as_slice())];
        if !namespace.retention_policy.is_empty() {
            query.push(("rp", namespace.retention_policy.as_bytes()));
        }
        if let Some(consistency) = self.sink.options.consistency {
            query.push(("consistency", consistency.name().as_bytes()));
        }
        let mut headers = vec![("Content-Type", "text/plain; charset=utf-8")];
        if self.sink.options.gzip {
            headers.push(("Content-Encoding", "gzip"));
        }
        let call = Call {
            what: &self.what,
            path: "/write",
            query: &query,
            headers: &headers,
            body: Some(body.clone()),
        };
        Ok(match self.sink.client.write(&call, bytes, &mut self.attempts) {
            Ok(reply) => Outcome::Reply(reply),
            Err(fault) => Outcome::Fault(fault),
        })
    }

    /// The lines of a run of rows.
    fn lines(&self, run: Option<&Range<usize>>) -> Body {
        match (run, &self.rows) {
            (Some(run), Some(rows)) if !run.is_empty() => {
                self.body.part(rows[run.start].start..rows[run.end - 1].end)
            }
            _ => self.body.clone(),
        }
    }

    /// The body of a request for lines.
    fn encode(&self, body: &Body) -> Result<Body> {
        if !self.sink.options.gzip {
            return Ok(body.clone());
        }
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let compressed = encoder.write_all(body.as_ref()).and_then(|()| encoder.finish());
        let compressed = compressed.map_err(|error| Error::io("a batch", "compress", error))?;
        Ok(Body::from(compressed))
    }

    /// Where each row stands, found out when it is first needed.
    fn rows(&mut self) -> &[Range<usize>] {
        self.rows.get_or_insert_with(|| rows_of(self.body.as_ref()))
    }

    /// True where there is more than one row.
    fn is_long(&mut self, run: Option<&Range<usize>>) -> bool {
        run.map_or_else(|| self.rows().len(), ExactSizeIterator::len) > 1
    }

    /// Cuts a run into two that are sent next, or refuses the only row that it holds. `reason` is
    /// empty where none of its rows is refused.
    fn halve(&mut self, run: Option<Range<usize>>, reason: String) {
        let all = self.rows().len();
        let run = run.unwrap_or(0..all);
        if run.len() <= 1 {
            self.refuse(run.start, reason);
            return;
        }
        if !reason.is_empty() && self.ack.requests >= self.sink.requests_max {
            for row in run {
                self.refuse(row, format!("{reason}{NOT_ALONE}"));
            }
            return;
        }
        self.cut(run, 2);
    }

    /// Has a run sent next in parts.
    fn cut(&mut self, run: Range<usize>, parts: usize) {
        let length = run.len().div_ceil(parts).max(1);
        let starts = run.clone().step_by(length).rev();
        self.todo.extend(starts.map(|start| Some(start..run.end.min(start + length))));
    }

    /// Does with a run what is to be done when the server died of it.
    fn set_aside(&mut self, run: Option<Range<usize>>) {
        let is_long = self.is_long(run.as_ref());
        let deaths = &self.sink.deaths;
        if !self.suspect || deaths.fetch_add(1, Ordering::Relaxed) >= DEATHS_MAX {
            let lines = self.lines(run.as_ref());
            self.ack.suspects.extend_from_slice(lines.as_ref());
        } else if is_long {
            let all = self.rows().len();
            self.cut(run.unwrap_or(0..all), PIECES);
        } else {
            self.refuse(run.map_or(0, |run| run.start), KILLS.into());
        }
    }

    fn refuse(&mut self, row: usize, reason: String) {
        let row = self.rows.as_ref().and_then(|rows| rows.get(row));
        let bytes = row.map_or(self.body.as_ref(), |row| &self.body.as_ref()[row.clone()]);
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes).to_vec();
        self.ack.refused.push(Refusal { line, reason });
    }

    /// Halves a run that makes the server fail, or refuses the row that does, unless the server is
    /// gone or fails at everything.
    fn isolate(&mut self, run: Option<Range<usize>>, reason: String) -> Result<()> {
        let alone = !self.is_long(run.as_ref());
        self.unclear += u32::from(alone);
        self.halve(run, reason);
        if !alone {
            return Ok(());
        }
        if !self.stored {
            if self.unclear > UNCLEAR_MAX {
                return Err(self.server_fails());
            }
            influxql::ping(&self.sink.client)?;
        }
        self.decided();
        Ok(())
    }

    /// The error of a reply after which this batch is given up.
    fn failed(&self, outcome: Outcome) -> Error {
        let client = &self.sink.client;
        let reply = match outcome {
            Outcome::Reply(reply) => reply,
            Outcome::Fault(fault) => return client.failed(fault, self.attempts.made()),
        };
        let (name, words) = (client.name(), reply.words());
        let namespace = &self.namespace;
        let missing = |what: &str, named: &str| {
            let what = format!("{what} {named:?}");
            Error::from(ErrorKind::NotFound { what, place: format!("on {name}") }).with_next(
                "create it there, or let gapless create it as it is at the source with --create",
            )
        };
        if words.starts_with("database not found") {
            return missing("database", &namespace.database);
        }
        if words.starts_with("retention policy not found") {
            let what = format!("in database {:?} the retention policy", namespace.database);
            return missing(&what, &namespace.retention_policy);
        }
        client.refused(&self.what, &reply)
    }

    fn server_fails(&self) -> Error {
        let refusal = self.ack.refused.first();
        Error::from(ErrorKind::Refused {
            server: self.sink.client.name(),
            request: self.what.clone(),
            status: self.unclear_status,
            message: refusal.map(|refusal| refusal.reason.clone()).unwrap_or_default(),
        })
        .with_next(
            "see the log of the server: it stored no row of a batch, and gave no known reason",
        )
    }
}

/// Where the rows of a body stand, each with its final line feed.
fn rows_of(body: &[u8]) -> Vec<Range<usize>> {
    let mut decoder =
        Decoder::new(LineOptions { line_bytes_max: usize::MAX, ..LineOptions::default() });
    decoder.feed(body);
    decoder.finish();
    let mut rows = Vec::new();
    let mut at = 0;
    while let Ok(Some(item)) = decoder.next_item() {
        let (text, is_row) = match item {
            Item::Row(row) => (row.text, true),
            Item::Bad(bad) => (bad.text, true),
            Item::Comment(text) => (text, false),
        };
        // Blank lines, which are no items, may stand before it.
        while at < body.len() && !body[at..].starts_with(text) {
            at += 1;
        }
        let end = (at + text.len() + 1).min(body.len());
        if is_row {
            rows.push(at..end);
        }
        at = end;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_whatever_they_hold() {
        let lines: [&[u8]; 5] = [
            b"m v=\"a\nb\" 1\n",
            b"m,t=x\\\ny v=1 2\n",
            b"this is no row\n",
            b"m v=\"\nm v=1 1\n\" 3\n",
            b"m v=1 4",
        ];
        let body = lines.concat();
        let rows = rows_of(&body);
        let found: Vec<&[u8]> = rows.iter().map(|row| &body[row.clone()]).collect();
        assert_eq!(found, lines);
    }

    #[test]
    fn blank_lines_and_comments_are_no_rows() {
        let body = b"\n \n# c\n m v=1 1\n\n\nm v=2 2\n";
        let rows = rows_of(body);
        let found: Vec<&[u8]> = rows.iter().map(|row| &body[row.clone()]).collect();
        assert_eq!(found, [&b" m v=1 1\n"[..], b"m v=2 2\n"]);
    }

    #[test]
    fn consistency_is_read_by_its_word() {
        assert_eq!("quorum".parse::<Consistency>().unwrap(), Consistency::Quorum);
        assert!("most".parse::<Consistency>().is_err());
    }
}
