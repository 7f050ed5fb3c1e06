//! Times and values of one field of one series, as decoders append them.
//!
//! Kept and used again from block to block: nothing is allocated for a value of its own, and strings
//! stand one behind the other in one buffer.

use super::Damage;
use super::input::Input;
use crate::value::{FieldType, Value};
use std::ops::Range;

/// Points in the order in which they were appended, which need not be that of their times.
#[derive(Debug, Default)]
pub struct Points {
    /// Time of each point, nanoseconds.
    pub times: Vec<i64>,
    /// Value of each point.
    pub values: Values,
}

/// Values of one type.
#[derive(Debug)]
pub enum Values {
    /// 64-bit IEEE 754.
    Float(Vec<f64>),
    /// Signed 64-bit.
    Integer(Vec<i64>),
    /// Unsigned 64-bit.
    Unsigned(Vec<u64>),
    /// True or false.
    Boolean(Vec<bool>),
    /// Bytes.
    String(Strings),
}

/// Strings one behind the other.
#[derive(Debug, Default)]
pub struct Strings {
    /// End of each string in `bytes`; it begins where the one before it ends.
    pub ends: Vec<usize>,
    /// The bytes of all of them.
    pub bytes: Vec<u8>,
}

impl Strings {
    /// One string.
    ///
    /// # Panics
    /// Where there are not as many.
    #[must_use]
    pub fn get(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..self.ends[at]]
    }

    fn extend(&mut self, others: &Self, range: Range<usize>) {
        let start = |at: usize| if at == 0 { 0 } else { others.ends[at - 1] };
        let (first, end) = (start(range.start), start(range.end));
        let shift = self.bytes.len();
        self.bytes.extend_from_slice(&others.bytes[first..end]);
        self.ends.extend(others.ends[range].iter().map(|end| end - first + shift));
    }

    fn truncate(&mut self, count: usize) {
        self.ends.truncate(count);
        self.bytes.truncate(self.ends.last().copied().unwrap_or_default());
    }
}

impl Default for Values {
    fn default() -> Self {
        Self::Float(Vec::new())
    }
}

impl Values {
    /// No values of this type.
    #[must_use]
    pub fn new(field_type: FieldType) -> Self {
        match field_type {
            FieldType::Float => Self::Float(Vec::new()),
            FieldType::Integer => Self::Integer(Vec::new()),
            FieldType::Unsigned => Self::Unsigned(Vec::new()),
            FieldType::Boolean => Self::Boolean(Vec::new()),
            FieldType::String => Self::String(Strings::default()),
        }
    }

    /// Type of every value.
    #[must_use]
    pub fn field_type(&self) -> FieldType {
        match self {
            Self::Float(_) => FieldType::Float,
            Self::Integer(_) => FieldType::Integer,
            Self::Unsigned(_) => FieldType::Unsigned,
            Self::Boolean(_) => FieldType::Boolean,
            Self::String(_) => FieldType::String,
        }
    }

    /// One value.
    ///
    /// # Panics
    /// Where there are not as many.
    #[must_use]
    pub fn get(&self, at: usize) -> Value<'_> {
        match self {
            Self::Float(values) => Value::Float(values[at]),
            Self::Integer(values) => Value::Integer(values[at]),
            Self::Unsigned(values) => Value::Unsigned(values[at]),
            Self::Boolean(values) => Value::Boolean(values[at]),
            Self::String(strings) => Value::String(strings.get(at)),
        }
    }

    /// Keeps the first `count` values.
    pub(super) fn truncate(&mut self, count: usize) {
        match self {
            Self::Float(values) => values.truncate(count),
            Self::Integer(values) => values.truncate(count),
            Self::Unsigned(values) => values.truncate(count),
            Self::Boolean(values) => values.truncate(count),
            Self::String(strings) => strings.truncate(count),
        }
    }
}

impl Points {
    /// Number of points.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// True where there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Forgets all points and takes values of this type from now on. What was allocated is kept as
    /// long as the type stays the same.
    pub fn reset(&mut self, field_type: FieldType) {
        self.truncate(0);
        if self.values.field_type() != field_type {
            self.values = Values::new(field_type);
        }
    }

    /// Each point, in order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, Value<'_>)> {
        self.times.iter().enumerate().map(|(at, time)| (*time, self.values.get(at)))
    }

    /// Appends some points of others.
    ///
    /// # Panics
    /// Where they are of another type, or there are not as many.
    pub fn extend(&mut self, others: &Self, range: Range<usize>) {
        self.times.extend_from_slice(&others.times[range.clone()]);
        match (&mut self.values, &others.values) {
            (Values::Float(values), Values::Float(from)) => values.extend_from_slice(&from[range]),
            (Values::Integer(values), Values::Integer(from)) => {
                values.extend_from_slice(&from[range]);
            }
            (Values::Unsigned(values), Values::Unsigned(from)) => {
                values.extend_from_slice(&from[range]);
            }
            (Values::Boolean(values), Values::Boolean(from)) => {
                values.extend_from_slice(&from[range]);
            }
            (Values::String(strings), Values::String(from)) => strings.extend(from, range),
            _ => unreachable!("points of one field and type"),
        }
    }

    /// Keeps the first `count` points.
    pub fn truncate(&mut self, count: usize) {
        self.times.truncate(count);
        self.values.truncate(count);
    }

    /// Bytes that these have allocated.
    #[must_use]
    pub fn memory(&self) -> usize {
        let values = match &self.values {
            Values::Float(values) => values.capacity() * 8,
            Values::Integer(values) => values.capacity() * 8,
            Values::Unsigned(values) => values.capacity() * 8,
            Values::Boolean(values) => values.capacity(),
            Values::String(strings) => strings.ends.capacity() * 8 + strings.bytes.capacity(),
        };
        self.times.capacity() * 8 + values
    }

    /// Refuses values of another type than those that are here.
    pub(super) fn expect(&self, field_type: FieldType, input: &Input<'_>) -> Result<(), Damage> {
        let expected = self.values.field_type();
        if expected == field_type {
            return Ok(());
        }
        Err(input.damaged(format!("a value is of type {field_type} where {expected} was expected")))
    }
}
