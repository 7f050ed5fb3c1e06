//! Backslashes: which bytes are escaped in which part of a line.
//!
//! ```text
//! measurement  `,` space            read: also `=` `"`, as the server's index does
//! tag          `,` `=` space
//! field key    `,` `=` space `"`
//! string       `"` `\`
//! ```
//!
//! Every other backslash is data, and none is ever doubled outside strings. So what ends in a
//! backslash cannot be written there; that is for `encode` to notice.

/// Bytes that a measurement is written with a backslash before.
pub(super) const MEASUREMENT: &[u8] = b", ";
/// Bytes that a tag key or tag value is written with a backslash before.
pub(super) const TAG: &[u8] = b",= ";
/// Bytes that a field key is written with a backslash before, and a measurement is read with.
pub(super) const FIELD_KEY: &[u8] = b",= \"";
/// Bytes that a string is written with a backslash before.
pub(super) const STRING: &[u8] = b"\"\\";

/// Appends `text` with a backslash before each byte of `special`.
pub(super) fn escape(text: &[u8], special: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        if special.contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

/// Appends a string's content with `"` and `\` escaped.
pub(super) fn escape_string(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', rest[at]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Appends `text` without the backslashes that stand before a byte of `special`.
///
/// Read from the left, each pair once: `\\,` is a backslash and a comma in a key, and `\\"` is a
/// backslash and a quote in a string.
pub(super) fn unescape(text: &[u8], special: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        match rest.get(at + 1) {
            Some(byte) if special.contains(byte) => {
                out.push(*byte);
                rest = &rest[at + 2..];
            }
            _ => {
                out.push(b'\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.extend_from_slice(rest);
}

/// [`unescape`] into bytes of its own.
pub(super) fn unescaped(text: &[u8], special: &[u8]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(text.len());
    unescape(text, special, &mut out);
    out.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_bytes_are_unescaped() {
        let unescaped = |text: &[u8], special| unescaped(text, special).into_vec();
        assert_eq!(unescaped(br"a\,b\ c\=d\x\", TAG), br"a,b c=d\x\");
        assert_eq!(unescaped(br"\\,", TAG), br"\,");
        assert_eq!(unescaped(br#"\\\" \n"#, STRING), br#"\" \n"#);
        assert_eq!(unescaped(br#"a\"b\=c"#, FIELD_KEY), br#"a"b=c"#);
    }

    #[test]
    fn strings_come_back_as_they_were() {
        for text in [&b""[..], b"\\", b"\"", b"\\\"\\\\\"", b"a\nb\\"] {
            let mut escaped = Vec::new();
            escape_string(text, &mut escaped);
            assert_eq!(&*unescaped(&escaped, STRING), text);
        }
    }
}
