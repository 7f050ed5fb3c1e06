//! A series: the key a server stores, and the identity that key stands for.
//!
//! A server stores the *raw* key, escapes and all, as it was sent. Two raw keys may stand for one
//! identity (`m\=x` and `m=x`); a server stores them apart and its queries show only one. So both
//! are kept: the raw key is what is sent on, the identity is what is compared.

use std::fmt;

/// One tag, unescaped.
pub type Tag = (Box<[u8]>, Box<[u8]>);

/// A series key with its identity. Made by `line::key`, which knows how keys are escaped.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Series {
    key: Box<[u8]>,
    measurement: Box<[u8]>,
    tags: Box<[Tag]>,
    canonical: bool,
}

impl Series {
    /// A series from its raw key and the identity that key stands for.
    ///
    /// Tags without a value are no tags, and the order of tags is no part of the identity: the
    /// former are dropped and the rest is sorted by tag key. `canonical` says that the raw key is
    /// the one that a server would make from the identity.
    #[must_use]
    pub fn new(
        key: Box<[u8]>,
        measurement: Box<[u8]>,
        mut tags: Vec<Tag>,
        canonical: bool,
    ) -> Self {
        tags.retain(|(_, value)| !value.is_empty());
        tags.sort_unstable();
        Self { key, measurement, tags: tags.into_boxed_slice(), canonical }
    }

    /// The raw key, escaped, as a server stores it.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The measurement, unescaped.
    #[must_use]
    pub fn measurement(&self) -> &[u8] {
        &self.measurement
    }

    /// The tags, unescaped, sorted by tag key, none empty.
    #[must_use]
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// The value of one tag.
    #[must_use]
    pub fn tag(&self, key: &[u8]) -> Option<&[u8]> {
        self.tags.iter().find(|(name, _)| &**name == key).map(|(_, value)| &**value)
    }

    /// True where queries of an InfluxDB 1.x server can show this series under its identity.
    ///
    /// They cannot, or only until a restart or on one kind of index, where the raw key is another
    /// spelling of its identity (the server looks for the canonical one), where a tag holds `#!~#`
    /// (its files split key from field there), and where the measurement holds a backslash before a
    /// comma or space (it unescapes the name once more).
    #[must_use]
    pub fn shown_by_queries(&self) -> bool {
        let holds = |bytes: &[u8], part: &[u8]| memchr::memmem::find(bytes, part).is_some();
        self.canonical
            && !holds_separator(&self.key)
            && !holds(&self.measurement, b"\\,")
            && !holds(&self.measurement, b"\\ ")
    }

    /// Appends the identity in canonical form: each part behind its length, as u32 little-endian,
    /// and the number of tags before them. Part of the persisted digest format.
    pub fn write_identity(&self, out: &mut Vec<u8>) {
        write_part(out, &self.measurement);
        write_length(out, self.tags.len());
        for (key, value) in &self.tags {
            write_part(out, key);
            write_part(out, value);
        }
    }

    /// Bytes this series occupies in memory, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        let tags: usize = self.tags.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
        size_of::<Self>() + self.key.len() + self.measurement.len() + tags
    }
}

/// True where a raw series key or a field key holds `#!~#`, which stands between the two in InfluxDB's
/// files and is escaped by nothing.
///
/// `m,a=b#!~#c` with the field `v` and `m,a=b` with the field `c#!~#v` are stored under one key.
/// Whoever reads files cuts it at the first, as a server does when it starts; a server that was sent
/// the former shows it by queries until then.
#[must_use]
pub fn holds_separator(name: &[u8]) -> bool {
    memchr::memmem::find(name, b"#!~#").is_some()
}

/// Appends `part` behind its length.
pub fn write_part(out: &mut Vec<u8>, part: &[u8]) {
    write_length(out, part.len());
    out.extend_from_slice(part);
}

fn write_length(out: &mut Vec<u8>, length: usize) {
    // Keys are limited to 65,535 bytes by the format, so the saturation is never seen; without it
    // two huge parts could share one prefix.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

impl fmt::Display for Series {
    /// The raw key, with what a terminal could misread escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Printable(&self.key))
    }
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Series({self})")
    }
}

/// Bytes for a person: UTF-8 as it is, control characters and other bytes as `\x1b`.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    write!(f, "{character}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: &str) -> Tag {
        (key.as_bytes().into(), value.as_bytes().into())
    }

    #[test]
    fn identity_knows_neither_tag_order_nor_empty_tags() {
        let identity = |tags| {
            let mut out = Vec::new();
            Series::new(Box::default(), b"m"[..].into(), tags, true).write_identity(&mut out);
            out
        };
        let plain = identity(vec![tag("a", "1"), tag("b", "2")]);
        assert_eq!(plain, identity(vec![tag("b", "2"), tag("a", "1"), tag("c", "")]));
        assert_ne!(plain, identity(vec![tag("a", "1b"), tag("", "2")]));
    }

    #[test]
    fn control_characters_never_reach_a_terminal() {
        assert_eq!(Printable(b"a\x1b[31m\n\xffz").to_string(), "a\\u{1b}[31m\\n\\xffz");
    }
}
