//! The input, read and decompressed by a thread of its own while lines are decoded.
//!
//! Invariants: pieces come in order, as large as [`PIECE`] but for the last; an error comes behind
//! what was read before it; the end is only what the thread says is the end. No more than
//! [`WAITING`] pieces wait, and two more are on their way.

use crate::compress::Input;
use crate::error::{Error, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::thread;

/// Bytes of one piece.
const PIECE: usize = 1 << 20;
/// Pieces that wait to be taken.
const WAITING: usize = 2;

/// A part of the input.
struct Piece {
    bytes: Vec<u8>,
    /// Stored bytes that were read up to its end.
    position: u64,
}

/// An input that is read ahead.
pub(super) struct Ahead {
    name: String,
    pieces: Receiver<Result<Piece>>,
    /// Buffers to be used again.
    used: Sender<Vec<u8>>,
    position: u64,
    length: Option<u64>,
}

impl Ahead {
    /// Begins to read.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(super) fn new(name: &str, input: Input) -> Result<Self> {
        let (to_here, pieces) = bounded(WAITING);
        let (used, from_here) = bounded(WAITING + 2);
        let length = input.length();
        // It is not waited for: what it reads from may keep it for as long as it likes.
        thread::Builder::new()
            .name("input".into())
            .spawn(move || send_all(input, &to_here, &from_here))
            .map_err(|source| Error::io(name, "start a thread to read", source))?;
        Ok(Self { name: name.into(), pieces, used, position: 0, length })
    }

    /// Appends the next piece to `bytes`; false at the end of the input.
    ///
    /// # Errors
    /// As [`Input::read`].
    pub(super) fn append_to(&mut self, bytes: &mut Vec<u8>) -> Result<bool> {
        let Ok(piece) = self.pieces.recv() else {
            return Err(Error::location(&self.name, "the thread that reads it came to grief"));
        };
        let piece = piece?;
        self.position = piece.position;
        bytes.extend_from_slice(&piece.bytes);
        let more = !piece.bytes.is_empty();
        // Where there are enough buffers, this one is dropped.
        drop(self.used.try_send(piece.bytes));
        Ok(more)
    }

    /// Stored (compressed) bytes, where that is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Stored (compressed) bytes of what was taken so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }
}

/// Reads until nobody takes more, the end, which is an empty piece, or an error.
fn send_all(mut input: Input, pieces: &Sender<Result<Piece>>, used: &Receiver<Vec<u8>>) {
    loop {
        let mut bytes = used.try_recv().unwrap_or_default();
        let failed = fill(&mut input, &mut bytes).err();
        let is_last = bytes.is_empty();
        let position = input.position();
        // After an error the end is not the end.
        let sent = match (&failed, is_last) {
            (Some(_), true) => true,
            _ => pieces.send(Ok(Piece { bytes, position })).is_ok(),
        };
        if let Some(error) = failed {
            // Nobody is there to be told where this fails.
            drop(pieces.send(Err(error)));
            return;
        }
        if is_last || !sent {
            return;
        }
    }
}

/// Reads a whole piece, or up to the end.
fn fill(input: &mut Input, bytes: &mut Vec<u8>) -> Result<()> {
    bytes.resize(PIECE, 0);
    let mut length = 0;
    let result = loop {
        match input.read(&mut bytes[length..]) {
            Ok(0) => break Ok(()),
            Ok(read) => length += read,
            Err(error) => break Err(error),
        }
    };
    bytes.truncate(length);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Read};

    /// Yields so many bytes, some at a time, and then an error if wanted.
    struct Slow {
        left: usize,
        fails: bool,
    }

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.left == 0 && self.fails {
                return Err(io::Error::other("unplugged"));
            }
            let count = self.left.min(buffer.len()).min(100_000);
            buffer[..count].fill(b'x');
            self.left -= count;
            Ok(count)
        }
    }

    fn read(left: usize, fails: bool) -> (usize, Result<()>) {
        let input = Input::from_reader("slow".into(), Box::new(Slow { left, fails }));
        let mut ahead = Ahead::new("slow", input).unwrap();
        let mut bytes = Vec::new();
        loop {
            match ahead.append_to(&mut bytes) {
                Ok(true) => {}
                Ok(false) => return (bytes.len(), Ok(())),
                Err(error) => return (bytes.len(), Err(error)),
            }
        }
    }

    #[test]
    fn everything_comes_and_then_the_end() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 7 * PIECE + 5] {
            let (found, end) = read(length, false);
            assert_eq!(found, length);
            end.unwrap();
        }
    }

    #[test]
    fn an_error_comes_behind_what_was_read_and_is_never_the_end() {
        for length in [5, PIECE, 3 * PIECE + 5] {
            let (found, end) = read(length, true);
            assert_eq!(found, length);
            assert!(end.unwrap_err().to_string().contains("slow"));
        }
    }
}
