//! The error of every operation: what happened, where, and what to do next.
//!
//! A difference between two databases is a finding, never an [`Error`]: it travels in reports.
//! Messages are lower case, end without a full stop and hold no secrets: credentials never enter
//! the values that are formatted here.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Result of every fallible operation in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation that could not be completed, with the operator's next step where one is known.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    next: Option<String>,
}

/// Damage that a decoder found in bytes it was given: it knows the offset, its caller the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {reason}")]
pub struct Damage {
    /// Offset in the file of the first byte that could not be used.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl Damage {
    /// Damage at an offset.
    pub fn new(offset: u64, reason: impl Into<String>) -> Self {
        Self { offset, reason: reason.into() }
    }

    /// The error of the file that the bytes came from.
    #[must_use]
    pub fn in_file(self, path: impl Into<PathBuf>) -> Error {
        ErrorKind::Damaged { path: path.into(), offset: self.offset, reason: self.reason }.into()
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or stream could not be read or written.
    #[error("{path}: {action} failed: {source}", path = path.display())]
    Io {
        /// The file or stream.
        path: PathBuf,
        /// What was being done to it, as a verb ("read", "create").
        action: &'static str,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Stored bytes are damaged or cut short.
    #[error("{path}, byte {offset}: {reason}", path = path.display())]
    Damaged {
        /// The file or stream.
        path: PathBuf,
        /// Offset of the first byte that could not be used, counted in the stored file.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A location exists but is nothing that can be read or written here.
    #[error("{location}: {reason}")]
    Location {
        /// The location as it was given.
        location: String,
        /// Why it cannot serve.
        reason: String,
    },
    /// A server could not be reached, or the connection broke and retries were used up.
    #[error("{server}: {reason} ({attempts} attempts)")]
    Connection {
        /// Host and port.
        server: String,
        /// The transport's answer.
        reason: String,
        /// How many times it was tried.
        attempts: u32,
    },
    /// A server refused a request.
    #[error("{server} refused {request}: HTTP {status}: {message}")]
    Refused {
        /// Host and port.
        server: String,
        /// The request, without credentials ("write to nab.autogen").
        request: String,
        /// HTTP status.
        status: u16,
        /// The beginning of the server's own words.
        message: String,
    },
    /// A server answered 200 and reported an error inside the reply.
    #[error("{server} failed the query {query}: {message}")]
    Query {
        /// Host and port.
        server: String,
        /// The statement.
        query: String,
        /// The server's own words.
        message: String,
    },
    /// A server's reply could not be understood or was cut short.
    #[error("{server}: unreadable reply to {query}: {reason}")]
    Reply {
        /// Host and port.
        server: String,
        /// The statement or request.
        query: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A database, retention policy or other named thing does not exist.
    #[error("{what} not found {place}")]
    NotFound {
        /// What is missing, with its name.
        what: String,
        /// Where it was looked for ("on 127.0.0.1:8086").
        place: String,
    },
    /// A stated limit was reached.
    #[error("{what} exceeds the limit of {max}")]
    Limit {
        /// What grew too large, and where.
        what: String,
        /// The limit with its unit.
        max: String,
    },
    /// The data cannot be moved as they are.
    #[error("{0}")]
    Data(String),
    /// Arguments that cannot be used together or at all.
    #[error("{0}")]
    Usage(String),
    /// What is read changes faster than it can be read.
    #[error("{0}")]
    Moving(String),
    /// The operator asked for an end.
    #[error("interrupted")]
    Interrupted,
    /// A worker thread panicked: a defect of this program.
    #[error("internal error: a worker panicked: {0}")]
    Panicked(String),
}

impl Error {
    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// What the operator can do next, where it is known.
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        self.0.next.as_deref()
    }

    /// Names the operator's next step.
    #[must_use]
    pub fn with_next(mut self, next: impl Into<String>) -> Self {
        self.0.next = Some(next.into());
        self
    }

    /// Wraps an operating system error with the file it concerns.
    pub fn io(path: impl Into<PathBuf>, action: &'static str, source: io::Error) -> Self {
        ErrorKind::Io { path: path.into(), action, source }.into()
    }

    /// Arguments that cannot be used.
    pub fn usage(message: impl Into<String>) -> Self {
        ErrorKind::Usage(message.into()).into()
    }

    /// A location that cannot serve.
    pub fn location(location: impl fmt::Display, reason: impl Into<String>) -> Self {
        ErrorKind::Location { location: location.to_string(), reason: reason.into() }.into()
    }

    /// True where the reader of our output closed it, which is no failure.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self.kind(), ErrorKind::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(Inner { kind, next: None }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.kind.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.0.kind).field("next", &self.0.next).finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0.kind)
    }
}
