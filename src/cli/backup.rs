//! The arguments of `backup`, which takes all that a snapshot port has of a server, and no window.

use super::{Told, refuse_unknown_forms};
use crate::error::{Error, Result};
use crate::location::{InfluxLocation, Location};
use crate::plan::Namespace;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `backup`.
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// The server's snapshot port: influxdb-snapshot://HOST:8088[/DB[/RP]]
    pub source: String,
    /// Where the backup goes: an empty directory, one that is made, or one in which this backup was begun
    pub directory: PathBuf,
    /// Take only this database; its users, grants and continuous queries are in the meta store, which is
    /// always that of the whole server
    #[arg(long, value_name = "NAME")]
    pub db: Option<String>,
    /// Take only this retention policy
    #[arg(long, value_name = "NAME", requires = "db")]
    pub rp: Option<String>,
    /// Shards that are fetched, and digested, at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
    /// Memory for data (MiB)
    #[arg(long, value_name = "MIB", default_value_t = 192, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub memory: u32,
    /// Directory for data that do not fit in memory [default: $TMPDIR, else /var/tmp]
    #[arg(long, value_name = "DIR")]
    pub spill: Option<PathBuf>,
    /// Write the report to this file, as a page for people or as JSON by its name (repeatable)
    #[arg(long, value_name = "FILE.html|FILE.json")]
    pub report: Vec<PathBuf>,
    /// Write the report as JSON to standard output
    #[arg(long)]
    pub json: bool,
    /// What is told meanwhile.
    #[command(flatten)]
    pub told: Told,
}

impl BackupArgs {
    /// The server, and what of it is wanted; empty names stand for all.
    ///
    /// # Errors
    /// A usage error, also for a server that is not named by its snapshot port.
    pub fn source(&self) -> Result<(InfluxLocation, Namespace)> {
        refuse_unknown_forms(&self.report)?;
        let location = Location::parse(&self.source)?;
        let Location::Snapshot(server) = location else {
            return Err(Error::usage(format!("{location} is no snapshot port"))
                .with_next("name the server as influxdb-snapshot://HOST:8088"));
        };
        let name = |option: &str, by_option: &Option<String>, by_path: &Option<String>| match (
            by_option, by_path,
        ) {
            (Some(one), Some(other)) if one != other => Err(Error::usage(format!(
                "{option} {one:?} and the location's {other:?} are not the same"
            ))),
            (one, other) => Ok(one.clone().or_else(|| other.clone()).unwrap_or_default()),
        };
        let database = name("--db", &self.db, &server.database)?;
        let retention_policy = name("--rp", &self.rp, &server.retention_policy)?;
        Ok((server, Namespace { database, retention_policy }))
    }
}
