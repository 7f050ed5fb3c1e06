//! One partition being read: one query, asked again after a break, or in parts where the whole is
//! too much for the server.
//!
//! What a break cost is read again and verified ([`super::resume`]), so that every row is handed
//! out once. A question that takes too long, or brings too much, is halved in time; one that is
//! known to bring much is asked in parts from the start ([`super::sizes`]). It gives up
//! where breaks follow one another without a block between them, and where rows that were handed
//! out are not there again.

use super::resume::{Handed, Sum};
use super::rows::{Expected, Named, Rows, Stop};
use super::sizes::Size;
use super::{EVERY_FIELD, InfluxHttp, Schema};
use crate::block::Block;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Attempts, BodyReader};
use crate::influxql;
use crate::msgpack::{Event, Problem, Replies};
use crate::plan::Namespace;
use crate::series::Printable;
use crate::source::Reader;
use crate::window::Window;
use std::sync::Arc;

/// How often one window is halved: what is left of a week is then below a microsecond.
const DEPTH_MAX: u32 = 40;
/// Most halvings of one partition.
const HALVINGS_MAX: u32 = 4_096;

/// What is read, and how it is asked for.
pub(super) struct Query<'a> {
    pub(super) source: &'a InfluxHttp,
    pub(super) namespace: Namespace,
    pub(super) measurement: Vec<u8>,
    /// `"db"."rp".`, the measurement behind it.
    pub(super) from: String,
    /// Fields that are asked for by name, each as one type; all as they are where there are none.
    pub(super) named: Option<Vec<Named>>,
    /// Conditions behind the window.
    pub(super) tags: String,
}

impl Query<'_> {
    fn fields(&self) -> Result<String> {
        let Some(named) = &self.named else { return Ok(EVERY_FIELD.to_owned()) };
        let column = |(field, field_type): &Named| {
            Ok(format!("{}::{field_type}", super::exact::quote_field(field)?))
        };
        Ok(named.iter().map(column).collect::<Result<Vec<_>>>()?.join(", "))
    }

    fn statement(&self, window: Window) -> Result<String> {
        let (fields, from, tags) = (self.fields()?, &self.from, &self.tags);
        let within = influxql::within(window);
        Ok(format!("SELECT {fields} FROM {from} WHERE {within}{tags} GROUP BY *"))
    }

    /// The window from the first to the last row in it, where the server can tell: a shard group
    /// of a week may hold an hour.
    fn narrowed(&self, window: Window) -> Option<Window> {
        let client = &self.source.client;
        let fields = self.fields().ok()?;
        let range = influxql::time_range(client, &fields, &self.from, window, &self.tags);
        range.ok()??.intersect(window)
    }
}

/// A part of the partition that is still to be read.
struct Piece {
    window: Window,
    /// What of it was handed out before.
    handed: Arc<Handed>,
    /// How often it was halved.
    depth: u32,
    /// Breaks since it was last halved or brought a block.
    breaks: u32,
}

/// The reply at hand.
struct Reply {
    replies: Replies<BodyReader>,
    statement: String,
    piece: Piece,
    rows: Rows,
}

/// Reads one partition.
pub(super) struct QueryReader<'a> {
    query: Query<'a>,
    window: Window,
    /// What was read of it.
    size: Size,
    schema: Arc<Schema>,
    /// The schema was asked for again because the reply held what it does not.
    refreshed: bool,
    attempts: Attempts,
    reply: Option<Reply>,
    /// What comes behind the reply at hand, in reverse order.
    pieces: Vec<Piece>,
    halvings: u32,
    /// Cells that were handed out and are to be read again, and those of them that were.
    owed: Sum,
    paid: Sum,
    ended: bool,
}

/// What is done after a break.
enum Remedy {
    Again,
    Halve,
    Fail,
}

impl<'a> QueryReader<'a> {
    /// Sends the query.
    pub(super) fn start(query: Query<'a>, window: Window, schema: Arc<Schema>) -> Result<Self> {
        let attempts = Attempts::new(query.source.client.retry());
        let parts = query.source.sizes.parts(&query.namespace, &query.measurement, window);
        let piece = |window| Piece { window, handed: Arc::default(), depth: 0, breaks: 0 };
        let mut reader = Self {
            query,
            window,
            size: Size::default(),
            schema,
            refreshed: false,
            attempts,
            reply: None,
            pieces: parts.into_iter().rev().map(piece).collect(),
            halvings: 0,
            owed: Sum::default(),
            paid: Sum::default(),
            ended: false,
        };
        reader.next_piece()?;
        Ok(reader)
    }

    /// Asks for the next piece, halved as often as it has to be; without one, the reader ends.
    fn next_piece(&mut self) -> Result<()> {
        while let Some(piece) = self.pieces.pop() {
            let statement = self.query.statement(piece.window)?;
            match influxql::run(&self.query.source.client, &statement) {
                Ok(replies) => {
                    let rows = Rows::new(piece.window, Arc::clone(&piece.handed));
                    self.reply = Some(Reply { replies, statement, piece, rows });
                    return Ok(());
                }
                Err(error) if is_too_much(&error) && self.may_halve(&piece) => self.halve(piece),
                Err(error) => return Err(error),
            }
        }
        self.ended = true;
        if self.paid == self.owed {
            let Query { source, namespace, measurement, .. } = &self.query;
            source.sizes.note(namespace, measurement, self.window, self.size);
            return Ok(());
        }
        Err(self.error(
            "rows that were read before the connection broke were not the same when they were read \
             again",
            "run again: the data change while they are read",
        ))
    }

    fn may_halve(&self, piece: &Piece) -> bool {
        let length = i128::from(piece.window.end) - i128::from(piece.window.start);
        piece.depth < DEPTH_MAX && self.halvings < HALVINGS_MAX && length > 1
    }

    fn halve(&mut self, piece: Piece) {
        let narrowed = (piece.depth == 0).then(|| self.query.narrowed(piece.window)).flatten();
        let Window { start, end } = narrowed.unwrap_or(piece.window);
        let middle = i64::midpoint(start, end);
        let half = |window| Piece {
            window,
            handed: Arc::clone(&piece.handed),
            depth: piece.depth + 1,
            breaks: 0,
        };
        self.halvings += 1;
        self.pieces.push(half(Window { start: middle, end }));
        self.pieces.push(half(Window { start, end: middle }));
    }

    /// Reads until a block is ready or the reply ends.
    fn fill(&mut self) -> Result<Option<Block>, Stop> {
        let Some(reply) = &mut self.reply else {
            return Ok(None);
        };
        let Reply { replies, rows, .. } = reply;
        let expected = Expected {
            measurement: &self.query.measurement,
            schema: &self.schema,
            named: self.query.named.as_deref(),
        };
        while let Some(event) = replies.next_event()? {
            let taken = match event {
                Event::Series => rows.begin(replies.fragment(), &expected),
                Event::Row => rows.take(replies.fragment(), replies.row()),
            };
            taken.map_err(|stop| stop.at(replies.offset()))?;
            if rows.is_full() {
                return Ok(rows.flush());
            }
        }
        let block = rows.flush();
        self.paid.add(rows.pass().skipped());
        self.size.bytes += replies.offset();
        self.reply = None;
        self.attempts = Attempts::new(self.query.source.client.retry());
        Ok(block)
    }

    /// Decides what a stop means: the query is sent again, in halves, or it is an error.
    fn recover(&mut self, stop: Stop) -> Result<()> {
        let Some(Reply { statement, mut piece, rows, .. }) = self.reply.take() else {
            return Ok(());
        };
        let pass = rows.into_pass();
        if pass.has_handed_out() {
            self.attempts = Attempts::new(self.query.source.client.retry());
            piece.breaks = 0;
        }
        let remedy = match &stop {
            Stop::Problem(problem) => self.remedy(problem, &piece),
            Stop::Unlisted(_) if !self.refreshed => {
                // A live source may have got a new field since it was planned.
                self.refreshed = true;
                self.schema = self.query.source.fetch_schema(&self.query.namespace)?;
                Remedy::Again
            }
            Stop::Unlisted(_) | Stop::Aliased(_) => Remedy::Fail,
        };
        if matches!(remedy, Remedy::Fail) {
            return Err(self.failed(&statement, stop));
        }
        let Some((handed, owed)) = pass.broken() else {
            return Err(self.failed(&statement, stop));
        };
        self.owed.add(owed);
        piece.handed = handed;
        piece.breaks += 1;
        match remedy {
            Remedy::Halve => self.halve(piece),
            _ => self.pieces.push(piece),
        }
        Ok(())
    }

    fn remedy(&mut self, problem: &Problem, piece: &Piece) -> Remedy {
        let too_much = matches!(problem, Problem::Server(words) if influxql::is_too_much(words));
        if too_much {
            return if self.may_halve(piece) { Remedy::Halve } else { Remedy::Fail };
        }
        let client = &self.query.source.client;
        if !influxql::wait_to_ask_again(client, problem, &mut self.attempts) {
            return Remedy::Fail;
        }
        // What broke twice may be too long for what stands between.
        let cut = matches!(problem, Problem::Read(_) | Problem::CutShort { .. });
        if cut && piece.breaks > 0 && self.may_halve(piece) { Remedy::Halve } else { Remedy::Again }
    }

    /// The error of a stop that nothing helps against.
    fn failed(&self, statement: &str, stop: Stop) -> Error {
        let client = &self.query.source.client;
        match stop {
            Stop::Problem(problem) => {
                let error = influxql::failed(client, statement, &problem);
                match &problem {
                    Problem::Server(words) if words.contains("max-select-series") => error
                        .with_next(
                            "raise max-select-series in the server's configuration, or name tags \
                             with --tag: a shorter window reads as many series",
                        ),
                    Problem::Server(words) if influxql::is_too_much(words) => error.with_next(
                        "raise the limit in the server's configuration: parts of the window did \
                         not help",
                    ),
                    _ => error,
                }
            }
            Stop::Aliased(place) => {
                let message = format!(
                    "{} shows {place} more than once: it stores several spellings of one series \
                     key, or holds the row in two shard groups, and its queries mix them",
                    client.name()
                );
                Error::from(ErrorKind::Data(message)).with_next(
                    "read the snapshot port, the data directory or a backup, where they are apart",
                )
            }
            Stop::Unlisted(reason) => {
                self.query.source.forget_schema(&self.query.namespace);
                self.error(&reason, "run again: the fields may have changed while they were read")
            }
        }
    }

    fn error(&self, reason: &str, next: &str) -> Error {
        let message = format!(
            "{}: measurement {} of {}: {reason}",
            self.query.source.client.name(),
            Printable(&self.query.measurement),
            self.query.namespace,
        );
        Error::from(ErrorKind::Data(message)).with_next(next)
    }

    fn advance(&mut self) -> Result<Option<Block>> {
        while !self.ended {
            if self.reply.is_none() {
                self.next_piece()?;
                continue;
            }
            match self.fill() {
                Ok(Some(block)) => return Ok(Some(block)),
                Ok(None) => {}
                Err(stop) => self.recover(stop)?,
            }
        }
        Ok(None)
    }
}

impl Reader for QueryReader<'_> {
    fn next_block(&mut self) -> Result<Option<Block>> {
        let block = self.advance();
        if let Ok(Some(block)) = &block {
            self.size.add(block.times());
        }
        self.ended |= block.is_err();
        block
    }
}

/// True where a server, or what stands before it, refused the whole and may answer a part.
fn is_too_much(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Refused { status, message, .. } => {
            matches!(status, 413 | 504) || influxql::is_too_much(message)
        }
        _ => false,
    }
}
