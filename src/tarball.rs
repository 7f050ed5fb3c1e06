//! A tar as InfluxDB 1.x makes it of a shard: whole, or refused.
//!
//! A server has no way to say that something went wrong in the middle of a tar: it stops. What tells
//! a whole one is its end, two blocks of zeros, which tools leave unread; here it is looked for. An
//! entry that is cut short is an error with its name.

use crate::error::Error;
use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};

/// Bytes of a block, and of each half of the end.
const BLOCK: usize = 512;
/// Longest name of an entry.
const NAME_MAX: usize = 4_096;
/// Bytes that may stand before an entry's own: the crate takes long names into memory as they come.
const HEADERS_MAX: u64 = 64 << 10;
/// Most entries of one tar: a shard has some hundred files at most.
const ENTRIES_MAX: usize = 100_000;

/// Why a tar cannot be used.
#[derive(Debug)]
pub enum Problem {
    /// It cannot be read from this offset on, or `each` failed there.
    Read(u64, io::Error),
    /// It ends too early, at this offset, and what is missing.
    Cut(u64, String),
    /// It is damaged, at this offset, and how.
    Damaged(u64, String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(offset, error) => write!(f, "byte {offset} of the tar: {error}"),
            Self::Cut(offset, what) => write!(f, "the tar is cut short at byte {offset}: {what}"),
            Self::Damaged(offset, what) => write!(f, "the tar is damaged at byte {offset}: {what}"),
        }
    }
}

/// Why what is in a tar could not be taken.
#[derive(Debug)]
pub enum Failure {
    /// The tar is not whole: asked for again, it may be.
    Tar(Problem),
    /// It cannot be held, or understood.
    Other(Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Read(0, error)
    }
}

impl Problem {
    /// What failed without knowing where, failed at `offset`.
    fn at(self, place: &Place) -> Self {
        match self {
            // The crate calls a header that is cut short something else.
            Self::Read(_, error) if place.ended.get() => {
                Self::Cut(place.offset.get(), error.to_string())
            }
            Self::Read(_, error) => failed(error, place.offset.get()),
            known => known,
        }
    }
}

/// Reads a tar to its end and hands each file to `each`, with its name and its length. What `each`
/// leaves unread is skipped. Gives the length of the whole; a tar without a byte is none.
///
/// # Errors
/// Where it cannot be read, or is not whole.
pub fn read<R: Read>(
    input: R,
    each: impl FnMut(&str, u64, &mut dyn Read) -> Result<(), Problem>,
) -> Result<u64, Problem> {
    let place = Place::default();
    read_counted(input, &place, each).map_err(|problem| problem.at(&place))
}

fn read_counted<R: Read>(
    input: R,
    place: &Place,
    mut each: impl FnMut(&str, u64, &mut dyn Read) -> Result<(), Problem>,
) -> Result<u64, Problem> {
    let left = Cell::new(HEADERS_MAX);
    let mut counted = Counted { inner: Bounded { inner: input, left: &left }, place };
    let mut archive = tar::Archive::new(&mut counted);
    let mut entries = archive.entries()?.enumerate();
    loop {
        left.set(HEADERS_MAX);
        let Some((number, entry)) = entries.next() else { break };
        let mut entry = entry?;
        left.set(u64::MAX);
        let offset = entry.raw_header_position();
        let name = String::from_utf8(entry.path_bytes().into_owned())
            .ok()
            .filter(|name| name.len() <= NAME_MAX && number < ENTRIES_MAX)
            .ok_or_else(|| {
                Problem::Damaged(
                    offset,
                    "an entry without a usable name, or too many of them".into(),
                )
            })?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let size = entry.size();
        let read = Place::default();
        let mut body = Counted { inner: &mut entry, place: &read };
        each(&name, size, &mut body)?;
        io::copy(&mut body, &mut io::sink())?;
        let found = read.offset.get();
        if found != size {
            let what = format!("{name} has {found} of {size} bytes");
            return Err(Problem::Cut(offset + BLOCK as u64 + found, what));
        }
    }
    left.set(u64::MAX);
    end(&mut counted)
}

/// The crate stops behind the first block of zeros; nothing tells it from the end of the bytes. What
/// stands behind the end of a whole tar is padding.
fn end(counted: &mut Counted<'_, impl Read>) -> Result<u64, Problem> {
    let mut rest = Vec::new();
    let offset = counted.place.offset.get();
    counted.take(BLOCK as u64).read_to_end(&mut rest)?;
    if rest.len() < BLOCK {
        return Err(Problem::Cut(offset, "its end is missing".into()));
    }
    if rest.iter().any(|&byte| byte != 0) {
        return Err(Problem::Damaged(offset, "something stands where its end should be".into()));
    }
    padding(counted)
}

/// Reads zeros to the end of the bytes.
fn padding(counted: &mut Counted<'_, impl Read>) -> Result<u64, Problem> {
    let mut chunk = [0; 8 << 10];
    loop {
        let offset = counted.place.offset.get();
        let length = counted.read(&mut chunk)?;
        if length == 0 {
            return Ok(offset);
        }
        if let Some(at) = chunk[..length].iter().position(|&byte| byte != 0) {
            let what =
                "something stands behind its end: more than one tar, or another file's bytes";
            return Err(Problem::Damaged(offset + at as u64, what.into()));
        }
    }
}

fn failed(error: io::Error, offset: u64) -> Problem {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Problem::Cut(offset, error.to_string()),
        io::ErrorKind::Other | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            Problem::Damaged(offset, error.to_string())
        }
        _ => Problem::Read(offset, error),
    }
}

/// Hands over so many bytes, then an error.
struct Bounded<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            return Err(io::Error::other(format!("an entry's names exceed {HEADERS_MAX} bytes")));
        }
        let most = usize::try_from(self.left.get()).unwrap_or(usize::MAX).min(into.len());
        let length = self.inner.read(&mut into[..most])?;
        self.left.set(self.left.get() - length as u64);
        Ok(length)
    }
}

/// Counts what is read.
struct Counted<'a, R> {
    inner: R,
    place: &'a Place,
}

/// Up to where bytes were read.
#[derive(Default)]
struct Place {
    offset: Cell<u64>,
    /// There are no more.
    ended: Cell<bool>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        self.place.offset.set(self.place.offset.get() + length as u64);
        self.place.ended.set(length == 0 && !into.is_empty());
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tarball(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, body) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(body.len() as u64);
            header.set_mode(0o600);
            builder.append_data(&mut header, name, *body).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn names(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Problem> {
        let mut found = Vec::new();
        read(bytes, |name, size, body| {
            let mut bytes = Vec::new();
            body.read_to_end(&mut bytes)?;
            assert!(bytes.len() as u64 <= size);
            found.push((name.to_owned(), bytes));
            Ok(())
        })
        .map(|_| found)
    }

    #[test]
    fn files_come_with_their_names_and_a_tar_without_files_is_whole() {
        let long = format!("{}/rp/1/000000001-000000001.tsm", "d".repeat(200));
        let bytes = tarball(&[("db/rp/1/a.tsm", b"one"), (&long, &[7; 1000])]);
        let found = names(&bytes).unwrap();
        assert_eq!(found[0], ("db/rp/1/a.tsm".into(), b"one".to_vec()));
        assert_eq!((found[1].0.as_str(), found[1].1.len()), (long.as_str(), 1000));
        assert_eq!(names(&[0; 1024]).unwrap(), []);
    }

    #[test]
    fn a_name_without_end_is_refused_before_it_is_held() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_path("././@LongLink").unwrap();
        header.set_cksum();
        let endless = header.as_bytes().chain(io::repeat(b'n'));
        let Err(Problem::Damaged(_, what)) = read(endless, |_, _, _| Ok(())) else {
            panic!("it was taken")
        };
        assert!(what.contains("names exceed"), "{what}");
    }

    #[test]
    fn what_stands_behind_the_end_is_damage_unless_it_is_zeros() {
        let one = tarball(&[("a.tsm", &[1; 700])]);
        let padded = [&one[..], &[0; 10_240]].concat();
        assert_eq!(names(&padded).unwrap().len(), 1);
        let two = [&padded[..], &tarball(&[("b.tsm", b"two")])].concat();
        let Err(Problem::Damaged(offset, what)) = names(&two) else { panic!("it was taken") };
        assert_eq!(offset, padded.len() as u64);
        assert!(what.contains("behind its end"), "{what}");
    }

    #[test]
    fn damage_is_named_with_the_offset_up_to_which_was_read() {
        let bytes = tarball(&[("a.tsm", &[1; 700]), ("b.tsm", b"two")]);
        let second = 512 + 1024;
        let mut header = bytes.clone();
        header[second + 150] ^= 1;
        let Err(Problem::Damaged(offset, _)) = names(&header) else { panic!("it was taken") };
        assert_eq!(offset, second as u64 + 512);
        let Err(Problem::Cut(offset, _)) = names(&bytes[..second + 100]) else { panic!("taken") };
        assert_eq!(offset, second as u64 + 100);
        // Within the body, where what reads it fails.
        let broken = |error: fn() -> io::Error| {
            struct Broken(fn() -> io::Error);
            impl Read for Broken {
                fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                    Err((self.0)())
                }
            }
            read(bytes[..800].chain(Broken(error)), |_, _, _| Ok(())).unwrap_err()
        };
        let invalid = broken(|| io::Error::new(io::ErrorKind::InvalidInput, "no deflate stream"));
        assert!(matches!(invalid, Problem::Damaged(800, _)), "{invalid}");
        let denied = broken(|| io::ErrorKind::PermissionDenied.into());
        assert!(matches!(denied, Problem::Read(800, _)), "{denied}");
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = tarball(&[("a.tsm", &[1; 700]), ("b.tsm", b"two")]);
        for length in 0..bytes.len() {
            let found = names(&bytes[..length]);
            assert!(found.is_err(), "{length} of {} bytes passed for a whole tar", bytes.len());
        }
        assert!(names(&bytes).is_ok());
    }

    #[test]
    fn a_header_that_is_followed_by_nothing_is_cut() {
        // What a server sends of a shard with a tombstone when it is asked for a window.
        let bytes = tarball(&[("a.tombstone", &[1; 47])]);
        let Err(Problem::Cut(_, what)) = names(&bytes[..512]) else { panic!("it was taken") };
        assert!(what.contains("a.tombstone has 0 of 47 bytes"), "{what}");
    }
}
