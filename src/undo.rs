//! The list of the cells that were created at a destination, by which they can be taken back: as comments,
//! which nothing sends.
//!
//! ```text
//! # created in DATABASE.POLICY: one row of line protocol, only the fields that were created
//! # sent to DATABASE.POLICY, perhaps not created: one row
//! # listed to here: 4711
//! ```
//!
//! A *created* cell is one that the destination held no value of: of that series, field and time. Where
//! queries cannot show a series, that is not known. What follows a line feed in a string stands in a
//! line of its own, which begins with `#| `.
//!
//! A list that grows while a copy runs is durable before the rows are sent that it names. Each addition ends
//! with a line that says how many bytes stand before it: what a kill left unfinished behind the last of
//! these was never sent, and is cut off when the copy goes on. Until the copy ends it is called
//! `FILE.partial`.

use crate::error::{Error, Result};
use crate::files;
use crate::plan::Namespace;
use crate::series::Printable;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// What the last line of an addition begins with.
const MARK: &str = "# listed to here: ";

/// Whether the destination is known not to have held a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It held none.
    Known,
    /// It cannot show whether it did.
    Perhaps,
}

/// Adds rows as comments, each line of `lines` one.
pub fn comment_out(created: Created, namespace: &Namespace, lines: &[u8], text: &mut Vec<u8>) {
    let lead = match created {
        Created::Known => format!("# created in {namespace}: "),
        Created::Perhaps => format!("# sent to {namespace}, perhaps not created: "),
    };
    text.extend_from_slice(lead.replace(['\n', '\r'], " ").as_bytes());
    for &byte in lines.strip_suffix(b"\n").unwrap_or(lines) {
        text.push(byte);
        if byte == b'\n' {
            text.extend_from_slice(b"#| ");
        }
    }
    text.push(b'\n');
}

/// A list that grows. Shared by worker threads.
#[derive(Debug)]
pub struct UndoList {
    path: PathBuf,
    partial: PathBuf,
    file: Mutex<File>,
    /// Something is listed.
    lists: AtomicBool,
}

impl UndoList {
    /// Opens the list that will be called `path`: a new one, or where `resumed` the one that an interrupted
    /// copy to `destination` left.
    ///
    /// # Errors
    /// Where something has that name, or what an interrupted copy left is not what is gone on with.
    pub fn open(path: &Path, destination: &str, resumed: bool) -> Result<Self> {
        refuse_existing(path)?;
        let partial = partial(path);
        let failed = |error| Error::io(&partial, "open", error);
        let mut file = match resumed {
            true => files::open_existing(&partial).map_err(|error| {
                failed(error).with_next(
                    "the list of what this copy created until it was interrupted: put it back, or begin anew \
                     with another --undo-file and --journal",
                )
            })?,
            false => begin(&partial, destination)?,
        };
        let Marks { end, count } = marks(&mut file).map_err(failed)?;
        file.set_len(end).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed)?;
        let lists = AtomicBool::new(count > 1);
        Ok(Self { path: path.to_owned(), partial, file: Mutex::new(file), lists })
    }

    /// Where the list is until the copy ends.
    #[must_use]
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// True where anything is listed.
    #[must_use]
    pub fn lists(&self) -> bool {
        self.lists.load(Ordering::Relaxed)
    }

    /// Lists rows that are about to be sent, each as [`comment_out`] gives it, durably.
    ///
    /// # Errors
    /// Where it cannot be written: the rows must not be sent then.
    pub fn add(&self, rows: &[u8]) -> Result<()> {
        self.lists.store(true, Ordering::Relaxed);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        append(&mut file, rows).map_err(|error| {
            Error::io(&self.partial, "write", error)
                .with_next("no row was sent that is not listed: make room, and run it again")
        })
    }

    /// Gives the list its name.
    ///
    /// # Errors
    /// Where it cannot be made durable, or something has its name by now: it stays where it was.
    pub fn finish(self) -> Result<()> {
        refuse_existing(&self.path)?;
        let file = self.file.into_inner().unwrap_or_else(PoisonError::into_inner);
        files::put_in_place(&file, &self.partial, &self.path).map_err(|error| {
            let stays = format!("the list is complete, and stays in {}", self.partial.display());
            Error::io(&self.path, "write", error).with_next(stays)
        })
    }
}

/// The name until the copy ends.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

fn refuse_existing(path: &Path) -> Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(Error::usage(format!("{} exists, and is never written over", path.display()))
            .with_next("name another file with --undo-file"));
    }
    Ok(())
}

/// Begins a list. One that lists nothing was left before anything was sent, and is begun anew.
fn begin(partial: &Path, destination: &str) -> Result<File> {
    let failed = |error| Error::io(partial, "create", error);
    let file = match files::create_new(partial) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut left = files::open_existing(partial).map_err(failed)?;
            if marks(&mut left).map_err(failed)?.count > 1 {
                let reason =
                    format!("{} lists what an interrupted copy created", partial.display());
                return Err(Error::usage(reason)
                    .with_next("go on with that copy, or keep the file under another name"));
            }
            left.set_len(0).map_err(failed)?;
            left.seek(SeekFrom::Start(0)).map_err(failed)?;
            Ok(left)
        }
        created => created,
    };
    let mut file = file.map_err(failed)?;
    let head = format!(
        "# What gapless copy creates at {}, to be deleted by hand: what was there before is not touched.\n",
        Printable(destination.as_bytes())
    );
    append(&mut file, head.as_bytes())
        .and_then(|()| files::sync_folder(files::parent(partial)))
        .map_err(failed)?;
    Ok(file)
}

/// Adds text, and the mark behind it.
fn append(file: &mut File, text: &[u8]) -> io::Result<()> {
    let start = file.stream_position()?;
    let mut whole = text.to_vec();
    let end = start + text.len() as u64;
    whole.extend_from_slice(format!("{MARK}{end}\n").as_bytes());
    file.write_all(&whole)?;
    file.sync_data()
}

/// The marks of a list that stand where they say.
#[derive(Default)]
struct Marks {
    /// Bytes up to the end of the last.
    end: u64,
    /// How many there are; the first is that of the head.
    count: u64,
}

fn marks(file: &mut File) -> io::Result<Marks> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::new(file);
    let (mut offset, mut marks, mut line) = (0_u64, Marks::default(), Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)? as u64;
        if read == 0 {
            return Ok(marks);
        }
        if line == format!("{MARK}{offset}\n").as_bytes() {
            marks = Marks { end: offset + read, count: marks.count + 1 };
        }
        offset += read;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace() -> Namespace {
        Namespace { database: "db".into(), retention_policy: "rp".into() }
    }

    fn row(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        comment_out(Created::Known, &namespace(), text.as_bytes(), &mut out);
        out
    }

    #[test]
    fn what_was_not_listed_to_its_end_is_cut_off_and_the_rest_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("undo");
        let list = UndoList::open(&path, "there", false).unwrap();
        assert!(!list.lists());
        list.add(&row("m v=1 1")).unwrap();
        assert!(list.lists());
        let partial = list.partial().to_owned();
        drop(list);
        let whole = fs::read(&partial).unwrap();
        // A copy that is not gone on with does not take it over.
        let again = UndoList::open(&path, "there", false).unwrap_err();
        assert!(again.to_string().contains("lists what an interrupted copy created"), "{again}");
        let torn = row("m v=\"\n# listed to here: 5\" 2");
        for length in 0..=torn.len() {
            fs::write(&partial, [&whole[..], &torn[..length]].concat()).unwrap();
            let list = UndoList::open(&path, "there", true).unwrap();
            assert!(list.lists());
            assert_eq!(fs::read(&partial).unwrap(), whole, "{length}");
        }
        let list = UndoList::open(&path, "there", true).unwrap();
        list.add(&torn).unwrap();
        list.finish().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(std::str::from_utf8(&whole).unwrap()));
        assert!(text.contains("# created in db.rp: m v=\"\n#| # listed to here: 5\" 2\n# listed"));
        assert!(!partial.exists());
    }

    #[test]
    fn an_existing_file_is_left_and_a_lost_one_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("undo");
        assert!(UndoList::open(&path, "there", true).is_err(), "there is nothing to go on with");
        fs::write(&path, "mine").unwrap();
        assert!(UndoList::open(&path, "there", false).is_err());
        fs::remove_file(&path).unwrap();
        let list = UndoList::open(&path, "there", false).unwrap();
        drop(list);
        // What lists nothing is begun anew.
        let list = UndoList::open(&path, "there", false).unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(list.finish().is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
