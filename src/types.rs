//! The types that fields have: as a place knows them without reading, and as they were met.

use crate::block::Block;
use crate::series::Series;
use crate::value::FieldType;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The types of each field of each measurement, as a place knows them without reading its rows.
pub type FieldTypes = BTreeMap<Box<[u8]>, BTreeMap<Box<[u8]>, Vec<FieldType>>>;

/// Types by measurement and field.
#[derive(Debug, Default)]
pub struct TypeTable {
    types: BTreeMap<Box<[u8]>, Fields>,
    /// Bytes of names.
    bytes: usize,
    cut: bool,
}

/// Bytes of names that a table holds; what is met beyond is left out.
const BYTES_MAX: usize = 4 << 20;
/// What a name takes besides itself.
const NAME_BYTES: usize = 64;

/// Types by field key.
type Fields = BTreeMap<Arc<[u8]>, Vec<FieldType>>;

impl TypeTable {
    /// Adds the columns of a block that have a value in a series that is wanted.
    pub fn add_block(&mut self, block: &Block, wanted: impl Fn(&Series) -> bool) {
        let rows: Vec<_> =
            block.runs().filter(|(series, _)| wanted(series)).map(|(_, rows)| rows).collect();
        let all = rows.iter().map(ExactSizeIterator::len).sum::<usize>() == block.rows();
        let Some((series, _)) = block.runs().next().filter(|_| !rows.is_empty()) else { return };
        if !self.types.contains_key(series.measurement()) {
            if self.bytes > BYTES_MAX {
                self.cut = true;
                return;
            }
            self.bytes += series.measurement().len() + NAME_BYTES;
            self.types.insert(series.measurement().into(), BTreeMap::new());
        }
        let Some(fields) = self.types.get_mut(series.measurement()) else {
            return;
        };
        for column in block.columns() {
            if !all && !rows.iter().cloned().flatten().any(|row| column.get(row).is_some()) {
                continue;
            }
            if !fields.contains_key(&column.field) {
                if self.bytes > BYTES_MAX {
                    self.cut = true;
                    continue;
                }
                self.bytes += column.field.len() + NAME_BYTES;
            }
            let types = fields.entry(Arc::clone(&column.field)).or_default();
            if !types.contains(&column.field_type()) {
                types.push(column.field_type());
            }
        }
    }

    /// True where there were more names than the table holds.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Every (measurement, field, type).
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8], FieldType)> {
        self.types.iter().flat_map(|(measurement, fields)| {
            fields.iter().flat_map(move |(field, types)| {
                types.iter().map(move |field_type| (&**measurement, &**field, *field_type))
            })
        })
    }
}
