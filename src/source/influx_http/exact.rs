//! What keeps types exact where a query reads more than one shard.
//!
//! Over several shards a server gives a field one type: float before integer before string before
//! boolean. It casts numbers to it and hides what it cannot cast. Shard groups overlap where the
//! shard duration of a retention policy was made longer while a group was open, or where a cluster
//! cut groups, and then no window reads one group alone. A field that has several types is asked
//! for there once for each of them: strings and booleans are never cast. Numbers of two types are,
//! and an integer that was cast looks like a float that has no fraction; so the server must say
//! which of them there are ([`influxql::read_types`]), and where it says both, or cannot say, it is
//! an error.

use super::rows::{Named, type_of};
use super::{InfluxHttp, Schema, list};
use crate::error::{Error, ErrorKind, Result};
use crate::influxql::{self, Fields};
use crate::msgpack::{Fragment, Row};
use crate::plan::Namespace;
use crate::series::Printable;
use crate::value::FieldType;
use crate::window::Window;
use std::sync::Arc;

/// A measurement in a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// `"db"."rp"`.
    pub(super) from: &'a str,
    pub(super) measurement: &'a [u8],
    pub(super) window: Window,
}

/// A field as an identifier.
pub(super) fn quote_field(field: &[u8]) -> Result<String> {
    influxql::quote(field).ok_or_else(|| {
        let message = format!(
            "the field {} cannot be named in a query, which the types of its measurement need",
            Printable(field)
        );
        Error::from(ErrorKind::Data(message)).with_next(ELSEWHERE)
    })
}

const ELSEWHERE: &str = "read the snapshot port, the data directory or a backup";

/// True where the types of a measurement depend on the shards that a query reads.
pub(super) fn is_mixed(fields: &Fields) -> bool {
    fields.values().any(|types| types.len() > 1)
}

impl InfluxHttp {
    /// Number of shards that a query reads there.
    pub(super) fn shards(&self, place: Place<'_>) -> Result<Option<u64>> {
        let Place { from, measurement, window } = place;
        let touched = influxql::touched(&self.client, from, measurement, window, None)?;
        Ok(touched.map(|touched| touched.shards))
    }

    /// The same where the server has no plans: by its list of shard groups.
    fn shards_by_groups(&self, namespace: &Namespace, window: Window) -> Result<Option<u64>> {
        let Namespace { database, retention_policy } = namespace;
        let groups = influxql::shard_groups(&self.client, database, retention_policy)?;
        let meets = |group: &&Window| group.intersect(window).is_some();
        Ok(groups.map(|groups| groups.iter().filter(meets).count() as u64))
    }

    /// The fields to ask for by name and type, where `*` would not be exact.
    pub(super) fn named(
        &self,
        namespace: &Namespace,
        place: Place<'_>,
        schema: &Schema,
    ) -> Result<Option<Vec<Named>>> {
        let Some(fields) = schema.get(place.measurement).filter(|fields| is_mixed(fields)) else {
            return Ok(None);
        };
        let shards = match self.shards(place)? {
            None => self.shards_by_groups(namespace, place.window)?,
            shards => shards,
        };
        match shards {
            Some(0 | 1) => return Ok(None),
            Some(_) => {}
            None => return Err(self.untold(place, fields)),
        }
        let mut named = Vec::new();
        for (field, types) in fields {
            let types = if types.len() == 1 {
                types.clone()
            } else {
                self.types_over_shards(place, field, types)?
            };
            named.extend(types.into_iter().map(|one| (Arc::from(&**field), one)));
        }
        // Without a field there is nothing, which a query cannot say.
        Ok((!named.is_empty()).then_some(named))
    }

    /// The types by which a field is read exactly there: those that are never cast, and the only
    /// numeric one.
    fn types_over_shards(
        &self,
        place: Place<'_>,
        field: &[u8],
        listed: &[FieldType],
    ) -> Result<Vec<FieldType>> {
        let numeric = |one: &FieldType| !matches!(one, FieldType::Boolean | FieldType::String);
        let (mut numbers, mut types): (Vec<FieldType>, Vec<FieldType>) =
            listed.iter().copied().partition(numeric);
        if numbers.len() > 1 {
            let found = self.numbers_over_shards(place, &quote_field(field)?)?;
            let Some(found) = found else {
                return Err(self.not_told_apart(
                    place,
                    field,
                    &numbers,
                    "still has some in memory",
                ));
            };
            numbers.retain(|one| found.contains(one));
        }
        if numbers.len() > 1 {
            return Err(self.not_told_apart(place, field, &numbers, "may hold both"));
        }
        types.extend(numbers);
        Ok(types)
    }

    /// Types of a field's numbers, where they are all in blocks.
    fn numbers_over_shards(&self, place: Place<'_>, field: &str) -> Result<Option<Vec<FieldType>>> {
        let Place { from, measurement, window } = place;
        let touched = || influxql::touched(&self.client, from, measurement, window, Some(field));
        let Some(before) = touched()?.filter(|touched| touched.cached == 0) else {
            return Ok(None);
        };
        let (client, shards) = (&self.client, before.shards);
        let types = influxql::read_types(client, from, measurement, window, field, shards)?;
        // What was written meanwhile is in memory.
        let unchanged = touched()? == Some(before);
        Ok(types.filter(|_| unchanged))
    }

    fn not_told_apart(
        &self,
        place: Place<'_>,
        field: &[u8],
        numbers: &[FieldType],
        why: &str,
    ) -> Error {
        let message = format!(
            "the field {} of the measurement {} has numbers of the types {}, several shard groups \
             overlap in {}, and a query there cannot tell them apart: {} {why}",
            Printable(field),
            Printable(place.measurement),
            list(numbers),
            place.window,
            self.client.name()
        );
        Error::from(ErrorKind::Data(message)).with_next(format!(
            "{ELSEWHERE}; values in memory are written to blocks ten minutes after the last write"
        ))
    }

    /// The error of a server that says nothing of its shards.
    pub(super) fn untold(&self, place: Place<'_>, fields: &Fields) -> Error {
        let mixed = fields.iter().find(|(_, types)| types.len() > 1);
        let (field, types) = mixed.map_or((&[][..], &[][..]), |(field, types)| (field, types));
        let message = format!(
            "the field {} of the measurement {} has the types {}, and {} does not tell the user in \
             which shard groups they change: its values would not be exact",
            Printable(field),
            Printable(place.measurement),
            list(types),
            self.client.name()
        );
        Error::from(ErrorKind::Data(message))
            .with_next(format!("name a user with admin privileges, or {ELSEWHERE}"))
    }

    /// The types with which a field really occurs in a window inside one shard group, each once,
    /// sorted; none where it does not occur. Exact in a wider window too, or an error.
    ///
    /// # Errors
    /// Where the server cannot be asked, the namespace does not exist, or overlapping shard groups
    /// hold numbers that cannot be told apart.
    pub fn types_in(
        &self,
        namespace: &Namespace,
        measurement: &[u8],
        field: &[u8],
        window: Window,
    ) -> Result<Vec<FieldType>> {
        let namespace = self.resolve(namespace)?.0;
        let schema = self.schema(&namespace)?;
        let fields = schema.get(measurement);
        let Some(listed) = fields.and_then(|fields| fields.get(field)) else {
            return Ok(Vec::new());
        };
        let from = influxql::namespace(&namespace.database, &namespace.retention_policy)?;
        let place = Place { from: &from, measurement, window };
        // What stands behind `::`, and the types that values asked for so may have.
        let asked: Vec<(&str, Vec<FieldType>)> = match self.named(&namespace, place, &schema)? {
            None => vec![("field", listed.clone())],
            Some(named) => {
                let own = named.into_iter().filter(|(name, _)| **name == *field);
                own.map(|(_, one)| (one.name(), vec![one])).collect()
            }
        };
        let mut found = Vec::new();
        for (word, types) in asked {
            found.extend(self.first_type(place, field, word, &types)?);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Type of the first value of a field that is asked for as `word`.
    fn first_type(
        &self,
        place: Place<'_>,
        field: &[u8],
        word: &str,
        types: &[FieldType],
    ) -> Result<Option<FieldType>> {
        let Place { from, measurement, window } = place;
        let statement = format!(
            "SELECT {}::{word} FROM {from}.{} WHERE {} LIMIT 1",
            quote_field(field)?,
            influxql::measurement(measurement),
            influxql::within(window)
        );
        let step = |found: &mut Option<FieldType>, fragment: &Fragment, row: &Row| {
            if fragment.name == measurement && found.is_none() {
                let cell = row.cell(1);
                *found = Some(type_of(cell, types).ok_or_else(|| {
                    format!("the value {cell:?} is of none of the types {}", list(types))
                })?);
            }
            Ok(())
        };
        influxql::fold(&self.client, &statement, step)
    }
}
