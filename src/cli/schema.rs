//! The arguments of `schema`, which moves no data and has none of the arguments about data.

use super::{Told, refuse_idle, refuse_same, refuse_unknown_forms};
use crate::error::{Error, Result};
use crate::location::{InfluxLocation, Location};
use crate::schema::{Scope, enterprise};
use clap::Args;
use std::path::PathBuf;

/// Arguments of `schema`.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct SchemaArgs {
    /// A server, its snapshot port, a data directory or a backup that has what is wanted
    pub source: String,
    /// What is compared with it; a server, where it is made like the source
    pub destination: String,
    /// Do what the plan says; without it nothing is written. Nothing is dropped or shortened
    #[arg(long)]
    pub apply: bool,
    /// Give users that are missing new passwords, and write them first to this file, which must not
    /// exist; without it such users are left. Passwords themselves cannot be moved
    #[arg(long, value_name = "FILE", requires = "apply")]
    pub passwords: Option<PathBuf>,
    /// Make continuous queries, too: once all data are there, since they would aggregate a part of them
    #[arg(long)]
    pub with_cqs: bool,
    /// Make subscriptions, too; one that points at the destination itself never is
    #[arg(long)]
    pub with_subscriptions: bool,
    /// Make users and grants by a meta node of an InfluxDB Enterprise cluster, in place of InfluxQL
    #[arg(long, value_name = "http://HOST:8091")]
    pub meta_api: Option<String>,
    /// Take only this database, and of users what they may do with it
    #[arg(long, value_name = "NAME")]
    pub db: Option<String>,
    /// The source is a data directory whose meta.db is in this directory
    #[arg(long, value_name = "DIR")]
    pub meta_dir: Option<PathBuf>,
    /// Trust the certificates in this PEM file, besides the system's
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Take any certificate of the source: whoever is between can read and change everything
    #[arg(long)]
    pub insecure_source: bool,
    /// Take any certificate of the destination: whoever is between can read and change everything
    #[arg(long)]
    pub insecure_destination: bool,
    /// Read the source's password from this file
    #[arg(long, value_name = "FILE")]
    pub source_password_file: Option<PathBuf>,
    /// Read the destination's password from this file
    #[arg(long, value_name = "FILE")]
    pub destination_password_file: Option<PathBuf>,
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

impl SchemaArgs {
    /// Reads both locations; they must not be the same, and a server alone is changed.
    ///
    /// # Errors
    /// A usage error.
    pub fn locations(&self) -> Result<(Location, Location)> {
        let (source, destination) =
            (Location::parse(&self.source)?, Location::parse(&self.destination)?);
        refuse_idle(&source, "--insecure-source", self.insecure_source)?;
        refuse_idle(&destination, "--insecure-destination", self.insecure_destination)?;
        refuse_same(&source, &destination)?;
        if self.apply && !matches!(destination, Location::Influx(_)) {
            return Err(Error::usage(format!(
                "{destination} is no server: only a server is changed by --apply"
            )));
        }
        for location in [&source, &destination] {
            if server(location).is_some_and(|server| server.retention_policy.is_some()) {
                return Err(Error::usage(format!(
                    "{location} names a retention policy: schema compares whole databases"
                )));
            }
        }
        if self.meta_dir.is_some() && !matches!(&source, Location::Path(path) if path.is_dir()) {
            return Err(Error::usage(format!(
                "--meta-dir is for the data directory of a server, and {source} is none"
            )));
        }
        refuse_unknown_forms(&self.report)?;
        Ok((source, destination))
    }

    /// The one database that is compared, if it is one. A path at the destination is its name there.
    ///
    /// # Errors
    /// A usage error where names contradict each other.
    pub fn scope(&self, source: &Location, destination: &Location) -> Result<Option<Scope>> {
        let named = |location| server(location).and_then(|server| server.database.clone());
        let (theirs, ours) = (named(destination), named(source));
        if let (Some(option), Some(path)) = (&self.db, &ours)
            && option != path
        {
            return Err(Error::usage(format!(
                "--db {option:?} and the source's path {path:?} name two databases"
            )));
        }
        match (self.db.clone().or(ours), theirs) {
            (Some(source), theirs) => {
                let destination = theirs.unwrap_or_else(|| source.clone());
                Ok(Some(Scope { source, destination }))
            }
            (None, None) => Ok(None),
            (None, Some(theirs)) => Err(Error::usage(format!(
                "the destination names the database {theirs:?}: name that of the source with --db"
            ))),
        }
    }

    /// The meta node that makes users: TLS, host and port.
    ///
    /// # Errors
    /// A usage error for what is no address, or where the destination is no server.
    pub fn meta_node(&self, destination: &Location) -> Result<Option<(bool, String, u16)>> {
        let Some(text) = &self.meta_api else { return Ok(None) };
        if !matches!(destination, Location::Influx(_)) {
            return Err(Error::usage("--meta-api is for a destination that is a cluster"));
        }
        let unreadable = || {
            Error::usage(
                "--meta-api is not understood: write http://HOST:8091 or https://HOST:8091",
            )
        };
        enterprise::address(text).ok_or_else(unreadable).map(Some)
    }
}

fn server(location: &Location) -> Option<&InfluxLocation> {
    match location {
        Location::Influx(server) | Location::Snapshot(server) => Some(server),
        _ => None,
    }
}
