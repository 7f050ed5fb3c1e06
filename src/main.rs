//! The command `gapless`: reads the arguments, runs the command, prints its report.

use clap::Parser;
use gapless::cli::{CatArgs, Cli, Command, TwoSides};
use gapless::error::{Error, ErrorKind, Result};
use gapless::progress::{self, Lines};
use gapless::report::Report;
use gapless::run;
use std::io::{self, Write};
use std::process::ExitCode;

/// Exit statuses that no verdict has.
const USAGE: u8 = 2;
const INCOMPLETE: u8 = 3;
const FAILED: u8 = 4;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Copy(arguments) => {
            reported(&arguments.sides, |progress| run::copy(&arguments, progress))
        }
        Command::Verify(arguments) => {
            reported(&arguments.sides, |progress| run::verify(&arguments, progress))
        }
        Command::Cat(arguments) => cat(&arguments),
    };
    ExitCode::from(outcome.unwrap_or_else(|error| failed(&error)))
}

/// Runs a command that ends in a report, and prints or writes it.
fn reported(sides: &TwoSides, command: impl FnOnce(&Lines) -> Result<Report>) -> Result<u8> {
    let report = command(&Lines::new(sides.common.quiet))?;
    if sides.json {
        out(&report.json()?)?;
        if !sides.common.quiet {
            progress::print(report.to_string().trim_end());
        }
    } else {
        out(&report.to_string())?;
    }
    // Last, so that a file that cannot be written does not hide the verdict.
    if let Some(file) = &sides.report {
        report.write(file)?;
    }
    Ok(report.exit_status)
}

fn cat(arguments: &CatArgs) -> Result<u8> {
    let progress = Lines::new(arguments.common.quiet);
    let done = match run::cat(arguments, &progress, &mut io::stdout().lock()) {
        // Whoever read our output has enough of it.
        Err(error) if error.is_broken_pipe() => return Ok(0),
        outcome => outcome?,
    };
    for remark in &done.not_covered {
        progress::print(&format!("not covered: {remark}"));
    }
    let rejected = done.rejects.rows;
    if rejected > 0 {
        progress::print(&format!(
            "INCOMPLETE   {rejected} rows were rejected (--reject FILE keeps them)"
        ));
    } else if done.rows == 0 {
        progress::print("INCOMPLETE   the window holds nothing");
    }
    Ok(if rejected > 0 || done.rows == 0 { INCOMPLETE } else { 0 })
}

fn out(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("standard output", "write", error))
        }
        _ => Ok(()),
    }
}

fn failed(error: &Error) -> u8 {
    progress::print(&format!("error: {error}"));
    if let Some(next) = error.next_step() {
        progress::print(&format!("  next: {next}"));
    }
    if matches!(error.kind(), ErrorKind::Usage(_)) { USAGE } else { FAILED }
}
