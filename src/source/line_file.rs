//! Line protocol from a file or standard input, as a source.
//!
//! The input is read once, from its first byte to its last, before anything is handed on: a later
//! line may supersede an earlier one, and an input that is cut short must not be moved in part. Its
//! rows stay in memory (`tables`) or, where there are more of them than the budget holds, are
//! spilled to disk (`spilled`). They are handed on in the same order either way.
//!
//! The decoder follows a server, whose comments may run over several lines where they hold a quote.
//! Here a comment ends with its line, for `# CONTEXT` lines are read by programs that know no other
//! rule. Rows that a server would take for a part of any other comment are rejected, never skipped.

mod ahead;
mod ddl;
mod loader;
mod spilled;
mod tables;
mod text;
mod types;

use self::spilled::Spilled;
use self::tables::Tables;
use self::types::Types;
use super::{Reader, Source};
use crate::compress::Input;
use crate::error::{Error, ErrorKind, Result};
use crate::line::Precision;
use crate::plan::{Held, Namespace, Partition, RpSettings, Scope};
use crate::reject::Rejects;
use crate::spill::Place;
use crate::types::FieldTypes;
use crate::window::Window;
use std::collections::BTreeMap;

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
    /// Where rows go that do not fit in memory.
    pub spill: Place,
}

/// What was read and not handed on as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Rows decoded, those that were left out among them.
    pub rows: u64,
    /// Cells of the rows that were taken, those that a later line replaced among them.
    pub cells: u64,
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
    /// Bytes on disk of rows that did not fit in memory.
    pub spilled_bytes: u64,
}

/// A line protocol input that was read.
#[derive(Debug)]
pub struct LineFile {
    name: String,
    rows: Rows,
    types: Types,
    /// What statements say of namespaces.
    settings: BTreeMap<Namespace, RpSettings>,
    stats: Stats,
}

/// Where the rows are.
#[derive(Debug)]
enum Rows {
    Memory(BTreeMap<Namespace, Tables>),
    Disk(Spilled),
}

impl LineFile {
    /// Reads the whole input. Lines that a server would refuse go to `rejects`; what the operator
    /// should know at once goes to `warn`.
    ///
    /// # Errors
    /// Where the input cannot be read to its end, or what does not fit in memory not be written to
    /// disk.
    pub fn read(
        name: &str,
        input: Input,
        options: &Options,
        rejects: &Rejects,
        warn: &dyn Fn(&str),
    ) -> Result<Self> {
        loader::read(name, input, options, rejects, warn)
    }

    /// What was left out.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    fn not_found(&self, namespace: &Namespace) -> Error {
        let (what, place) = (format!("namespace {namespace}"), format!("in {}", self.name));
        ErrorKind::NotFound { what, place }.into()
    }
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
        Ok(match &self.rows {
            Rows::Memory(tables) => tables.keys().map(held).collect(),
            Rows::Disk(spilled) => spilled.namespaces().map(held).collect(),
        })
    }

    /// The days that hold rows.
    fn plan(&self, scope: &Scope) -> Result<Vec<Partition>> {
        let namespace = &scope.namespace;
        let windows = match &self.rows {
            Rows::Memory(tables) => {
                tables.get(namespace).map(|tables| tables.windows(scope.window, &scope.filter))
            }
            Rows::Disk(spilled) => spilled.windows(namespace, scope.window),
        };
        let windows = windows.ok_or_else(|| self.not_found(namespace))?;
        let partition = |window| Partition::new(namespace, window, None);
        Ok(windows.into_iter().map(partition).collect())
    }

    fn open(&self, partition: &Partition) -> Result<Box<dyn Reader + '_>> {
        let reader: Option<Box<dyn Reader + '_>> = match &self.rows {
            Rows::Memory(tables) => {
                let tables = tables.get(&partition.namespace);
                tables.map(|tables| Box::new(tables.reader(partition)) as _)
            }
            Rows::Disk(spilled) => spilled.reader(partition).map(|reader| Box::new(reader) as _),
        };
        reader.ok_or_else(|| self.not_found(&partition.namespace))
    }

    fn cells(&self, namespace: &Namespace, _window: Window) -> Option<u64> {
        match &self.rows {
            Rows::Memory(tables) => tables.get(namespace).map(Tables::cells),
            Rows::Disk(spilled) => spilled.cells(namespace),
        }
    }

    fn field_types(&self, scope: &Scope) -> Result<Option<FieldTypes>> {
        Ok(self.types.of(&scope.namespace))
    }

    fn sees_raw_keys(&self) -> bool {
        true
    }
}
