//! Blocks of one shard group: series after series in the order of its keys, a stretch of time of all
//! fields at a time.
//!
//! Nothing that borrows from the files is kept between two blocks: where the next one begins is said by
//! a key and a time, from which every file is searched again. So the memory of a reader is that of one
//! block and of some decoded blocks of each field of one series. Long strings of one decoded block may
//! fill several blocks: what is left of them is kept until the next.

use super::column::{Cells, Found, Pool, Stored};
use super::log::Logged;
use super::remarks::Remarks;
use super::shard::{NO_FIELD, Shard, StoredFile};
use crate::block::Block;
use crate::block::build::Builder;
use crate::digest::cell::SeriesHasher;
use crate::error::{Damage, Error, Result};
use crate::line::key;
use crate::plan::{Partition, Wanted};
use crate::series::{Printable, Series, holds_separator};
use crate::source::Reader;
use crate::tsm::index::{Key, Keys};
use crate::tsm::split_key;
use crate::window::Window;
use std::borrow::Cow;
use std::sync::Arc;

/// Reads one shard group.
#[derive(Debug)]
pub struct ShardReader {
    shards: Vec<Arc<Shard>>,
    window: Window,
    /// The only measurement wanted, unescaped.
    measurement: Option<Vec<u8>>,
    /// The only series wanted.
    wanted: Option<Wanted>,
    builder: Builder,
    pool: Pool,
    /// The measurement of the rows in the builder.
    building: Option<Box<[u8]>>,
    /// Where the next rows are; `None` at the end.
    next: Option<Position>,
    /// Rows that go before them.
    rest: Option<Rest>,
    /// Keys that may be cut elsewhere.
    doubts: Arc<Remarks>,
}

/// A series, and a time within it.
#[derive(Clone, Debug)]
struct Position {
    /// Composite keys from this one on.
    key: Vec<u8>,
    time: i64,
}

/// Rows of a stretch that were decoded and found no room in the block before.
#[derive(Debug)]
struct Rest {
    series: Arc<Series>,
    columns: Vec<Column>,
}

/// Cells of one field and type, and the name of the field.
type Column = (Arc<[u8]>, Cells);

/// Bytes of strings that are put into rows together, about, over all columns of a stretch.
const PIECE: usize = 1 << 20;

impl ShardReader {
    /// Reads the cells of a partition. What a later shard holds wins.
    #[must_use]
    pub(super) fn new(
        shards: Vec<Arc<Shard>>,
        partition: &Partition,
        doubts: Arc<Remarks>,
    ) -> Self {
        let window = partition.window;
        let next = (!window.is_empty()).then(|| Position { key: Vec::new(), time: window.start });
        Self {
            shards,
            window,
            measurement: partition.measurement.clone(),
            wanted: partition.series.clone(),
            builder: Builder::default(),
            pool: Pool::default(),
            building: None,
            next,
            rest: None,
            doubts,
        }
    }

    fn wants(&self, series: &Series) -> bool {
        self.measurement.as_deref().is_none_or(|wanted| wanted == series.measurement())
            && self
                .wanted
                .as_ref()
                .is_none_or(|wanted| wanted.contains(&SeriesHasher::new(series).series()))
    }

    /// Says of which fields of a series the name may begin within a tag.
    fn doubt(&self, fields: &[Stored<'_>], series: &Series) {
        for field in fields.iter().filter(|field| holds_separator(&field.field)) {
            self.doubts.add(format!(
                "whether the first `#!~#` in {series}#!~#{} belongs to a tag: files do not tell. What \
                 stands behind it is taken for the field, as a server takes it when it starts",
                Printable(&field.field)
            ));
        }
    }

    /// Adds rows until a block is full. Gives where it stopped.
    fn fill(&mut self, from: Position) -> Result<(Option<Block>, Option<Position>)> {
        if let Some(Rest { series, columns }) = self.rest.take() {
            self.begin(&series);
            self.add(&series, columns);
            return Ok((self.take(), Some(from)));
        }
        let shards = self.shards.clone();
        let mut walk = Walk::from(&shards, &from.key)?;
        let mut start = from.time;
        while let Some((series, found)) = walk.next_series()? {
            if self.wants(&series) {
                let here = |time| Position { key: first_key(&found), time };
                if self.building.as_deref().is_some_and(|one| one != series.measurement()) {
                    return Ok((self.take(), Some(here(start))));
                }
                let fields = Stored::of_series(&found, self.window)?;
                self.doubt(&fields, &series);
                if let Some(time) = self.series(Arc::new(series), fields, start)? {
                    return Ok((self.take(), Some(here(time))));
                }
            }
            start = self.window.start;
        }
        Ok((self.take(), None))
    }

    /// Adds the rows of a series from `start` on. Gives the time at which the block was full.
    fn series(
        &mut self,
        series: Arc<Series>,
        mut fields: Vec<Stored<'_>>,
        mut start: i64,
    ) -> Result<Option<i64>> {
        let mut begun = false;
        while start < self.window.end {
            let count = fields.len();
            let cut = |end, field: &Stored<'_>| field.stretch(start, end, count);
            let end = fields.iter().fold(self.window.end, cut);
            let stretch = Window { start, end };
            let mut columns: Vec<Column> = Vec::new();
            for field in &mut fields {
                let name = Arc::clone(&field.field);
                let cells = field.cells(stretch, &mut self.pool)?.into_iter();
                columns.extend(cells.map(|cells| (Arc::clone(&name), cells)));
            }
            columns.retain(|(_, cells)| !cells.times().is_empty());
            if !columns.is_empty() {
                if !begun {
                    self.begin(&series);
                    begun = true;
                }
                self.add(&series, columns);
            }
            start = end;
            if self.builder.is_full() {
                return Ok(Some(start));
            }
        }
        Ok(None)
    }

    fn begin(&mut self, series: &Arc<Series>) {
        self.building.get_or_insert_with(|| series.measurement().into());
        self.builder.begin_series(Arc::clone(series));
    }

    /// Adds the rows of columns, of which there are some, until the block is full; what is left then is
    /// kept.
    fn add(&mut self, series: &Arc<Series>, mut columns: Vec<Column>) {
        loop {
            let texts = columns.iter().filter(|(_, cells)| cells.are_strings()).count();
            let most = PIECE / texts.max(1);
            let Some(end) = columns.iter().filter_map(|(_, cells)| cells.first_beyond(most)).min()
            else {
                rows(&mut self.builder, &columns);
                columns.into_iter().for_each(|(_, cells)| self.pool.put_back(cells));
                return;
            };
            let (now, later): (Vec<Column>, Vec<Column>) =
                columns.into_iter().partition(|(_, cells)| cells.begin_before(end));
            let ends: Vec<_> = now.iter().map(|(_, cells)| cells.range().end).collect();
            let mut now = now;
            now.iter_mut().for_each(|(_, cells)| cells.stop_at(end));
            rows(&mut self.builder, &now);
            now.iter_mut().zip(ends).for_each(|((_, cells), end)| cells.go_on_to(end));
            now.retain(|(_, cells)| !cells.times().is_empty());
            columns = now;
            columns.extend(later);
            if self.builder.is_full() {
                self.rest = Some(Rest { series: Arc::clone(series), columns });
                return;
            }
        }
    }

    fn take(&mut self) -> Option<Block> {
        self.building = None;
        self.builder.finish()
    }
}

impl Reader for ShardReader {
    fn recycle(&mut self, block: Block) {
        self.builder.recycle(block);
    }

    fn next_block(&mut self) -> Result<Option<Block>> {
        while let Some(from) = self.next.take() {
            let (block, next) = self.fill(from)?;
            self.next = next;
            if block.is_some() {
                return Ok(block);
            }
        }
        Ok(None)
    }
}

/// Puts columns of one series and stretch side by side.
fn rows(builder: &mut Builder, columns: &[Column]) {
    let times = united(columns.iter().map(|(_, cells)| cells.times()));
    let rows = builder.begin_rows(&times);
    for (field, cells) in columns {
        let (values, range) = (cells.values(), cells.range());
        if cells.times().len() == times.len() {
            builder.fill(rows.clone(), field, values, range);
        } else {
            builder.scatter(rows.clone(), field, cells.times(), values, range.start);
        }
    }
}

/// All times of some columns, in order. In most series one column has them all.
fn united<'a>(columns: impl Iterator<Item = &'a [i64]> + Clone) -> Cow<'a, [i64]> {
    let longest = columns.clone().max_by_key(|times| times.len()).unwrap_or_default();
    if columns.clone().all(|times| is_part(times, longest)) {
        return Cow::Borrowed(longest);
    }
    let mut times: Vec<i64> = columns.flatten().copied().collect();
    times.sort_unstable();
    times.dedup();
    Cow::Owned(times)
}

/// True where all of some times are among others; both are in order.
fn is_part(some: &[i64], all: &[i64]) -> bool {
    let mut rest = all.iter();
    some.len() <= all.len() && (some == all || some.iter().all(|time| rest.any(|one| one == time)))
}

/// The composite key with which a series begins.
fn first_key(found: &[Found<'_>]) -> Vec<u8> {
    found.iter().map(Found::key).min().unwrap_or_default().to_vec()
}

/// Steps through the series of all shards, in the order of their keys.
struct Walk<'a> {
    /// The shards' files and log, in the order in which they win.
    places: Vec<Place<'a>>,
}

enum Place<'a> {
    File { file: &'a StoredFile, rest: Keys<'a>, head: Option<Key<'a>> },
    Log(&'a [Logged]),
}

impl<'a> Walk<'a> {
    fn from(shards: &'a [Arc<Shard>], key: &[u8]) -> Result<Self> {
        let mut places = Vec::new();
        for shard in shards {
            for file in &shard.files {
                let mut rest = file.tsm.keys_from(key).map_err(|damage| file.damaged(damage))?;
                let head = rest.next().transpose().map_err(|damage| file.damaged(damage))?;
                places.push(Place::File { file, rest, head });
            }
            places.push(Place::Log(shard.log.keys_from(key)));
        }
        Ok(Self { places })
    }

    /// The next series, and where its keys are.
    fn next_series(&mut self) -> Result<Option<(Series, Vec<Found<'a>>)>> {
        let Some(least) = self.places.iter().filter_map(Place::head).min_by_key(Found::key) else {
            return Ok(None);
        };
        let Some((series, _)) = split_key(least.key()) else { return Err(no_field(&least)) };
        let mut found = Vec::new();
        for place in &mut self.places {
            place.take(series, &mut found)?;
        }
        Ok(Some((key::parse(series), found)))
    }
}

impl<'a> Place<'a> {
    fn head(&self) -> Option<Found<'a>> {
        match self {
            Self::File { file, head, .. } => head.map(|head| Found::File(file, head)),
            Self::Log(logged) => logged.first().map(Found::Log),
        }
    }

    /// Takes all keys of a series.
    fn take(&mut self, series: &[u8], found: &mut Vec<Found<'a>>) -> Result<()> {
        while let Some(head) = self.head() {
            if split_key(head.key()).is_none_or(|(of_key, _)| of_key != series) {
                break;
            }
            found.push(head);
            match self {
                Self::File { file, rest, head } => {
                    *head = rest.next().transpose().map_err(|damage| file.damaged(damage))?;
                }
                Self::Log(logged) => *logged = &logged[1..],
            }
        }
        Ok(())
    }
}

/// The error of a key that no server writes: possible only where a file changed since it was opened.
fn no_field(found: &Found<'_>) -> Error {
    match found {
        Found::File(file, _) => file.damaged(Damage::new(0, NO_FIELD)),
        Found::Log(_) => Error::location("the write-ahead log", NO_FIELD),
    }
}
