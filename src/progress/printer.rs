//! What is printed when: the work of the display's own thread, without the thread.
//!
//! Owns the output, the schedule and the rates. Time is handed in, so that tests need not wait for
//! it. Invariant: an output that is closed or broken stops nothing.

use super::bars::{self, Bars};
use super::facts::{Facts, Reading};
use super::plain::{self, Line};
use super::rate::{Rates, View};
use super::signal::Asked;
use std::io::Write;
use std::time::Duration;

/// Where lines go.
pub(super) type Output = Box<dyn Write + Send>;

/// What is shown unasked.
#[derive(Debug)]
pub(super) enum Show {
    /// Warnings, and nothing else even where it is asked for.
    Warnings,
    /// Warnings; a line where it is asked for.
    OnRequest,
    /// Lines.
    Lines,
    /// Bars.
    Bars(Bars),
}

/// What the display is told, in order.
#[derive(Debug)]
pub(super) enum Event {
    /// The command begins: who, and on what.
    Begin { command: String, sides: Vec<(&'static str, String)> },
    /// Another state.
    State(String),
    /// A warning.
    Warning(String),
}

/// A moment.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    /// Since the command began.
    pub(super) elapsed: Duration,
    /// RFC 3339.
    pub(super) ts: String,
}

/// Prints what has to be printed.
pub(super) struct Printer {
    pub(super) show: Show,
    pub(super) out: Output,
    pub(super) asked: Asked,
    /// Time between two lines.
    interval: Duration,
    next_line: Duration,
    rates: Rates,
    state: String,
    /// Bars are drawn from here on: those of a short run would only flicker.
    bars_from: Duration,
}

/// Time before bars are first drawn.
const BARS_AFTER: Duration = Duration::from_millis(300);

impl Printer {
    pub(super) fn new(show: Show, out: Output, asked: Asked, interval: Duration) -> Self {
        Self {
            show,
            out,
            asked,
            interval,
            next_line: interval,
            rates: Rates::default(),
            state: String::new(),
            bars_from: BARS_AFTER,
        }
    }

    /// True where it has nothing to do between events.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.show, Show::Warnings)
    }

    /// Prints what the events and the time call for.
    pub(super) fn turn(&mut self, moment: &Moment, facts: &Facts, events: Vec<Event>) {
        self.rates.sample(moment.elapsed, &facts.read());
        for event in events {
            self.event(event, moment, facts);
        }
        let due = moment.elapsed >= self.next_line;
        if due {
            // From now on, not from when it was due: a machine that slept owes no lines.
            self.next_line = moment.elapsed + self.interval;
        }
        match &self.show {
            _ if self.asked.take() && !self.is_silent() => self.line(moment, facts),
            Show::Lines if due => self.line(moment, facts),
            _ => {}
        }
        if moment.elapsed >= self.bars_from {
            self.draw(moment, facts);
        }
    }

    fn event(&mut self, event: Event, moment: &Moment, facts: &Facts) {
        match event {
            Event::Begin { command, sides } => self.begin(&command, &sides, moment),
            Event::State(state) => {
                self.state = state;
                if matches!(self.show, Show::Lines) {
                    self.line(moment, facts);
                }
            }
            Event::Warning(text) => self.print(&format!("warning: {text}")),
        }
    }

    fn begin(&mut self, command: &str, sides: &[(&'static str, String)], moment: &Moment) {
        let version = env!("CARGO_PKG_VERSION");
        match self.show {
            Show::Lines => {
                let line = Line::at(&moment.ts).text("gapless", version).text("command", command);
                let line = sides.iter().fold(line, |line, (key, side)| line.text(key, side));
                self.print(&line.finish());
            }
            Show::Bars(_) => {
                let sides: Vec<&str> = sides.iter().map(|(_, side)| side.as_str()).collect();
                self.print(&format!("gapless {version}   {command} {}", sides.join(" -> ")));
            }
            Show::Warnings | Show::OnRequest => {}
        }
    }

    fn line(&mut self, moment: &Moment, facts: &Facts) {
        let (reading, views) = self.look(moment, facts);
        self.print(&plain::line(&moment.ts, &reading, &views, &self.state));
    }

    fn draw(&mut self, moment: &Moment, facts: &Facts) {
        if !matches!(self.show, Show::Bars(_)) {
            return;
        }
        let (reading, views) = self.look(moment, facts);
        let lines = bars::lines(moment.elapsed, &reading, &views, &self.state);
        if let Show::Bars(bars) = &mut self.show {
            bars.draw(lines);
        }
    }

    fn look(&mut self, moment: &Moment, facts: &Facts) -> (Reading, Vec<View>) {
        let reading = facts.read();
        (reading, self.rates.view(moment.elapsed, &reading))
    }

    /// Prints a line, above the bars where there are any.
    fn print(&mut self, line: &str) {
        let line = plain::printable(line);
        match &mut self.show {
            Show::Bars(bars) => bars.print(&line),
            _ => {
                // At one go, so that lines of others do not come between. That nobody reads it is
                // no reason to stop moving data.
                let line = line + "\n";
                let _closed = self.out.write_all(line.as_bytes()).and_then(|()| self.out.flush());
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
