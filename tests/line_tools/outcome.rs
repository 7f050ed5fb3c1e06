//! Items of a text in a form that owns its bytes and can be compared.

use gapless::line::decode::{Decoder, Item, Options, Row};
use gapless::series::Printable;
use gapless::value::Value;
use std::fmt;

/// A value by type and bits.
#[derive(Clone, PartialEq, Eq)]
pub enum Stored {
    Float(u64),
    Integer(i64),
    Unsigned(u64),
    Boolean(bool),
    String(Vec<u8>),
}

impl Stored {
    /// The same, borrowed.
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Float(bits) => Value::Float(f64::from_bits(*bits)),
            Self::Integer(value) => Value::Integer(*value),
            Self::Unsigned(value) => Value::Unsigned(*value),
            Self::Boolean(value) => Value::Boolean(*value),
            Self::String(value) => Value::String(value),
        }
    }
}

impl From<Value<'_>> for Stored {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Float(value) => Self::Float(value.to_bits()),
            Value::Integer(value) => Self::Integer(value),
            Value::Unsigned(value) => Self::Unsigned(value),
            Value::Boolean(value) => Self::Boolean(value),
            Value::String(value) => Self::String(value.to_vec()),
        }
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Self::Integer(value) => write!(f, "{value}i"),
            Self::Unsigned(value) => write!(f, "{value}u"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::String(value) => write!(f, "{:?}", Printable(value).to_string()),
        }
    }
}

/// Bytes that are shown as text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", Printable(&self.0))
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// A point as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    pub line: u64,
    pub text: Bytes,
    pub key: Bytes,
    pub fields: Vec<(Bytes, Stored)>,
    pub time: i64,
    pub dropped_time_field: bool,
    pub warning: bool,
}

impl From<&Row<'_>> for Point {
    fn from(row: &Row<'_>) -> Self {
        Self {
            line: row.line,
            text: row.text.into(),
            key: row.key.into(),
            fields: row.fields().map(|(name, value)| (name.into(), value.into())).collect(),
            time: row.time,
            dropped_time_field: row.dropped_time_field,
            warning: row.warning.is_some(),
        }
    }
}

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Row(Point),
    Comment(Bytes),
    Bad { line: u64, text: Bytes, reason: String },
    TooLong { line: u64 },
}

/// Decodes a text that is cut at the given offsets, in order.
pub fn decode(text: &[u8], cuts: &[usize], options: Options) -> Vec<Outcome> {
    let mut decoder = Decoder::new(options);
    let mut outcomes = Vec::new();
    let mut start = 0;
    for &cut in cuts.iter().chain([&text.len()]) {
        let cut = cut.clamp(start, text.len());
        decoder.feed(&text[start..cut]);
        start = cut;
        if !take(&mut decoder, &mut outcomes) {
            return outcomes;
        }
    }
    decoder.finish();
    take(&mut decoder, &mut outcomes);
    outcomes
}

fn take(decoder: &mut Decoder, outcomes: &mut Vec<Outcome>) -> bool {
    loop {
        outcomes.push(match decoder.next_item() {
            Ok(None) => return true,
            Ok(Some(Item::Row(row))) => Outcome::Row((&row).into()),
            Ok(Some(Item::Comment(text))) => Outcome::Comment(text.into()),
            Ok(Some(Item::Bad(bad))) => Outcome::Bad {
                line: bad.line,
                text: bad.text.into(),
                reason: bad.reason.into_owned(),
            },
            Err(error) => {
                outcomes.push(Outcome::TooLong { line: error.line });
                return false;
            }
        });
    }
}
