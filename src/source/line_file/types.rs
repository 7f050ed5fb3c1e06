//! The types of the fields of a line file, noted while it is read.

use crate::plan::Namespace;
use crate::types::FieldTypes;
use crate::value::FieldType;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an entry takes besides its name.
const ENTRY_BYTES: usize = 100;

/// Types by namespace, as long as they fit.
#[derive(Debug)]
pub(super) struct Types {
    known: BTreeMap<Namespace, FieldTypes>,
    used: usize,
    bytes_max: usize,
}

impl Types {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { known: BTreeMap::new(), used: 0, bytes_max }
    }

    pub(super) fn add<'a>(
        &mut self,
        namespace: &Namespace,
        measurement: &[u8],
        fields: impl Iterator<Item = (&'a Arc<[u8]>, FieldType)>,
    ) {
        if self.used > self.bytes_max {
            return;
        }
        let measurements = self.known.entry(namespace.clone()).or_default();
        let known = measurements.entry(measurement.into()).or_insert_with(|| {
            self.used += measurement.len() + ENTRY_BYTES;
            BTreeMap::new()
        });
        for (field, field_type) in fields {
            let types = known.entry(field.as_ref().into()).or_insert_with(|| {
                self.used += field.len() + ENTRY_BYTES;
                Vec::new()
            });
            if let Err(at) = types.binary_search(&field_type) {
                types.insert(at, field_type);
            }
        }
    }

    /// The types of a namespace; `None` where there were too many to be kept.
    pub(super) fn of(&self, namespace: &Namespace) -> Option<FieldTypes> {
        let fits = self.used <= self.bytes_max;
        fits.then(|| self.known.get(namespace).cloned().unwrap_or_default())
    }
}
