//! Progress as bars on a terminal.
//!
//! ```text
//! read     ██████████████████████████ 100%   41.2 M cells   310 MB
//! send     █████████████████▌········  68%   28.0 M cells   1.9 M cells/s   14 MB/s   retry 3   rejected 0
//!          state: send   units 2 of 3   after 0:00:14   ETA 0:00:11
//! ```
//!
//! Owns what the lines say, and that each drawing takes the place of the one before.
//! Where a total is not known there is neither bar nor percentage, but the word `counting`.

use super::facts::Reading;
use super::plain::printable;
use super::rate::{View, eta_of_all};
use crate::pipeline::Stage;
use console::{Term, truncate_str};
use std::fmt::Write;
use std::io;
use std::time::Duration;

/// Characters of a full bar.
const BAR: usize = 26;
/// The last character of a bar by eighths, from one to seven.
const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// What is drawn at present: lines above the cursor.
#[derive(Debug)]
pub(super) struct Bars {
    terminal: Term,
    drawn: usize,
    lines: Vec<String>,
}

impl Bars {
    /// Bars on standard error, none drawn yet.
    pub(super) fn new() -> Self {
        // Buffered, so that what is cleared and what takes its place are written at one go.
        Self { terminal: Term::buffered_stderr(), drawn: 0, lines: Vec::new() }
    }

    /// Draws these lines in place of those drawn before. A terminal that has gone stops nothing.
    pub(super) fn draw(&mut self, lines: Vec<String>) {
        if lines != self.lines || self.drawn == 0 {
            self.lines = lines;
            let _gone = self.redraw(None);
        }
    }

    /// Prints a line for good, above the bars.
    pub(super) fn print(&mut self, line: &str) {
        let _gone = self.redraw(Some(line));
    }

    fn redraw(&mut self, above: Option<&str>) -> io::Result<()> {
        self.terminal.clear_last_lines(std::mem::take(&mut self.drawn))?;
        if let Some(line) = above {
            self.terminal.write_line(line)?;
        }
        // A line that wraps, or scrolls out of reach, could not be cleared again.
        let (rows, columns) = self.terminal.size();
        let shown = self.lines.len().min(usize::from(rows).saturating_sub(1));
        for line in &self.lines[self.lines.len() - shown..] {
            self.terminal.write_line(&truncate_str(line, usize::from(columns), ""))?;
        }
        self.drawn = shown;
        self.terminal.flush()
    }
}

/// The lines of one moment: one for each stage that has begun, and what goes for all.
pub(super) fn lines(
    elapsed: Duration,
    reading: &Reading,
    views: &[View],
    state: &str,
) -> Vec<String> {
    let mut lines: Vec<String> = views.iter().map(|view| stage(view, reading)).collect();
    let mut all = format!("         state: {}", printable(state).replace(['\n', '\t'], " "));
    if reading.units > 1 {
        // Writing to a string does not fail.
        _ = write!(all, "   units {} of {}", reading.units_done, reading.units);
    }
    _ = write!(all, "   after {}", clock(elapsed.as_secs()));
    if let Some(eta) = eta_of_all(views) {
        _ = write!(all, "   ETA {}", clock(eta));
    }
    lines.push(all);
    lines
}

fn stage(view: &View, reading: &Reading) -> String {
    let amounts = &view.amounts;
    let mut line = format!("{:<9}", view.stage.name());
    match view.permille {
        Some(permille) => _ = write!(line, "{} {:>3}%", bar(permille), permille / 10),
        None => line.push_str("counting"),
    }
    if amounts.cells > 0 || amounts.bytes == 0 {
        _ = write!(line, "   {}", cells(amounts.cells));
    }
    if amounts.bytes > 0 {
        _ = write!(line, "   {}", bytes(amounts.bytes));
    }
    if let Some(total) = amounts.bytes_total.filter(|_| amounts.cells_total.is_none()) {
        _ = write!(line, " of {}", bytes(total));
    }
    if let Some((cells_rate, bytes_rate)) = view.rate.filter(|_| !amounts.is_complete()) {
        if amounts.cells > 0 {
            _ = write!(line, "   {}/s", cells(cells_rate));
        }
        if amounts.bytes > 0 {
            _ = write!(line, "   {}/s", bytes(bytes_rate));
        }
    }
    if view.stage == Stage::Send {
        _ = write!(line, "   retry {}   rejected {}", reading.retried, reading.rejected);
    }
    line
}

/// A bar, filled to the eighth of a character.
fn bar(permille: u64) -> String {
    let eighths = usize::try_from(permille).unwrap_or(1_000).min(1_000) * BAR * 8 / 1_000;
    let mut bar = "█".repeat(eighths / 8);
    bar.extend((eighths % 8).checked_sub(1).map(|part| EIGHTHS[part]));
    let empty = BAR - eighths.div_ceil(8);
    bar.extend(std::iter::repeat_n('·', empty));
    bar
}

fn cells(count: u64) -> String {
    match scaled(count) {
        (number, "") => format!("{number} cells"),
        (number, unit) => format!("{number} {unit} cells"),
    }
}

fn bytes(count: u64) -> String {
    let (number, unit) = scaled(count);
    format!("{number} {unit}B")
}

/// A number for people, cut to three or four digits and never rounded up, and the letter that
/// scales it.
fn scaled(number: u64) -> (String, &'static str) {
    let (mut unit, mut scale) = ("", 1);
    for larger in ["k", "M", "G", "T", "P", "E"] {
        if number / scale < 1_000 {
            break;
        }
        (unit, scale) = (larger, scale * 1_000);
    }
    let (whole, tenth) = (number / scale, number % scale / (scale / 10).max(1));
    let text = if unit.is_empty() || whole >= 100 {
        whole.to_string()
    } else {
        format!("{whole}.{tenth}")
    };
    (text, unit)
}

/// Hours, minutes and seconds.
fn clock(seconds: u64) -> String {
    format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::super::facts::Facts;
    use super::super::rate::Rates;
    use super::*;

    fn shown(facts: &Facts) -> Vec<String> {
        let mut rates = Rates::default();
        rates.sample(Duration::ZERO, &Reading::default());
        let (now, reading) = (Duration::from_secs(10), facts.read());
        lines(now, &reading, &rates.view(now, &reading), "send")
    }

    #[test]
    fn each_stage_has_a_line_once_it_has_begun() {
        let facts = Facts::default();
        assert_eq!(shown(&facts), ["         state: send   after 0:00:10"]);
        facts.done(Stage::Read, 41_200_000, 310_000_000);
        facts.expect(Stage::Read, 41_200_000);
        facts.done(Stage::Send, 28_016_000, 190_000_000);
        facts.expect(Stage::Send, 41_200_000);
        facts.retried(3);
        facts.units(3);
        assert_eq!(
            shown(&facts),
            [
                "read     ██████████████████████████ 100%   41.2 M cells   310 MB",
                "send     █████████████████▋········  68%   28.0 M cells   190 MB   2.8 M cells/s   \
                 19.0 MB/s   retry 3   rejected 0",
                "         state: send   units 0 of 3   after 0:00:10   ETA 0:00:05",
            ]
        );
    }

    #[test]
    fn before_the_count_is_known_there_is_no_percentage() {
        let facts = Facts::default();
        facts.done(Stage::Read, 41_234, 0);
        let lines = shown(&facts).join("\n");
        assert!(lines.starts_with("read     counting   41.2 k cells   4.1 k cells/s"), "{lines}");
        assert!(!lines.contains('%') && !lines.contains("ETA"), "{lines}");
    }

    #[test]
    fn bytes_of_a_known_size_have_a_percentage() {
        let facts = Facts::default();
        facts.expect_bytes(Stage::Read, 2_000);
        facts.done(Stage::Read, 0, 999);
        assert!(
            shown(&facts)[0]
                .starts_with("read     ████████████▉·············  49%   999 B of 2.0 kB   99 B/s"),
            "{:?}",
            shown(&facts)
        );
    }

    #[test]
    fn a_bar_has_the_same_width_however_full_it_is() {
        for permille in 0..=1_000 {
            assert_eq!(bar(permille).chars().count(), BAR, "{permille}");
        }
        assert_eq!(bar(0), "·".repeat(BAR));
        assert_eq!(bar(1_000), "█".repeat(BAR));
    }

    #[test]
    fn numbers_are_cut_and_never_rounded_up() {
        let text = |number| {
            let (number, unit) = scaled(number);
            format!("{number}{unit}")
        };
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1.0k"),
            (41_299, "41.2k"),
            (999_999, "999k"),
            (1_999_999, "1.9M"),
            (u64::MAX, "18.4E"),
        ];
        for (number, expected) in cases {
            assert_eq!(text(number), expected);
        }
    }

    #[test]
    fn a_state_cannot_leave_its_line() {
        let line = lines(Duration::ZERO, &Reading::default(), &[], "a\nb\u{1b}[2J").pop().unwrap();
        assert_eq!(line, "         state: a b\\u{1b}[2J   after 0:00:00");
    }
}
