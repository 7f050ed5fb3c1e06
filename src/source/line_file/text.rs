//! The text of an input on its way into a decoder, so that reading can go on behind any line.
//!
//! Invariants: what the decoder was fed and has not handed out is kept, and no more than a chunk
//! besides; lines are counted once, however often the decoder is changed.

use super::ahead::Ahead;
use crate::error::Result;

/// Bytes that are decoded at once.
const CHUNK: usize = 1 << 20;
/// Bytes that are decoded first behind a cut; more follow.
const STEP_AFTER_CUT: usize = 4 << 10;

/// The text on its way into a decoder. What the decoder was fed and has not handed out is kept, so
/// that another decoder can go on at any byte of the newest item.
pub(super) struct Text {
    input: Ahead,
    bytes: Vec<u8>,
    /// Bytes before `bytes`.
    before: u64,
    /// Where the next item begins, perhaps behind blank lines.
    at: usize,
    /// Bytes that were fed.
    fed: usize,
    /// Bytes that are fed at once.
    step: usize,
    ended: bool,
    /// Line feeds before `counted`, an offset into `bytes`.
    lines: u64,
    counted: usize,
    /// Lines before the text of the present decoder, which counts its own.
    pub(super) lines_before: u64,
}

impl Text {
    pub(super) fn new(input: Ahead) -> Self {
        Self {
            input,
            bytes: Vec::new(),
            before: 0,
            at: 0,
            fed: 0,
            step: CHUNK,
            ended: false,
            lines: 0,
            counted: 0,
            lines_before: 0,
        }
    }

    /// The input that the text is read from.
    pub(super) fn input(&self) -> &Ahead {
        &self.input
    }

    /// The bytes that the decoder is fed next.
    pub(super) fn next_piece(&mut self) -> Result<&[u8]> {
        if self.fed == self.bytes.len() && !self.ended {
            self.forget();
            self.ended = !self.input.append_to(&mut self.bytes)?;
        }
        let start = self.fed;
        self.fed = start.saturating_add(self.step).min(self.bytes.len());
        self.step = (2 * self.step).min(CHUNK);
        Ok(&self.bytes[start..self.fed])
    }

    fn forget(&mut self) {
        let done = self.at.min(self.bytes.len());
        self.count_to(done);
        self.bytes.drain(..done);
        self.before += done as u64;
        self.fed -= done;
        self.at = 0;
        self.counted = 0;
    }

    fn count_to(&mut self, end: usize) {
        if let Some(bytes) = self.bytes.get(self.counted..end) {
            self.lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
            self.counted = end;
        }
    }

    /// Number of the line in which `at` stands, which is not before any that was asked for earlier.
    pub(super) fn line_of(&mut self, at: usize) -> u64 {
        self.count_to(at);
        self.lines + 1
    }

    pub(super) fn is_all_fed(&self) -> bool {
        self.ended && self.fed == self.bytes.len()
    }

    /// Moves behind the item that the decoder handed out, whose bytes are `item`; returns where it
    /// begins. A decoder hands out everything but blank lines.
    pub(super) fn pass(&mut self, item: &[u8]) -> usize {
        self.skip_blank_lines();
        let start = self.at;
        debug_assert!(self.bytes[start..].starts_with(item), "items stand one behind another");
        self.at = start + item.len() + 1;
        start
    }

    pub(super) fn skip_blank_lines(&mut self) {
        while let Some(rest) = self.bytes.get(self.at..) {
            let blank = blank(rest);
            if rest.get(blank) != Some(&b'\n') {
                return;
            }
            self.at += blank + 1;
        }
    }

    /// Goes on at `at` with a decoder that knows nothing of what was before.
    pub(super) fn cut(&mut self, at: usize) {
        self.count_to(at);
        self.lines_before = self.lines;
        self.at = at;
        self.fed = at;
        self.step = STEP_AFTER_CUT;
    }

    /// What follows the newest item, as far as it was read.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Where the next item begins, perhaps behind blank lines.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Offset in the whole text of an offset into what is kept.
    pub(super) fn offset(&self, at: usize) -> u64 {
        self.before + at as u64
    }
}

/// Number of bytes at the beginning that a server takes for white space.
pub(super) fn blank(text: &[u8]) -> usize {
    text.iter().position(|byte| !matches!(byte, b' ' | b'\t' | 0)).unwrap_or(text.len())
}
