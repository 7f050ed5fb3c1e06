//! What the benches that are commands share: their beginning and their end.

use clap::Parser;
use std::process::ExitCode;

/// Reads the arguments and does the work. Without any it prints the help and does nothing, which is
/// what happens where all benches are run one after the other.
pub(crate) fn main<C: Parser>(run: impl FnOnce(&C) -> Result<(), String>) -> ExitCode {
    if std::env::args().skip(1).all(|argument| argument == "--bench") {
        print!("{}", C::command().render_help());
        return ExitCode::SUCCESS;
    }
    match run(&C::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", C::command().get_name());
            ExitCode::FAILURE
        }
    }
}
