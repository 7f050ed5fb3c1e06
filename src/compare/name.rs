//! Finds the series of places that are known by their hash only: they are read once more, as far as
//! it takes to meet them.

use super::drill::partitions_of;
use super::{PlaceFinding, Sides, Unit};
use crate::digest::cell::{SeriesHash, SeriesHasher};
use crate::error::Result;
use crate::line::key;
use crate::plan::{Filter, Namespace, Wanted};
use crate::series::Series;
use crate::source::Source;
use crate::window::Window;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Names the series of places that have none yet. A series that is gone meanwhile stays without.
pub(super) fn places(
    places: &mut [PlaceFinding],
    sides: Sides<'_>,
    unit: &Unit,
    filter: &Filter,
) -> Result<()> {
    // Each series is looked for in one of its places, on a side that held it there.
    let mut wanted: BTreeMap<Search, Vec<SeriesHash>> = BTreeMap::new();
    let mut found: HashMap<SeriesHash, Option<Arc<Series>>> = HashMap::new();
    for place in places.iter().filter(|place| place.series.is_none()) {
        if found.insert(place.hash, None).is_none() {
            // A digest file has the names at hand.
            let elsewhere =
                place.counts.destination > 0 && sides.destination.digest_file().is_some();
            let search = Search {
                at_source: place.counts.source > 0 && !elsewhere,
                measurement: place.measurement.clone(),
                window: place.window,
            };
            wanted.entry(search).or_default().push(place.hash);
        }
    }
    for (search, hashes) in &wanted {
        let (side, namespace) = match search.at_source {
            true => (sides.source, &unit.source),
            false => (sides.destination, &unit.destination),
        };
        let series = Arc::new(hashes.iter().copied().collect());
        search.run(side, namespace, filter, &series, &mut found)?;
    }
    for place in places.iter_mut().filter(|place| place.series.is_none()) {
        place.series = found.get(&place.hash).cloned().flatten();
    }
    Ok(())
}

/// Where series are looked for.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Search {
    at_source: bool,
    measurement: Option<Arc<[u8]>>,
    window: Window,
}

impl Search {
    /// Reads until all wanted series were met, or to the end.
    fn run(
        &self,
        side: &dyn Source,
        namespace: &Namespace,
        filter: &Filter,
        series: &Wanted,
        found: &mut HashMap<SeriesHash, Option<Arc<Series>>>,
    ) -> Result<()> {
        if let Some(file) = side.digest_file() {
            let mut hashes: Vec<SeriesHash> = found.keys().copied().collect();
            hashes.sort_unstable();
            for (hash, key) in file.keys(&hashes)? {
                found.entry(hash).or_default().get_or_insert_with(|| Arc::new(key::parse(&key)));
            }
            return Ok(());
        }
        let mut wanted = series.len();
        let measurement = self.measurement.as_deref();
        let partitions =
            partitions_of(side, measurement, Some(series), namespace, self.window, filter)?;
        for partition in partitions {
            let mut reader = side.open(&partition)?;
            while let Some(block) = reader.next_block()? {
                for (series, _) in block.runs() {
                    let hash = SeriesHasher::new(series).series();
                    if let Some(slot @ None) = found.get_mut(&hash) {
                        *slot = Some(Arc::clone(series));
                        wanted = wanted.saturating_sub(1);
                    }
                }
                if wanted == 0 {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
