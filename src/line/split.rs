//! Where one item of a text ends and the next begins: at a line feed outside quotes.
//!
//! The server's line splitter knows nothing of keys and comments: it skips what follows a
//! backslash, and counts `=` and `,` after the first space to tell whether a quote opens a string.
//! It is followed to the byte, for its mistakes decide which lines a server sees.
//!
//! Invariant: a byte is looked at once, and once more if the item holds a quote or a backslash,
//! however the text is cut into chunks.

/// State of the search for the end of one item.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// Bytes of the item that are behind us.
    at: usize,
    /// A quote or a backslash was met: what follows depends on the state below.
    careful: bool,
    /// A space was met.
    fields: bool,
    quoted: bool,
    /// Number of `=` less number of `,` since the first space, outside quotes.
    open: i64,
}

impl Splitter {
    /// Length of the item at the beginning of `bytes`, which may grow from call to call.
    ///
    /// `last` says that it grows no more. `None` asks for more bytes.
    pub(super) fn end(&mut self, bytes: &[u8], last: bool) -> Option<usize> {
        if !self.careful {
            // Without quotes and backslashes every line feed ends an item.
            let Some(found) = memchr::memchr3(b'\n', b'"', b'\\', &bytes[self.at..]) else {
                self.at = bytes.len();
                return last.then_some(bytes.len());
            };
            if bytes[self.at + found] == b'\n' {
                return Some(self.at + found);
            }
            self.careful = true;
            self.at = 0;
        }
        self.end_carefully(bytes, last)
    }

    fn end_carefully(&mut self, bytes: &[u8], last: bool) -> Option<usize> {
        loop {
            self.at += self.dull(&bytes[self.at..]);
            let Some(&byte) = bytes.get(self.at) else {
                return last.then_some(bytes.len());
            };
            match byte {
                b'\\' if self.at + 2 < bytes.len() => {
                    self.at += 2;
                    continue;
                }
                // A backslash skips the next byte only where another byte follows that one.
                b'\\' if !last => return None,
                b'\n' if !self.quoted => return Some(self.at),
                b' ' => self.fields = true,
                b'=' if self.fields && !self.quoted => self.open += 1,
                b',' if self.fields && !self.quoted => self.open -= 1,
                b'"' if self.fields && self.open > 0 => self.quoted = !self.quoted,
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Number of bytes at the beginning of `rest` that change nothing.
    fn dull(&self, rest: &[u8]) -> usize {
        let found = if self.quoted {
            memchr::memchr2(b'"', b'\\', rest)
        } else if self.fields {
            return 0;
        } else {
            memchr::memchr3(b' ', b'\\', b'\n', rest)
        };
        found.unwrap_or(rest.len())
    }

    /// True before the first search.
    pub(super) fn is_new(&self) -> bool {
        self.at == 0 && !self.careful
    }

    /// Bytes that certainly belong to the item whose end was not found yet.
    pub(super) fn certain(&self) -> usize {
        self.at
    }

    /// True where the item may hold line feeds.
    pub(super) fn may_span_lines(&self) -> bool {
        self.careful
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &[u8]) -> Vec<&[u8]> {
        let mut items = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = Splitter::default().end(rest, true).unwrap();
            items.push(&rest[..end]);
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        items
    }

    #[test]
    fn a_line_feed_in_quotes_ends_nothing() {
        assert_eq!(items(b"m v=\"a\nb\" 1\nn"), [&b"m v=\"a\nb\" 1"[..], b"n"]);
        assert_eq!(items(b"m,t=\"a\nb"), [&b"m,t=\"a"[..], b"b"]);
        assert_eq!(items(b"# a=\"x\nm v=1 1"), [&b"# a=\"x\nm v=1 1"[..]]);
        assert_eq!(items(b"#a=\"x\nm v=1 1"), [&b"#a=\"x"[..], b"m v=1 1"]);
    }

    #[test]
    fn a_backslash_hides_a_line_feed_unless_the_text_ends_there() {
        assert_eq!(items(b"a\\\nb"), [&b"a\\\nb"[..]]);
        assert_eq!(items(b"a\\\n"), [&b"a\\"[..]]);
    }

    #[test]
    fn a_backslash_waits_for_two_more_bytes() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.end(b"a\\\n", false), None);
        assert_eq!(splitter.certain(), 1);
        assert_eq!(splitter.end(b"a\\\nb\n", false), Some(4));
    }
}
