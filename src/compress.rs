//! Reading stored bytes decompressed: plain, gzip or zstd, recognised by content.
//!
//! Owns the detection by magic bytes, which only peeks and therefore works on pipes, and the rule
//! that nothing is ever silently less: a stream that ends inside a gzip member (RFC 1952) or a
//! zstd frame (RFC 8878), a checksum that does not match, and bytes behind the last member or
//! frame that begin no other one are errors, padding included. A file cut exactly between two
//! members, or to nothing at all, is the one loss that its bytes cannot show.
//!
//! Refused: zstd frames whose window exceeds 128 MiB, and zstd's formats from before version 0.8.

use crate::error::{Error, ErrorKind, Result};
use flate2::bufread::GzDecoder;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// Bytes of the stored file that are held at a time.
const BUFFER: usize = 128 << 10;
/// Largest window of a zstd frame, as a power of two: 128 MiB.
const WINDOW_LOG_MAX: u32 = 27;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The last three bytes of a skippable frame's magic; the first is `0x50` to `0x5f`.
const SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

const GZIP_CUT: &str = "the gzip stream is cut short: the file is incomplete";
const ZSTD_CUT: &str = "the zstd stream is cut short: the file is incomplete";

/// An input whose bytes are read decompressed.
pub struct Input {
    name: PathBuf,
    state: State,
    /// Stored bytes, where that is known beforehand.
    length: Option<u64>,
}

enum State {
    /// Nothing read yet.
    New(Stored),
    Plain(Stored),
    Gzip(Box<GzDecoder<Stored>>),
    Zstd(Box<Zstd>),
    /// Everything was read.
    End,
    /// An error was returned: nothing more can be read.
    Failed {
        offset: u64,
        reason: String,
    },
}

/// Why reading cannot go on.
enum Failure {
    Io(io::Error),
    Damaged { offset: u64, reason: String },
}

impl Input {
    /// Opens a file.
    ///
    /// # Errors
    /// Where it cannot be opened. A directory is noticed at the first read.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::io(path, "open", source))?;
        let length = length(&file);
        Ok(Self::from_reader(path.to_owned(), Box::new(file)).of_length(length))
    }

    /// Reads standard input, which errors name `-`.
    #[must_use]
    pub fn stdin() -> Self {
        Self::from_reader(PathBuf::from("-"), Box::new(io::stdin()))
    }

    /// Reads what `inner` yields, which errors call `name`.
    #[must_use]
    pub fn from_reader(name: PathBuf, inner: Box<dyn Read + Send>) -> Self {
        Self { name, state: State::New(Stored::new(inner)), length: None }
    }

    /// Says how many stored bytes there are, where that is known.
    #[must_use]
    pub fn of_length(self, length: Option<u64>) -> Self {
        Self { length, ..self }
    }

    /// Number of stored (compressed) bytes; `None` where it is not known before the end.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Number of stored (compressed) bytes that were read so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        match &self.state {
            State::New(stored) | State::Plain(stored) => stored.offset,
            State::Gzip(decoder) => decoder.get_ref().offset,
            State::Zstd(zstd) => zstd.stored.offset,
            State::End => self.length.unwrap_or_default(),
            State::Failed { offset, .. } => *offset,
        }
    }

    /// Fills the buffer from the start and returns how many bytes it got: at least one, unless the
    /// input is at its end or the buffer is empty. What was read before an error is not to be
    /// trusted to be complete, and after one every further read fails too.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where the stored bytes cannot be read, [`ErrorKind::Damaged`] with the
    /// offset reached in the stored (compressed) file where they are damaged or cut short.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match std::mem::replace(&mut self.state, State::End).step(buffer) {
                Ok((state, read)) => {
                    self.state = state;
                    if let Some(read) = read {
                        return Ok(read);
                    }
                }
                Err(failure) => return Err(self.fail(failure)),
            }
        }
    }

    fn fail(&mut self, failure: Failure) -> Error {
        match failure {
            Failure::Io(source) => {
                self.state = State::Failed {
                    offset: 0,
                    reason: format!("an earlier read failed: {source}"),
                };
                Error::io(&self.name, "read", source)
            }
            Failure::Damaged { offset, reason } => {
                self.state = State::Failed { offset, reason: reason.clone() };
                ErrorKind::Damaged { path: self.name.clone(), offset, reason }.into()
            }
        }
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::New(_) => "not read yet",
            State::Plain(_) => "plain",
            State::Gzip(_) => "gzip",
            State::Zstd(_) => "zstd",
            State::End => "at its end",
            State::Failed { .. } => "failed",
        };
        write!(f, "Input({}, {state})", self.name.display())
    }
}

/// Bytes of a regular file; `None` of anything else.
#[must_use]
pub fn length(file: &File) -> Option<u64> {
    file.metadata().ok().filter(Metadata::is_file).map(|data| data.len())
}

/// The state after one step, and the bytes read where the step yielded any or found the end.
type Step = Result<(State, Option<usize>), Failure>;

impl State {
    fn step(self, buffer: &mut [u8]) -> Step {
        match self {
            Self::New(stored) => Ok((detect(stored)?, None)),
            Self::Plain(stored) => plain(stored, buffer),
            Self::Gzip(decoder) => gzip(decoder, buffer),
            Self::Zstd(decoder) => decoder.step(buffer),
            Self::End => Ok((Self::End, Some(0))),
            Self::Failed { offset, reason } => Err(Failure::Damaged { offset, reason }),
        }
    }
}

fn detect(mut stored: Stored) -> Result<State, Failure> {
    let head = stored.peek(ZSTD.len()).map_err(Failure::Io)?;
    if head.starts_with(&GZIP) {
        return Ok(State::Gzip(Box::new(GzDecoder::new(stored))));
    }
    if begins_zstd_frame(head) {
        return Zstd::new(stored).map(|decoder| State::Zstd(Box::new(decoder)));
    }
    // No line is as short as a magic, so that such an input is the rest of a compressed one.
    let cut = match head {
        [] => None,
        head if GZIP.starts_with(head) => Some(GZIP_CUT),
        head if ZSTD.starts_with(head) => Some(ZSTD_CUT),
        head if begins_skippable_magic(head) => Some(
            "too short for a line: this is no line protocol, or a zstd stream that was cut short",
        ),
        _ => None,
    };
    match cut {
        Some(reason) => Err(Failure::Damaged { offset: head.len() as u64, reason: reason.into() }),
        None => Ok(State::Plain(stored)),
    }
}

fn begins_zstd_frame(head: &[u8]) -> bool {
    head.starts_with(&ZSTD)
        || matches!(head, [0x50..=0x5f, rest @ ..] if rest.starts_with(&SKIPPABLE))
}

/// True for less than a skippable frame's magic, cut short.
fn begins_skippable_magic(head: &[u8]) -> bool {
    matches!(head, [0x50..=0x5f, rest @ ..] if rest.len() < 3 && SKIPPABLE.starts_with(rest))
}

fn plain(mut stored: Stored, buffer: &mut [u8]) -> Step {
    match stored.read(buffer) {
        Ok(0) => Ok((State::End, Some(0))),
        Ok(read) => Ok((State::Plain(stored), Some(read))),
        Err(error) => Err(Failure::Io(stored.failure.take().unwrap_or(error))),
    }
}

/// Reads from one gzip member, or goes on to the next.
fn gzip(mut decoder: Box<GzDecoder<Stored>>, buffer: &mut [u8]) -> Step {
    match decoder.read(buffer) {
        Ok(0) => next_member(decoder.into_inner()),
        Ok(read) => Ok((State::Gzip(decoder), Some(read))),
        Err(error) => {
            let in_header = decoder.header().is_none();
            Err(gzip_failure(decoder.into_inner(), &error, in_header))
        }
    }
}

fn next_member(mut stored: Stored) -> Step {
    let offset = stored.offset;
    match stored.peek(GZIP.len()).map_err(Failure::Io)? {
        [] => Ok((State::End, Some(0))),
        head if head == GZIP => Ok((State::Gzip(Box::new(GzDecoder::new(stored))), None)),
        head if GZIP.starts_with(head) => Err(Failure::Damaged { offset, reason: GZIP_CUT.into() }),
        _ => Err(Failure::Damaged {
            offset,
            reason: "the bytes after the gzip stream are no gzip stream: the file is damaged, or \
                     something was appended to it"
                .into(),
        }),
    }
}

fn gzip_failure(mut stored: Stored, error: &io::Error, in_header: bool) -> Failure {
    if let Some(error) = stored.failure.take() {
        return Failure::Io(error);
    }
    let reason = match error.kind() {
        io::ErrorKind::UnexpectedEof => GZIP_CUT.to_owned(),
        _ if in_header => format!("the gzip header is damaged ({error})"),
        io::ErrorKind::InvalidInput if error.to_string().contains("checksum") => {
            "the gzip checksum does not match: the content is damaged".to_owned()
        }
        _ => format!("the gzip stream is damaged ({error})"),
    };
    Failure::Damaged { offset: stored.offset, reason }
}

/// Frames of zstd, skippable ones among them.
struct Zstd {
    stored: Stored,
    context: DCtx<'static>,
    in_frame: bool,
}

impl Zstd {
    fn new(stored: Stored) -> Result<Self, Failure> {
        let mut context =
            DCtx::try_create().ok_or_else(|| Failure::Io(io::ErrorKind::OutOfMemory.into()))?;
        context
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))
            .map_err(|code| Failure::Io(io::Error::other(zstd_error(code))))?;
        Ok(Self { stored, context, in_frame: false })
    }

    fn step(mut self: Box<Self>, buffer: &mut [u8]) -> Step {
        if !self.in_frame {
            if !self.begin_frame()? {
                return Ok((State::End, Some(0)));
            }
            self.in_frame = true;
        }
        let (consumed, written) = {
            if let Err(error) = self.stored.fill_buf() {
                return Err(Failure::Io(self.stored.failure.take().unwrap_or(error)));
            }
            let mut input = InBuffer::around(self.stored.held());
            let mut output = OutBuffer::around(buffer);
            match self.context.decompress_stream(&mut output, &mut input) {
                // Zero says that the frame is complete and handed over in full.
                Ok(hint) => self.in_frame = hint != 0,
                Err(code) => return Err(self.damaged(zstd_reason(code))),
            }
            (input.pos(), output.pos())
        };
        self.stored.consume(consumed);
        if consumed == 0 && written == 0 && self.in_frame {
            return Err(self.damaged(ZSTD_CUT.into()));
        }
        Ok((State::Zstd(self), (written > 0).then_some(written)))
    }

    /// False at the end of the stored bytes.
    fn begin_frame(&mut self) -> Result<bool, Failure> {
        let head = self.stored.peek(ZSTD.len()).map_err(Failure::Io)?;
        let reason = match head {
            [] => return Ok(false),
            head if begins_zstd_frame(head) => return Ok(true),
            head if ZSTD.starts_with(head) || begins_skippable_magic(head) => ZSTD_CUT,
            _ => {
                "the bytes after the zstd stream are no zstd stream: the file is damaged, or \
                 something was appended to it"
            }
        };
        Err(self.damaged(reason.into()))
    }

    fn damaged(&self, reason: String) -> Failure {
        Failure::Damaged { offset: self.stored.offset, reason }
    }
}

fn zstd_error(code: usize) -> &'static str {
    zstd::zstd_safe::get_error_name(code)
}

fn zstd_reason(code: usize) -> String {
    let name = zstd_error(code);
    if name.contains("checksum") {
        return "the zstd checksum does not match: the content is damaged".into();
    }
    if name.contains("too much memory") {
        return format!(
            "the zstd stream needs a window of more than {} MiB: compress it again without --long",
            (1_u64 << WINDOW_LOG_MAX) >> 20
        );
    }
    format!("the zstd stream is damaged ({name})")
}

/// The stored bytes: buffered, counted, and with the operating system's errors kept apart from
/// those of the decoders.
struct Stored {
    inner: Box<dyn Read + Send>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes consumed.
    offset: u64,
    at_end: bool,
    failure: Option<io::Error>,
}

impl Stored {
    fn new(inner: Box<dyn Read + Send>) -> Self {
        Self {
            inner,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            offset: 0,
            at_end: false,
            failure: None,
        }
    }

    fn held(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The next `count` bytes, or all that are left, without consuming them.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.start + count > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < count && self.fetch()? > 0 {}
        let held = self.held();
        Ok(&held[..held.len().min(count)])
    }

    /// Reads more behind what is held; zero at the end, after which the inner reader is not asked
    /// again, for a terminal would go on.
    fn fetch(&mut self) -> io::Result<usize> {
        while !self.at_end {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.at_end = true,
                Ok(read) => {
                    // A reader that claims more than it was given room for is broken.
                    self.end = (self.end + read).min(self.buffer.len());
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(0)
    }
}

impl BufRead for Stored {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if let Err(error) = self.fetch() {
                let kind = error.kind();
                self.failure = Some(error);
                return Err(kind.into());
            }
        }
        Ok(self.held())
    }

    fn consume(&mut self, amount: usize) {
        let amount = amount.min(self.end - self.start);
        self.start += amount;
        self.offset += amount as u64;
    }
}

impl Read for Stored {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let held = self.fill_buf()?;
        let count = held.len().min(into.len());
        into[..count].copy_from_slice(&held[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// Reads stored bytes to the end and returns the content, at most `limit` bytes of it. For fuzzing
/// and for small files.
///
/// # Errors
/// As [`Input::read`], and [`ErrorKind::Limit`] where the content is longer.
pub fn decompress(name: &Path, stored: Box<dyn Read + Send>, limit: usize) -> Result<Vec<u8>> {
    let mut input = Input::from_reader(name.to_owned(), stored);
    let mut content = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = input.read(&mut buffer)?;
        if read == 0 {
            return Ok(content);
        }
        if content.len() + read > limit {
            return Err(ErrorKind::Limit {
                what: format!("the content of {}", name.display()),
                max: format!("{limit} bytes"),
            }
            .into());
        }
        content.extend_from_slice(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests;
