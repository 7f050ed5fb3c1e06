//! Rows of a decoder into row logs: what was found out about a key and the names of fields once is
//! not looked for again.
//!
//! Invariant: what is remembered is the place of a key in one log, and is only used for rows that
//! go to that log; whoever has logs forgets it ([`Places::forget`]) before the number of a log, or
//! where rows of a key go, means another.

use super::decode::{Known, Row};
use super::key;
use crate::block::log::RowLog;
use std::sync::Arc;

/// Where rows of a key went.
#[derive(Clone, Copy, Debug)]
struct Place {
    log: u32,
    series: u32,
    /// The last two forms of the key, the newest first, and their shapes in the log.
    shapes: [(u32, u32); 2],
}

/// A number of nothing.
const NONE: u32 = u32::MAX;

/// Where rows of known keys go.
#[derive(Debug, Default)]
pub struct Places {
    epoch: u64,
    /// By number of the key; a log of [`NONE`] says that nothing is known.
    by_key: Vec<Place>,
}

impl Places {
    /// The log into which the last row with the key of this one went.
    #[must_use]
    pub fn log_of(&self, row: &Row<'_>) -> Option<usize> {
        let known = row.known().filter(|known| known.epoch == self.epoch)?;
        let place = self.by_key.get(known.key as usize).filter(|place| place.log != NONE)?;
        Some(place.log as usize)
    }

    /// Appends a row to a log, which the caller has under this number; returns how many bytes it
    /// takes there.
    #[inline]
    pub fn append(&mut self, row: &Row<'_>, number: usize, log: &mut RowLog) -> usize {
        if let (Some(known), Ok(number)) = (row.known(), u32::try_from(number)) {
            return self.append_known(row, &known, number, log);
        }
        let before = log.memory();
        let series = series_of(row, log);
        log.begin_row(series, row.time);
        for (field, value) in row.fields() {
            log.push(field, value);
        }
        log.memory() - before
    }

    fn append_known(
        &mut self,
        row: &Row<'_>,
        known: &Known<'_>,
        number: u32,
        log: &mut RowLog,
    ) -> usize {
        if known.epoch != self.epoch {
            self.forget();
            self.epoch = known.epoch;
        }
        let mut added = 0;
        let place = match self.by_key.get_mut(known.key as usize) {
            Some(place) if place.log == number => place,
            _ => {
                let before = log.memory();
                let series = series_of(row, log);
                added += log.memory() - before;
                self.enter(known.key, Place { log: number, series, shapes: [(NONE, NONE); 2] })
            }
        };
        let [newest, other] = place.shapes;
        if newest.0 != known.form {
            let shape = if other.0 == known.form {
                other.1
            } else {
                let before = log.memory();
                let shape = log.shape_of(known.kinds());
                added += log.memory() - before;
                shape
            };
            place.shapes = [(known.form, shape), newest];
        }
        let shape = place.shapes[0].1;
        added + log.push_row(place.series, row.time, shape, known.cells, row.text)
    }

    fn enter(&mut self, key: u32, place: Place) -> &mut Place {
        let at = key as usize;
        if self.by_key.len() <= at {
            let nothing = Place { log: NONE, series: NONE, shapes: [(NONE, NONE); 2] };
            self.by_key.resize(at + 1, nothing);
        }
        self.by_key[at] = place;
        &mut self.by_key[at]
    }

    /// Forgets where rows went.
    pub fn forget(&mut self) {
        self.by_key.clear();
    }
}

fn series_of(row: &Row<'_>, log: &mut RowLog) -> u32 {
    log.find_series(row.key).unwrap_or_else(|| log.add_series(Arc::new(key::parse(row.key))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::decode::{Decoder, Item, Options};
    use crate::window::Window;

    /// The rows of a text, as blocks of two logs show them; each row goes to the log that `log`
    /// names, by its number.
    fn rows(text: &str, mut places: Option<Places>, log: impl Fn(usize) -> usize) -> [String; 2] {
        let mut logs = [RowLog::default(), RowLog::default()];
        let mut used = [0; 2];
        // More than one decoder, whose numbers mean different things.
        for half in text.split_inclusive("---\n") {
            let mut decoder = Decoder::new(Options::default());
            decoder.feed(half.trim_end_matches("---\n").as_bytes());
            decoder.finish();
            for row in 0.. {
                let Some(item) = decoder.next_item().unwrap() else { break };
                let Item::Row(row_found) = item else { panic!("{item:?}") };
                let at = log(row);
                match &mut places {
                    Some(places) => used[at] += places.append(&row_found, at, &mut logs[at]),
                    None => {
                        let series = series_of(&row_found, &mut logs[at]);
                        logs[at].begin_row(series, row_found.time);
                        row_found.fields().for_each(|(name, value)| logs[at].push(name, value));
                    }
                }
            }
        }
        if places.is_some() {
            assert_eq!(used, [logs[0].memory(), logs[1].memory()], "bytes are counted");
        }
        logs.map(|log| format!("{:?}", log.resolve().blocks(Window::ALL).collect::<Vec<_>>()))
    }

    #[test]
    fn rows_go_where_they_would_go_if_nothing_were_remembered() {
        let mut text = String::new();
        for time in 0..60 {
            for host in 0..3 {
                let message = if (time + host) % 3 == 0 { ",s=\"a b\"" } else { "" };
                let up = if time % 7 == 0 { "" } else { ",up=t" };
                let load = if time % 20 == 9 { "1i" } else { "0.5" };
                text += &format!("m,h={host} load={load},n={time}i{up}{message} {}\n", time / 2);
                text += &format!("n,h={host} load=1.5,n=2i 1{host}\n");
            }
            if time == 30 {
                text += "---\n";
            }
        }
        let logs: [fn(usize) -> usize; 3] = [|_| 0, |row| row % 2, |row| row / 40 % 2];
        for log in logs {
            assert_eq!(rows(&text, Some(Places::default()), log), rows(&text, None, log));
        }
    }
}
