//! Text from outside, made harmless for a page: every character that means something to a browser,
//! moves the cursor or turns the direction of writing is shown and not obeyed.

use std::fmt::{self, Display, Formatter, Write};

/// Text for an element or a quoted attribute: at most this many bytes of it, then an ellipsis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Safe<T>(pub(super) T, pub(super) usize);

impl<T: AsRef<str>> Display for Safe<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut room = self.1;
        let mut piece = String::new();
        for character in self.0.as_ref().chars() {
            piece.clear();
            escape(character, &mut piece)?;
            let Some(rest) = room.checked_sub(piece.len()) else { return f.write_char('…') };
            room = rest;
            f.write_str(&piece)?;
        }
        Ok(())
    }
}

fn escape(character: char, out: &mut String) -> fmt::Result {
    match character {
        '&' => out.write_str("&amp;"),
        '<' => out.write_str("&lt;"),
        '>' => out.write_str("&gt;"),
        '"' => out.write_str("&quot;"),
        '\'' => out.write_str("&#39;"),
        hidden if hidden.is_control() || misleads(hidden) => {
            write!(out, "{}", hidden.escape_unicode())
        }
        plain => out.write_char(plain),
    }
}

/// Characters that cannot be seen and change how others are: marks and overrides of direction, spaces
/// without width, ends of lines and paragraphs, and what stands for no character at all.
fn misleads(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
        || u32::from(character) & 0xfffe == 0xfffe
}

/// A name cut in its middle to at most so many characters: keys of series differ at both ends.
pub(super) fn shorten(name: &str, max: usize) -> String {
    let length = name.chars().count();
    if length <= max {
        return name.to_owned();
    }
    let (head, tail) = ((max - 1) / 2, max - 1 - (max - 1) / 2);
    let head: String = name.chars().take(head).collect();
    let tail: String = name.chars().skip(length - tail).collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_browser_obeys() {
        let hostile = "<script>alert(1)</script>\"&'\u{0}\u{1b}\u{202e}\u{feff}é";
        assert_eq!(
            Safe(hostile, 1_000).to_string(),
            "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&amp;&#39;\\u{0}\\u{1b}\\u{202e}\\u{feff}é"
        );
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(Safe("a&b", 6).to_string(), "a&amp;…");
        assert_eq!(Safe("a&b", 5).to_string(), "a…");
        assert_eq!(Safe("ééé", 5).to_string(), "éé…");
        assert_eq!(Safe("abc", 3).to_string(), "abc");
        assert!(Safe("<".repeat(9_000), 100).to_string().len() <= 103);
    }

    #[test]
    fn names_are_cut_in_their_middle() {
        assert_eq!(shorten("cpu,host=a", 10), "cpu,host=a");
        assert_eq!(shorten("cpu,host=web07", 9), "cpu,…eb07");
    }
}
