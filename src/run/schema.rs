//! Runs `schema`: reads both models, shows the plan or carries it out, and reads again.

use super::ended;
use super::job::{lossy, password, warn_insecure};
use crate::cli::SchemaArgs;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Client, Role, Server};
use crate::influxql;
use crate::location::{InfluxLocation, Location};
use crate::pipeline::Progress;
use crate::progress::Meter;
use crate::report::Printed;
use crate::report::schema::{Context, Found, SchemaReport};
use crate::schema::apply::{self, Target};
use crate::schema::enterprise::MetaApi;
use crate::schema::passwords::{self, Passwords};
use crate::schema::plan::{Options, Plan, plan};
use crate::schema::{Schema, Scope, read, url};
use crate::side::{self, Access};
use crate::stop::Stop;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Requests under way at once to one node.
const AT_ONCE: usize = 4;
/// How often users that a meta node made are looked for, and how long between.
const LOOKS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(500);

/// Runs `schema`.
///
/// # Errors
/// Where it could not be carried out.
pub fn schema(arguments: &SchemaArgs, stop: &Stop, progress: &Meter) -> Result<Printed> {
    let (source, destination) = arguments.locations()?;
    let scope = arguments.scope(&source, &destination)?;
    if let Some(file) = &arguments.passwords {
        passwords::refuse_existing(file)?;
    }
    progress.begin("schema", &[("source", &source), ("destination", &destination)]);
    let run = || compared(arguments, (&source, &destination), scope.as_ref(), stop, progress);
    run().map_err(|error| ended(error, stop))
}

fn compared(
    arguments: &SchemaArgs,
    (source, destination): (&Location, &Location),
    scope: Option<&Scope>,
    stop: &Stop,
    progress: &Meter,
) -> Result<Printed> {
    progress.stage("open");
    let ours = Side::open(arguments, source, Role::Source, progress)?;
    let theirs = Side::open(arguments, destination, Role::Destination, progress)?;
    progress.stage("read");
    let mut wanted = ours.read(scope.map(|scope| &*scope.source))?;
    if let Some(scope) = scope {
        refuse_unknown(&wanted, scope, source)?;
        wanted = wanted.of_source(scope);
    }
    let places = places_of(destination);
    let options = Options {
        passwords: arguments.passwords.is_some(),
        queries: arguments.with_cqs,
        subscriptions: arguments.with_subscriptions,
        renamed: scope.is_some_and(Scope::renames),
        scoped: scope.is_some(),
        points_back: &|address| points_at(&places, address),
    };
    let work = Work { arguments, wanted: &wanted, theirs: &theirs, scope, options, stop, progress };
    let found = work.run()?;
    let context = Context {
        source: source.to_string(),
        destination: destination.to_string(),
        command: std::env::args_os().skip(1).map(lossy).collect(),
        scope: scope.cloned(),
        meta_api: arguments.meta_api.is_some(),
        insecure: insecure(arguments),
        elapsed: progress.elapsed(),
    };
    SchemaReport::of(context, found).printed()
}

/// A comparison under way.
struct Work<'a> {
    arguments: &'a SchemaArgs,
    wanted: &'a Schema,
    theirs: &'a Side,
    scope: Option<&'a Scope>,
    options: Options<'a>,
    stop: &'a Stop,
    progress: &'a Meter,
}

impl Work<'_> {
    fn run(&self) -> Result<Found> {
        let first = self.compare()?;
        let Some(client) = self.theirs.client().filter(|_| self.arguments.apply) else {
            return Ok(Found { first, ..Found::default() });
        };
        let (passwords, file) = self.passwords(&first)?;
        self.progress.stage("apply");
        let target = Target { client, meta: self.theirs.meta(), passwords: &passwords };
        let failures = apply::run(&first, &target, self.stop).map_err(|error| {
            let rest = "what was done until then stays: run the same command again, and only the rest is \
                        done";
            match &file {
                None => error.with_next(rest),
                Some(file) => error.with_next(format!(
                    "{rest}; keep {file}, which has the passwords of users that were made, and name \
                     another file"
                )),
            }
        })?;
        self.progress.stage("verify");
        let after = Some((failures, self.look_again()?));
        Ok(Found { first, after, passwords_file: file })
    }

    fn compare(&self) -> Result<Plan> {
        let mut held = self.theirs.read(self.scope.map(|scope| &*scope.destination))?;
        if let Some(scope) = self.scope {
            held = held.of_destination(scope);
        }
        Ok(plan(self.wanted, &held, &self.options))
    }

    /// What meta nodes did is seen a while later.
    fn look_again(&self) -> Result<Plan> {
        let mut after = self.compare()?;
        let waits = self.theirs.meta().is_some();
        for _ in 1..LOOKS {
            let is_user = |kind: &str| matches!(kind, "user" | "grant");
            if !waits || !after.made().any(|change| is_user(change.kind())) {
                break;
            }
            thread::sleep(PAUSE);
            after = self.compare()?;
        }
        Ok(after)
    }

    /// New passwords, written down before any of them is set, and where.
    fn passwords(&self, plan: &Plan) -> Result<(Passwords, Option<String>)> {
        let Some(path) = &self.arguments.passwords else { return Ok(Default::default()) };
        let made = passwords::generate(plan.new_users())?;
        if made.is_empty() {
            return Ok(Default::default());
        }
        passwords::write(path, &made)?;
        Ok((made, Some(path.display().to_string())))
    }
}

/// A side that is read.
enum Side {
    /// A meta store.
    Stored(Box<Schema>),
    /// A server, and perhaps the meta nodes that know its users.
    Server(Arc<Client>, Option<Box<MetaApi>>),
}

impl Side {
    fn open(
        arguments: &SchemaArgs,
        location: &Location,
        role: Role,
        progress: &Meter,
    ) -> Result<Self> {
        let Location::Influx(influx) = location else {
            if matches!(location, Location::Snapshot(_)) {
                side::warn_snapshot(location, progress);
            }
            return Self::stored(arguments, location, role);
        };
        let (file, is_insecure) = match role {
            Role::Source => (&arguments.source_password_file, arguments.insecure_source),
            Role::Destination => {
                (&arguments.destination_password_file, arguments.insecure_destination)
            }
        };
        if is_insecure {
            warn_insecure(role, progress);
        }
        let access = access(arguments, role, file.as_deref(), is_insecure)?;
        let meta = match role {
            Role::Destination => meta_api(arguments, location, influx, &access)?,
            Role::Source => None,
        };
        let client = side::connect(influx, access, role, progress)?;
        influxql::ping(&client)?;
        Ok(Self::Server(client, meta.map(Box::new)))
    }

    fn stored(arguments: &SchemaArgs, location: &Location, role: Role) -> Result<Self> {
        let meta_dir = arguments.meta_dir.as_deref().filter(|_| role == Role::Source);
        let meta = side::meta_of(location, meta_dir)?.ok_or_else(|| {
            Error::location(location, "holds no users, continuous queries and subscriptions")
                .with_next("name a server, its data directory or a backup of it")
        })?;
        Ok(Self::Stored(Box::new(read::of_meta(&meta))))
    }

    fn read(&self, only: Option<&str>) -> Result<Schema> {
        match self {
            Self::Stored(schema) => Ok((**schema).clone()),
            Self::Server(client, None) => read::of_server(client, only),
            Self::Server(client, Some(meta)) => {
                Ok(Schema { users: meta.users()?, ..read::databases_of(client, only)? })
            }
        }
    }

    fn client(&self) -> Option<&Client> {
        match self {
            Self::Server(client, _) => Some(client),
            Self::Stored(_) => None,
        }
    }

    fn meta(&self) -> Option<&MetaApi> {
        match self {
            Self::Server(_, meta) => meta.as_deref(),
            Self::Stored(_) => None,
        }
    }
}

fn access(
    arguments: &SchemaArgs,
    role: Role,
    file: Option<&Path>,
    insecure: bool,
) -> Result<Access> {
    let (password, ca) = (password(role, file)?, arguments.ca.clone());
    Ok(Access { password, ca, insecure, jobs: AT_ONCE })
}

/// The meta nodes, which are spoken to with the destination's user.
fn meta_api(
    arguments: &SchemaArgs,
    destination: &Location,
    influx: &InfluxLocation,
    access: &Access,
) -> Result<Option<MetaApi>> {
    let Some((tls, host, port)) = arguments.meta_node(destination)? else { return Ok(None) };
    let server = Server {
        tls,
        host,
        port,
        prefix: String::new(),
        user: influx.user.clone(),
        password: access.password.clone(),
        ca: access.ca.clone(),
        insecure: access.insecure,
    };
    MetaApi::open(server).map(Some)
}

fn refuse_unknown(wanted: &Schema, scope: &Scope, source: &Location) -> Result<()> {
    if wanted.databases.contains_key(&scope.source) {
        return Ok(());
    }
    let what = format!("database {:?}", scope.source);
    Err(ErrorKind::NotFound { what, place: format!("in {source}") }.into())
}

fn insecure(arguments: &SchemaArgs) -> Vec<String> {
    let sides = [
        (arguments.insecure_source, Role::Source),
        (arguments.insecure_destination, Role::Destination),
    ];
    sides.iter().filter(|(given, _)| *given).map(|(_, role)| role.to_string()).collect()
}

/// Where the destination's nodes are: names, addresses and ports.
fn places_of(destination: &Location) -> Vec<(String, Vec<IpAddr>, u16)> {
    let Location::Influx(influx) = destination else { return Vec::new() };
    let place = |node: &crate::location::NodeLocation| {
        (node.host.to_ascii_lowercase(), resolved(&node.host, node.port), node.port)
    };
    influx.nodes.iter().map(place).collect()
}

fn resolved(host: &str, port: u16) -> Vec<IpAddr> {
    let found = (host, port).to_socket_addrs();
    found.map(|found| found.map(|address| address.ip()).collect()).unwrap_or_default()
}

/// True where an address of a subscription is one of these places. A UDP listener has a port of its own.
fn points_at(places: &[(String, Vec<IpAddr>, u16)], address: &str) -> bool {
    let Some(at) = url::endpoint(address) else { return false };
    let addresses = resolved(&at.host, at.port);
    places.iter().any(|(host, ips, port)| {
        let same_host = *host == at.host || addresses.iter().any(|one| ips.contains(one));
        same_host && (at.udp || *port == at.port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_known_by_name_address_and_port() {
        let places = places_of(&Location::parse("influxdb://LocalHost:8086,[::1]:9000").unwrap());
        for (address, points) in [
            ("http://u:p@localhost:8086/x", true),
            ("http://127.0.0.1:8086", true),
            ("http://[::1]:9000", true),
            ("http://localhost:8087", false),
            ("udp://localhost:8089", true),
            ("nonsense", false),
        ] {
            assert_eq!(points_at(&places, address), points, "{address}");
        }
    }
}
