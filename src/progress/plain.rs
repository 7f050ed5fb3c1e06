//! Progress as `key=value` lines, for logs and for programs.
//!
//! ```text
//! ts=2026-08-01T12:00:30Z phase=send done=28016000 total=41200000 cells_s=1902000 bytes=… bytes_s=…
//!   units_done=2 units=3 retry=3 rejected=0 state=backoff:503 eta_s=11
//! ```
//!
//! On one line. A key whose value is not known is left out. Invariant: a line holds no control
//! character, whatever the names in it are, and ends where it says.

use super::facts::Reading;
use super::rate::{View, current, eta_of_all};
use std::fmt::{Display, Write};

/// A line in the making.
#[derive(Debug)]
pub(super) struct Line(String);

impl Line {
    /// A line that says when it was written; `ts` is RFC 3339.
    pub(super) fn at(ts: &str) -> Self {
        Self(format!("ts={ts}"))
    }

    /// Adds a number.
    fn number(mut self, key: &str, value: impl Display) -> Self {
        // Writing to a string does not fail.
        _ = write!(self.0, " {key}={value}");
        self
    }

    fn known(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.number(key, value),
            None => self,
        }
    }

    /// Adds a text, in quotes where it needs them.
    pub(super) fn text(self, key: &str, value: &str) -> Self {
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\"=\\".contains(c);
        if !value.is_empty() && value.chars().all(plain) {
            return self.number(key, value);
        }
        self.number(key, format_args!("\"{}\"", value.escape_debug()))
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// The line of one moment.
pub(super) fn line(ts: &str, reading: &Reading, views: &[View], state: &str) -> String {
    let mut line = Line::at(ts);
    if let Some(View { stage, amounts, rate, .. }) = current(views) {
        let counted = amounts.cells > 0 || amounts.cells_total.is_some();
        let measured = amounts.bytes > 0 || amounts.bytes_total.is_some();
        line = line
            .number("phase", stage.name())
            .number("done", amounts.cells)
            .known("total", amounts.cells_total)
            .known("cells_s", rate.filter(|_| counted).map(|(cells, _)| cells))
            .known("bytes", measured.then_some(amounts.bytes))
            .known("bytes_total", amounts.bytes_total)
            .known("bytes_s", rate.filter(|_| measured).map(|(_, bytes)| bytes));
    }
    if reading.units > 0 {
        line = line.number("units_done", reading.units_done).number("units", reading.units);
    }
    line = line.number("retry", reading.retried).number("rejected", reading.rejected);
    if !state.is_empty() {
        line = line.text("state", state);
    }
    line.known("eta_s", eta_of_all(views)).finish()
}

/// The text without control characters, those that end a line and tabs excepted: what a name holds
/// must not move the cursor of whoever reads it.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            out.extend(c.escape_debug());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::facts::Facts;
    use super::super::rate::Rates;
    use super::*;
    use crate::pipeline::Stage;
    use std::time::Duration;

    #[test]
    fn what_is_not_known_is_left_out() {
        assert_eq!(
            line("T", &Reading::default(), &[], "open"),
            "ts=T retry=0 rejected=0 state=open"
        );
    }

    #[test]
    fn a_line_says_all_that_is_known() {
        let (facts, mut rates) = (Facts::default(), Rates::default());
        rates.sample(Duration::ZERO, &facts.read());
        facts.expect(Stage::Send, 1_000);
        facts.done(Stage::Send, 500, 8_000);
        facts.units(3);
        facts.unit_done();
        facts.retried(3);
        facts.rejected(7);
        let reading = facts.read();
        let views = rates.view(Duration::from_secs(10), &reading);
        assert_eq!(
            line("T", &reading, &views, "backoff:503"),
            "ts=T phase=send done=500 total=1000 cells_s=50 bytes=8000 bytes_s=800 units_done=1 \
             units=3 retry=3 rejected=7 state=backoff:503 eta_s=10"
        );
    }

    #[test]
    fn a_text_that_could_be_taken_for_keys_is_quoted() {
        let text = |value: &str| Line::at("T").text("state", value).finish();
        assert_eq!(text("a b=1"), "ts=T state=\"a b=1\"");
        assert_eq!(text(""), "ts=T state=\"\"");
        assert_eq!(text("\u{1b}[2J\n\"\\"), "ts=T state=\"\\u{1b}[2J\\n\\\"\\\\\"");
        assert_eq!(text("backoff:503"), "ts=T state=backoff:503");
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(
            printable("a\u{1b}[2Jb\r\n\tc\u{9b}\u{7f}"),
            "a\\u{1b}[2Jb\\r\n\tc\\u{9b}\\u{7f}"
        );
        assert_eq!(printable("Größe Δ"), "Größe Δ");
    }
}
