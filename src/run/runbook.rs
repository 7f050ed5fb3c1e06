//! Runs `runbook`: looks at both servers by the commands that an operator would run, as far as the steps
//! before are finished.

use super::job::{source_access, warn_insecure};
use super::{ended, gaps, schema, verify};
use crate::cli::{Accept, GapsArgs, RunbookArgs, SchemaArgs, TwoSides, VerifyArgs};
use crate::compare;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Client, Role};
use crate::influxql;
use crate::journal::now;
use crate::location::{InfluxLocation, Location};
use crate::plan::Filter;
use crate::progress::Meter;
use crate::report::runbook::{Context, RunbookReport};
use crate::report::{Printed, quote};
use crate::runbook::{Runbook, Seen, Step};
use crate::side;
use crate::source::Source;
use crate::source::influx_http::InfluxHttp;
use crate::source::tsm::Place as _;
use crate::source::tsm::backup::Backup;
use crate::source::tsm::packed::Room;
use crate::spill::Place;
use crate::stop::Stop;
use crate::window::{TIME_MAX, Window, format_time};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Runs `runbook`.
///
/// # Errors
/// Where a server cannot be asked at all. What one step could not find out is said with that step.
pub fn runbook(arguments: &RunbookArgs, stop: &Stop, progress: &Meter) -> Result<Printed> {
    let (source, destination) = arguments.servers()?;
    let look = || {
        let looked = now();
        let look = Look::open(arguments, source, destination, stop, progress)?;
        let book = look.all()?;
        let context = Context {
            source: look.from.clone(),
            destination: look.to.clone(),
            looked,
            not_covered: vec![
                "passwords, and clients that write nothing now: whether each of them is known and switched, \
                 the servers do not say"
                    .into(),
                "the server's own database _internal".into(),
            ],
            elapsed: progress.elapsed(),
        };
        RunbookReport::of(context, &book).printed()
    };
    look().map_err(|error| ended(error, stop))
}

/// Both servers, looked at.
struct Look<'a> {
    arguments: &'a RunbookArgs,
    /// Both, as they are typed.
    from: String,
    to: String,
    source: InfluxLocation,
    destination: InfluxLocation,
    client: Arc<Client>,
    /// Write requests and points that the source had taken before anything was compared.
    taken: Result<u64>,
    stop: &'a Stop,
    progress: &'a Meter,
}

impl<'a> Look<'a> {
    fn open(
        arguments: &'a RunbookArgs,
        source: InfluxLocation,
        destination: InfluxLocation,
        stop: &'a Stop,
        progress: &'a Meter,
    ) -> Result<Self> {
        let (from, to) = (Location::Influx(source.clone()), Location::Influx(destination.clone()));
        progress.begin("runbook", &[("source", &from), ("destination", &to)]);
        let common = &arguments.sides.common;
        if common.insecure_source {
            warn_insecure(Role::Source, progress);
        }
        let client = side::connect(&source, source_access(common)?, Role::Source, progress)?;
        influxql::ping(&client)?;
        let taken = influxql::taken(&client);
        let (from, to) = (from.to_string(), to.to_string());
        Ok(Self { arguments, from, to, source, destination, client, taken, stop, progress })
    }

    fn all(&self) -> Result<Runbook> {
        let mut book = Runbook::default();
        let found = self.asked(|| gaps(&self.gaps_arguments(), self.stop, self.progress));
        let found = self.or_stopped(found)?;
        let whole = found.as_ref().is_ok_and(lacks_nothing);
        book.add(Step::Backup, self.backup(), self.backup_commands());
        let restored = self.restore(&book, whole)?;
        book.add(Step::Restore, restored, self.restore_commands());
        let model = if book.next().is_none() { Some(self.schema()?) } else { None };
        book.add(Step::Schema, of_schema(model.as_ref()), self.schema_commands(model.as_ref()));
        let next = book.next().is_none();
        book.add(
            Step::DualWrite,
            if next { dual_write(&found) } else { Seen::Unseen },
            self.dual_commands(),
        );
        let next = book.next().is_none();
        let gap = if next { gap(&found) } else { Seen::Unseen };
        book.add(Step::Gap, gap, self.gap_commands(&found));
        let queries = self.queries(&book, model.as_ref());
        let apply = "--apply --with-cqs --with-subscriptions";
        book.add(Step::Queries, queries, vec![self.command("schema", apply)]);
        let (over, again, replicas) = self.last(&book)?;
        let clients = "# have every client write to the destination alone, and wait until the newest points \
                       at the source are older than --lag";
        book.add(Step::SwitchOver, over, vec![clients.into()]);
        book.add(Step::Identical, again, vec![self.command("verify", "")]);
        book.add(Step::Replicas, replicas, self.replica_commands());
        Ok(book)
    }

    /// An end that was asked for is no answer about a step.
    fn or_stopped<T>(&self, asked: Result<T>) -> Result<Result<T>> {
        match asked {
            Err(error)
                if self.stop.is_requested() || matches!(error.kind(), ErrorKind::Interrupted) =>
            {
                Err(error)
            }
            other => Ok(other),
        }
    }

    /// The report of a command, read.
    fn asked(&self, command: impl FnOnce() -> Result<Printed>) -> Result<Value> {
        self.stop.check()?;
        let printed = command()?;
        serde_json::from_str(&printed.json)
            .map_err(|error| ErrorKind::Data(format!("a report cannot be read: {error}")).into())
    }

    fn backup(&self) -> Seen {
        let Some(directory) = &self.arguments.backup else {
            return match self.arguments.accepts(Accept::NoBackup) {
                true => Seen::Accepted("no backup (--accept no-backup)".into()),
                false => Seen::Open(
                    "no --backup DIR is named: without one there is no way back, either".into(),
                ),
            };
        };
        match whole_backup(directory) {
            Ok(Some(begun)) => Seen::Done(format!("{}, {begun}", directory.display())),
            Ok(None) => Seen::Open(format!("{} holds no whole backup", directory.display())),
            Err(error) => Seen::Open(error.to_string()),
        }
    }

    /// What was backed up is at the destination where that lacks nothing of the source; else it is looked at.
    fn restore(&self, book: &Runbook, whole: bool) -> Result<Seen> {
        let Some(directory) = &self.arguments.backup else {
            return Ok(match book.next() {
                None => Seen::Accepted("copy moves everything (--accept no-backup)".into()),
                Some(_) => Seen::Unseen,
            });
        };
        if book.next().is_some() {
            return Ok(Seen::Unseen);
        }
        if whole {
            return Ok(Seen::Done("the destination lacks nothing of the source".into()));
        }
        let sides =
            TwoSides { source: directory.display().to_string(), ..sides(&self.arguments.sides) };
        let recheck = self.arguments.recheck.clone();
        let arguments = VerifyArgs { sides, recheck, slice: None };
        let verified = self.asked(|| verify(&arguments, self.progress));
        Ok(match self.or_stopped(verified)? {
            Ok(report) => match counts(&report, &["missing_in_destination"]) {
                0 => Seen::Done("every cell of the backup is at the destination".into()),
                missing => {
                    let all = counts(&report, &["source"]);
                    Seen::Open(format!(
                        "the destination lacks {missing} of {all} cells of the backup"
                    ))
                }
            },
            Err(error) => Seen::Open(error.to_string()),
        })
    }

    fn schema(&self) -> Result<Result<Value>> {
        let arguments = self.schema_arguments();
        self.or_stopped(self.asked(|| schema(&arguments, self.stop, self.progress)))
    }

    fn queries(&self, book: &Runbook, model: Option<&Result<Value>>) -> Seen {
        match (book.next(), model) {
            (None, Some(Ok(report))) => match left(report, is_for_later) {
                0 => Seen::Done("continuous queries and subscriptions are the same".into()),
                _ if self.arguments.accepts(Accept::NoQueries) => {
                    Seen::Accepted("they differ (--accept no-queries)".into())
                }
                left => {
                    Seen::Open(format!("{left} differ: they come last, when all data are there"))
                }
            },
            _ => Seen::Unseen,
        }
    }

    /// The last steps: nobody writes to the source any more, both are the same once more, every node is.
    fn last(&self, book: &Runbook) -> Result<(Seen, Seen, Seen)> {
        if book.next().is_some() {
            return Ok((Seen::Unseen, Seen::Unseen, Seen::Unseen));
        }
        let arguments = self.verify_arguments(&self.arguments.sides.destination);
        let again = self.or_stopped(self.asked(|| verify(&arguments, self.progress)))?;
        let over = self.switched_over()?;
        let again = match again {
            Ok(report) if lacks_nothing(&report) => Seen::Done(same(&report)),
            Ok(report) => Seen::Open(differs(&report)),
            Err(error) => Seen::Open(error.to_string()),
        };
        let replicas = match &again {
            Seen::Done(_) => self.replicas()?,
            _ => Seen::Unseen,
        };
        Ok((over, again, replicas))
    }

    /// Whether the source took anything while it was compared, or holds what was left out of that because it
    /// is newer than the horizon.
    fn switched_over(&self) -> Result<Seen> {
        let taken = match (&self.taken, influxql::taken(&self.client)) {
            (Ok(before), Ok(now)) => now.saturating_sub(*before),
            (Err(error), _) => return Ok(unknown(error)),
            (_, Err(error)) => return Ok(unknown(&error)),
        };
        if taken > 0 {
            return Ok(Seen::Open(format!(
                "{taken} write requests or points came to the source while it was compared"
            )));
        }
        let lag = i64::from(self.arguments.sides.common.lag) * 1_000_000_000;
        let Some(clock) = self.client.clock() else {
            return Ok(Seen::Open("the source does not tell its clock".into()));
        };
        let horizon = clock.saturating_sub(lag);
        let newer = Window { start: horizon, end: TIME_MAX };
        let source = InfluxHttp::new(Arc::clone(&self.client), None, None)?;
        for held in source.namespaces()? {
            self.stop.check()?;
            let cells = compare::count(&source, &held.namespace, newer, &Filter::default())?;
            if cells > 0 {
                return Ok(Seen::Open(format!(
                    "{cells} cells of {} are newer than {} and were not compared",
                    held.namespace,
                    format_time(horizon)
                )));
            }
        }
        Ok(Seen::Done(format!(
            "nothing came to the source meanwhile, and nothing in it is newer than {}",
            format_time(horizon)
        )))
    }

    /// Each node by itself. One server is its own only replica; nodes of a cluster answer for each other.
    fn replicas(&self) -> Result<Seen> {
        if self.destination.nodes.len() > 1 {
            for node in &self.destination.nodes {
                let one = InfluxLocation { nodes: vec![node.clone()], ..self.destination.clone() };
                let one = Location::Influx(one).to_string();
                let arguments = self.verify_arguments(&one);
                let report = self.or_stopped(self.asked(|| verify(&arguments, self.progress)))?;
                match report {
                    Ok(report) if lacks_nothing(&report) => {}
                    Ok(report) => return Ok(Seen::Open(format!("{one}: {}", differs(&report)))),
                    Err(error) => return Ok(Seen::Open(format!("{one}: {error}"))),
                }
            }
        }
        if !self.is_cluster()? {
            let nodes = self.destination.nodes.len();
            return Ok(Seen::Done(format!("{nodes} node(s), each compared by itself")));
        }
        if self.arguments.accepts(Accept::UnprovenReplicas) {
            return Ok(Seen::Accepted(
                "per replica: unproven (--accept unproven-replicas): a node of a cluster answers with what \
                 other nodes hold"
                    .into(),
            ));
        }
        Ok(Seen::Open(
            "per replica: unproven: a node of a cluster answers with what other nodes hold".into(),
        ))
    }

    /// True for InfluxDB Enterprise, as the server says.
    fn is_cluster(&self) -> Result<bool> {
        let sides = &self.arguments.sides;
        let access = super::access(sides, Role::Destination)?;
        let client = side::connect(&self.destination, access, Role::Destination, self.progress)?;
        influxql::is_enterprise(&client)
    }
}

/// What the operator is told to do.
impl Look<'_> {
    /// A command of gapless between both servers.
    fn command(&self, name: &str, options: &str) -> String {
        let mut words: Vec<String> = ["gapless", name].map(str::to_owned).into();
        words.extend(options.split_whitespace().map(str::to_owned));
        words.extend([quote(&self.from), quote(&self.to)]);
        words.extend(self.trusts());
        words.join(" ")
    }

    /// The options about certificates and passwords that were given, of both sides.
    fn trusts(&self) -> Vec<String> {
        let common = &self.arguments.sides.common;
        let mut words = option("--source-password-file", common.source_password_file.as_deref());
        words.extend(common.insecure_source.then(|| "--insecure-source".to_owned()));
        words.extend(self.trusts_of_destination());
        words
    }

    /// Those about the destination.
    fn trusts_of_destination(&self) -> Vec<String> {
        let sides = &self.arguments.sides;
        let file = sides.destination_password_file.as_deref();
        let mut words = option("--ca", sides.common.ca.as_deref());
        words.extend(option("--destination-password-file", file));
        words.extend(sides.insecure_destination.then(|| "--insecure-destination".to_owned()));
        words
    }

    fn directory(&self) -> String {
        let named = self.arguments.backup.as_ref().map(|path| path.display().to_string());
        quote(&named.unwrap_or_else(|| "gapless-backup".into()))
    }

    fn backup_commands(&self) -> Vec<String> {
        let host = host(&self.source);
        let port = self.arguments.source_snapshot_port;
        vec![format!("gapless backup influxdb-snapshot://{host}:{port} {}", self.directory())]
    }

    fn restore_commands(&self) -> Vec<String> {
        let (host, port) = (host(&self.destination), self.arguments.destination_snapshot_port);
        let directory = self.directory();
        let copy = format!(
            "gapless copy --create {directory} {}",
            [vec![quote(&self.to)], self.trusts_of_destination()].concat().join(" ")
        );
        vec![
            copy,
            format!(
                "# or, into a server without these databases: influxd restore -portable -host {host}:{port} \
                 {directory}; on a meta node of a cluster: influxd-ctl restore {directory}"
            ),
        ]
    }

    fn schema_commands(&self, model: Option<&Result<Value>>) -> Vec<String> {
        let users =
            model.and_then(|model| model.as_ref().ok()?["users_without_password"].as_array());
        let apply = match users.is_some_and(|users| !users.is_empty()) {
            true => "--apply --passwords gapless-passwords.jsonl",
            false => "--apply",
        };
        vec![self.command("schema", apply)]
    }

    fn dual_commands(&self) -> Vec<String> {
        vec![
            "# have every client (Telegraf: a second [[outputs.influxdb]]) write to both servers, with \
             timestamps of its own"
                .into(),
            "# or, at the source, for each database and retention policy: CREATE SUBSCRIPTION \"gapless\" ON \
             \"DB\".\"RP\" DESTINATIONS ALL 'http://DESTINATION:8086'"
                .into(),
        ]
    }

    fn gap_commands(&self, found: &Result<Value>) -> Vec<String> {
        let changed = found.as_ref().is_ok_and(|report| {
            counts(report, &["missing_in_destination"]) == 0
                && counts(report, &["value_changed", "type_changed"]) > 0
        });
        let by = match &*self.arguments.by {
            "host" => String::new(),
            by => format!(" --by {}", quote(by)),
        };
        if !changed {
            return vec![self.command("gaps", &format!("--copy{by}"))];
        }
        let base = match &self.arguments.backup {
            Some(_) => format!("--base {}", self.directory()),
            None => "--overwrite".into(),
        };
        let repair = self.command("repair", &format!("--apply {base}"));
        vec![repair, "# what both sides changed since the backup is listed and left".into()]
    }

    fn replica_commands(&self) -> Vec<String> {
        vec![
            "# on a meta node: influxd-ctl show-shards; each owner of each shard by itself: influxd-ctl backup \
             -from NODE, and gapless verify of that backup"
                .into(),
            "# the verdict without that: --accept unproven-replicas".into(),
        ]
    }
}

/// The arguments of the commands by which it looks.
impl Look<'_> {
    fn gaps_arguments(&self) -> GapsArgs {
        GapsArgs {
            sides: sides(&self.arguments.sides),
            recheck: self.arguments.recheck.clone(),
            by: self.arguments.by.clone(),
            bucket: self.arguments.bucket.clone(),
            touched_since: None,
            copy: false,
            send_shifted: false,
            create: false,
        }
    }

    fn verify_arguments(&self, destination: &str) -> VerifyArgs {
        let destination = destination.to_owned();
        let sides = TwoSides { destination, ..sides(&self.arguments.sides) };
        VerifyArgs { sides, recheck: self.arguments.recheck.clone(), slice: None }
    }

    fn schema_arguments(&self) -> SchemaArgs {
        let (sides, common) = (&self.arguments.sides, &self.arguments.sides.common);
        SchemaArgs {
            source: sides.source.clone(),
            destination: sides.destination.clone(),
            apply: false,
            passwords: None,
            with_cqs: false,
            with_subscriptions: false,
            meta_api: None,
            db: None,
            meta_dir: None,
            ca: common.ca.clone(),
            insecure_source: common.insecure_source,
            insecure_destination: sides.insecure_destination,
            source_password_file: common.source_password_file.clone(),
            destination_password_file: sides.destination_password_file.clone(),
            report: Vec::new(),
            json: false,
            told: common.told.clone(),
        }
    }
}

/// An option with a file, where one was given.
fn option(name: &str, file: Option<&Path>) -> Vec<String> {
    let words = file.map(|file| [name.to_owned(), quote(&file.display().to_string())]);
    words.into_iter().flatten().collect()
}

/// Both sides, of a command whose report is read here.
fn sides(asked: &TwoSides) -> TwoSides {
    TwoSides { report: Vec::new(), json: false, ..asked.clone() }
}

fn host(server: &InfluxLocation) -> String {
    let host = server.nodes.first().map_or("localhost", |node| &node.host);
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// When the backup in a directory was begun, if it is whole.
fn whole_backup(directory: &Path) -> Result<Option<String>> {
    if !directory.is_dir() {
        return Ok(None);
    }
    let room = Room { memory: 0, spill: Place::new(None) };
    let Some(backup) = Backup::open(directory, room, false)? else { return Ok(None) };
    let begun = backup.made(None).map(|made| format!("begun {}", format_time(made.time)));
    Ok(Some(begun.unwrap_or_else(|| backup.name())))
}

fn unknown(error: &Error) -> Seen {
    Seen::Open(format!("whether somebody writes to the source is not known: {error}"))
}

fn of_schema(model: Option<&Result<Value>>) -> Seen {
    match model {
        None => Seen::Unseen,
        Some(Err(error)) => Seen::Open(error.to_string()),
        Some(Ok(report)) => match left(report, |kind| !is_for_later(kind)) {
            0 => Seen::Done("databases, retention policies, users and grants are there".into()),
            left => Seen::Open(format!("{left} of databases, policies, users and grants differ")),
        },
    }
}

fn dual_write(found: &Result<Value>) -> Seen {
    let Ok(report) = found else { return gap(found) };
    let switched = &report["switched"];
    let names: Vec<&str> = switched["not_switched"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !names.is_empty() {
        let more = if names.len() > 10 { ", …" } else { "" };
        let shown = names.iter().take(10).copied().collect::<Vec<_>>().join(", ");
        return Seen::Open(format!("{} write to the source only: {shown}{more}", names.len()));
    }
    match switched["latest"].as_i64() {
        Some(latest) => Seen::Done(format!("the last was switched {}", format_time(latest))),
        None => Seen::Done("no writer writes to the source only".into()),
    }
}

fn gap(found: &Result<Value>) -> Seen {
    match found {
        Ok(report) if lacks_nothing(report) => Seen::Done(same(report)),
        Ok(report) => Seen::Open(differs(report)),
        Err(error) => Seen::Open(error.to_string()),
    }
}

fn is_for_later(kind: &str) -> bool {
    matches!(kind, "continuous_query" | "subscription")
}

/// Differences of some kinds that a report of `schema` lists.
fn left(report: &Value, wanted: impl Fn(&str) -> bool) -> usize {
    let changes = report["changes"].as_array().into_iter().flatten();
    changes.filter(|change| change["kind"].as_str().is_some_and(&wanted)).count()
}

/// The sum of some classes of a report. A class that is not there counts as one cell: nothing is proven then.
fn counts(report: &Value, classes: &[&str]) -> u64 {
    classes.iter().map(|class| report["counts"][class].as_u64().unwrap_or(1)).sum()
}

/// Classes of cells that the destination lacks, or may lack.
const GONE: [&str; 3] = ["missing_in_destination", "value_changed", "type_changed"];
const UNPROVEN: [&str; 2] = ["unprovable", "unstable"];

/// True where everything that was compared is at the destination, as it is at the source. What the destination
/// holds beyond that came to it alone.
fn lacks_nothing(report: &Value) -> bool {
    let compared = counts(report, &["source"]) > 0;
    let incomplete = matches!(report["verdict"].as_str(), None | Some("incomplete"));
    compared && !incomplete && counts(report, &GONE) + counts(report, &UNPROVEN) == 0
}

fn same(report: &Value) -> String {
    let (cells, extra) = (counts(report, &["source"]), counts(report, &["extra_in_destination"]));
    match extra {
        0 => format!("all {cells} cells are at the destination"),
        extra => {
            format!("all {cells} cells are at the destination, and {extra} that it alone holds")
        }
    }
}

fn differs(report: &Value) -> String {
    let missing = counts(report, &GONE[..1]);
    let changed = counts(report, &GONE[1..]);
    let cells = counts(report, &["source"]);
    let mut text =
        format!("of {cells} cells the destination lacks {missing}, {changed} have another value");
    let unproven = counts(report, &UNPROVEN);
    if unproven > 0 {
        text.push_str(&format!(", {unproven} are unproven"));
    }
    if let Some(reason) = report["reasons"][0].as_str() {
        text.push_str(&format!("; {reason}"));
    }
    text
}
