//! What is to be read: namespaces, scopes, and the partitions into which work is divided.
//!
//! Planning is a pure function of its inputs: nothing here touches a file or a socket.

use crate::digest::cell::SeriesHash;
use crate::error::{Error, Result};
use crate::series::Series;
use crate::window::{DAY, Window};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Shard group duration of a retention policy that says nothing else, and of destinations that
/// know none.
pub const SHARD_DURATION: i64 = 7 * DAY;

/// A database and one of its retention policies (RP). Empty names are those that a plain line
/// protocol file does not give: the destination's path, or its default RP, takes their place.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace {
    /// Database name; empty where the source has none.
    pub database: String,
    /// RP name; empty where the source has none.
    pub retention_policy: String,
}

impl Namespace {
    /// True where neither name is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.database.is_empty() && self.retention_policy.is_empty()
    }

    /// The comment lines by which `influx_inspect export` says where the rows behind them belong.
    /// They hold bare names.
    #[must_use]
    pub fn context_lines(&self) -> String {
        let Self { database, retention_policy } = self;
        format!("# CONTEXT-DATABASE:{database}\n# CONTEXT-RETENTION-POLICY:{retention_policy}\n")
    }

    /// True where a reader of [`Namespace::context_lines`] finds these names in them: blanks at the
    /// ends of a name are lost, and a line feed ends it.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        let bare = |name: &str| name.trim_ascii() == name && !name.contains('\n');
        bare(&self.database) && bare(&self.retention_policy)
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name: &str| {
            if name.is_empty() { "(unnamed)".to_owned() } else { name.to_owned() }
        };
        match (self.database.is_empty(), self.retention_policy.is_empty()) {
            (true, true) => f.write_str("(unnamed)"),
            (false, true) => f.write_str(&self.database),
            _ => write!(f, "{}.{}", name(&self.database), name(&self.retention_policy)),
        }
    }
}

/// Settings of a retention policy, each `None` where its place does not say it: a server says all
/// of them, the statements of an export some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RpSettings {
    /// How long points are kept, nanoseconds; 0 for ever.
    pub duration: Option<i64>,
    /// Length of a shard group, nanoseconds.
    pub shard_duration: Option<i64>,
    /// Copies that a cluster keeps.
    pub replication: Option<u32>,
    /// True where this RP takes the writes that name none.
    pub default: Option<bool>,
}

impl RpSettings {
    /// True where this RP is known to take the writes that name none.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.default == Some(true)
    }

    /// The grid of its shard groups, that of [`SHARD_DURATION`] where it is not known.
    #[must_use]
    pub fn grid(&self) -> Grid {
        let known = self.shard_duration.filter(|duration| *duration > 0);
        Grid { duration: known.unwrap_or(SHARD_DURATION) }
    }
}

/// A namespace that a source holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its names.
    pub namespace: Namespace,
    /// Its settings; `None` where the source knows none of them.
    pub settings: Option<RpSettings>,
}

/// Which series are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Measurements to take, unescaped; all where empty.
    pub measurements: Vec<String>,
    /// Measurements to leave out.
    pub excluded: Vec<String>,
    /// Tags that a series must have, every one of them.
    pub tags: Vec<(String, String)>,
}

impl Filter {
    /// True where every series is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// True where series of this measurement may be wanted.
    #[must_use]
    pub fn admits_measurement(&self, measurement: &[u8]) -> bool {
        let names = |list: &[String]| list.iter().any(|name| name.as_bytes() == measurement);
        (self.measurements.is_empty() || names(&self.measurements)) && !names(&self.excluded)
    }

    /// The same for one measurement, as far as it can be expressed: else other measurements pass
    /// as before.
    #[must_use]
    pub fn only(&self, measurement: &[u8]) -> Self {
        let mut only = self.clone();
        if let Ok(name) = std::str::from_utf8(measurement) {
            only.measurements = vec![name.to_owned()];
        }
        only
    }

    /// What both want; `None` where that is nothing, whatever there is.
    #[must_use]
    pub fn and(&self, other: &Self) -> Option<Self> {
        let mut both = self.clone();
        if self.measurements.is_empty() {
            both.measurements.clone_from(&other.measurements);
        } else if !other.measurements.is_empty() {
            both.measurements.retain(|name| other.measurements.contains(name));
            if both.measurements.is_empty() {
                return None;
            }
        }
        both.excluded
            .extend(other.excluded.iter().filter(|name| !self.excluded.contains(name)).cloned());
        both.tags.extend(other.tags.iter().filter(|tag| !self.tags.contains(tag)).cloned());
        Some(both)
    }

    /// True where this series is wanted.
    #[must_use]
    pub fn admits(&self, series: &Series) -> bool {
        self.admits_measurement(series.measurement())
            && self
                .tags
                .iter()
                .all(|(key, value)| series.tag(key.as_bytes()) == Some(value.as_bytes()))
    }
}

/// A filter, as files keep it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterEntry {
    measurements: Vec<String>,
    excluded: Vec<String>,
    tags: Vec<(String, String)>,
}

impl From<&Filter> for FilterEntry {
    /// The same filter has the same entry, whatever the order of its words.
    fn from(filter: &Filter) -> Self {
        fn sorted<T: Ord + Clone>(words: &[T]) -> Vec<T> {
            let mut words = words.to_vec();
            words.sort_unstable();
            words.dedup();
            words
        }
        Self {
            measurements: sorted(&filter.measurements),
            excluded: sorted(&filter.excluded),
            tags: sorted(&filter.tags),
        }
    }
}

impl FilterEntry {
    /// The filter.
    #[must_use]
    pub fn filter(&self) -> Filter {
        Filter {
            measurements: self.measurements.clone(),
            excluded: self.excluded.clone(),
            tags: self.tags.clone(),
        }
    }

    /// The options that ask for it, for people; nothing where every series is wanted.
    #[must_use]
    pub fn options(&self) -> String {
        let tags = self.tags.iter().map(|(key, value)| format!("--tag {key}={value}"));
        let options = self.measurements.iter().map(|name| format!("--measurement {name}"));
        let options = options.chain(tags);
        let excluded = self.excluded.iter().map(|name| format!("--exclude {name}"));
        options.chain(excluded).collect::<Vec<_>>().join(" ")
    }
}

/// What a command asks of one side.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The namespace, as that side names it.
    pub namespace: Namespace,
    /// The time range.
    pub window: Window,
    /// The series.
    pub filter: Filter,
}

impl Scope {
    /// A scope of its own.
    #[must_use]
    pub fn new(namespace: &Namespace, window: Window, filter: &Filter) -> Self {
        Self { namespace: namespace.clone(), window, filter: filter.clone() }
    }
}

/// Series that are needed, by their hashes.
pub type Wanted = Arc<BTreeSet<SeriesHash>>;

/// The unit of reading, retry and parallelism: what one reader yields.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The namespace, as its side names it.
    pub namespace: Namespace,
    /// The time range; inside one shard group where the side has shard groups.
    pub window: Window,
    /// The only measurement, unescaped; `None` for all.
    pub measurement: Option<Vec<u8>>,
    /// The only series that are needed; `None` for all. Others may be read nevertheless, where a place
    /// cannot leave them out: the caller looks at what it is given.
    pub series: Option<Wanted>,
}

impl Partition {
    /// A partition of all series.
    #[must_use]
    pub fn new(namespace: &Namespace, window: Window, measurement: Option<Vec<u8>>) -> Self {
        Self { namespace: namespace.clone(), window, measurement, series: None }
    }
}

/// Length of the units in which a destination is filled, and their alignment.
///
/// InfluxDB counts shard groups from 0001-01-01T00:00:00Z, so that groups of seven days begin on
/// Mondays; days and hours begin at the same times either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Length of a cell, nanoseconds.
    pub duration: i64,
}

/// 0001-01-01T00:00:00Z in nanoseconds since 1970, from which shard groups are counted.
const YEAR_ONE: i128 = -62_135_596_800_000_000_000;

impl Grid {
    /// The cell of the grid that holds `time`.
    #[must_use]
    pub fn cell(self, time: i64) -> Window {
        let duration = i128::from(self.duration.max(1));
        let start = YEAR_ONE + (i128::from(time) - YEAR_ONE).div_euclid(duration) * duration;
        let clamp = |time: i128| {
            let (least, most) = (i128::from(Window::ALL.start), i128::from(Window::ALL.end));
            i64::try_from(time.clamp(least, most)).unwrap_or(Window::ALL.end)
        };
        Window { start: clamp(start), end: clamp(start + duration) }
    }

    /// Cells of the grid that meet any of the windows, cut to `scope`, in order, each once.
    ///
    /// # Errors
    /// Where there are more than [`UNITS_MAX`] of them.
    pub fn cells(self, windows: &[Window], scope: Window) -> Result<Vec<Window>> {
        let mut cells = Vec::new();
        for window in windows {
            let mut rest = window.intersect(scope);
            while let Some(window) = rest {
                let cell = self.cell(window.start);
                if cells.len() >= UNITS_MAX {
                    return Err(too_many_units());
                }
                cells.extend(cell.intersect(scope));
                rest = window.intersect(Window { start: cell.end, end: Window::ALL.end });
            }
        }
        cells.sort_unstable();
        cells.dedup();
        Ok(cells)
    }
}

/// Most units of one command: a year of hours for a thousand years.
pub const UNITS_MAX: usize = 8_766_000;

fn too_many_units() -> Error {
    crate::error::ErrorKind::Limit {
        what: "the number of shard groups in the window".into(),
        max: format!("{UNITS_MAX}"),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::{HOUR, parse_time};

    #[test]
    fn weeks_begin_on_mondays_as_the_servers_shard_groups_do() {
        let week = Grid { duration: 7 * DAY }.cell(parse_time("2023-11-14T22:13:20Z").unwrap());
        assert_eq!(week.start, parse_time("2023-11-13").unwrap());
        assert_eq!(week.end, parse_time("2023-11-20").unwrap());
        let day = Grid { duration: DAY }.cell(-1);
        assert_eq!((day.start, day.end), (-DAY, 0));
    }

    #[test]
    fn cells_are_cut_to_the_scope_and_named_once() {
        let windows = [Window { start: 5, end: 10 }, Window { start: 7, end: HOUR + 1 }];
        let scope = Window { start: 6, end: 2 * HOUR };
        let cells = Grid { duration: HOUR }.cells(&windows, scope).unwrap();
        assert_eq!(cells, [Window { start: 6, end: HOUR }, Window { start: HOUR, end: 2 * HOUR }]);
    }

    #[test]
    fn what_two_filters_want_is_what_either_alone_admits() {
        let filter = |measurements: &[&str], excluded: &[&str], tags: &[(&str, &str)]| Filter {
            measurements: measurements.iter().map(|one| (*one).to_owned()).collect(),
            excluded: excluded.iter().map(|one| (*one).to_owned()).collect(),
            tags: tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        };
        let cpu = filter(&["cpu", "mem"], &[], &[("host", "a")]);
        assert_eq!(Filter::default().and(&cpu), Some(cpu.clone()));
        assert_eq!(cpu.and(&Filter::default()), Some(cpu.clone()));
        let both = cpu.and(&filter(&["mem", "disk"], &["x"], &[("host", "a"), ("dc", "b")]));
        assert_eq!(both, Some(filter(&["mem"], &["x"], &[("host", "a"), ("dc", "b")])));
        assert_eq!(cpu.and(&filter(&["disk"], &[], &[])), None);
    }

    #[test]
    fn the_ends_of_time_are_no_special_case() {
        let grid = Grid { duration: 7 * DAY };
        for time in [Window::ALL.start, Window::ALL.end - 1] {
            assert!(grid.cell(time).contains(time));
        }
    }
}
