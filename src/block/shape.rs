//! Shapes: the lists of fields that the rows of a log have.
//!
//! Most rows of a measurement have the fields of the row before, so that a row keeps the number of
//! its shape, and its cells need no field numbers. A shape is kept once; it takes four bytes a
//! field and some fifty more, which a row of a shape of its own takes too.

use super::index::{Hash, Index};
use std::ops::Range;

/// Number of a shape that does not exist: of no row yet.
pub(super) const NONE: u32 = u32::MAX;

/// What is known of a shape.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Where it ends in [`Shapes::fields`].
    at: usize,
    /// It names a field twice.
    repeats: bool,
    /// It has a field of strings.
    strings: bool,
}

/// Numbers of fields, by number of the shape.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    /// The fields of all shapes, one behind another.
    fields: Vec<u32>,
    /// By shape.
    ends: Vec<End>,
    by_fields: Index,
    any_repeats: bool,
    /// For the search for repeated fields.
    sorted: Vec<u32>,
}

impl Shapes {
    /// The fields of a shape in the order of the row; none where there is no such shape.
    pub(super) fn fields(&self, shape: u32) -> &[u32] {
        &self.fields[self.places(shape)]
    }

    /// Where [`Shapes::at`] has the fields of a shape.
    pub(super) fn places(&self, shape: u32) -> Range<usize> {
        let at = shape as usize;
        let Some(end) = self.ends.get(at) else {
            return 0..0;
        };
        let start = if at == 0 { 0 } else { self.ends[at - 1].at };
        start..end.at
    }

    /// The fields at some of a shape's places.
    #[inline]
    pub(super) fn at(&self, places: Range<usize>) -> &[u32] {
        &self.fields[places]
    }

    /// True where a row of this shape writes a field twice.
    pub(super) fn repeats(&self, shape: u32) -> bool {
        self.any_repeats && self.ends[shape as usize].repeats
    }

    /// True where a row of this shape has a string.
    pub(super) fn has_strings(&self, shape: u32) -> bool {
        self.ends[shape as usize].strings
    }

    /// True where any shape names a field twice.
    pub(super) fn any_repeats(&self) -> bool {
        self.any_repeats
    }

    /// The number of the shape with these fields, which is new if they are.
    pub(super) fn number(&mut self, fields: &[u32], is_string: impl Fn(u32) -> bool) -> u32 {
        let hash = self.by_fields.hash(fields);
        let found = self.by_fields.find(hash, |shape| self.fields(shape) == fields);
        found.unwrap_or_else(|| {
            let strings = fields.iter().any(|field| is_string(*field));
            self.add(fields, strings, hash)
        })
    }

    fn add(&mut self, fields: &[u32], strings: bool, hash: Hash) -> u32 {
        self.sorted.clear();
        self.sorted.extend_from_slice(fields);
        self.sorted.sort_unstable();
        let repeats = self.sorted.windows(2).any(|pair| pair[0] == pair[1]);
        self.any_repeats |= repeats;
        let number = super::number(self.ends.len());
        self.fields.extend_from_slice(fields);
        self.ends.push(End { at: self.fields.len(), repeats, strings });
        self.by_fields.insert(hash, number);
        number
    }

    /// Bytes in use.
    pub(super) fn memory(&self) -> usize {
        self.fields.len() * 4 + self.ends.len() * size_of::<End>() + self.by_fields.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_fields_is_one_shape_and_knows_whether_a_field_comes_twice() {
        let mut shapes = Shapes::default();
        assert_eq!(shapes.fields(NONE), [0; 0]);
        for fields in [&[][..], &[0], &[0, 1], &[1, 0], &[2, 0, 2], &[0, 1, 2]] {
            let number = shapes.number(fields, |field| field == 1);
            assert_eq!(shapes.number(fields, |field| field == 1), number);
            assert_eq!(shapes.fields(number), fields);
            assert_eq!(shapes.repeats(number), fields == [2, 0, 2]);
            assert_eq!(shapes.has_strings(number), fields.contains(&1));
        }
        assert!(shapes.any_repeats());
    }
}
