//! An append-only file of lines, each with a checksum, each on disk before it counts.
//!
//! ```text
//! <16 hexadecimal digits> <JSON> LF
//! ```
//!
//! The digits are XXH3-64 of the JSON, seeded with those of the line before (0 for the first): a
//! line that is lost, doubled or moved does not match either. The file belongs to one process at a
//! time, which the operating system's lock ends with.
//!
//! A last line that is cut short or does not match was being written when the process or the machine
//! stopped: nobody was told that it is there, and it is cut off. A line in the middle that does not
//! match is damage: it is refused, since what follows cannot be trusted either.

use crate::error::{Error, ErrorKind, Result};
use crate::files;
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Most bytes of one line.
pub(super) const LINE_MAX: usize = 16 << 20;
/// Digits and a space.
const HEAD: usize = 17;

/// A file of lines that is open for appending.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    path: PathBuf,
    chain: u64,
    /// An append failed half done: what is on disk is not known until the file is opened again.
    failed: Option<String>,
}

/// What stood in a file when it was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) log: Log,
    /// The JSON of each line.
    pub(super) lines: Vec<String>,
    /// Bytes that were cut off its end.
    pub(super) cut: u64,
}

impl Log {
    /// Makes a file in `directory`, which is made where it is missing.
    ///
    /// # Errors
    /// Where the file exists or cannot be made, or another process is as fast.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("."));
        make_directory(directory)?;
        let file = files::create_new(path).map_err(|error| Error::io(path, "create", error))?;
        lock(&file, path)?;
        sync_directory(directory)?;
        Ok(Self { file, path: path.to_owned(), chain: 0, failed: None })
    }

    /// Opens a file, if there is one, and reads what it holds.
    ///
    /// # Errors
    /// Where another process has it, or it is damaged anywhere but at its end.
    pub(super) fn open(path: &Path) -> Result<Option<Opened>> {
        let file = match files::open_existing(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path, "open", error)),
        };
        lock(&file, path)?;
        let mut log = Self { file, path: path.to_owned(), chain: 0, failed: None };
        let (lines, end) = log.read()?;
        if end == 0 && !log.begins_like_one()? {
            return Err(Error::location(
                path.display(),
                "is no journal of gapless, and is left alone",
            ));
        }
        let cut = log.cut_to(end)?;
        Ok(Some(Opened { log, lines, cut }))
    }

    /// Writes a line; it is on disk when this returns.
    ///
    /// # Errors
    /// Where it cannot be written and synced; nothing more can then be appended.
    pub(super) fn append(&mut self, json: &str) -> Result<()> {
        if json.len() > LINE_MAX {
            let what = format!("{}: a record", self.path.display());
            let max = format!("{LINE_MAX} bytes");
            return Err(ErrorKind::Limit { what, max }.into());
        }
        if let Some(failure) = &self.failed {
            // Whoever comes second may be the one that is heard.
            let reason = format!("nothing more is recorded after a failure: {failure}");
            return Err(Error::location(self.path.display(), reason));
        }
        let chain = checksum(json.as_bytes(), self.chain);
        let line = format!("{chain:016x} {json}\n");
        let written = self.file.write_all(line.as_bytes());
        let stored =
            written.map_err(|error| Error::io(&self.path, "write", error)).and_then(|()| {
                self.file.sync_data().map_err(|error| Error::io(&self.path, "sync", error))
            });
        if let Err(error) = stored {
            self.failed = Some(error.to_string());
            return Err(error);
        }
        self.chain = chain;
        Ok(())
    }

    /// Reads the lines; gives them, and the offset behind the last good one.
    fn read(&mut self) -> Result<(Vec<String>, u64)> {
        let mut reader = BufReader::new(&self.file);
        let (mut lines, mut end) = (Vec::new(), 0);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = Read::take(&mut reader, (LINE_MAX + HEAD + 1) as u64);
            let length = limited
                .read_until(b'\n', &mut line)
                .map_err(|error| Error::io(&self.path, "read", error))?;
            if length == 0 {
                return Ok((lines, end));
            }
            let Some((json, chain)) = checked(&line, self.chain) else {
                let more =
                    reader.fill_buf().map_err(|error| Error::io(&self.path, "read", error))?;
                return if more.is_empty() { Ok((lines, end)) } else { Err(self.damaged(end)) };
            };
            self.chain = chain;
            lines.push(json);
            end += length as u64;
        }
    }

    /// True where a file without a whole line may be one whose first line was cut short: nothing but
    /// zeros, or the beginning of a checksum and a space.
    fn begins_like_one(&mut self) -> Result<bool> {
        let failed = |error| Error::io(&self.path, "read", error);
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut head = Vec::new();
        Read::take(&self.file, HEAD as u64).read_to_end(&mut head).map_err(failed)?;
        let hex = head.iter().take(HEAD - 1).all(u8::is_ascii_hexdigit);
        Ok(head.iter().all(|byte| *byte == 0)
            || (hex && head.get(HEAD - 1).is_none_or(|&c| c == b' ')))
    }

    fn cut_to(&mut self, end: u64) -> Result<u64> {
        let failed = |error| Error::io(&self.path, "cut", error);
        let length = self.file.metadata().map_err(failed)?.len();
        if length > end {
            self.file.set_len(end).map_err(failed)?;
            self.file.sync_all().map_err(failed)?;
        }
        self.file.seek(SeekFrom::Start(end)).map_err(failed)?;
        Ok(length.saturating_sub(end))
    }

    fn damaged(&self, offset: u64) -> Error {
        let reason = "this line does not match its checksum, and others follow".to_owned();
        let error = Error::from(ErrorKind::Damaged { path: self.path.clone(), offset, reason });
        error.with_next(
            "what was copied stays copied: remove the journal, or name another one, and run the \
             same command again; it sends only what is lacking",
        )
    }
}

/// The JSON of a line that matches, and its checksum.
fn checked(line: &[u8], chain: u64) -> Option<(String, u64)> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (digits, json) = line.split_at_checked(HEAD)?;
    let chain = checksum(json.as_bytes(), chain);
    // As text: another spelling of the same number is damage, too.
    (digits == format!("{chain:016x} ")).then(|| (json.to_owned(), chain))
}

fn checksum(json: &[u8], chain: u64) -> u64 {
    xxh3_64_with_seed(json, chain)
}

fn lock(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(Error::location(path.display(), "another process works with this journal")
                .with_next("wait for it to end, or name another journal with --journal DIR"))
        }
        Err(TryLockError::Error(error)) => Err(Error::io(path, "lock", error)),
    }
}

fn make_directory(directory: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(|error| Error::io(directory, "create", error))?;
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => Ok(()),
    }
}

/// Makes the entries of a directory durable.
pub(super) fn sync_directory(directory: &Path) -> Result<()> {
    files::sync_folder(directory).map_err(|error| Error::io(directory, "sync", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j").join("log");
        (dir, path)
    }

    fn written(path: &Path, lines: &[&str]) {
        let mut log = Log::create(path).unwrap();
        lines.iter().for_each(|line| log.append(line).unwrap());
    }

    #[test]
    fn what_was_appended_is_read_and_goes_on() {
        let (_dir, path) = place();
        assert!(Log::open(&path).unwrap().is_none());
        written(&path, &["{\"a\":1}", "{}"]);
        let mut opened = Log::open(&path).unwrap().unwrap();
        assert_eq!((opened.lines.len(), opened.cut), (2, 0));
        opened.log.append("[3]").unwrap();
        drop(opened);
        let opened = Log::open(&path).unwrap().unwrap();
        assert_eq!(opened.lines, ["{\"a\":1}", "{}", "[3]"]);
    }

    #[test]
    fn every_cut_leaves_the_lines_before_it() {
        let (_dir, path) = place();
        written(&path, &["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let mut opened = Log::open(&path).unwrap().unwrap();
            let complete = whole[..length].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(opened.lines.len(), complete, "{length}");
            opened.log.append("{}").unwrap();
            drop(opened);
            let again = Log::open(&path).unwrap().unwrap();
            assert_eq!((again.lines.len(), again.cut), (complete + 1, 0), "{length}");
        }
    }

    #[test]
    fn zeros_at_the_end_are_cut() {
        let (_dir, path) = place();
        written(&path, &["{}"]);
        let mut whole = fs::read(&path).unwrap();
        whole.extend([0; 4096]);
        fs::write(&path, &whole).unwrap();
        let opened = Log::open(&path).unwrap().unwrap();
        assert_eq!((opened.lines.len(), opened.cut), (1, 4096));
    }

    #[test]
    fn every_flipped_bit_is_cut_at_the_end_and_refused_before_it() {
        let (_dir, path) = place();
        written(&path, &["{\"a\":1}", "{\"b\":2}"]);
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|&byte| byte == b'\n').unwrap();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                fs::write(&path, &bytes).unwrap();
                match Log::open(&path) {
                    // A line feed that is gone joins two lines into the last one.
                    Ok(opened) => {
                        let kept = opened.unwrap().lines.len();
                        assert!(at >= first && kept <= 1, "byte {at}, bit {bit}");
                    }
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::Damaged { .. }), "{error}");
                        assert!(error.next_step().is_some());
                    }
                }
            }
        }
    }

    #[test]
    fn a_line_that_is_gone_doubled_or_moved_is_refused() {
        let (_dir, path) = place();
        written(&path, &["{\"a\":1}", "{\"b\":2}", "{\"c\":3}", "{\"d\":4}"]);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for order in [&[0, 2, 3][..], &[0, 1, 1, 2, 3], &[1, 0, 2, 3], &[1, 2, 3]] {
            let text: String = order.iter().map(|&at| lines[at]).collect();
            fs::write(&path, text).unwrap();
            assert!(Log::open(&path).is_err(), "{order:?}");
        }
    }

    #[test]
    fn two_processes_never_have_it_at_once() {
        let (_dir, path) = place();
        let log = Log::create(&path).unwrap();
        let error = Log::open(&path).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        drop(log);
        assert!(Log::open(&path).unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed_and_others_may_not_read() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let (dir, path) = place();
        written(&path, &["{}"]);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(Log::open(&link).is_err());
    }
}
