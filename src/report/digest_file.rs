//! The report of `inspect` on a digest file: what it was made of, and what it holds.

use super::Digest;
use super::text::{figure, left_out};
use crate::digest::cell::SeriesHash;
use crate::digest::leaf::Leaf;
use crate::digest::node::Node;
use crate::digest_file::{DigestFile, NamespaceEntry, Origin};
use crate::error::Result;
use crate::plan::Held;
use crate::series::Printable;
use crate::window::{Window, format_time};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Display, Formatter};

/// What a digest file holds.
#[derive(Debug, Serialize)]
pub struct Described {
    /// Version of this structure.
    pub version: u32,
    /// `inspect`.
    pub command: &'static str,
    /// The file.
    pub file: String,
    /// What it was made of.
    pub origins: Vec<Origin>,
    /// True where namespaces that are not listed held nothing.
    pub every_namespace: bool,
    /// The options by which series were chosen; empty where all were.
    pub filter: String,
    /// Series were seen by their raw keys.
    pub raw_keys: bool,
    /// Entries of the dictionary: series by their raw keys.
    pub series: u64,
    /// Digest of everything in the window.
    pub digest: Digest,
    /// What was left out, one remark a line.
    pub not_covered: Vec<String>,
    /// The namespaces, sorted by name.
    pub namespaces: Vec<Namespace>,
}

/// One namespace.
#[derive(Debug, Serialize)]
pub struct Namespace {
    /// Database; empty where the source names none.
    pub database: String,
    /// Retention policy; empty where the source names none.
    pub retention_policy: String,
    /// The times that it can speak of.
    pub coverage: Vec<Span>,
    /// Units.
    pub units: usize,
    /// Counts over all measurements.
    #[serde(flatten)]
    pub counts: Counts,
    /// The measurements, sorted by name.
    pub measurements: Vec<Measurement>,
}

/// A time range.
#[derive(Debug, Serialize)]
pub struct Span {
    start: i64,
    end: i64,
}

/// One measurement.
#[derive(Debug, Serialize)]
pub struct Measurement {
    /// Name, unescaped, printable.
    pub name: String,
    /// Its counts.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Counts of a namespace or measurement.
#[derive(Debug, Serialize)]
pub struct Counts {
    /// Number of series.
    pub series: u64,
    /// False where there may be more series than that.
    pub series_exact: bool,
    /// Digests that are kept: of a series and hour, of a day where it is sparse, a minute where dense.
    pub leaves: u64,
    /// First nanosecond of the first that has cells; null where there is none.
    pub first: Option<i64>,
    /// First nanosecond after the last that has cells.
    pub last: Option<i64>,
    /// Digest, with the number of cells.
    pub digest: Digest,
}

/// Describes a file: those of its namespaces that are held, in the window. At most `series_max` series
/// of each namespace are told apart.
///
/// # Errors
/// Where the file cannot be read.
pub fn of_digest_file(
    file: &DigestFile,
    held: &[Held],
    window: Window,
    not_covered: Vec<String>,
    series_max: usize,
) -> Result<Described> {
    let contents = file.contents();
    let mut total = Node::default();
    let mut namespaces = Vec::new();
    for entry in held.iter().filter_map(|held| file.namespace(&held.namespace)) {
        let (node, namespace) = namespace(file, entry, window, series_max)?;
        total += node;
        namespaces.push(namespace);
    }
    Ok(Described {
        version: 1,
        command: "inspect",
        file: file.path().display().to_string(),
        origins: contents.origins.clone(),
        every_namespace: !contents.every_namespace.is_empty(),
        filter: contents.filter.options(),
        raw_keys: contents.raw_keys,
        series: contents.series,
        digest: Digest::of(total),
        not_covered,
        namespaces,
    })
}

fn namespace(
    file: &DigestFile,
    entry: &NamespaceEntry,
    window: Window,
    series_max: usize,
) -> Result<(Node, Namespace)> {
    let mut measured: BTreeMap<Box<[u8]>, Gathered> = BTreeMap::new();
    let (mut all, mut left) = (Gathered::default(), series_max);
    file.leaves(&entry.namespace(), window, &mut |leaf, name| {
        let name: &[u8] = name.map_or(b"(not kept)", |name| name);
        if !measured.contains_key(name) {
            measured.insert(name.into(), Gathered::default());
        }
        if let Some(one) = measured.get_mut(name) {
            one.add(leaf, &mut left);
        }
        all.add(leaf, &mut 0);
        Ok(())
    })?;
    let series = measured.values().map(|one| one.series.len() as u64).sum();
    let exact = measured.values().all(|one| !one.more);
    let node = all.node;
    let measurements = measured.into_iter().map(|(name, one)| Measurement {
        name: Printable(&name).to_string(),
        counts: one.counts(),
    });
    let spans = entry.coverage.iter().map(|span| Span { start: span.start, end: span.end });
    let namespace = Namespace {
        database: entry.database.clone(),
        retention_policy: entry.retention_policy.clone(),
        coverage: spans.collect(),
        units: entry.units.len(),
        counts: Counts { series, series_exact: exact, ..all.counts() },
        measurements: measurements.collect(),
    };
    Ok((node, namespace))
}

/// Counts on the way.
#[derive(Default)]
struct Gathered {
    series: HashSet<SeriesHash, foldhash::fast::RandomState>,
    /// There may be more series than those.
    more: bool,
    leaves: u64,
    first: Option<i64>,
    last: Option<i64>,
    node: Node,
}

impl Gathered {
    fn add(&mut self, leaf: &Leaf, left: &mut usize) {
        if *left > 0 {
            *left -= usize::from(self.series.insert(leaf.series));
        } else if !self.more {
            self.more = !self.series.contains(&leaf.series);
        }
        let Window { start, end } = leaf.bucket().window();
        self.first = Some(self.first.map_or(start, |first| first.min(start)));
        self.last = self.last.max(Some(end));
        self.leaves += 1;
        self.node += leaf.node;
    }

    fn counts(self) -> Counts {
        Counts {
            series: self.series.len() as u64,
            series_exact: !self.more,
            leaves: self.leaves,
            first: self.first,
            last: self.last,
            digest: Digest::of(self.node),
        }
    }
}

impl Described {
    /// The report as JSON, ended by a line feed.
    ///
    /// # Errors
    /// Where it cannot be expressed, which would be a defect.
    pub fn json(&self) -> Result<String> {
        super::json(self)
    }

    /// True where there is no cell in the scope.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.digest.node.cells == 0
    }
}

impl Display for Described {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for Origin { source, made, gapless } in &self.origins {
            let source = Printable(source.as_bytes());
            writeln!(f, "digest of {source}, made {} by gapless {gapless}", format_time(*made))?;
        }
        if !self.filter.is_empty() {
            writeln!(f, "series {}", Printable(self.filter.as_bytes()))?;
        }
        let databases =
            if self.every_namespace { "every one of the source" } else { "those named" };
        let keys = if self.raw_keys { "as stored" } else { "as queries show them" };
        writeln!(f, "databases {databases}   series {keys}, {}", figure(self.series))?;
        for one in &self.namespaces {
            let name = super::names(&one.database, &one.retention_policy);
            writeln!(f, "{}", line(&name, &one.counts))?;
            for Span { start, end } in &one.coverage {
                writeln!(f, "  covers {}", Window { start: *start, end: *end })?;
            }
            for measurement in &one.measurements {
                writeln!(f, "  {}", line(&measurement.name, &measurement.counts))?;
            }
        }
        let (digest, cells) = (&self.digest.digest, figure(self.digest.node.cells));
        writeln!(f, "digest {digest}   cells {cells}   {}", self.file)?;
        if self.is_empty() {
            writeln!(f, "{} holds nothing in the window", self.file)?;
        }
        left_out(f, 0, "digest", &self.not_covered)
    }
}

fn line(name: &str, counts: &Counts) -> String {
    let Counts { series, series_exact, leaves, first, last, digest } = counts;
    let at_least = if *series_exact { "" } else { "at least " };
    let time = |time: &Option<i64>| time.map_or("-".to_owned(), format_time);
    format!(
        "{name}   series {at_least}{}   cells {}   leaves {}   {} to {}   digest {}",
        figure(*series),
        figure(digest.node.cells),
        figure(*leaves),
        time(first),
        time(last),
        digest.digest
    )
}
