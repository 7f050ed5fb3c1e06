//! Line protocol from a file or standard input, as a source.
//!
//! The input is read once, from its first byte to its last, before anything is handed on: a later
//! line may supersede an earlier one, and an input that is cut short must not be moved in part. Its
//! rows stay in memory; more of them than the budget holds is an error.
//!
//! The decoder follows a server, whose comments may run over several lines where they hold a quote.
//! Here a comment ends with its line, for `# CONTEXT` lines are read by programs that know no other
//! rule. Rows that a server would take for a part of any other comment are rejected, never skipped.

mod ddl;
mod text;

use self::ddl::{Ddl, is_statement};
use self::text::{Text, blank};
use super::{Reader, Source};
use crate::block::Block;
use crate::block::log::{Blocks, RowLog, Table};
use crate::compress::Input;
use crate::error::{Error, ErrorKind, Result};
use crate::line::decode::{self, Bad, Decoder, Item, Row};
use crate::line::{Precision, key};
use crate::plan::{Grid, Held, Namespace, Partition, RpSettings, Scope};
use crate::reject::Rejects;
use crate::series::Printable;
use crate::window::{DAY, Window};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Longest name in a `# CONTEXT` line.
const NAME_BYTES_MAX: usize = 65_535;
/// Warnings that are told one by one.
const WARNINGS_MAX: u64 = 10;
/// What the log of a measurement takes before its rows are counted, besides itself: its maps.
const LOG_BYTES: usize = 700;
/// What a namespace takes besides its names.
const NAMESPACE_BYTES: usize = 300;

/// The database in which a server keeps statistics about itself.
const INTERNAL: &str = "_internal";

/// Why rows behind a comment are rejected.
const SWALLOWED: &str =
    "a quote in a comment swallows the lines that follow, as it does on a server";
/// Why rows among statements are rejected.
const AMONG_DDL: &str = "a row stands between # DDL and # DML, where only statements belong";

/// How an input is read.
#[derive(Debug)]
pub struct Options {
    /// Unit of the timestamps.
    pub precision: Precision,
    /// Time of lines that have none, nanoseconds; without it they are rejected.
    pub default_time: Option<i64>,
    /// Rows outside are left out, and counted.
    pub window: Window,
    /// Names for lines that no `# CONTEXT` line gives a namespace. A name that is set also filters
    /// the rows under `# CONTEXT` lines: those of other namespaces are left out, and counted.
    pub namespace: Namespace,
    /// Bytes that the rows may take in memory.
    pub memory_max: usize,
}

/// What was read and not handed on as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Rows decoded, those that were left out among them.
    pub rows: u64,
    /// Cells that a later line replaced.
    pub superseded: u64,
    /// Rows outside the window.
    pub outside_window: u64,
    /// Rows under `# CONTEXT` lines of namespaces that were not asked for.
    pub other_namespaces: u64,
    /// Statements between `# DDL` and `# DML` that were understood: databases and retention
    /// policies, and what is known of them.
    pub ddl: u64,
    /// Lines, or fields of them, that were rejected.
    pub rejected: u64,
}

/// A line protocol input, read into memory.
#[derive(Debug)]
pub struct LineFile {
    name: String,
    namespaces: BTreeMap<Namespace, Tables>,
    /// What statements say of namespaces.
    settings: BTreeMap<Namespace, RpSettings>,
    stats: Stats,
}

/// The measurements of one namespace, sorted by name.
#[derive(Debug, Default)]
struct Tables {
    list: Vec<Measured>,
    /// The days on which any of them holds rows, neighbours joined.
    days: Vec<Window>,
}

/// One measurement, by one spelling of its raw name.
#[derive(Debug)]
struct Measured {
    name: Vec<u8>,
    table: Table,
    /// The days on which it holds rows, neighbours joined.
    days: Vec<Window>,
}

impl LineFile {
    /// Reads the whole input. Lines that a server would refuse go to `rejects`; what the operator
    /// should know at once goes to `warn`.
    ///
    /// # Errors
    /// Where the input cannot be read to its end, or does not fit in memory.
    pub fn read(
        name: &str,
        input: Input,
        options: &Options,
        rejects: &Rejects,
        warn: &dyn Fn(&str),
    ) -> Result<Self> {
        let options_of_lines = decode::Options {
            precision: options.precision,
            default_time: options.default_time,
            line_bytes_max: decode::LINE_BYTES_MAX.min(options.memory_max),
        };
        let mut decoder = Decoder::new(options_of_lines);
        let mut text = Text::new(input);
        let mut loader = Loader::new(name, options, rejects, warn);
        loop {
            decoder.feed(text.next_piece()?);
            let last = text.is_all_fed();
            if last {
                decoder.finish();
            }
            let cut = loader.take_items(&mut decoder, &mut text)?;
            loader.within_memory()?;
            if cut {
                decoder = Decoder::new(options_of_lines);
            } else if last {
                return Ok(loader.finish());
            }
        }
    }

    /// What was left out.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    fn tables(&self, namespace: &Namespace) -> Result<&Tables> {
        self.namespaces.get(namespace).ok_or_else(|| {
            let (what, place) = (format!("namespace {namespace}"), format!("in {}", self.name));
            ErrorKind::NotFound { what, place }.into()
        })
    }
}

fn too_long(name: &str, line: u64, max: usize) -> Error {
    let what = format!("{name}: the line that begins at line {line}");
    Error::from(ErrorKind::Limit { what, max: format!("{max} bytes") }).with_next(
        "nothing behind it was read and nothing was sent: look for a quote that is never closed",
    )
}

/// The first physical line, without its line feed.
fn first_line(text: &[u8]) -> &[u8] {
    &text[..memchr::memchr(b'\n', text).unwrap_or(text.len())]
}

/// True where the names that were asked for, if any, are those of a namespace. As on a server, the
/// statistics of a server about itself are wanted only by name.
fn is_wanted(given: &Namespace, namespace: &Namespace) -> bool {
    if namespace.database == INTERNAL && given.database.is_empty() {
        return false;
    }
    let admits = |given: &str, name: &str| given.is_empty() || given == name;
    admits(&given.database, &namespace.database)
        && admits(&given.retention_policy, &namespace.retention_policy)
}

/// The input on its way into row logs.
struct Loader<'a> {
    name: &'a str,
    options: &'a Options,
    rejects: &'a Rejects,
    warn: &'a dyn Fn(&str),
    logs: Vec<Measurement>,
    by_name: HashMap<(usize, Vec<u8>), usize>,
    /// Namespaces that hold rows.
    namespaces: HashMap<Namespace, usize>,
    context: Context,
    /// Between `# DDL` and `# DML`.
    in_ddl: bool,
    ddl: Ddl,
    /// Offset in the text up to which a server takes everything for a comment.
    swallowed: u64,
    /// Log of the newest row: the next row is often of the same measurement.
    newest: Option<usize>,
    /// Bytes in use, and those of the largest log.
    used: usize,
    largest: usize,
    stats: Stats,
    warnings: u64,
}

/// Namespace of the lines that follow.
struct Context {
    namespace: Namespace,
    /// Its number, once it holds a row.
    number: Option<usize>,
    /// False where it was not asked for.
    wanted: bool,
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
        let namespace = options.namespace.clone();
        Self {
            name,
            options,
            rejects,
            warn,
            logs: Vec::new(),
            by_name: HashMap::new(),
            namespaces: HashMap::new(),
            context: Context { namespace, number: None, wanted: true },
            in_ddl: false,
            ddl: Ddl::default(),
            swallowed: 0,
            newest: None,
            used: 0,
            largest: 0,
            stats: Stats::default(),
            warnings: 0,
        }
    }

    /// Takes what the decoder has. True where the text goes on with a new decoder: behind a line
    /// that ends where a server would not end it.
    fn take_items(&mut self, decoder: &mut Decoder, text: &mut Text) -> Result<bool> {
        loop {
            let item = match decoder.next_item() {
                Ok(Some(item)) => item,
                Ok(None) => return Ok(false),
                Err(long) => {
                    text.skip_blank_lines();
                    let at = text.at();
                    let number = text.line_of(at);
                    let endless = text.rest();
                    let line = first_line(endless);
                    if line.len() < endless.len() && self.ends_with_its_line(line) {
                        let end = at + self.lines_alone(endless, number)?;
                        text.cut(end);
                        return Ok(true);
                    }
                    return Err(too_long(self.name, text.lines_before + long.line, long.max));
                }
            };
            let bytes = match &item {
                Item::Row(row) => row.text,
                Item::Comment(text) => text,
                Item::Bad(bad) => bad.text,
            };
            let start = text.pass(bytes);
            let is_comment = matches!(item, Item::Comment(_));
            if is_comment || self.in_ddl && is_statement(&bytes[blank(bytes)..]) {
                let known_end = self.ends_with_its_line(first_line(bytes));
                let taken = self.lines_alone(bytes, text.line_of(start))?;
                if taken < bytes.len() {
                    if !known_end {
                        self.swallowed = text.offset(start + bytes.len());
                    }
                    text.cut(start + taken);
                    return Ok(true);
                }
                continue;
            }
            let is_swallowed = text.offset(start) < self.swallowed;
            self.take(&item, text.lines_before, is_swallowed)?;
        }
    }

    /// True for lines that a quote does not carry on to the next.
    fn ends_with_its_line(&self, line: &[u8]) -> bool {
        line.starts_with(b"# CONTEXT-") || self.in_ddl && is_statement(&line[blank(line)..])
    }

    /// Takes the comments and statements at the beginning of an item, each of one physical line,
    /// which are counted from `number`; returns how many bytes they take.
    fn lines_alone(&mut self, item: &[u8], mut number: u64) -> Result<usize> {
        let mut at = 0;
        while at < item.len() {
            let line = first_line(&item[at..]);
            let trimmed = &line[blank(line)..];
            if trimmed.starts_with(b"#") {
                self.comment(line, number)?;
            } else if self.in_ddl && is_statement(trimmed) {
                self.statement(trimmed, number)?;
            } else if !trimmed.is_empty() {
                break;
            }
            at = (at + line.len() + 1).min(item.len());
            number += 1;
        }
        Ok(at)
    }

    /// A statement between `# DDL` and `# DML`.
    fn statement(&mut self, line: &[u8], number: u64) -> Result<()> {
        let before = self.ddl.memory;
        let taken = self.ddl.take(line)?;
        self.used += self.ddl.memory - before;
        if let Err(reason) = taken {
            return self.reject(&format!("{}, line {number}", self.name), &reason, line);
        }
        self.stats.ddl += 1;
        Ok(())
    }

    fn take(&mut self, item: &Item<'_>, lines_before: u64, is_swallowed: bool) -> Result<()> {
        match item {
            Item::Row(row) if is_swallowed || self.in_ddl => {
                let reason = if is_swallowed { SWALLOWED } else { AMONG_DDL };
                let place = format!("{}, line {}", self.name, lines_before + row.line);
                self.reject(&place, reason, row.text)
            }
            Item::Row(row) => self.row(row, lines_before),
            Item::Bad(bad) => self.bad(bad, lines_before, is_swallowed),
            Item::Comment(_) => Ok(()),
        }
    }

    fn row(&mut self, row: &Row<'_>, lines_before: u64) -> Result<()> {
        self.stats.rows += 1;
        if !self.context.wanted {
            self.stats.other_namespaces += 1;
            return Ok(());
        }
        let name = self.name;
        let place = || format!("{name}, line {}", lines_before + row.line);
        if let Some(warning) = row.warning {
            self.warned(&format!("{}: {warning}", place()));
        }
        if row.dropped_time_field {
            let reason = "a field called time is dropped by the server; the other fields were kept";
            self.stats.rejected += 1;
            self.rejects.add(&place(), reason, row.text)?;
        }
        if !self.options.window.contains(row.time) {
            self.stats.outside_window += 1;
            return Ok(());
        }
        let at = self.log_of(row.key);
        let log = &mut self.logs[at].log;
        let before = log.memory();
        let series = log.find_series(row.key).unwrap_or_else(|| {
            let series = key::parse(row.key);
            log.add_series(Arc::new(series))
        });
        log.begin_row(series, row.time);
        for (field, value) in row.fields() {
            log.push(field, value);
        }
        let after = log.memory();
        self.used += after - before;
        self.largest = self.largest.max(after);
        Ok(())
    }

    /// Number of the present namespace, which holds a row from now on.
    fn namespace(&mut self) -> usize {
        if let Some(number) = self.context.number {
            return number;
        }
        let namespace = &self.context.namespace;
        let next = self.namespaces.len();
        let number = *self.namespaces.entry(namespace.clone()).or_insert(next);
        if number == next {
            let names = namespace.database.len() + namespace.retention_policy.len();
            self.used += 2 * names + NAMESPACE_BYTES;
        }
        self.context.number = Some(number);
        number
    }

    /// The log that takes rows with this raw key.
    fn log_of(&mut self, raw_key: &[u8]) -> usize {
        let raw = raw_measurement(raw_key);
        let namespace = self.namespace();
        if let Some(at) = self.newest
            && self.logs[at].namespace == namespace
            && self.logs[at].raw == raw
        {
            return at;
        }
        let name = (namespace, raw.to_vec());
        let at = *self.by_name.entry(name).or_insert_with_key(|(namespace, raw)| {
            let log = RowLog::default();
            self.used += size_of::<Measurement>() + LOG_BYTES + 3 * raw.len();
            self.logs.push(Measurement { namespace: *namespace, raw: raw.clone(), log });
            self.logs.len() - 1
        });
        self.newest = Some(at);
        at
    }

    /// `influx_inspect export` names the namespace of what follows in comments.
    fn comment(&mut self, line: &[u8], number: u64) -> Result<()> {
        let mut namespace = self.context.namespace.clone();
        let given = &self.options.namespace;
        if let Some(name) = line.strip_prefix(b"# CONTEXT-DATABASE:") {
            namespace.database = self.name_of(None, name, &given.database, number)?;
            namespace.retention_policy.clone_from(&given.retention_policy);
            if namespace.database == INTERNAL && given.database.is_empty() {
                self.warned(&format!(
                    "{}, line {number}: rows of _internal, a server's statistics about itself, are \
                     left out: --db _internal takes them",
                    self.name
                ));
            }
        } else if let Some(name) = line.strip_prefix(b"# CONTEXT-RETENTION-POLICY:") {
            let database = Some(namespace.database.as_str());
            namespace.retention_policy =
                self.name_of(database, name, &given.retention_policy, number)?;
        } else {
            match line.trim_ascii_end() {
                b"# DDL" => self.in_ddl = true,
                b"# DML" => self.in_ddl = false,
                _ => {}
            }
            return Ok(());
        }
        let wanted = is_wanted(given, &namespace);
        self.context = Context { namespace, number: None, wanted };
        Ok(())
    }

    /// The name in a `# CONTEXT` line, of an RP where its database is named; `given` where it is
    /// empty. Blanks at its ends belong to it where a statement says so.
    fn name_of(
        &mut self,
        database: Option<&str>,
        line: &[u8],
        given: &str,
        number: u64,
    ) -> Result<String> {
        if let Some(name) = self.ddl.exact_name(database, line) {
            return Ok(name);
        }
        let bare = line.strip_suffix(b"\r").unwrap_or(line);
        let name = bare.trim_ascii();
        if name.is_empty() {
            return Ok(given.to_owned());
        }
        // A blank before the name is what people write, and other readers leave out.
        if name.len() < bare.strip_prefix(b" ").unwrap_or(bare).len() {
            let shown = Printable(name);
            self.warned(&format!(
                "{}, line {number}: whether the name {shown} begins or ends in blanks is not \
                 certain: no statement between # DDL and # DML names it; they were left out",
                self.name
            ));
        }
        if name.len() > NAME_BYTES_MAX {
            let what = format!("{}: the name in a CONTEXT line", self.name);
            return Err(ErrorKind::Limit { what, max: format!("{NAME_BYTES_MAX} bytes") }.into());
        }
        String::from_utf8(name.to_vec()).map_err(|_ignored| {
            Error::location(self.name, "a CONTEXT line names a database or RP that is not UTF-8")
        })
    }

    fn bad(&mut self, bad: &Bad<'_>, lines_before: u64, is_swallowed: bool) -> Result<()> {
        let place =
            format!("{}, line {}, column {}", self.name, lines_before + bad.line, bad.column);
        let reason = if is_swallowed { SWALLOWED } else { &bad.reason };
        self.reject(&place, reason, bad.text)
    }

    fn reject(&mut self, place: &str, reason: &str, text: &[u8]) -> Result<()> {
        self.stats.rejected += 1;
        self.warned(&format!("{place}: rejected: {reason}"));
        self.rejects.add(place, reason, text)
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
        // Sorting a measurement needs its rows a second time.
        if self.used + self.largest <= self.options.memory_max {
            return Ok(());
        }
        let what = format!(
            "the rows of {} need more than the {} MiB that they may take (half of --memory)",
            self.name,
            self.options.memory_max >> 20
        );
        Err(Error::from(ErrorKind::Data(what)).with_next(
            "nothing was sent: give a larger --memory (MiB), or a shorter window with --start and \
             --end",
        ))
    }

    fn finish(mut self) -> LineFile {
        let mut names = vec![Namespace::default(); self.namespaces.len()];
        let given = &self.options.namespace;
        let mut named = std::mem::take(&mut self.ddl).finish();
        named.retain(|namespace, _| is_wanted(given, namespace));
        for (namespace, number) in self.namespaces.drain() {
            names[number] = namespace;
        }
        let mut namespaces: BTreeMap<Namespace, Tables> = BTreeMap::new();
        for measurement in self.logs.drain(..) {
            let table = measurement.log.resolve();
            self.stats.superseded += table.superseded();
            let Some(first) = table.series().first() else { continue };
            let name = first.measurement().to_vec();
            let days = days(table.times());
            let namespace = names[measurement.namespace].clone();
            namespaces.entry(namespace).or_default().list.push(Measured { name, table, days });
        }
        for tables in namespaces.values_mut() {
            tables.list.sort_by(|one, two| one.name.cmp(&two.name));
            tables.days = join(tables.list.iter().flat_map(|measured| &measured.days).copied());
        }
        // What a statement names is there, with rows or without.
        for namespace in named.keys() {
            namespaces.entry(namespace.clone()).or_default();
        }
        // An input without rows is compared, too: with whatever the other side holds.
        if namespaces.is_empty() {
            namespaces.insert(self.options.namespace.clone(), Tables::default());
        }
        let settings = named.into_iter().filter_map(|(name, known)| Some((name, known?))).collect();
        LineFile { name: self.name.to_owned(), namespaces, settings, stats: self.stats }
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
        let held = |namespace: &Namespace| Held {
            namespace: namespace.clone(),
            settings: self.settings.get(namespace).cloned(),
        };
        Ok(self.namespaces.keys().map(held).collect())
    }

    /// The days that hold rows, neighbours joined.
    fn plan(&self, scope: &Scope) -> Result<Vec<Partition>> {
        let tables = self.tables(&scope.namespace)?;
        let filter = &scope.filter;
        let days = if filter.measurements.is_empty() && filter.excluded.is_empty() {
            meeting(&tables.days, scope.window).collect()
        } else {
            let admitted = |measured: &&Measured| filter.admits_measurement(&measured.name);
            let tables = tables.list.iter().filter(admitted);
            join(tables.flat_map(|measured| meeting(&measured.days, scope.window)))
        };
        let partition =
            |window| Partition { namespace: scope.namespace.clone(), window, measurement: None };
        Ok(days.into_iter().map(partition).collect())
    }

    fn open(&self, partition: &Partition) -> Result<Box<dyn Reader + '_>> {
        let tables = self.tables(&partition.namespace)?;
        let wanted = partition.measurement.clone();
        let window = partition.window;
        let tables = tables
            .list
            .iter()
            .filter(move |measured| wanted.as_ref().is_none_or(|wanted| *wanted == measured.name))
            .filter(move |measured| meeting(&measured.days, window).next().is_some())
            .map(move |measured| measured.table.blocks(window));
        Ok(Box::new(TableReader { tables: Box::new(tables), blocks: None }))
    }

    fn sees_raw_keys(&self) -> bool {
        true
    }
}

/// The days on which rows stand, neighbours joined.
fn days(times: &[i64]) -> Vec<Window> {
    let grid = Grid { duration: DAY };
    let mut days: Vec<Window> = Vec::new();
    for &time in times {
        if days.last().is_none_or(|newest| !newest.contains(time)) {
            days.push(grid.cell(time));
        }
    }
    join(days.into_iter())
}

/// What of some days, sorted and apart from each other, lies in a window.
fn meeting(days: &[Window], window: Window) -> impl Iterator<Item = Window> + '_ {
    let first = days.partition_point(|day| day.end <= window.start);
    days[first..].iter().map_while(move |day| day.intersect(window))
}

/// Sorts windows and joins those that touch.
fn join(windows: impl Iterator<Item = Window>) -> Vec<Window> {
    let mut windows: Vec<Window> = windows.collect();
    windows.sort_unstable();
    windows.dedup_by(|next, last| {
        let touches = next.start <= last.end;
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
    windows.shrink_to_fit();
    windows
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
