//! The arguments of `gaps`.

use super::{Recheck, TwoSides};
use crate::error::{Error, Result};
use crate::window::HOUR;
use clap::Args;

/// Arguments of `gaps`.
#[derive(Debug, Args)]
pub struct GapsArgs {
    /// Both sides.
    #[command(flatten)]
    pub sides: TwoSides,
    /// Pauses.
    #[command(flatten)]
    pub recheck: Recheck,
    /// The tag that tells writers apart
    #[arg(long, value_name = "TAG", default_value = "host")]
    pub by: String,
    /// Length of the stretches of time that are told apart
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub bucket: String,
    /// Read only what may have changed: shards of a data directory whose files were written to since this
    /// time, RFC 3339 or nanoseconds; `backup` for when the backup that is the destination was begun
    #[arg(long, value_name = "TIME|backup")]
    pub touched_since: Option<String>,
    /// Fill every gap, and prove it
    #[arg(long)]
    pub copy: bool,
    /// With --copy: fill even what seems to be at the destination with other times, less than a second away
    #[arg(long, requires = "copy")]
    pub send_shifted: bool,
    /// With --copy: create the database and retention policy at the destination where they are missing
    #[arg(long, requires = "copy")]
    pub create: bool,
}

impl GapsArgs {
    /// Length of a bucket, nanoseconds.
    ///
    /// # Errors
    /// A usage error for what is no duration between a second and an hour that divides an hour.
    pub fn bucket(&self) -> Result<i64> {
        let parsed: Option<jiff::SignedDuration> = self.bucket.parse().ok();
        let length = parsed.and_then(|length| i64::try_from(length.as_nanos()).ok());
        let fits = |length: &i64| (1_000_000_000..=HOUR).contains(length) && HOUR % length == 0;
        length.filter(fits).ok_or_else(|| {
            Error::usage(format!(
                "{:?} is no length of a bucket: write one that divides an hour, from 1s to 1h",
                self.bucket
            ))
        })
    }
}
