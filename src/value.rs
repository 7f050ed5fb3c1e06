//! The typed value of one cell, and its type.

use std::fmt;

/// Type of a field, as InfluxDB 1.x knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldType {
    /// 64-bit IEEE 754.
    Float,
    /// Signed 64-bit.
    Integer,
    /// Unsigned 64-bit; servers accept it only when built for it.
    Unsigned,
    /// True or false.
    Boolean,
    /// Bytes, not necessarily UTF-8.
    String,
}

impl FieldType {
    /// The server's own word for the type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Integer => "integer",
            Self::Unsigned => "unsigned",
            Self::Boolean => "boolean",
            Self::String => "string",
        }
    }

    /// Reads the server's word for a type.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"float" => Some(Self::Float),
            b"integer" => Some(Self::Integer),
            b"unsigned" => Some(Self::Unsigned),
            b"boolean" => Some(Self::Boolean),
            b"string" => Some(Self::String),
            _ => None,
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Value of one cell, borrowed from where it is stored.
///
/// Equality is by type and bits: `-0.0` differs from `0.0`, and a NaN equals itself.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// 64-bit IEEE 754, every bit pattern.
    Float(f64),
    /// Signed 64-bit.
    Integer(i64),
    /// Unsigned 64-bit.
    Unsigned(u64),
    /// True or false.
    Boolean(bool),
    /// Bytes, unescaped.
    String(&'a [u8]),
}

impl Value<'_> {
    /// The value's type.
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

    /// The 64 bits of a scalar; a string has none.
    #[must_use]
    pub fn bits(&self) -> Option<u64> {
        match *self {
            Self::Float(float) => Some(float.to_bits()),
            Self::Integer(integer) => Some(integer.cast_unsigned()),
            Self::Unsigned(unsigned) => Some(unsigned),
            Self::Boolean(boolean) => Some(u64::from(boolean)),
            Self::String(_) => None,
        }
    }
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::String(one), Self::String(two)) => one == two,
            _ => self.field_type() == other.field_type() && self.bits() == other.bits(),
        }
    }
}

impl Eq for Value<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_is_by_type_and_bits() {
        assert_ne!(Value::Float(0.0), Value::Float(-0.0));
        assert_eq!(Value::Float(f64::NAN), Value::Float(f64::NAN));
        assert_ne!(Value::Float(1.0), Value::Integer(1));
        assert_ne!(Value::Integer(1), Value::Unsigned(1));
        assert_ne!(Value::Integer(1), Value::Boolean(true));
        assert_ne!(Value::String(b""), Value::Boolean(false));
        assert_eq!(Value::String(b"\xff"), Value::String(b"\xff"));
    }
}
