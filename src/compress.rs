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
use std::fs::File;
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
        Ok(Self::from_reader(path.to_owned(), Box::new(file)))
    }

    /// Reads standard input, which errors name `-`.
    #[must_use]
    pub fn stdin() -> Self {
        Self::from_reader(PathBuf::from("-"), Box::new(io::stdin()))
    }

    /// Reads what `inner` yields, which errors call `name`.
    #[must_use]
    pub fn from_reader(name: PathBuf, inner: Box<dyn Read + Send>) -> Self {
        Self { name, state: State::New(Stored::new(inner)) }
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
mod tests {
    use super::*;
    use std::io::Write;

    /// Lines that compress but not to nothing, so that streams have an inside worth cutting.
    fn lines(count: u32) -> Vec<u8> {
        let mut text = Vec::new();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for number in 0..count {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            writeln!(text, "cpu,host=h{number} v={}i {number}", state >> 40).unwrap();
        }
        text
    }

    fn gz(content: &[u8]) -> Vec<u8> {
        let mut encoder =
            flate2::GzBuilder::new().filename("x").write(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zst(content: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn skippable(length: u8) -> Vec<u8> {
        let mut frame = vec![0x53, 0x2a, 0x4d, 0x18, length, 0, 0, 0];
        frame.resize(8 + usize::from(length), 0xaa);
        frame
    }

    fn content(stored: &[u8]) -> Result<Vec<u8>> {
        let stored = Box::new(io::Cursor::new(stored.to_vec()));
        decompress(Path::new("f"), stored, 64 << 20)
    }

    fn reason(stored: &[u8]) -> String {
        let error = content(stored).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Damaged { .. }), "{error}");
        error.to_string()
    }

    /// Yields one byte a read, each behind an interruption.
    struct Dribble(io::Cursor<Vec<u8>>, bool);

    impl Read for Dribble {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.0.read(&mut into[..1])
        }
    }

    #[test]
    fn every_kind_of_input_gives_its_content() {
        let text = lines(20_000);
        for stored in [text.clone(), gz(&text), zst(&text)] {
            assert!(content(&stored).unwrap() == text);
        }
        assert_eq!(content(b"").unwrap(), b"");
        assert_eq!(content(&gz(b"")).unwrap(), b"");
        assert_eq!(content(&zst(b"")).unwrap(), b"");
        for short in [&b"\n"[..], b"#", b"ab", b"abc", b"abcd", b"abcde"] {
            assert_eq!(content(short).unwrap(), short);
        }
    }

    #[test]
    fn members_and_frames_follow_one_another() {
        let (one, two) = (lines(300), lines(500));
        let both = [&one[..], &two].concat();
        assert_eq!(content(&[gz(&one), gz(b""), gz(&two)].concat()).unwrap(), both);
        let frames = [skippable(0), zst(&one), skippable(9), zst(b""), zst(&two), skippable(3)];
        assert_eq!(content(&frames.concat()).unwrap(), both);
    }

    #[test]
    fn inputs_that_trickle_are_read_whole() {
        let text = lines(200);
        let gzips = [gz(&text[..100]), gz(&text[100..])].concat();
        let frames = [skippable(5), zst(&text[..100]), zst(&text[100..])].concat();
        for stored in [text.clone(), gzips, frames] {
            let dribble = Box::new(Dribble(io::Cursor::new(stored), false));
            let mut input = Input::from_reader("-".into(), dribble);
            let mut byte = [0];
            let mut read = Vec::new();
            while input.read(&mut byte).unwrap() == 1 {
                read.push(byte[0]);
            }
            assert_eq!(read, text);
            assert_eq!(input.read(&mut byte).unwrap(), 0);
        }
    }

    /// Every cut of `stored` is an error, but for cuts to `whole.0` bytes, which hold `whole.1`.
    fn assert_cuts_are_found(stored: &[u8], whole: &[(usize, &[u8])]) {
        for length in 1..stored.len() {
            let boundary = whole.iter().find(|(at, _)| *at == length);
            match (content(&stored[..length]), boundary) {
                (Ok(read), Some((_, expected))) => assert!(read == *expected, "{length}"),
                (Err(error), None) => {
                    let text = error.to_string();
                    assert!(text.contains("cut short"), "{length}: {text}");
                }
                (result, _) => panic!("cut at {length}: {:?}", result.map(|read| read.len())),
            }
        }
    }

    #[test]
    fn a_gzip_cut_anywhere_is_an_error() {
        let (one, two) = (lines(40), lines(60));
        assert_cuts_are_found(&gz(&one), &[]);
        let member = gz(&one).len();
        assert_cuts_are_found(&[gz(&one), gz(&two)].concat(), &[(member, &one)]);
    }

    #[test]
    fn a_zstd_cut_anywhere_is_an_error() {
        let (one, two) = (lines(40), lines(60));
        assert_cuts_are_found(&zst(&one), &[]);
        let first = zst(&one).len();
        let stored = [zst(&one), skippable(7), zst(&two)].concat();
        assert_cuts_are_found(&stored, &[(first, &one), (first + 15, &one)]);
        assert_cuts_are_found(&[skippable(2), zst(&one)].concat(), &[(10, b"")]);
    }

    #[test]
    fn a_flipped_bit_never_changes_the_content() {
        let text = lines(60);
        let gzips = [gz(&text[..500]), gz(&text[500..])].concat();
        let frames = [zst(&text[..500]), zst(&text[500..])].concat();
        for stored in [gzips, frames] {
            for at in 0..stored.len() * 8 {
                let mut flipped = stored.clone();
                flipped[at / 8] ^= 1 << (at % 8);
                if let Ok(read) = content(&flipped) {
                    // Without its magic it is no compressed file but plain, and no line protocol.
                    assert!(read == text || (at < 32 && read == flipped), "bit {at}");
                }
            }
        }
    }

    #[test]
    fn what_follows_the_stream_is_never_ignored() {
        let text = lines(10);
        for tail in [&b"\0"[..], b"\0\0\0\0\0\0\0\0", b"cpu v=1 1\n"] {
            for stored in [gz(&text), zst(&text)] {
                let text = reason(&[&stored[..], tail].concat());
                assert!(text.contains("appended"), "{text}");
                assert!(text.contains(&format!("byte {}", stored.len())), "{text}");
            }
        }
    }

    #[test]
    fn checksums_are_verified_and_named() {
        let text = lines(100);
        let mut stored = gz(&text);
        let crc = stored.len() - 8;
        stored[crc] ^= 1;
        assert!(reason(&stored).contains("gzip checksum does not match"));
        let mut stored = zst(&text);
        let last = stored.len() - 1;
        stored[last] ^= 1;
        assert!(reason(&stored).contains("zstd checksum does not match"));
    }

    #[test]
    fn a_window_beyond_the_limit_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.write_all(b"m v=1 1\n").unwrap();
        assert!(reason(&encoder.finish().unwrap()).contains("128 MiB"));
    }

    #[test]
    fn damage_is_reported_again_at_every_later_read() {
        let mut input = Input::from_reader(
            "f".into(),
            Box::new(io::Cursor::new(gz(b"m v=1 1\n")[..15].to_vec())),
        );
        let mut buffer = [0; 64];
        while input.read(&mut buffer).is_ok_and(|read| read > 0) {}
        for _ in 0..3 {
            let error = input.read(&mut buffer).unwrap_err();
            assert!(error.to_string().contains("cut short"), "{error}");
        }
    }

    /// Fails after some bytes.
    struct Failing(io::Cursor<Vec<u8>>);

    impl Read for Failing {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(io::Error::other("the disk is on fire")),
                read => Ok(read),
            }
        }
    }

    #[test]
    fn read_errors_are_told_apart_from_damage() {
        let text = lines(50);
        for stored in [text.clone(), gz(&text), zst(&text)] {
            for length in [0, 2, 5, 100] {
                let failing = Failing(io::Cursor::new(stored[..length].to_vec()));
                let error = decompress(Path::new("f"), Box::new(failing), 1 << 20).unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error}");
                assert!(error.to_string().contains("f: read failed: the disk is on fire"));
            }
        }
    }

    #[test]
    fn directories_and_missing_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_path_buf();
        let error = Input::open(&path).and_then(|mut input| input.read(&mut [0])).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io { path: named, .. } if *named == path));
        let error = Input::open(&path.join("none")).unwrap_err();
        assert!(error.to_string().contains("none: open failed"), "{error}");
    }

    #[test]
    fn content_beyond_the_limit_is_refused() {
        let stored = Box::new(io::Cursor::new(gz(&[b'a'; 1 << 20])));
        let error = decompress(Path::new("f"), stored, 1000).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Limit { .. }), "{error}");
    }
}
