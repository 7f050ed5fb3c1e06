//! The report of `runbook`: every step, what was seen, the commands, and whether the source may be stopped.

use super::{Printed, json};
use crate::error::Result;
use crate::runbook::{Entry, Runbook, Seen};
use crate::window::format_time;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// What the command knows about itself.
#[derive(Debug)]
pub struct Context {
    /// Source, without secrets.
    pub source: String,
    /// Destination, without secrets.
    pub destination: String,
    /// When it was looked at, nanoseconds since 1970.
    pub looked: i64,
    /// What was not looked at, one remark a line.
    pub not_covered: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Where a migration stands.
#[derive(Debug, Serialize)]
pub struct RunbookReport {
    /// Version of this structure.
    pub version: u32,
    /// `runbook`.
    pub command: &'static str,
    /// `safe_to_stop` or `not_safe_to_stop`.
    pub verdict: &'static str,
    /// Exit status of the command.
    pub exit_status: u8,
    /// Source, without secrets.
    pub source: String,
    /// Destination, without secrets.
    pub destination: String,
    /// When it was looked at, nanoseconds since 1970.
    pub looked: i64,
    /// The steps in their order.
    pub steps: Vec<StepReport>,
    /// The step that holds up the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<&'static str>,
    /// What was not looked at, one remark a line.
    pub not_covered: Vec<String>,
    /// How long it took.
    pub seconds: f64,
    /// The next command.
    pub next: Option<String>,
}

/// One step.
#[derive(Debug, Serialize)]
pub struct StepReport {
    /// Its name.
    pub name: &'static str,
    /// `done`, `next`, `open`, `accepted` or `later`.
    pub state: &'static str,
    /// What was seen.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub seen: String,
    /// The commands that finish it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

impl RunbookReport {
    /// The report of what was seen.
    #[must_use]
    pub fn of(context: Context, book: &Runbook) -> Self {
        let safe = book.is_safe();
        let next = book.next();
        let step = |entry: &Entry| StepReport::of(entry, next == Some(entry));
        let is_command = |command: &&String| !command.starts_with('#');
        Self {
            version: 1,
            command: "runbook",
            verdict: if safe { "safe_to_stop" } else { "not_safe_to_stop" },
            exit_status: if safe { 0 } else { 3 },
            source: context.source,
            destination: context.destination,
            looked: context.looked,
            steps: book.entries.iter().map(step).collect(),
            step: next.map(|entry| entry.step.name()),
            not_covered: context.not_covered,
            seconds: context.elapsed.as_secs_f64(),
            next: next.and_then(|entry| entry.commands.iter().find(is_command).cloned()),
        }
    }

    /// The report as it is given out.
    ///
    /// # Errors
    /// Where it cannot be expressed, which would be a defect.
    pub fn printed(&self) -> Result<Printed> {
        Ok(Printed::kept(self.to_string(), json(self)?, self.exit_status))
    }
}

impl StepReport {
    fn of(entry: &Entry, is_next: bool) -> Self {
        let (state, seen) = match &entry.seen {
            Seen::Done(seen) => ("done", seen.clone()),
            Seen::Accepted(seen) => ("accepted", seen.clone()),
            Seen::Open(seen) if is_next => ("next", seen.clone()),
            Seen::Open(seen) => ("open", seen.clone()),
            Seen::Unseen => ("later", String::new()),
        };
        let commands = if entry.is_open() { entry.commands.clone() } else { Vec::new() };
        Self { name: entry.step.name(), state, seen, commands }
    }
}

impl Display for RunbookReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} -> {}   {}", self.source, self.destination, format_time(self.looked))?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {:<8} {} {}   {}", step.state, number + 1, step.name, step.seen)?;
            step.commands.iter().try_for_each(|command| writeln!(f, "             {command}"))?;
        }
        self.not_covered.iter().try_for_each(|remark| writeln!(f, "  not covered: {remark}"))?;
        match self.step {
            None => writeln!(f, "SAFE TO STOP   {}", self.source)?,
            Some(step) => writeln!(f, "NOT SAFE TO STOP   {}   step: {step}", self.source)?,
        }
        self.next.iter().try_for_each(|next| writeln!(f, "  next: {next}"))
    }
}
