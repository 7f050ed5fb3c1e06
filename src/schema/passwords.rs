//! New passwords, since those of the source cannot be read: made by the system's random numbers and
//! written to a new file, which its owner alone can read, before any of them is set.
//!
//! The file holds a JSON object a line, `{"user": …, "password": …}`: a name may hold anything.

use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::http::Secret;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// Characters of a password, each of six random bits.
const LENGTH: usize = 32;
/// What they are drawn from: nothing that InfluxQL, JSON or a shell reads otherwise.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.";

/// Passwords by user.
pub type Passwords = BTreeMap<String, Secret>;

/// A password for each of these users.
///
/// # Errors
/// Where the system gives no random numbers.
pub fn generate<'a>(users: impl Iterator<Item = &'a str>) -> Result<Passwords> {
    users.map(|user| Ok((user.to_owned(), password()?))).collect()
}

fn password() -> Result<Secret> {
    let mut bytes = [0; LENGTH];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_ignored| {
        ErrorKind::Data("the system gives no random numbers for passwords".into())
    })?;
    // 256 is a multiple of 64: each character is as likely as any other.
    let characters = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)]));
    Ok(Secret::new(characters.collect()))
}

/// Writes passwords to a file that did not exist, durably.
///
/// # Errors
/// Where something has that name, or it cannot be written.
pub fn write(path: &Path, passwords: &Passwords) -> Result<()> {
    let mut text = String::new();
    for (user, password) in passwords {
        let line = serde_json::json!({ "user": user, "password": password.expose() });
        text.push_str(&line.to_string());
        text.push('\n');
    }
    let mut file = files::create_new(path).map_err(|error| refused(path, error))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written
        .and_then(|()| files::sync_folder(files::parent(path)))
        .map_err(|error| Error::io(path, "write", error))
}

/// Refuses a file that exists, before anything is done.
///
/// # Errors
/// Where something has that name.
pub fn refuse_existing(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Err(refused(path, io::Error::from(io::ErrorKind::AlreadyExists))),
        Err(_) => Ok(()),
    }
}

fn refused(path: &Path, error: io::Error) -> Error {
    Error::io(path, "create", error)
        .with_next("name a file that does not exist with --passwords; nothing was set")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_differ_and_are_written_once() {
        let users = ["a\n\"b", "c"];
        let made = generate(users.into_iter()).unwrap();
        let texts: Vec<&str> = made.values().map(Secret::expose).collect();
        assert!(texts[0] != texts[1] && texts.iter().all(|text| text.len() == LENGTH));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwords");
        write(&path, &made).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!((&line["user"], &line["password"]), (&users[0].into(), &texts[0].into()));
        assert!(write(&path, &made).is_err() && refuse_existing(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
