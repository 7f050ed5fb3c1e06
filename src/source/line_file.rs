//! Line protocol from a file or standard input, as a source.
//!
//! The input is read once, from its first byte to its last, before anything is handed on: a later
//! line may supersede an earlier one, and an input that is cut short must not be moved in part. Its
//! rows stay in memory; more of them than the budget holds is an error.

use super::{Reader, Source};
use crate::block::Block;
use crate::block::log::{Blocks, RowLog, Table};
use crate::compress::Input;
use crate::error::{Error, ErrorKind, Result};
use crate::line::decode::{self, Bad, Decoder, Item, Row};
use crate::line::{Precision, key};
use crate::plan::{Grid, Held, Namespace, Partition, Scope};
use crate::reject::Rejects;
use crate::window::{DAY, Window};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// Longest line: a server takes no request above 25 MB unless told to.
const LINE_BYTES_MAX: usize = 64 << 20;
/// Warnings that are told one by one.
const WARNINGS_MAX: u64 = 10;

/// How an input is read.
#[derive(Debug)]
pub struct Options {
    /// Unit of the timestamps.
    pub precision: Precision,
    /// Time of lines that have none, nanoseconds; without it they are rejected.
    pub default_time: Option<i64>,
    /// Rows outside are left out, and counted.
    pub window: Window,
    /// Names for lines that no `# CONTEXT` line gives a namespace.
    pub namespace: Namespace,
    /// Bytes that the rows may take in memory.
    pub memory_max: usize,
}

/// What was read and not handed on as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Rows decoded, those outside the window among them.
    pub rows: u64,
    /// Cells that a later line replaced.
    pub superseded: u64,
    /// Rows outside the window.
    pub outside_window: u64,
    /// Lines, or fields of them, that were rejected.
    pub rejected: u64,
}

/// A line protocol input, read into memory.
#[derive(Debug)]
pub struct LineFile {
    name: String,
    tables: BTreeMap<Namespace, Vec<(Vec<u8>, Table)>>,
    stats: Stats,
}

impl LineFile {
    /// Reads the whole input. Lines that a server would refuse go to `rejects`; what the operator
    /// should know at once goes to `warn`.
    ///
    /// # Errors
    /// Where the input cannot be read to its end, or does not fit in memory.
    pub fn read(
        name: &str,
        mut input: Input,
        options: &Options,
        rejects: &Rejects,
        warn: &dyn Fn(&str),
    ) -> Result<Self> {
        let mut decoder = Decoder::new(decode::Options {
            precision: options.precision,
            default_time: options.default_time,
            line_bytes_max: LINE_BYTES_MAX.min(options.memory_max),
        });
        let mut loader = Loader::new(name, options, rejects, warn);
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = input.read(&mut chunk)?;
            if read == 0 {
                decoder.finish();
            }
            decoder.feed(&chunk[..read]);
            while let Some(item) = decoder.next_item().map_err(|long| too_long(name, &long))? {
                loader.take(&item)?;
            }
            loader.within_memory()?;
            if read == 0 {
                return Ok(loader.finish());
            }
        }
    }

    /// What was left out.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    fn tables(&self, namespace: &Namespace) -> Result<&[(Vec<u8>, Table)]> {
        self.tables.get(namespace).map(Vec::as_slice).ok_or_else(|| {
            let (what, place) = (format!("namespace {namespace}"), format!("in {}", self.name));
            ErrorKind::NotFound { what, place }.into()
        })
    }
}

fn too_long(name: &str, long: &decode::LineTooLong) -> Error {
    let what = format!("{name}: the line that begins at line {}", long.line);
    Error::from(ErrorKind::Limit { what, max: format!("{} bytes", long.max) }).with_next(
        "nothing behind it was read and nothing was sent: look for a quote that is never closed",
    )
}

/// The input on its way into row logs.
struct Loader<'a> {
    name: &'a str,
    options: &'a Options,
    rejects: &'a Rejects,
    warn: &'a dyn Fn(&str),
    logs: Vec<Measurement>,
    by_name: HashMap<(usize, Vec<u8>), usize>,
    namespaces: Vec<Namespace>,
    /// Namespace of the lines that follow.
    current: usize,
    /// Log of the newest row: the next row is often of the same measurement.
    newest: Option<usize>,
    stats: Stats,
    warnings: u64,
}

/// Rows of one measurement of one namespace, by the spelling of its raw name.
struct Measurement {
    namespace: usize,
    raw: Vec<u8>,
    log: RowLog,
}

impl<'a> Loader<'a> {
    fn new(
        name: &'a str,
        options: &'a Options,
        rejects: &'a Rejects,
        warn: &'a dyn Fn(&str),
    ) -> Self {
        Self {
            name,
            options,
            rejects,
            warn,
            logs: Vec::new(),
            by_name: HashMap::new(),
            namespaces: vec![options.namespace.clone()],
            current: 0,
            newest: None,
            stats: Stats::default(),
            warnings: 0,
        }
    }

    fn take(&mut self, item: &Item<'_>) -> Result<()> {
        match item {
            Item::Row(row) => self.row(row),
            Item::Comment(text) => self.comment(text),
            Item::Bad(bad) => self.bad(bad),
        }
    }

    fn row(&mut self, row: &Row<'_>) -> Result<()> {
        self.stats.rows += 1;
        if let Some(warning) = row.warning {
            self.warned(&format!("{}, line {}: {warning}", self.name, row.line));
        }
        if row.dropped_time_field {
            self.stats.rejected += 1;
            let place = format!("{}, line {}", self.name, row.line);
            let reason = "a field called time is dropped by the server; the other fields were kept";
            self.rejects.add(&place, reason, row.text)?;
        }
        if !self.options.window.contains(row.time) {
            self.stats.outside_window += 1;
            return Ok(());
        }
        let at = self.log_of(row.key);
        let log = &mut self.logs[at].log;
        let series = log.find_series(row.key).unwrap_or_else(|| {
            let series = key::parse(row.key);
            log.add_series(Arc::new(series))
        });
        log.begin_row(series, row.time);
        for (field, value) in row.fields() {
            log.push(field, value);
        }
        Ok(())
    }

    /// The log that takes rows with this raw key.
    fn log_of(&mut self, raw_key: &[u8]) -> usize {
        let raw = raw_measurement(raw_key);
        if let Some(at) = self.newest
            && self.logs[at].namespace == self.current
            && self.logs[at].raw == raw
        {
            return at;
        }
        let name = (self.current, raw.to_vec());
        let at = *self.by_name.entry(name).or_insert_with_key(|(namespace, raw)| {
            let log = RowLog::default();
            self.logs.push(Measurement { namespace: *namespace, raw: raw.clone(), log });
            self.logs.len() - 1
        });
        self.newest = Some(at);
        at
    }

    /// `influx_inspect export` names the namespace of what follows in comments.
    fn comment(&mut self, text: &[u8]) -> Result<()> {
        let mut namespace = self.namespaces[self.current].clone();
        if let Some(name) = text.strip_prefix(b"# CONTEXT-DATABASE:") {
            namespace = Namespace { database: self.utf8(name)?, ..Namespace::default() };
        } else if let Some(name) = text.strip_prefix(b"# CONTEXT-RETENTION-POLICY:") {
            namespace.retention_policy = self.utf8(name)?;
        } else {
            return Ok(());
        }
        let known = self.namespaces.iter().position(|other| *other == namespace);
        self.current = known.unwrap_or_else(|| {
            self.namespaces.push(namespace);
            self.namespaces.len() - 1
        });
        Ok(())
    }

    fn utf8(&self, name: &[u8]) -> Result<String> {
        let name = name.strip_prefix(b" ").unwrap_or(name);
        String::from_utf8(name.to_vec()).map_err(|_ignored| {
            Error::location(self.name, "a CONTEXT line names a database or RP that is not UTF-8")
        })
    }

    fn bad(&mut self, bad: &Bad<'_>) -> Result<()> {
        self.stats.rejected += 1;
        let place = format!("{}, line {}, column {}", self.name, bad.line, bad.column);
        self.warned(&format!("{place}: rejected: {}", bad.reason));
        self.rejects.add(&place, &bad.reason, bad.text)
    }

    fn warned(&mut self, text: &str) {
        self.warnings += 1;
        if self.warnings <= WARNINGS_MAX {
            (self.warn)(text);
        } else if self.warnings == WARNINGS_MAX + 1 {
            (self.warn)("further warnings about lines are counted, not printed");
        }
    }

    fn within_memory(&self) -> Result<()> {
        let used: usize = self.logs.iter().map(|measurement| measurement.log.memory()).sum();
        // Sorting a measurement needs its rows a second time.
        let largest = self.logs.iter().map(|measurement| measurement.log.memory()).max();
        if used + largest.unwrap_or(0) <= self.options.memory_max {
            return Ok(());
        }
        let what = format!("the rows of {} in memory", self.name);
        let max = format!("{} MiB (--memory)", self.options.memory_max >> 20);
        Err(Error::from(ErrorKind::Limit { what, max }).with_next(
            "nothing was sent: give a larger --memory, or a shorter window with --start and --end",
        ))
    }

    fn finish(mut self) -> LineFile {
        let mut tables: BTreeMap<Namespace, Vec<(Vec<u8>, Table)>> = BTreeMap::new();
        for measurement in self.logs.drain(..) {
            let table = measurement.log.resolve();
            self.stats.superseded += table.superseded();
            let Some(first) = table.series().first() else { continue };
            let name = first.measurement().to_vec();
            let namespace = self.namespaces[measurement.namespace].clone();
            tables.entry(namespace).or_default().push((name, table));
        }
        for list in tables.values_mut() {
            list.sort_by(|(one, _), (two, _)| one.cmp(two));
        }
        LineFile { name: self.name.to_owned(), tables, stats: self.stats }
    }
}

/// The measurement's part of a raw key: up to the first comma that no backslash precedes.
fn raw_measurement(key: &[u8]) -> &[u8] {
    let end = memchr::memchr_iter(b',', key).find(|&at| at == 0 || key[at - 1] != b'\\');
    &key[..end.unwrap_or(key.len())]
}

impl Source for LineFile {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn namespaces(&self) -> Result<Vec<Held>> {
        let held = |namespace: &Namespace| Held { namespace: namespace.clone(), settings: None };
        Ok(self.tables.keys().map(held).collect())
    }

    /// The days that hold rows, neighbours joined.
    fn plan(&self, scope: &Scope) -> Result<Vec<Partition>> {
        let mut days = BTreeSet::new();
        for (measurement, table) in self.tables(&scope.namespace)? {
            if scope.filter.admits_measurement(measurement) {
                add_days(&mut days, table.times());
            }
        }
        let days = days.iter().filter_map(|day| day.intersect(scope.window));
        let partition =
            |window| Partition { namespace: scope.namespace.clone(), window, measurement: None };
        Ok(join(days).into_iter().map(partition).collect())
    }

    fn open(&self, partition: &Partition) -> Result<Box<dyn Reader + '_>> {
        let tables = self.tables(&partition.namespace)?;
        let wanted = partition.measurement.clone();
        let window = partition.window;
        let tables = tables
            .iter()
            .filter(move |(name, _)| wanted.as_ref().is_none_or(|wanted| wanted == name))
            .map(move |(_, table)| table.blocks(window));
        Ok(Box::new(TableReader { tables: Box::new(tables), blocks: None }))
    }

    fn sees_raw_keys(&self) -> bool {
        true
    }
}

fn add_days(days: &mut BTreeSet<Window>, times: &[i64]) {
    let grid = Grid { duration: DAY };
    let mut newest = Window { start: 0, end: 0 };
    for &time in times {
        if !newest.contains(time) {
            newest = grid.cell(time);
            days.insert(newest);
        }
    }
}

/// Joins windows that touch.
fn join(windows: impl Iterator<Item = Window>) -> Vec<Window> {
    let mut joined: Vec<Window> = Vec::new();
    for window in windows {
        match joined.last_mut() {
            Some(last) if last.end == window.start => last.end = window.end,
            _ => joined.push(window),
        }
    }
    joined
}

/// The blocks of one table after the other.
struct TableReader<'a> {
    tables: Box<dyn Iterator<Item = Blocks<'a>> + 'a>,
    blocks: Option<Blocks<'a>>,
}

impl Reader for TableReader<'_> {
    fn next_block(&mut self) -> Result<Option<Block>> {
        loop {
            if let Some(block) = self.blocks.as_mut().and_then(Iterator::next) {
                return Ok(Some(block));
            }
            self.blocks = self.tables.next();
            if self.blocks.is_none() {
                return Ok(None);
            }
        }
    }
}
