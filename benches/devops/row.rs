//! One line on its way out: its fields, as text.
//!
//! Invariant: a field's value is a function of (stream, field, step, version) and nothing else, so
//! that a row and the same row written one field a line hold the same cells.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "values are cut to their ranges"
)]

use super::noise::{curve, hash, unit};
use std::io::Write;

/// A line whose key is written and whose fields follow.
#[derive(Debug)]
pub(super) struct Row<'a> {
    out: &'a mut Vec<u8>,
    /// Hash of everything that tells this series from others.
    stream: u64,
    step: u64,
    /// 0 for a row, 1 for the one that overwrites it: every value is another one.
    version: u64,
    /// The only field that is written, by its number; all of them where there is none.
    only: Option<usize>,
    at: usize,
    cells: u64,
}

impl<'a> Row<'a> {
    pub(super) fn new(
        out: &'a mut Vec<u8>,
        (stream, step, version): (u64, u64, u64),
        only: Option<usize>,
    ) -> Self {
        Self { out, stream, step, version, only, at: 0, cells: 0 }
    }

    /// Cells written so far.
    pub(super) fn cells(&self) -> u64 {
        self.cells
    }

    /// Begins the next field, if it is wanted.
    fn begin(&mut self, name: &str) -> bool {
        let at = self.at;
        self.at += 1;
        if self.only.is_some_and(|only| only != at) {
            return false;
        }
        self.out.push(if self.cells == 0 { b' ' } else { b',' });
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'=');
        self.cells += 1;
        true
    }

    /// Hash of the field that was begun last, over all steps.
    fn field(&self) -> u64 {
        hash([self.stream, self.at as u64])
    }

    /// Leaves a field out: the next one keeps its number.
    pub(super) fn skip(&mut self) {
        self.at += 1;
    }

    /// True at this share of the steps, by a hash of the field that comes next.
    pub(super) fn chance(&self, share: f64) -> bool {
        unit(hash([self.stream, self.at as u64, !self.step])) < share
    }

    /// A float of `[0, top)` with so many decimals at most.
    pub(super) fn float(&mut self, name: &str, top: f64, decimals: i32) {
        if self.begin(name) {
            let scale = 10_f64.powi(decimals);
            let value = curve(self.field(), self.step) * top + self.version as f64;
            self.write_float((value * scale).round() / scale);
        }
    }

    /// A float of `[0, top)` with all the digits that a double has.
    pub(super) fn long_float(&mut self, name: &str, top: f64) {
        if self.begin(name) {
            self.write_float(curve(self.field(), self.step) * top + self.version as f64);
        }
    }

    fn write_float(&mut self, value: f64) {
        self.out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    }

    /// An integer that wanders through `[0, top)` in steps of `grain`.
    pub(super) fn gauge(&mut self, name: &str, top: u64, grain: u64) {
        if self.begin(name) {
            let value = curve(self.field(), self.step) * (top / grain) as f64;
            self.write_integer(value as u64 * grain + self.version);
        }
    }

    /// An integer that never falls.
    pub(super) fn counter(&mut self, name: &str, rate: u64) {
        if self.begin(name) {
            let field = self.field();
            let noise = hash([field, self.step]) % rate.max(1);
            self.write_integer(field % (rate << 20) + self.step * rate + noise + self.version);
        }
    }

    /// The same integer at every step.
    pub(super) fn constant(&mut self, name: &str, choices: &[u64]) {
        if self.begin(name) {
            let value = choices[(self.field() % choices.len() as u64) as usize];
            self.write_integer(value + self.version);
        }
    }

    /// The number of seconds since the host started.
    pub(super) fn uptime(&mut self, name: &str, seconds: u64) {
        if self.begin(name) {
            self.write_integer(self.field() % 10_000_000 + seconds + self.version);
        }
    }

    fn write_integer(&mut self, value: u64) {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.out.push(b'i');
    }

    /// A boolean that is true at this share of the steps.
    pub(super) fn flag(&mut self, name: &str, share: f64) {
        if self.begin(name) {
            let value = (unit(hash([self.field(), self.step])) < share) != (self.version > 0);
            self.out.extend_from_slice(if value { b"true" } else { b"false" });
        }
    }

    /// One of several strings, or another one where the row is overwritten.
    pub(super) fn word(&mut self, name: &str, words: &[&str]) {
        if self.begin(name) {
            let at = hash([self.field(), self.step / 8]) + self.version;
            self.write_string(words[(at % words.len() as u64) as usize]);
        }
    }

    /// A sentence with two numbers in it.
    pub(super) fn sentence(&mut self, name: &str, (before, between): (&str, &str)) {
        if self.begin(name) {
            let hash = hash([self.field(), self.step]);
            let (one, two) = (hash % 1_000, (hash >> 32) % 10_000 + self.version);
            let text = format!("{before}{one}{between}{two}");
            self.write_string(&text);
        }
    }

    /// A string of so many bytes.
    pub(super) fn long_string(&mut self, name: &str, bytes: usize) {
        if self.begin(name) {
            let field = self.field();
            self.out.push(b'"');
            let end = self.out.len() + bytes;
            let mut word = 0;
            while self.out.len() < end {
                let value = hash([field, self.step, word, self.version]);
                write!(self.out, "{value:016x} ").expect("a vector takes all");
                word += 1;
            }
            self.out.truncate(end);
            self.out.push(b'"');
        }
    }

    fn write_string(&mut self, text: &str) {
        self.out.push(b'"');
        for &byte in text.as_bytes() {
            if matches!(byte, b'"' | b'\\') {
                self.out.push(b'\\');
            }
            self.out.push(byte);
        }
        self.out.push(b'"');
    }
}
