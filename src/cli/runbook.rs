//! The arguments of `runbook`, which looks at whole servers and changes neither.

use super::{Recheck, TwoSides};
use crate::error::{Error, Result};
use crate::location::{InfluxLocation, Location};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Which migration it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Migration {
    /// InfluxDB 1.x to another InfluxDB 1.x server or an Enterprise cluster
    Influxdb,
}

/// What a migration goes without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accept {
    /// There is no backup: copy moves everything
    NoBackup,
    /// Continuous queries and subscriptions stay as they are
    NoQueries,
    /// The nodes of the cluster cannot be read one by one
    UnprovenReplicas,
}

/// Arguments of `runbook`.
#[derive(Debug, Args)]
pub struct RunbookArgs {
    /// The migration
    #[arg(value_enum)]
    pub migration: Migration,
    /// Both sides.
    #[command(flatten)]
    pub sides: TwoSides,
    /// Pauses.
    #[command(flatten)]
    pub recheck: Recheck,
    /// The directory of the backup that is, or will be, restored
    #[arg(long, value_name = "DIR")]
    pub backup: Option<PathBuf>,
    /// The source's snapshot port
    #[arg(long, value_name = "PORT", default_value_t = 8088)]
    pub source_snapshot_port: u16,
    /// The destination's snapshot port
    #[arg(long, value_name = "PORT", default_value_t = 8088)]
    pub destination_snapshot_port: u16,
    /// The tag that tells writers apart
    #[arg(long, value_name = "TAG", default_value = "host")]
    pub by: String,
    /// Length of the stretches of time by which writers are judged
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub bucket: String,
    /// Go without something (repeatable)
    #[arg(long, value_enum, value_name = "WHAT")]
    pub accept: Vec<Accept>,
}

impl RunbookArgs {
    /// Both servers.
    ///
    /// # Errors
    /// A usage error, also for what narrows the comparison: a whole server is to be stopped.
    pub fn servers(&self) -> Result<(InfluxLocation, InfluxLocation)> {
        let (source, destination) = self.sides.locations()?;
        let common = &self.sides.common;
        let narrows = [
            ("--start", common.start.is_some()),
            ("--end", common.end.is_some()),
            ("--db", common.db.is_some()),
            ("--rp", common.rp.is_some()),
            ("--measurement", !common.measurement.is_empty()),
            ("--tag", !common.tag.is_empty()),
            ("--exclude", !common.exclude.is_empty()),
        ];
        if let Some((option, _)) = narrows.iter().find(|(_, given)| *given) {
            return Err(Error::usage(format!(
                "{option} leaves a part out, and a whole server is to be stopped"
            )));
        }
        Ok((server(source)?, server(destination)?))
    }

    /// True where the operator goes without something.
    #[must_use]
    pub fn accepts(&self, what: Accept) -> bool {
        self.accept.contains(&what)
    }
}

fn server(location: Location) -> Result<InfluxLocation> {
    match location {
        Location::Influx(server) if server.database.is_none() => Ok(server),
        Location::Influx(_) => Err(Error::usage(format!(
            "{location} is one database, and a whole server is to be stopped: name it without"
        ))),
        _ => Err(Error::usage(format!("{location} is no server: write influxdb://HOST:8086"))),
    }
}
