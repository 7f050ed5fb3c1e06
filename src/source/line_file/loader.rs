//! The input on its way into row logs: rows, comments, statements, and what is none of them.
//!
//! Owns which namespace a line belongs to, what is rejected and why, and when rows are spilled.

use super::ahead::Ahead;
use super::ddl::{Ddl, is_statement};
use super::spilled::Spiller;
use super::tables::{Tables, sort_all};
use super::text::{Text, blank};
use super::types::Types;
use super::{LineFile, Options, Rows, Stats};
use crate::block::log::RowLog;
use crate::compress::Input;
use crate::error::{Error, ErrorKind, Result};
use crate::line::decode::{self, Bad, Decoder, Item, Row};
use crate::line::{key, places::Places};
use crate::plan::Namespace;
use crate::reject::{Rejected, Rejects};
use crate::series::Printable;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;
use std::thread;

/// Longest name in a `# CONTEXT` line.
const NAME_BYTES_MAX: usize = 65_535;
/// Warnings that are told one by one.
const WARNINGS_MAX: u64 = 10;
/// What the log of a measurement takes before its rows are counted, besides itself: its maps.
const LOG_BYTES: usize = 700;
/// What a namespace takes besides its names.
const NAMESPACE_BYTES: usize = 300;
/// A line may take one of so many parts of the rows' memory: it is copied a few times on its way.
const LINE_SHARE: usize = 4;
/// The types of fields may take one of so many parts besides.
const TYPES_SHARE: usize = 8;

/// Threads that sort the rows, each of them those of one measurement.
const THREADS_MAX: usize = 4;

/// The database in which a server keeps statistics about itself.
const INTERNAL: &str = "_internal";

/// Why rows behind a comment are rejected.
const SWALLOWED: &str =
    "a quote in a comment swallows the lines that follow, as it does on a server";
/// Why rows among statements are rejected.
const AMONG_DDL: &str = "a row stands between # DDL and # DML, where only statements belong";

/// Reads the whole input.
pub(super) fn read(
    name: &str,
    input: Input,
    options: &Options,
    rejects: &Rejects,
    warn: &dyn Fn(&str),
) -> Result<LineFile> {
    let options_of_lines = decode::Options {
        precision: options.precision,
        default_time: options.default_time,
        line_bytes_max: decode::LINE_BYTES_MAX.min(options.memory_max / LINE_SHARE),
    };
    let mut decoder = Decoder::new(options_of_lines);
    let mut text = Text::new(Ahead::new(name, input)?);
    let mut loader = Loader::new(name, options, rejects, warn);
    loop {
        decoder.feed(text.next_piece()?);
        let last = text.is_all_fed();
        if last {
            decoder.finish();
        }
        let cut = loader.take_items(&mut decoder, &mut text)?;
        loader.stay_within_memory(text.input())?;
        if cut {
            decoder = Decoder::new(options_of_lines);
        } else if last {
            return loader.finish();
        }
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
    /// Where the rows of keys go under the present context.
    places: Places,
    /// Bytes in use, and those of the largest log.
    used: usize,
    largest: usize,
    /// Bytes of the namespaces' names among them.
    used_by_names: usize,
    spiller: Spiller,
    types: Types,
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
    /// Bytes of the log.
    used: usize,
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
            places: Places::default(),
            used: 0,
            largest: 0,
            used_by_names: 0,
            spiller: Spiller::new(options.spill.clone()),
            types: Types::new(options.memory_max / TYPES_SHARE),
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
        self.used_by_names += self.ddl.memory - before;
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
            let (namespace, point) = (&self.context.namespace, Some((row.key, row.time)));
            let place = &place();
            self.rejects.add(&Rejected { namespace, point, place, reason, row: row.text })?;
        }
        if !self.options.window.contains(row.time) {
            self.stats.outside_window += 1;
            return Ok(());
        }
        self.stats.cells += row.fields().len() as u64;
        let at = self.places.log_of(row).unwrap_or_else(|| self.log_of(row.key));
        let Measurement { log, used, .. } = &mut self.logs[at];
        let added = self.places.append(row, at, log);
        *used += added;
        self.used += added;
        self.largest = self.largest.max(*used);
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
            self.used_by_names += 2 * names + NAMESPACE_BYTES;
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
            self.logs.push(Measurement { namespace: *namespace, raw: raw.clone(), log, used: 0 });
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
        self.places.forget();
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
        let namespace = &self.context.namespace;
        self.rejects.add(&Rejected { namespace, point: None, place, reason, row: text })
    }

    fn warned(&mut self, text: &str) {
        self.warnings += 1;
        if self.warnings <= WARNINGS_MAX {
            (self.warn)(text);
        } else if self.warnings == WARNINGS_MAX + 1 {
            (self.warn)("further warnings about lines are counted, not printed");
        }
    }

    /// Writes the rows to disk where they take more memory than they may.
    fn stay_within_memory(&mut self, input: &Ahead) -> Result<()> {
        // Sorting a measurement needs its rows a second time.
        if self.used + self.largest <= self.options.memory_max {
            return Ok(());
        }
        if self.used_by_names > self.options.memory_max / 2 {
            return Err(self.too_many_namespaces());
        }
        let tables = self.tables();
        self.spiller.spill(&tables)?;
        match input.length() {
            Some(length) => self.spiller.expect_room(input.position(), length),
            None => self.spiller.expect_room(1, 1),
        }
    }

    fn too_many_namespaces(&self) -> Error {
        let what = format!("the names of databases and RPs in the CONTEXT lines of {}", self.name);
        let max = format!("{} MiB, a quarter of --memory", self.options.memory_max >> 21);
        Error::from(ErrorKind::Limit { what, max })
            .with_next("nothing was sent: give a larger --memory (MiB), or name one with --db")
    }

    /// The rows that were read, sorted; what is read from now on is apart from them.
    fn tables(&mut self) -> BTreeMap<Namespace, Tables> {
        let mut names = vec![Namespace::default(); self.namespaces.len()];
        for (namespace, number) in &self.namespaces {
            names[*number].clone_from(namespace);
        }
        let mut namespaces: BTreeMap<Namespace, Tables> = BTreeMap::new();
        let threads = self.threads();
        let mut places = Vec::with_capacity(self.logs.len());
        let mut logs = Vec::with_capacity(self.logs.len());
        for Measurement { namespace, raw, log, .. } in self.logs.drain(..) {
            let name = key::parse(&raw).measurement().to_vec();
            self.types.add(&names[namespace], &name, log.fields());
            places.push(namespace);
            logs.push((raw, log));
        }
        for (namespace, sorted) in places.into_iter().zip(sort_all(logs, threads)) {
            let tables = namespaces.entry(names[namespace].clone()).or_default();
            self.stats.superseded += tables.add(sorted);
        }
        namespaces.values_mut().for_each(Tables::finish);
        self.by_name.clear();
        self.newest = None;
        self.places.forget();
        self.used = self.used_by_names;
        self.largest = 0;
        namespaces
    }

    /// How many measurements may be sorted at once: each needs its rows a second time.
    fn threads(&self) -> usize {
        let wanted = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
        let room = self.options.memory_max.saturating_sub(self.used);
        wanted.min(room / self.largest.max(1)).max(1)
    }

    fn finish(mut self) -> Result<LineFile> {
        let mut tables = self.tables();
        let mut named = std::mem::take(&mut self.ddl).finish();
        named.retain(|namespace, _| is_wanted(&self.options.namespace, namespace));
        // What a statement names is there, with rows or without.
        for namespace in named.keys() {
            tables.entry(namespace.clone()).or_default();
        }
        let rows = if self.spiller.is_used() {
            self.spiller.spill(&tables)?;
            drop(tables);
            let (spilled, superseded) = self.spiller.finish(self.options.memory_max)?;
            self.stats.superseded += superseded;
            self.stats.spilled_bytes = spilled.length();
            Rows::Disk(spilled)
        } else {
            // An input without rows is compared, too: with whatever the other side holds.
            if tables.is_empty() {
                tables.insert(self.options.namespace.clone(), Tables::default());
            }
            Rows::Memory(tables)
        };
        let settings = named.into_iter().filter_map(|(name, known)| Some((name, known?))).collect();
        let (name, types) = (self.name.to_owned(), self.types);
        Ok(LineFile { name, rows, types, settings, stats: self.stats })
    }
}

/// The measurement's part of a raw key: up to the first comma that no backslash precedes.
fn raw_measurement(key: &[u8]) -> &[u8] {
    let end = memchr::memchr_iter(b',', key).find(|&at| at == 0 || key[at - 1] != b'\\');
    &key[..end.unwrap_or(key.len())]
}
