//! Sums of cell hashes over the rows of a block, column by column.
//!
//! Where every row of a column has a value, as in nearly all blocks, nothing is asked for each cell.

use super::cell::FieldHasher;
use super::node::Node;
use crate::block::{Block, Column, Values, string};
use std::hint::black_box;
use std::ops::Range;

/// The sum over some rows of a block; `fields` has the hashes of each column. Strings are hashed in
/// `room`.
pub(super) fn rows(
    block: &Block,
    rows: Range<usize>,
    fields: &[FieldHasher],
    room: &mut Vec<u8>,
) -> Node {
    let mut node = Node::default();
    for (column, field) in block.columns().iter().zip(fields) {
        node += cells(block.times(), rows.clone(), column, field, room);
    }
    node
}

fn cells(
    times: &[i64],
    rows: Range<usize>,
    column: &Column,
    field: &FieldHasher,
    room: &mut Vec<u8>,
) -> Node {
    if !column.is_full(rows.clone()) {
        return some_cells(times, rows, column, field);
    }
    let times = &times[rows.clone()];
    match column.values() {
        Values::Float(values) => scalars(field, times, &values[rows], |value| value.to_bits()),
        Values::Integer(values) => {
            scalars(field, times, &values[rows], |value| value.cast_unsigned())
        }
        Values::Unsigned(values) => scalars(field, times, &values[rows], |value| value),
        Values::Boolean(values) => scalars(field, times, &values[rows], u64::from),
        Values::String { ends, bytes } => {
            let mut node = Node::default();
            for (row, time) in rows.zip(times) {
                let value = field.string(*time, string(ends, bytes, row), room);
                node.add(field.key(*time), value);
            }
            node
        }
    }
}

/// Of a column in which some rows have no value.
fn some_cells(times: &[i64], rows: Range<usize>, column: &Column, field: &FieldHasher) -> Node {
    let mut node = Node::default();
    for row in rows {
        if let Some(value) = column.get(row) {
            node.add(field.key(times[row]), field.value(times[row], value));
        }
    }
    node
}

#[inline]
fn scalars<T: Copy>(
    field: &FieldHasher,
    times: &[i64],
    values: &[T],
    bits: impl Fn(T) -> u64,
) -> Node {
    let mut node = Node::default();
    for (time, value) in times.iter().zip(values) {
        // Two cells at a time in vector registers take longer than one by one: x86-64 without
        // AVX-512 has no vector multiplication of 64 bits.
        let time = black_box(*time);
        node.add(field.key(time), field.scalar(time, bits(*value)));
    }
    node
}
