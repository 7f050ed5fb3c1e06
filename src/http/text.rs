//! Text of requests and replies: parameters, a server's words, and what is shown of them.

/// Most bytes of a server's words in a message.
const WORDS_MAX: usize = 400;

/// Parameters as `application/x-www-form-urlencoded`; any bytes are allowed in values.
#[must_use]
pub fn form(parameters: &[(&str, &[u8])]) -> String {
    let mut out = String::new();
    for (name, value) in parameters {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        for &byte in *value {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push('%');
                out.push(char::from(b"0123456789ABCDEF"[usize::from(byte >> 4)]));
                out.push(char::from(b"0123456789ABCDEF"[usize::from(byte & 15)]));
            }
        }
    }
    out
}

/// The error inside a reply's body, without control characters, cut to a readable length.
pub(super) fn error_text(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Failure {
        error: String,
    }
    // {"error": …} in MessagePack: a map of one, the key, a string behind a head of 1 to 5 bytes.
    const MSGPACK: &[u8] = b"\x81\xa5error";
    let text = if let Ok(failure) = serde_json::from_slice::<Failure>(body) {
        failure.error
    } else if let Some(rest) = body.strip_prefix(MSGPACK) {
        let head = match rest.first() {
            Some(0xd9) => 2,
            Some(0xda) => 3,
            Some(0xdb) => 5,
            _ => 1,
        };
        String::from_utf8_lossy(rest.get(head..).unwrap_or_default()).into_owned()
    } else {
        String::from_utf8_lossy(body).into_owned()
    };
    shorten(text.trim())
}

/// Text for one line of a message: no control characters, at most 400 bytes.
#[must_use]
pub fn shorten(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if out.len() >= WORDS_MAX {
            out.push('…');
            break;
        }
        if character.is_control() {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded_byte_by_byte() {
        assert_eq!(form(&[("db", b"a b&"), ("q", b"\xff\"=")]), "db=a%20b%26&q=%FF%22%3D");
    }

    #[test]
    fn errors_are_found_in_every_form_of_reply() {
        assert_eq!(error_text(b"{\"error\":\"no\\nway\"}\n"), "no\\nway");
        assert_eq!(error_text(b"\x81\xa5error\xa2no"), "no");
        assert_eq!(error_text(b"\x81\xa5error\xd9\x02no"), "no");
        assert_eq!(error_text(b"<html>"), "<html>");
        assert_eq!(error_text(b""), "");
        assert!(error_text(&[b'x'; 5000]).len() < 500);
    }
}
