//! Writes generated line protocol to standard output, and what it wrote to standard error.
//!
//! `cargo bench --bench generate -- --hosts 200 --bytes 2G --order shuffled --duplicates 0.01 > FILE`;
//! `--help` lists the options. Without any option it prints them and writes nothing, which is what
//! happens where all benches are run one after the other.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command")]

mod command;
mod devops;

use clap::Parser;
use devops::{Generator, Options};
use std::io::{self, Write};
use std::process::ExitCode;

/// Writes generated line protocol to standard output.
#[derive(Debug, Parser)]
#[command(name = "generate")]
struct Cli {
    #[command(flatten)]
    options: Options,
    /// Cargo adds it.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    command::main(|cli: &Cli| run(&cli.options))
}

fn run(options: &Options) -> Result<(), String> {
    let generator = Generator::new(options)?;
    let mut out = io::stdout().lock();
    let summary = generator
        .write(&mut out)
        .and_then(|summary| out.flush().map(|()| summary))
        .map_err(|error| format!("cannot write standard output: {error}"))?;
    let apart =
        summary.nearest.map_or(String::new(), |bytes| format!(" nearest_duplicate_bytes={bytes}"));
    eprintln!(
        "rows={} cells={} bytes={} duplicates={}{apart}",
        summary.rows, summary.cells, summary.bytes, summary.duplicates
    );
    Ok(())
}
