//! Arguments of `repair`.

use super::{Recheck, TwoSides};
use crate::error::{Error, Result};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// The least that is waited before what only the destination holds is deleted.
const DELETE_PAUSE_MIN: Duration = Duration::from_secs(1);

/// Arguments of `repair`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct RepairArgs {
    /// Both sides; the destination is a server.
    #[command(flatten)]
    pub sides: TwoSides,
    /// Pauses.
    #[command(flatten)]
    pub recheck: Recheck,
    /// Do what the plan says; without it nothing is written
    #[arg(long)]
    pub apply: bool,
    /// An older state of both sides (any source, or a digest file), by which changed cells are settled:
    /// changed only at the source: sent; only at the destination: kept; at both: left as a conflict. What
    /// the destination lacks and the base holds as the source does may have been deleted there: it is left.
    /// A digest file knows no cells: it tells only who changed a series in an hour
    #[arg(long, value_name = "LOCATION")]
    pub base: Option<String>,
    /// Send every changed cell
    #[arg(long, conflicts_with = "base")]
    pub overwrite: bool,
    /// Send what may have been deleted at the destination, too
    #[arg(long, requires = "base")]
    pub send_deleted: bool,
    /// Send points, too, that stand at both sides with times less than a second apart, as clients write
    /// them that give no time: the destination then holds both
    #[arg(long)]
    pub send_shifted: bool,
    /// Delete points that only the destination holds, where a statement hits nothing else; with --base
    /// only those that the base holds as the destination does. It needs a first pause of --recheck of 1s
    /// or more; with --apply, --undo-file; where the source is no server, --start and --end. Nothing is
    /// deleted for a source that cannot be read in full, or that is older than the point
    #[arg(long)]
    pub delete_extra: bool,
    /// List what is deleted in this file before it is; without it on standard error, up to 100 points. An
    /// existing file is left, and a number added to the name
    #[arg(long, value_name = "FILE", requires = "delete_extra")]
    pub delete_list: Option<PathBuf>,
    /// Write down first what is overwritten and deleted (as line protocol, for gapless copy --overwrite)
    /// and what is created (as comments). An existing file is left, and a number added to the name
    #[arg(long, value_name = "FILE")]
    pub undo_file: Option<PathBuf>,
}

impl RepairArgs {
    /// The pauses before differences are read again.
    ///
    /// # Errors
    /// A usage error for what is no list of durations, or with too short a pause where points are to be
    /// deleted.
    pub fn pauses(&self) -> Result<Vec<Duration>> {
        let pauses = self.recheck.pauses()?;
        // What is the same after the first pause is not read again.
        let is_long_enough = pauses.first().is_some_and(|first| *first >= DELETE_PAUSE_MIN);
        if self.delete_extra && !is_long_enough {
            return Err(Error::usage(
                "--delete-extra needs --recheck with a first pause of 1s or more: what is on its way must \
                 not be taken for extra",
            ));
        }
        Ok(pauses)
    }

    /// Refuses to delete what is kept nowhere.
    ///
    /// # Errors
    /// A usage error.
    pub fn check_undo(&self) -> Result<()> {
        if self.apply && self.delete_extra && self.undo_file.is_none() {
            return Err(Error::usage(
                "--delete-extra --apply needs --undo-file FILE: what is deleted is kept nowhere else",
            ));
        }
        Ok(())
    }
}
