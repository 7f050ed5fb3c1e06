//! InfluxDB 1.x over HTTP as a source.
//!
//! A partition is one measurement in one shard group, read by one query. Never more than one
//! group: over several, a server casts a field whose type differs between them, and hides what it
//! cannot cast. Read rights suffice to find the groups (`shards`); where groups overlap, types
//! are kept apart by other means (`exact`). Inside a group the types of an OSS server are exact;
//! each value is nevertheless checked against the types that the server lists for its field.
//!
//! Queries show a series under its identity only: what is stored under another spelling of its key
//! is not seen ([`Source::sees_raw_keys`] is false). Nothing is left out silently besides that: an
//! error inside a reply, a reply cut short and a value of an unlisted type are errors.

mod exact;
mod query;
mod resume;
mod rows;
mod shards;
mod sizes;

use super::{Reader, Source};
use crate::digest::cell::SeriesHasher;
use crate::error::{Error, ErrorKind, Result};
use crate::http::Client;
use crate::influxql::{self, Fields};
use crate::plan::{Grid, Held, Namespace, Partition, RpSettings, Scope, UNITS_MAX, Wanted};
use crate::series::{Printable, Series};
use crate::types::FieldTypes;
use crate::value::FieldType;
use crate::window::Window;
use exact::Place;
use query::{Query, QueryReader};
use sizes::{Most, Sizes};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Most series that one query asks for by their tags; of more, the whole measurement is read.
const SERIES_ASKED_MAX: usize = 50;
/// Most series of a measurement among which those are looked for.
const SERIES_LISTED_MAX: usize = 100_000;

/// Most names in a message.
const NAMES_MAX: usize = 20;

/// The fields of a query that takes them as they are.
const EVERY_FIELD: &str = "*::field";

/// Measurements with the types of their fields.
type Schema = BTreeMap<Vec<u8>, Fields>;

/// A server, or one database or retention policy (RP) of it.
pub struct InfluxHttp {
    client: Arc<Client>,
    database: Option<String>,
    retention_policy: Option<String>,
    version: String,
    /// What the newest plan of each namespace found.
    schemas: Mutex<HashMap<Namespace, Arc<Schema>>>,
    /// The tags that every plan of a namespace so far asked for: only those may be left to the
    /// server, whichever plan a partition is of.
    tags: Mutex<HashMap<Namespace, Vec<(String, String)>>>,
    sizes: Sizes,
}

impl fmt::Debug for InfluxHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InfluxHttp").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl InfluxHttp {
    /// Asks the server whether it is an InfluxDB 1.x and holds what is named.
    ///
    /// # Errors
    /// Where it cannot be reached or is none, or the database or RP does not exist.
    pub fn new(
        client: Arc<Client>,
        database: Option<String>,
        retention_policy: Option<String>,
    ) -> Result<Self> {
        if database.is_none() && retention_policy.is_some() {
            return Err(Error::usage("a retention policy is named without its database"));
        }
        let version = influxql::ping(&client)?;
        let source = Self {
            client,
            database,
            retention_policy,
            version,
            schemas: Mutex::new(HashMap::new()),
            tags: Mutex::new(HashMap::new()),
            sizes: Sizes::default(),
        };
        if let Some(database) = &source.database {
            source.policies(database)?;
        }
        Ok(source)
    }

    /// The same with other numbers of rows and bytes that one query may bring, about.
    #[must_use]
    pub fn with_query_max(self, rows: u64, bytes: u64) -> Self {
        Self { sizes: Sizes::new(Most { rows, bytes }), ..self }
    }

    /// The server's version, in its own words.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// RPs of a database, only the named one where one is named.
    fn policies(&self, database: &str) -> Result<Vec<(String, RpSettings)>> {
        let mut policies = match influxql::retention_policies(&self.client, database) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound { .. }) => {
                let held = influxql::databases(&self.client)?;
                return Err(self.not_found("database", database, &held));
            }
            policies => policies?,
        };
        if let Some(name) = &self.retention_policy {
            let held: Vec<String> = policies.iter().map(|(name, _)| name.clone()).collect();
            policies.retain(|(held, _)| held == name);
            if policies.is_empty() {
                let what = format!("retention policy {name:?} of database");
                return Err(self.not_found(&what, database, &held));
            }
        }
        Ok(policies)
    }

    fn not_found(&self, what: &str, name: &str, held: &[String]) -> Error {
        let mut names = held.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
        if held.len() > NAMES_MAX {
            names += &format!(" and {} more", held.len() - NAMES_MAX);
        }
        let place = if held.is_empty() {
            format!("on {}, which shows this user none", self.client.name())
        } else {
            format!("on {}, which holds {names}", self.client.name())
        };
        ErrorKind::NotFound { what: format!("{what} {name:?}"), place }.into()
    }

    /// The RP that a namespace means, with its settings; an empty name is the default RP.
    fn resolve(&self, namespace: &Namespace) -> Result<(Namespace, RpSettings)> {
        let database = &namespace.database;
        let policies = influxql::retention_policies(&self.client, database)?;
        let wanted = &namespace.retention_policy;
        let found = policies.iter().find(|(name, settings)| {
            if wanted.is_empty() { settings.is_default() } else { name == wanted }
        });
        let Some((name, settings)) = found else {
            let held: Vec<String> = policies.iter().map(|(name, _)| name.clone()).collect();
            let what = format!("retention policy {wanted:?} of database");
            return Err(self.not_found(&what, database, &held));
        };
        let namespace = Namespace { database: database.clone(), retention_policy: name.clone() };
        Ok((namespace, settings.clone()))
    }

    /// Asks for the measurements and types of a resolved namespace, and remembers them.
    fn fetch_schema(&self, namespace: &Namespace) -> Result<Arc<Schema>> {
        let (database, policy) = (&namespace.database, &namespace.retention_policy);
        let schema = Arc::new(influxql::field_keys(&self.client, database, policy)?);
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        schemas.insert(namespace.clone(), Arc::clone(&schema));
        Ok(schema)
    }

    /// Has the schema asked for again by the next reader.
    fn forget_schema(&self, namespace: &Namespace) {
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        schemas.remove(namespace);
    }

    fn schema(&self, namespace: &Namespace) -> Result<Arc<Schema>> {
        let known = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = known.get(namespace) {
            return Ok(Arc::clone(schema));
        }
        drop(known);
        self.fetch_schema(namespace)
    }

    /// Notes the tags of a plan.
    fn note_tags(&self, namespace: &Namespace, wanted: &[(String, String)]) {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        match tags.get_mut(namespace) {
            Some(known) => known.retain(|tag| wanted.contains(tag)),
            None => drop(tags.insert(namespace.clone(), wanted.to_vec())),
        }
    }

    /// Some series by their names; `None` where the server does not list all of them, or too many. One
    /// that is not listed may have rows nevertheless, so that then everything is read.
    fn find(
        &self,
        namespace: &Namespace,
        measurement: &[u8],
        wanted: &Wanted,
    ) -> Result<Option<Vec<Series>>> {
        if wanted.len() > SERIES_ASKED_MAX {
            return Ok(None);
        }
        let listed = influxql::series(&self.client, namespace, measurement, SERIES_LISTED_MAX)?;
        let is_wanted = |one: &Series| wanted.contains(&SeriesHasher::new(one).series());
        let found: Vec<Series> = listed.unwrap_or_default().into_iter().filter(is_wanted).collect();
        Ok((found.len() == wanted.len()).then_some(found))
    }

    /// Windows of one measurement where the user may not ask for the shard groups.
    fn windows_without_groups(
        &self,
        place: Place<'_>,
        fields: &Fields,
        grid: Grid,
    ) -> Result<Vec<Window>> {
        let Place { from, measurement, window } = place;
        if !exact::is_mixed(fields) {
            // Whatever shards a query reads, its values are of the one type there is. So cells of
            // the grid between the first and the last point do, wherever groups begin.
            let from = format!("{from}.{}", influxql::measurement(measurement));
            return match influxql::time_range(&self.client, EVERY_FIELD, &from, window, "")? {
                Some(range) => grid.cells(&[range], window),
                None => Ok(Vec::new()),
            };
        }
        let mut count = |window| {
            let shards = self.shards(Place { window, ..place })?;
            shards.ok_or_else(|| self.untold(place, fields))
        };
        shards::divide(&mut count, grid, window)
    }
}

impl Source for InfluxHttp {
    fn name(&self) -> String {
        let mut name = self.client.name();
        for part in [&self.database, &self.retention_policy].into_iter().flatten() {
            name.push('/');
            name.push_str(part);
        }
        name
    }

    fn namespaces(&self) -> Result<Vec<Held>> {
        let databases = match &self.database {
            Some(database) => vec![database.clone()],
            None => influxql::databases(&self.client)?,
        };
        let mut held = Vec::new();
        for database in databases {
            // The server's statistics about itself.
            if database == "_internal" && self.database.is_none() {
                continue;
            }
            for (retention_policy, settings) in self.policies(&database)? {
                let namespace = Namespace { database: database.clone(), retention_policy };
                held.push(Held { namespace, settings: Some(settings) });
            }
        }
        Ok(held)
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<Partition>> {
        let (namespace, settings) = self.resolve(&scope.namespace)?;
        let (database, policy) = (&namespace.database, &namespace.retention_policy);
        let schema = self.fetch_schema(&namespace)?;
        self.note_tags(&namespace, &scope.filter.tags);
        let groups = influxql::shard_groups(&self.client, database, policy)?
            .map(|groups| pieces(&groups, scope.window));
        let from = influxql::namespace(database, policy)?;
        let grid = settings.grid();
        let mut partitions = Vec::new();
        for (name, fields) in schema.iter() {
            if !scope.filter.admits_measurement(name) {
                continue;
            }
            let windows = match &groups {
                Some(windows) => windows.clone(),
                None => {
                    let place = Place { from: &from, measurement: name, window: scope.window };
                    self.windows_without_groups(place, fields, grid)?
                }
            };
            if partitions.len() + windows.len() > UNITS_MAX {
                return Err(too_many(&namespace));
            }
            partitions.extend(
                windows
                    .into_iter()
                    .map(|window| Partition::new(&scope.namespace, window, Some(name.clone()))),
            );
        }
        partitions.sort_unstable_by(|one, other| {
            (one.window, &one.measurement).cmp(&(other.window, &other.measurement))
        });
        Ok(partitions)
    }

    fn open(&self, partition: &Partition) -> Result<Box<dyn Reader + '_>> {
        let mut namespace = partition.namespace.clone();
        if namespace.retention_policy.is_empty() {
            namespace = self.resolve(&namespace)?.0;
        }
        let Some(measurement) = partition.measurement.clone() else {
            let message =
                format!("a partition of {namespace} without a measurement was not planned");
            return Err(ErrorKind::Data(message).into());
        };
        let schema = self.schema(&namespace)?;
        check_distinct(&schema, &measurement)?;
        let from = influxql::namespace(&namespace.database, &namespace.retention_policy)?;
        let window = partition.window;
        let place = Place { from: &from, measurement: &measurement, window };
        let named = self.named(&namespace, place, &schema)?;
        let mut tags = {
            let tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
            tags.get(&namespace).map_or_else(String::new, |tags| influxql::having(tags))
        };
        if let Some(wanted) = &partition.series {
            let found = self.find(&namespace, &measurement, wanted)?;
            tags += &found.and_then(influxql::any_of).unwrap_or_default();
        }
        let from = format!("{from}.{}", influxql::measurement(&measurement));
        let query = Query { source: self, namespace, measurement, from, named, tags };
        Ok(Box::new(QueryReader::start(query, window, schema)?))
    }

    fn field_types(&self, scope: &Scope) -> Result<Option<FieldTypes>> {
        let namespace = self.resolve(&scope.namespace)?.0;
        let schema = self.fetch_schema(&namespace)?;
        let wanted = schema.iter().filter(|(name, _)| scope.filter.admits_measurement(name));
        let types = wanted.map(|(name, fields)| {
            let fields = fields.iter().map(|(field, types)| ((&**field).into(), types.clone()));
            ((&**name).into(), fields.collect())
        });
        Ok(Some(types.collect()))
    }

    fn groups(&self, namespace: &Namespace) -> Result<Option<Vec<Window>>> {
        let namespace = self.resolve(namespace)?.0;
        influxql::shard_groups(&self.client, &namespace.database, &namespace.retention_policy)
    }

    fn types_of(&self, scope: &Scope, measurement: &[u8], field: &[u8]) -> Result<Vec<FieldType>> {
        self.types_in(&scope.namespace, measurement, field, scope.window)
    }

    fn sees_raw_keys(&self) -> bool {
        false
    }
}

/// The windows between the bounds of shard groups that a group covers, cut to `scope`, in order.
/// Groups overlap where a cluster truncated some; then each of these still lies inside every group
/// that has a part in it.
fn pieces(groups: &[Window], scope: Window) -> Vec<Window> {
    let mut bounds: Vec<(i64, i32)> =
        groups.iter().flat_map(|group| [(group.start, 1), (group.end, -1)]).collect();
    bounds.sort_unstable();
    let mut covered = 0;
    let mut pieces = Vec::new();
    for pair in bounds.windows(2) {
        covered += pair[0].1;
        let piece = Window { start: pair[0].0, end: pair[1].0 };
        if covered > 0 && !piece.is_empty() {
            pieces.extend(piece.intersect(scope));
        }
    }
    pieces
}

/// Refuses a measurement whose name only a regular expression can express, where that matches
/// others with the same field in another type: the server would cast one to the other.
fn check_distinct(schema: &Schema, measurement: &[u8]) -> Result<()> {
    let Some(own) = schema.get(measurement) else {
        return Ok(());
    };
    if influxql::quote(measurement).is_some() {
        return Ok(());
    }
    let others = schema
        .iter()
        .filter(|(name, _)| *name != measurement && influxql::matches_also(measurement, name));
    for (name, fields) in others {
        let clash = fields.iter().find(|(field, types)| {
            own.get(*field).is_some_and(|own| own != *types || own.len() > 1)
        });
        if let Some((field, _)) = clash {
            let message = format!(
                "the measurements {} and {} cannot be told apart in a query, and the field {} \
                 differs in type between them",
                Printable(measurement),
                Printable(name),
                Printable(field)
            );
            return Err(Error::from(ErrorKind::Data(message))
                .with_next("read the snapshot port, the data directory or a backup"));
        }
    }
    Ok(())
}

/// Types for a message.
fn list(types: &[FieldType]) -> String {
    types.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ")
}

fn too_many(namespace: &Namespace) -> Error {
    let error = Error::from(ErrorKind::Limit {
        what: format!("the number of queries (measurements times shard groups) for {namespace}"),
        max: UNITS_MAX.to_string(),
    });
    error.with_next("name measurements with --measurement, or a window with --start and --end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: i64, end: i64) -> Window {
        Window { start, end }
    }

    #[test]
    fn overlapping_groups_are_cut_at_every_bound() {
        let groups = [window(0, 10), window(5, 20), window(30, 40)];
        assert_eq!(
            pieces(&groups, window(2, 35)),
            [window(2, 5), window(5, 10), window(10, 20), window(30, 35)]
        );
        assert_eq!(pieces(&[window(0, 10), window(0, 10)], Window::ALL), [window(0, 10)]);
        assert_eq!(pieces(&[window(0, 10), window(10, 20)], Window::ALL).len(), 2);
        assert!(pieces(&[], Window::ALL).is_empty());
    }

    #[test]
    fn names_that_only_a_pattern_tells_are_refused_where_types_differ() {
        let fields = |field_type| Fields::from([(b"v".to_vec(), vec![field_type])]);
        let schema = |other| {
            Schema::from([
                (b"a\rb".to_vec(), fields(FieldType::Integer)),
                (b"axb".to_vec(), fields(other)),
            ])
        };
        assert!(check_distinct(&schema(FieldType::Float), b"a\rb").is_err());
        assert!(check_distinct(&schema(FieldType::Float), b"axb").is_ok());
        assert!(check_distinct(&schema(FieldType::Integer), b"a\rb").is_ok());
    }
}
