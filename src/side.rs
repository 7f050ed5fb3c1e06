//! Opens what a location names, as a source or as a destination.

mod create;
mod identity;
mod stored;

pub use self::create::{Missing, settings_that_differ};
pub use self::identity::is_unchanged;
pub use self::stored::meta_of;

use self::identity::Fingerprint;

use crate::archive::{self, Header};
use crate::compress::{self, Input};
use crate::copy;
use crate::digest_file::{self, DigestFile};
use crate::error::{Error, Result};
use crate::http::{Client, News, READ_TIMEOUT, Retry, Role, Secret, Server, Summary};
use crate::journal::{Identity, now};
use crate::location::{InfluxLocation, Location, NodeLocation};
use crate::pipeline::{Progress, Stage};
use crate::plan::Held;
use crate::progress::{Aside, Meter};
use crate::reject::Rejects;
use crate::sink::Sink;
use crate::sink::archive::{ArchiveSink, Recorded};
use crate::sink::influx::{self, Influx};
use crate::sink::null::Null;
use crate::source::Source;
use crate::source::archive::ArchiveSource;
use crate::source::digest_file::DigestSource;
use crate::source::influx_http::InfluxHttp;
use crate::source::line_file::{self, LineFile};
use crate::source::tsm::directory::Parts;
use crate::units::Pair;
use std::fs::File;
use std::io::ErrorKind as IoErrorKind;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How servers are reached.
#[derive(Debug, Default)]
pub struct Access {
    /// Password of the user in the location.
    pub password: Option<Secret>,
    /// Certificates that are trusted besides the system's.
    pub ca: Option<PathBuf>,
    /// Any certificate is taken.
    pub insecure: bool,
    /// Most requests under way to one node.
    pub jobs: usize,
}

/// How a side is read.
#[derive(Debug)]
pub struct Reading {
    /// Limits, and what line protocol does not say.
    pub lines: line_file::Options,
    /// A file is made out, to be known again.
    pub identify: bool,
    /// Damage in a server's files is passed over and counted.
    pub salvage: bool,
    /// Shards that are open at once.
    pub jobs: usize,
    /// Parts of a server's data directory that stand elsewhere.
    pub parts: Parts,
}

/// A side that is read.
#[expect(missing_debug_implementations, reason = "neither seam asks for Debug")]
pub struct SourceSide {
    /// Reads it.
    pub source: Box<dyn Source>,
    /// What a line protocol input held besides.
    pub lines: Option<line_file::Stats>,
    /// The server's clock, nanoseconds: the side takes writes while it is read.
    pub clock: Option<i64>,
    /// By what a file is known again, where that was asked for.
    pub identity: Option<Identity>,
}

/// Opens a source, recognised by its content.
///
/// # Errors
/// Where there is nothing, or nothing that is known.
pub fn open_source(
    location: &Location,
    access: Access,
    role: Role,
    reading: &Reading,
    rejects: &Rejects,
    progress: &Meter,
) -> Result<SourceSide> {
    let lines = |input: Input| -> Result<SourceSide> {
        let warn = |text: &str| progress.warn(text);
        let file = LineFile::read(&location.to_string(), input, &reading.lines, rejects, &warn)?;
        let lines = Some(file.stats().clone());
        progress.rejected(file.stats().rejected);
        Ok(SourceSide { source: Box::new(file), lines, clock: None, identity: None })
    };
    if reading.parts.is_given() && !matches!(location, Location::Path(path) if path.is_dir()) {
        return Err(Error::usage(format!(
            "--meta-dir and --wal-dir are for the data directory of a server, and {location} is none"
        )));
    }
    match location {
        Location::Stdin => {
            let stdin = progress.count_bytes(std::io::stdin());
            lines(Input::from_reader("-".into(), Box::new(stdin)))
        }
        Location::Path(path) if path.is_dir() => {
            if let Some(side) = stored::open_files(path, reading)? {
                return Ok(side);
            }
            let source = Box::new(open_directory(path)?);
            let identity = reading.identify.then(|| identity::of_archive(path)).transpose()?;
            Ok(SourceSide { source, lines: None, clock: None, identity })
        }
        Location::Path(path) if digest_file::is_digest_file(path)? => {
            let counted = |file| Box::new(progress.count_bytes(file)) as _;
            let source = Box::new(DigestSource::new(DigestFile::open(path, counted)?));
            Ok(SourceSide { source, lines: None, clock: None, identity: None })
        }
        Location::Path(path) => {
            let file = File::open(path).map_err(|error| Error::io(path, "open", error))?;
            let length = compress::length(&file);
            let fingerprint = reading.identify.then(|| Fingerprint::of(path, &file)).transpose()?;
            let file = identity::hashed(progress.count_bytes(file), fingerprint.as_ref());
            let side = lines(Input::from_reader(path.clone(), file).of_length(length))?;
            Ok(SourceSide { identity: fingerprint.map(Fingerprint::finish), ..side })
        }
        Location::Influx(influx) => {
            let client = connect(influx, access, role, progress)?;
            let mut names = (influx.database.clone(), influx.retention_policy.clone());
            let asked_for = &reading.lines.namespace.database;
            if role == Role::Source && names.0.is_none() && !asked_for.is_empty() {
                // A server shows more of a database that is named.
                names.0 = Some(asked_for.clone());
            }
            let source = InfluxHttp::new(Arc::clone(&client), names.0, names.1)?;
            let clock = client.clock();
            Ok(SourceSide { source: Box::new(source), lines: None, clock, identity: None })
        }
        Location::Snapshot(snapshot) => {
            warn_snapshot(location, progress);
            let source = Box::new(stored::open_snapshot(snapshot, reading)?);
            // The port does not tell the server's clock.
            Ok(SourceSide { source, lines: None, clock: Some(now()), identity: None })
        }
        Location::Null => Err(Error::usage("null: cannot be read: it stores nothing")),
    }
}

/// Says what a snapshot port is before it is spoken to.
pub(crate) fn warn_snapshot(location: &Location, progress: &Meter) {
    progress.warn(&format!(
        "{location}: the snapshot port knows neither encryption nor users: use it on a host that you trust, \
         or through a tunnel (ssh -L)"
    ));
}

fn open_directory(path: &Path) -> Result<ArchiveSource> {
    if archive::is_archive(path)? {
        return ArchiveSource::open(path);
    }
    Err(Error::location(
        path.display(),
        "the directory is nothing known: a gapless archive has a manifest.json, a data directory \
         meta/meta.db, a backup TIME.manifest or meta.NN",
    ))
}

/// A client of the server that a location names. Nothing is sent yet.
///
/// # Errors
/// As [`Client::new`].
pub(crate) fn connect(
    location: &InfluxLocation,
    access: Access,
    role: Role,
    progress: &Meter,
) -> Result<Arc<Client>> {
    let node = |node: &NodeLocation| Server {
        tls: location.tls,
        host: node.host.clone(),
        port: node.port,
        prefix: location.prefix.clone(),
        user: location.user.clone(),
        password: access.password.clone(),
        ca: access.ca.clone(),
        insecure: access.insecure,
    };
    let nodes = location.nodes.iter().map(node).collect();
    let client = Client::of_nodes(nodes, role, Retry::default(), READ_TIMEOUT, access.jobs)?;
    let tell = progress.aside();
    client.tell(Arc::new(move |news| match news {
        News::BackedOff(why) => tell(Aside::State(format!("backoff:{why}"))),
        News::Recovers => tell(Aside::Back),
        News::LeftOut { node, reason } => tell(Aside::Warning(format!(
            "the {role}'s node {node} is left out and tried again later: {reason}"
        ))),
        News::Returned { node } => {
            tell(Aside::Warning(format!("the {role}'s node {node} answers again")));
        }
    }));
    Ok(Arc::new(client))
}

/// Tells how many bytes of line protocol there are to read, where every input is a file: a pipe
/// ends when it ends.
pub fn expect_input(locations: &[&Location], progress: &dyn Progress) {
    let mut bytes = 0;
    let mut files = 0;
    for location in locations {
        match location {
            Location::Stdin => return,
            Location::Path(path) => match path.metadata() {
                Ok(held) if held.is_file() => (bytes, files) = (bytes + held.len(), files + 1),
                Ok(held) if held.is_dir() => {}
                _ => return,
            },
            Location::Influx(_) | Location::Snapshot(_) | Location::Null => {}
        }
    }
    if files > 0 {
        progress.expect_bytes(Stage::Read, bytes);
    }
}

/// How a destination is written.
#[derive(Debug)]
pub struct Writing {
    /// What is done about namespaces that are missing.
    pub missing: Missing,
    /// Nothing is written: batches are counted.
    pub dry_run: bool,
    /// Options of writes to a server.
    pub influx: influx::Options,
    /// What an archive says about where it comes from.
    pub header: Header,
    /// What is recorded of an archive that was begun; `None` where none was.
    pub recorded: Option<Recorded>,
}

/// A side that is filled.
#[expect(clippy::large_enum_variant, reason = "there is one a run")]
#[expect(missing_debug_implementations, reason = "neither seam asks for Debug")]
pub enum DestinationSide {
    /// An InfluxDB 1.x server.
    Influx(Box<InfluxSide>),
    /// An archive that is being made.
    NewArchive {
        /// Writes it.
        sink: ArchiveSink,
        /// Reads back what is closed.
        reader: ArchiveSource,
    },
    /// An archive that exists: it is compared, never changed.
    Archive(ArchiveSource),
    /// Counts only.
    Null(Null),
}

/// An InfluxDB 1.x server that is filled and read back.
#[expect(missing_debug_implementations, reason = "neither seam asks for Debug")]
pub struct InfluxSide {
    reader: InfluxHttp,
    sink: Box<dyn Sink>,
    created: Vec<String>,
}

/// Opens a destination. On a server, the namespaces of `pairs` must exist or are created.
///
/// # Errors
/// Where it cannot be reached or made.
pub fn open_destination(
    location: &Location,
    access: Access,
    writing: Writing,
    pairs: &[Pair],
    progress: &Meter,
) -> Result<DestinationSide> {
    match location {
        Location::Null => Ok(DestinationSide::Null(Null)),
        Location::Snapshot(_) => Err(Error::usage(
            "the snapshot port cannot be written: name the server as influxdb://HOST:8086/DB",
        )),
        Location::Stdin => Err(Error::usage("- is no destination")),
        Location::Path(path) if writing.dry_run && !path.exists() => {
            Ok(DestinationSide::Null(Null))
        }
        Location::Path(path) => open_archive(path, writing.header, writing.recorded.as_ref()),
        Location::Influx(influx) => {
            let client = connect(influx, access, Role::Destination, progress)?;
            let created = create::ensure(&client, pairs, writing.missing)?;
            let (mut database, mut rp) = (influx.database.clone(), influx.retention_policy.clone());
            if writing.missing == Missing::Say && !created.is_empty() {
                // What would be made is not there to be looked at.
                (database, rp) = (None, None);
            }
            let reader = InfluxHttp::new(Arc::clone(&client), database, rp)?;
            let sink: Box<dyn Sink> = match writing.dry_run {
                true => Box::new(Null),
                false => Box::new(Influx::new(client, writing.influx)?),
            };
            Ok(DestinationSide::Influx(Box::new(InfluxSide { reader, sink, created })))
        }
    }
}

fn open_archive(
    path: &Path,
    header: Header,
    recorded: Option<&Recorded>,
) -> Result<DestinationSide> {
    match path.metadata() {
        Ok(found) if found.is_dir() => Ok(DestinationSide::Archive(open_directory(path)?)),
        Ok(_) => Err(Error::location(
            path.display(),
            "exists and is no directory: an archive is made as a new directory",
        )),
        Err(error) if error.kind() == IoErrorKind::NotFound => {
            let sink = match recorded {
                Some(recorded) => ArchiveSink::resume(path, header, recorded)?,
                None => ArchiveSink::create(path, header)?,
            };
            let reader = sink.reader();
            Ok(DestinationSide::NewArchive { sink, reader })
        }
        Err(error) => Err(Error::io(path, "look at", error)),
    }
}

impl DestinationSide {
    /// Reads back what is stored.
    #[must_use]
    pub fn reader(&self) -> Option<&dyn Source> {
        match self {
            Self::Influx(influx) => Some(&influx.reader),
            Self::NewArchive { reader, .. } | Self::Archive(reader) => Some(reader),
            Self::Null(_) => None,
        }
    }

    /// Where rows are written, if they may be.
    #[must_use]
    pub fn sink(&self) -> Option<&dyn Sink> {
        match self {
            Self::Influx(influx) => Some(&*influx.sink),
            Self::NewArchive { sink, .. } => Some(sink),
            Self::Archive(_) => None,
            Self::Null(null) => Some(null),
        }
    }

    /// The side for a copy, if it may be written.
    #[must_use]
    pub fn destination(&self) -> Option<copy::Destination<'_>> {
        Some(copy::Destination { reader: self.reader(), sink: self.sink()? })
    }

    /// The statements with which it was made ready, each with what was chosen in it.
    #[must_use]
    pub fn created(&self) -> &[String] {
        match self {
            Self::Influx(influx) => &influx.created,
            _ => &[],
        }
    }

    /// True where it is a server, not a directory.
    #[must_use]
    pub fn is_server(&self) -> bool {
        matches!(self, Self::Influx(_))
    }

    /// How much was asked of a server at once, and of which nodes.
    #[must_use]
    pub fn pace(&self) -> Option<Summary> {
        match self {
            Self::Influx(influx) => Some(influx.reader.client().summary()),
            _ => None,
        }
    }

    /// The client of a server.
    #[must_use]
    pub fn client(&self) -> Option<&Client> {
        match self {
            Self::Influx(influx) => Some(influx.reader.client()),
            _ => None,
        }
    }

    /// The namespaces that are there, with their settings.
    ///
    /// # Errors
    /// Where a server cannot be asked.
    pub fn held(&self) -> Result<Vec<Held>> {
        self.reader().map_or(Ok(Vec::new()), Source::namespaces)
    }

    /// The server's clock, nanoseconds.
    #[must_use]
    pub fn clock(&self) -> Option<i64> {
        match self {
            Self::Influx(influx) => influx.reader.client().clock(),
            _ => None,
        }
    }
}

/// Refuses to compare a place with itself, as far as names tell: two names of one machine that
/// resolve to different addresses are not seen through.
///
/// # Errors
/// A usage error.
pub fn refuse_same_place(one: &Location, two: &Location, pairs: &[Pair]) -> Result<()> {
    let (Location::Influx(ours), Location::Influx(theirs)) = (one, two) else { return Ok(()) };
    let addresses = |location: &InfluxLocation| -> Vec<SocketAddr> {
        let places = location.nodes.iter().map(|node| (node.host.as_str(), node.port));
        places.filter_map(|place| place.to_socket_addrs().ok()).flatten().collect()
    };
    let theirs = addresses(theirs);
    let same_server = addresses(ours).iter().any(|address| theirs.contains(address));
    let same = |pair: &&Pair| !pair.source_lacks && pair.source.namespace == pair.destination;
    match pairs.iter().find(same) {
        Some(pair) if same_server => Err(Error::usage(format!(
            "source and destination are the same: {} on {one}",
            pair.destination
        ))),
        _ => Ok(()),
    }
}
