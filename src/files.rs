//! How files that hold data are made: by one set of rules, so that nobody else can read them or
//! have them written elsewhere.
//!
//! Owns the rules, and nothing of what is in the files. A new file has a name that nothing had
//! before (`O_CREAT` with `O_EXCL` follows no link, POSIX.1 `open`) and is readable and writable by
//! its owner alone, whatever the umask; a new folder likewise. A file that is replaced is written
//! beside its place and renamed, so that its name never stands for half of it, and a link at that
//! name is replaced and not followed. A file that is appended to is opened without following a link
//! (`O_NOFOLLOW`) and has to be a regular one with one name.
//!
//! Links in the folders above are followed: who can change those is trusted with what is in them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Names that are tried for a file which is to be renamed.
const NAMES_MAX: u32 = 1_000;

/// Makes a file that did not exist, open for reading and writing.
///
/// # Errors
/// `AlreadyExists` where anything, a link included, has that name; or the system's answer.
pub fn create_new(path: &Path) -> io::Result<File> {
    private(OpenOptions::new().read(true).write(true).create_new(true)).open(path)
}

/// Makes a folder that did not exist.
///
/// # Errors
/// As [`create_new`].
pub fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes a file without a name in a folder, open for reading and writing: it ends with the process.
///
/// # Errors
/// The system's answer.
pub fn create_unnamed(folder: &Path) -> io::Result<File> {
    let file = tempfile::tempfile_in(folder)?;
    // Where the system makes it without a name at once, the umask alone decides who may read it.
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(file)
}

/// Opens a file to add to its end, and makes it where it does not exist.
///
/// # Errors
/// Where a link, a pipe, a device, a folder or a file with a second name is there; or the system's
/// answer.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    open_in_place(path, private(OpenOptions::new().append(true).create(true)))
}

/// Opens a file of ours to go on with it, for reading and writing.
///
/// # Errors
/// As [`open_to_append`]; `NotFound` where there is none.
pub fn open_existing(path: &Path) -> io::Result<File> {
    open_in_place(path, OpenOptions::new().read(true).write(true))
}

fn open_in_place(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        // Opening a pipe that nobody reads would wait for ever.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    let held = file.metadata()?;
    #[cfg(unix)]
    let names = std::os::unix::fs::MetadataExt::nlink(&held);
    #[cfg(not(unix))]
    let names = 1;
    if !held.is_file() || names != 1 {
        let reason = "it exists and is no regular file with one name";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok(file)
}

/// Gives `path` the content `bytes`, durably: whole, or what was there before stays.
///
/// # Errors
/// The system's answer; nothing is left behind then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (beside, mut file) = create_beside(path)?;
    let written = file.write_all(bytes);
    let placed = written.and_then(|()| put_in_place(&file, &beside, path));
    if placed.is_err() {
        // The first error is the one that tells; what remains is named `.NAME.N.partial`.
        let _remains = fs::remove_file(&beside);
    }
    placed
}

/// Gives a file of [`create_beside`] its name, durably.
///
/// # Errors
/// The system's answer.
pub fn put_in_place(file: &File, beside: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(beside, path)?;
    sync_folder(parent(path))
}

/// Makes a file in the folder of `path`, to be written and then given its name.
///
/// # Errors
/// The system's answer.
pub fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no name of a file"));
    };
    let mut number = 1;
    loop {
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{number}.partial"));
        let beside = path.with_file_name(hidden);
        match create_new(&beside) {
            Ok(file) => return Ok((beside, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < NAMES_MAX => {
                number += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Makes the names in a folder durable. One that may be written and not read cannot be asked to.
///
/// # Errors
/// The system's answer.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => opened?.sync_all(),
    }
}

/// The folder in which a file is.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Has a file that is made be its owner's alone.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().expect("metadata").permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        create_new(&path("new")).unwrap();
        create_folder(&path("folder")).unwrap();
        open_to_append(&path("log")).unwrap();
        replace(&path("report"), b"x").unwrap();
        assert_eq!(mode(&path("folder")), 0o700);
        for name in ["new", "log", "report"] {
            assert_eq!(mode(&path(name)), 0o600, "{name}");
        }
        let unnamed = create_unnamed(dir.path()).unwrap().metadata().unwrap();
        assert_eq!(unnamed.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_link_is_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("victim"), "mine").unwrap();
        for target in ["victim", "nothing"] {
            let link = path("link");
            symlink(path(target), &link).unwrap();
            assert!(create_new(&link).is_err() && create_folder(&link).is_err(), "{target}");
            assert!(open_to_append(&link).is_err() && open_existing(&link).is_err(), "{target}");
            replace(&link, b"theirs").unwrap();
            assert_eq!(fs::read(&link).unwrap(), b"theirs");
            assert!(link.symlink_metadata().unwrap().is_file(), "the link was replaced");
            fs::remove_file(&link).unwrap();
        }
        assert_eq!(fs::read(path("victim")).unwrap(), b"mine");
        assert!(!path("nothing").exists());
    }

    #[test]
    fn only_a_regular_file_with_one_name_is_added_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("log"), "a").unwrap();
        open_to_append(&path("log")).unwrap().write_all(b"b").unwrap();
        assert_eq!(fs::read(path("log")).unwrap(), b"ab");
        fs::hard_link(path("log"), path("second")).unwrap();
        assert!(open_to_append(&path("log")).is_err(), "a second name");
        assert!(open_to_append(dir.path()).is_err(), "a folder");
        assert!(open_to_append(Path::new("/dev/null")).is_err(), "a device");
        let mode = rustix::fs::Mode::RWXU;
        let pipe = path("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(open_to_append(&pipe).is_err(), "a pipe that nobody reads");
    }

    #[test]
    fn what_cannot_be_replaced_stays_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        create_folder(&folder).unwrap();
        fs::write(folder.join("x"), "mine").unwrap();
        assert!(replace(&folder, b"theirs").is_err());
        assert!(replace(Path::new("/"), b"theirs").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::write(dir.path().join(".r.1.partial"), "left by a run that was killed").unwrap();
        replace(&dir.path().join("r"), b"new").unwrap();
        assert_eq!(fs::read(dir.path().join("r")).unwrap(), b"new");
    }
}
