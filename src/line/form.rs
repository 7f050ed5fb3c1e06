//! Forms: the names and types of the fields that a line has, in its order.
//!
//! Most lines of a series have the form of the line before, so that each field is compared with the
//! one that is expected and nothing is looked for. A line that leaves its form goes on along
//! another that begins in the same way, if one was seen.
//!
//! Invariant: a form names a field once, and only fields of which nothing is to be said.

use super::fields::Cell;
use super::names::Name;
use super::number;
use crate::block::index::Index;
use crate::value::FieldType;

/// Number of a form that does not exist.
pub(super) const NONE: u32 = u32::MAX;
/// Names in all forms.
const NAMES_MAX: usize = 1 << 15;
/// How often a line may change to another form.
const CHANGES_MAX: usize = 4;

/// A field that is expected.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    name: Name,
    pub(super) field_type: FieldType,
}

impl Expected {
    pub(super) fn name(&self) -> &[u8] {
        self.name.name()
    }

    fn is(&self, name: &[u8], field_type: FieldType) -> bool {
        self.field_type == field_type && self.name() == name
    }
}

/// The fields of lines that are alike.
#[derive(Debug)]
struct Form {
    fields: Vec<Expected>,
    /// The form of the line that left this one last, and how many fields both begin with.
    other: (u32, usize),
}

/// All forms that were seen.
#[derive(Debug, Default)]
pub(super) struct Forms {
    list: Vec<Form>,
    by_fields: Index,
    names: usize,
}

impl Forms {
    /// The fields of a form.
    pub(super) fn fields(&self, form: u32) -> &[Expected] {
        &self.list[form as usize].fields
    }

    /// Reads the fields that begin at `at` along a form, or along others that begin like it: which
    /// it was, and where the fields end. The values are appended to `cells`: bits, or for a string
    /// where it begins in `text` (the high half) and how long it is.
    #[inline]
    pub(super) fn read(
        &self,
        text: &[u8],
        mut at: usize,
        form: u32,
        cells: &mut Vec<u64>,
    ) -> Option<(u32, usize)> {
        let mut number = form;
        let mut form = self.list.get(number as usize)?;
        for _ in 0..=CHANGES_MAX {
            while let Some(expected) = form.fields.get(cells.len()) {
                let Some((end, bits)) = expected.read(text, at) else { break };
                let is_last = cells.len() + 1 == form.fields.len();
                match text.get(end)? {
                    b' ' if is_last => {
                        cells.push(bits);
                        return Some((number, end));
                    }
                    b',' if !is_last => {
                        cells.push(bits);
                        at = end + 1;
                    }
                    _ => break,
                }
            }
            let (other, alike) = form.other;
            if cells.len() > alike {
                return None;
            }
            number = other;
            form = self.list.get(number as usize)?;
        }
        None
    }

    /// The number of the form with these fields; nothing where there is no room for more.
    pub(super) fn number(&mut self, fields: &[(&[u8], FieldType)]) -> Option<u32> {
        let hash = self.by_fields.hash(fields);
        let is_same = |number: u32| {
            let known = self.fields(number);
            known.len() == fields.len()
                && known.iter().zip(fields).all(|(known, field)| known.is(field.0, field.1))
        };
        if let Some(number) = self.by_fields.find(hash, is_same) {
            return Some(number);
        }
        if self.names + fields.len() > NAMES_MAX {
            return None;
        }
        self.names += fields.len();
        let number = u32::try_from(self.list.len()).ok()?;
        let expected =
            |&(name, field_type): &(&[u8], _)| Expected { name: Name::new(name), field_type };
        self.list.push(Form { fields: fields.iter().map(expected).collect(), other: (NONE, 0) });
        self.by_fields.insert(hash, number);
        Some(number)
    }

    /// Notes that a line left one form and had another.
    pub(super) fn note_change(&mut self, from: u32, to: u32) {
        if from == to || self.list.len() <= from as usize {
            return;
        }
        let (one, two) = (self.fields(from), self.fields(to));
        let is_same = |(one, two): &(&Expected, &Expected)| one.is(two.name(), two.field_type);
        let alike = one.iter().zip(two).take_while(is_same).count();
        self.list[from as usize].other = (to, alike);
    }

    /// True where there is room for more.
    pub(super) fn has_room(&self) -> bool {
        self.names < NAMES_MAX
    }

    /// Keeps the memory, which is bounded.
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.by_fields.clear();
        self.names = 0;
    }
}

impl Expected {
    /// Reads the field that begins at `at`, if it is this one: where it ends, and its value.
    #[inline(always)]
    fn read(&self, text: &[u8], at: usize) -> Option<(usize, u64)> {
        if !self.name.begins(text.get(at..)?) {
            return None;
        }
        let (end, cell) = number::value(text, at + self.name.bytes.len())?;
        let bits = match (self.field_type, cell) {
            (FieldType::Float, Cell::Float(value)) => value.to_bits(),
            (FieldType::Integer, Cell::Integer(value)) => value.cast_unsigned(),
            (FieldType::Boolean, Cell::Boolean(value)) => u64::from(value),
            (FieldType::String, Cell::String(piece)) => piece.packed()?,
            _ => return None,
        };
        Some((end, bits))
    }
}
