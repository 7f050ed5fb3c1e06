//! A source whose fields have one type where the destination can hold only one.
//!
//! Each rule says which type a field keeps in one shard group; values of other types are cast, or
//! left out. Whoever makes the rules counts and reports what becomes of them: here they are only
//! followed, in the same way at every reading.

use crate::block::Block;
use crate::error::Result;
use crate::plan::{FilterEntry, Held, Namespace, Partition, Scope};
use crate::source::{Reader, Source};
use crate::types::FieldTypes;
use crate::value::{FieldType, Value};
use crate::window::Window;
use std::io::Write;
use std::sync::Arc;

/// The type that a field keeps in one shard group of the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The namespace, as the source names it.
    pub namespace: Namespace,
    /// The shard group.
    pub window: Window,
    /// Measurement, unescaped.
    pub measurement: Arc<[u8]>,
    /// Field key, unescaped.
    pub field: Arc<[u8]>,
    /// The type that stays.
    pub keep: FieldType,
    /// Values of other types are cast where that is exact; else they are left out.
    pub cast: bool,
}

impl Rule {
    fn apply(&self, block: &mut Block) {
        let same = |name: &[u8]| *name == *self.measurement;
        if block.runs().next().is_none_or(|(series, _)| !same(series.measurement())) {
            return;
        }
        let inside = |time| self.window.contains(time);
        if self.cast {
            block
                .retype(&self.field, self.keep, inside, |value, text| cast(value, self.keep, text));
        } else {
            block.retype(&self.field, self.keep, inside, |_, _| None);
        }
    }
}

/// A value in another type, where that loses nothing of it. Strings are made in `text`.
///
/// A number stays the same number, or is not cast: 1.5 is no integer, and 2^53 + 1 no float. To a
/// string anything is cast, as line protocol writes it without its suffix. From a string, and
/// between booleans and numbers, nothing is.
#[must_use]
pub fn cast<'v>(value: Value<'v>, to: FieldType, text: &'v mut Vec<u8>) -> Option<Value<'v>> {
    match (value, to) {
        (Value::Integer(integer), FieldType::Float) => float(i128::from(integer)),
        (Value::Unsigned(unsigned), FieldType::Float) => float(i128::from(unsigned)),
        (Value::Float(float), FieldType::Integer) => {
            whole(float).and_then(|whole| i64::try_from(whole).ok()).map(Value::Integer)
        }
        (Value::Unsigned(unsigned), FieldType::Integer) => {
            i64::try_from(unsigned).ok().map(Value::Integer)
        }
        (Value::Float(float), FieldType::Unsigned) => {
            whole(float).and_then(|whole| u64::try_from(whole).ok()).map(Value::Unsigned)
        }
        (Value::Integer(integer), FieldType::Unsigned) => {
            u64::try_from(integer).ok().map(Value::Unsigned)
        }
        (value, FieldType::String) => written(value, text),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "compared after")]
fn float(integer: i128) -> Option<Value<'static>> {
    let float = integer as f64;
    (float as i128 == integer).then_some(Value::Float(float))
}

/// A float without a fraction, which is not negative zero either.
#[expect(clippy::cast_possible_truncation, reason = "within the bounds that were checked")]
fn whole(float: f64) -> Option<i128> {
    const BOUND: f64 = 18_446_744_073_709_551_616.0;
    let is_whole = float.fract() == 0.0 && float.abs() <= BOUND;
    (is_whole && !(float == 0.0 && float.is_sign_negative())).then_some(float as i128)
}

fn written<'v>(value: Value<'v>, text: &'v mut Vec<u8>) -> Option<Value<'v>> {
    text.clear();
    // Writing to a vector does not fail.
    match value {
        Value::String(bytes) => return Some(Value::String(bytes)),
        Value::Float(float) if float.is_finite() => {
            text.extend_from_slice(zmij::Buffer::new().format_finite(float).as_bytes());
        }
        Value::Float(_) => return None,
        Value::Integer(integer) => write!(text, "{integer}").ok()?,
        Value::Unsigned(unsigned) => write!(text, "{unsigned}").ok()?,
        Value::Boolean(boolean) => write!(text, "{boolean}").ok()?,
    }
    Some(Value::String(text))
}

/// A source with rules.
#[expect(missing_debug_implementations, reason = "sources do not ask for Debug")]
pub struct Typed<'a> {
    inner: &'a dyn Source,
    rules: Vec<Rule>,
}

impl<'a> Typed<'a> {
    /// A source that follows rules.
    #[must_use]
    pub fn new(inner: &'a dyn Source, rules: Vec<Rule>) -> Self {
        Self { inner, rules }
    }
}

impl Source for Typed<'_> {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn namespaces(&self) -> Result<Vec<Held>> {
        self.inner.namespaces()
    }

    fn plan(&self, scope: &Scope) -> Result<Vec<Partition>> {
        self.inner.plan(scope)
    }

    fn open(&self, partition: &Partition) -> Result<Box<dyn Reader + '_>> {
        let inner = self.inner.open(partition)?;
        let concerned = |rule: &&Rule| {
            rule.namespace == partition.namespace
                && rule.window.intersect(partition.window).is_some()
        };
        let rules: Vec<&Rule> = self.rules.iter().filter(concerned).collect();
        if rules.is_empty() {
            return Ok(inner);
        }
        Ok(Box::new(TypedReader { inner, rules }))
    }

    fn field_types(&self, scope: &Scope) -> Result<Option<FieldTypes>> {
        self.inner.field_types(scope)
    }

    fn cells(&self, namespace: &Namespace, window: Window) -> Option<u64> {
        self.inner.cells(namespace, window)
    }

    fn coverage(&self) -> Window {
        self.inner.coverage()
    }

    fn made_of(&self) -> Option<FilterEntry> {
        self.inner.made_of()
    }

    fn cuts_keys(&self) -> bool {
        self.inner.cuts_keys()
    }

    fn sees_raw_keys(&self) -> bool {
        self.inner.sees_raw_keys()
    }
}

struct TypedReader<'a> {
    inner: Box<dyn Reader + 'a>,
    rules: Vec<&'a Rule>,
}

impl Reader for TypedReader<'_> {
    fn next_block(&mut self) -> Result<Option<Block>> {
        let Some(mut block) = self.inner.next_block()? else { return Ok(None) };
        self.rules.iter().for_each(|rule| rule.apply(&mut block));
        Ok(Some(block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FieldType::{Boolean, Float, Integer, String, Unsigned};

    fn casts(value: Value<'_>, to: FieldType, expected: Option<Value<'_>>) {
        let mut text = Vec::new();
        assert_eq!(cast(value, to, &mut text), expected, "{value:?} as {to}");
    }

    #[test]
    fn a_number_stays_the_same_number_or_is_not_cast() {
        casts(Value::Integer(5), Float, Some(Value::Float(5.0)));
        casts(Value::Integer((1 << 53) + 1), Float, None);
        casts(Value::Integer(i64::MAX), Float, None);
        casts(Value::Integer(i64::MIN), Float, Some(Value::Float(-9_223_372_036_854_775_808.0)));
        casts(Value::Unsigned(u64::MAX), Float, None);
        casts(Value::Float(5.0), Integer, Some(Value::Integer(5)));
        casts(Value::Float(-0.0), Integer, None);
        for lossy in [1.5, f64::NAN, f64::INFINITY, 1e300, 9_223_372_036_854_775_808.0] {
            casts(Value::Float(lossy), Integer, None);
        }
        casts(Value::Integer(-1), Unsigned, None);
        casts(Value::Float(7.0), Unsigned, Some(Value::Unsigned(7)));
        casts(Value::Unsigned(7), Integer, Some(Value::Integer(7)));
    }

    #[test]
    fn anything_becomes_a_string_and_a_string_nothing_else() {
        casts(Value::Float(1.5), String, Some(Value::String(b"1.5")));
        casts(Value::Integer(-7), String, Some(Value::String(b"-7")));
        casts(Value::Boolean(true), String, Some(Value::String(b"true")));
        casts(Value::String(b"1"), Integer, None);
        casts(Value::Boolean(true), Integer, None);
        casts(Value::Integer(1), Boolean, None);
    }
}
