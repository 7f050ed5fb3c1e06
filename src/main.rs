//! The command `gapless`: reads the arguments, runs the command, prints its report.

use clap::Parser;
use gapless::cli::{
    BackupArgs, CatArgs, Cli, Command, Common, DigestArgs, DigestFiles, SchemaArgs, Told, TwoSides,
};
use gapless::error::{Error, ErrorKind, Result};
use gapless::logs;
use gapless::panics;
use gapless::pipeline::Progress;
use gapless::progress::signal::Asked;
use gapless::progress::{self, Meter};
use gapless::report::Printed;
use gapless::run::{self, Listing};
use gapless::stop::{INTERRUPTED, Stop};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit statuses that no verdict has.
const USAGE: u8 = 2;
const INCOMPLETE: u8 = 3;
const FAILED: u8 = 4;

fn main() -> ExitCode {
    panics::install();
    // Before any work: until then SIGUSR1 ends the process.
    let asked = Asked::by_signal().unwrap_or_else(|error| {
        progress::print(&format!("warning: SIGUSR1 will print no progress: {error}"));
        Asked::default()
    });
    let outcome = match Cli::parse().command {
        Command::Copy(arguments) => {
            let stop = stop_by_signal();
            reported(&arguments.sides, asked, |progress| run::copy(&arguments, &stop, progress))
        }
        Command::Verify(arguments) => {
            reported(&arguments.sides, asked, |progress| run::verify(&arguments, progress))
        }
        Command::Gaps(arguments) => {
            let stop = stop_by_signal();
            reported(&arguments.sides, asked, |progress| run::gaps(&arguments, &stop, progress))
        }
        Command::Repair(arguments) => {
            let stop = stop_by_signal();
            reported(&arguments.sides, asked, |progress| run::repair(&arguments, &stop, progress))
        }
        Command::Schema(arguments) => schema(&arguments, asked),
        Command::Runbook(arguments) => {
            let stop = stop_by_signal();
            reported(&arguments.sides, asked, |progress| run::runbook(&arguments, &stop, progress))
        }
        Command::Backup(arguments) => backup(&arguments, asked),
        Command::Cat(arguments) => cat(&arguments, asked),
        Command::Inspect(arguments) => {
            listed(&arguments.common, arguments.json, asked, |it| run::inspect(&arguments, it))
        }
        Command::Digest(arguments) => digest(&arguments, asked),
    };
    let exit_status = outcome.unwrap_or_else(|error| failed(&error));
    tracing::info!(exit_status);
    ExitCode::from(exit_status)
}

/// From now on a signal asks for an end that can be resumed.
fn stop_by_signal() -> Stop {
    Stop::by_signal().unwrap_or_else(|error| {
        progress::print(&format!("warning: SIGINT will stop at once: {error}"));
        Stop::default()
    })
}

/// Runs work with the progress that the arguments ask for, which ends before anything else is
/// printed.
fn shown<T>(
    told: &Told,
    asked: Asked,
    writes_data: bool,
    work: impl FnOnce(&Meter) -> Result<T>,
) -> Result<T> {
    logs::start(&told.logs())?;
    let options = progress::Options { style: told.progress, quiet: told.quiet, writes_data, asked };
    metered(&options, work)
}

fn metered<T>(options: &progress::Options, work: impl FnOnce(&Meter) -> Result<T>) -> Result<T> {
    let meter = Meter::new(options);
    let outcome = work(&meter);
    meter.stage(if outcome.is_ok() { "done" } else { "stopped" });
    outcome
}

/// Runs a command that ends in a report, and prints or writes it.
fn reported(
    sides: &TwoSides,
    asked: Asked,
    command: impl FnOnce(&Meter) -> Result<Printed>,
) -> Result<u8> {
    let report = shown(&sides.common.told, asked, false, command)?;
    print_report(&report, &sides.report, sides.json, sides.common.told.quiet)
}

/// Prints a report and writes it to files.
fn print_report(report: &Printed, files: &[PathBuf], json: bool, quiet: bool) -> Result<u8> {
    if json {
        out(&report.json)?;
        if !quiet {
            progress::print(report.text.trim_end());
        }
    } else {
        out(&report.text)?;
    }
    // Last, so that a file that cannot be written does not hide the verdict.
    let written: Vec<_> = files.iter().map(|file| report.write(file)).collect();
    written.into_iter().collect::<Result<()>>()?;
    Ok(report.exit_status)
}

fn schema(arguments: &SchemaArgs, asked: Asked) -> Result<u8> {
    let stop = stop_by_signal();
    let report =
        shown(&arguments.told, asked, false, |progress| run::schema(arguments, &stop, progress))?;
    print_report(&report, &arguments.report, arguments.json, arguments.told.quiet)
}

fn backup(arguments: &BackupArgs, asked: Asked) -> Result<u8> {
    let stop = stop_by_signal();
    let report =
        shown(&arguments.told, asked, false, |progress| run::backup(arguments, &stop, progress))?;
    print_report(&report, &arguments.report, arguments.json, arguments.told.quiet)
}

/// Runs a command that lists what it found.
fn listed(
    common: &Common,
    json: bool,
    asked: Asked,
    command: impl FnOnce(&Meter) -> Result<Listing>,
) -> Result<u8> {
    print_listing(&shown(&common.told, asked, false, command)?, json)
}

fn print_listing(listing: &Listing, json: bool) -> Result<u8> {
    out(if json { &listing.json } else { &listing.text })?;
    Ok(if listing.incomplete { INCOMPLETE } else { 0 })
}

fn digest(arguments: &DigestArgs, asked: Asked) -> Result<u8> {
    if let Some(DigestFiles::Merge(merge)) = &arguments.files {
        let (style, quiet) = (merge.progress, merge.quiet);
        let options = progress::Options { style, quiet, writes_data: false, asked };
        let listing = metered(&options, |progress| run::merge(merge, progress))?;
        return print_listing(&listing, merge.json);
    }
    if !arguments.jsonl {
        let command = |progress: &Meter| run::digest(arguments, progress);
        return listed(&arguments.common, arguments.json, asked, command);
    }
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let work = |progress: &Meter| run::export(arguments, progress, &mut stdout);
    match shown(&arguments.common.told, asked, true, work) {
        // Whoever read our output has enough of it.
        Err(error) if error.is_broken_pipe() => Ok(0),
        outcome => outcome.map(|complete| if complete { 0 } else { INCOMPLETE }),
    }
}

fn cat(arguments: &CatArgs, asked: Asked) -> Result<u8> {
    let mut stdout = io::stdout().lock();
    let work = |progress: &Meter| run::cat(arguments, progress, &mut stdout);
    let done = match shown(&arguments.common.told, asked, true, work) {
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
    Ok(if rejected > 0 || done.unread || done.rows == 0 { INCOMPLETE } else { 0 })
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
    let what = if matches!(error.kind(), ErrorKind::Interrupted) { "" } else { "error: " };
    tracing::error!(error = error.to_string(), next = error.next_step());
    progress::print(&format!("{what}{error}"));
    if let Some(next) = error.next_step() {
        progress::print(&format!("  next: {next}"));
    }
    match error.kind() {
        ErrorKind::Usage(_) => USAGE,
        ErrorKind::Interrupted => INTERRUPTED,
        ErrorKind::Moving(_) => INCOMPLETE,
        _ => FAILED,
    }
}
