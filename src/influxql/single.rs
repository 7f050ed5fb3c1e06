//! Whether a text is one statement, where it comes from files that somebody may have made: a second one
//! behind a semicolon would be carried out, too.
//!
//! A semicolon counts unless it stands between quotes or in a regular expression. Whether a slash begins
//! one, or divides, the grammar decides; where that is not plain here, both are followed, and one reading
//! with a semicolon outside is enough. Readings that are no statement are harmless: a server reads the
//! whole request before it does anything. Comments, which servers keep in no text, count as well.

use std::collections::BTreeSet;

/// Readings that are followed at once.
const READINGS_MAX: usize = 64;

/// Where a reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Within {
    /// Outside of everything, behind a token.
    Nothing(Behind),
    /// Up to this mark, which ends it unless a backslash stands before.
    Marks(char),
    /// The same, behind a backslash.
    Escape(char),
}

/// What stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Behind {
    /// Something that can be divided: a name between quotes, a closing parenthesis.
    Operand,
    /// Something behind which only an operand can stand.
    Operator,
    /// A bare word that begins at this byte, open while it goes on.
    Word(usize, bool),
    /// Anything else.
    Unclear,
}

/// True unless a text is surely one statement.
pub(super) fn may_be_several(text: &str) -> bool {
    if !text.contains(';') {
        return false;
    }
    let mut readings = BTreeSet::from([Within::Nothing(Behind::Unclear)]);
    for (at, character) in text.char_indices() {
        let mut next = BTreeSet::new();
        for reading in readings {
            match reading {
                Within::Escape(mark) => next.extend([Within::Marks(mark)]),
                Within::Marks(mark) if character == '\\' => next.extend([Within::Escape(mark)]),
                Within::Marks(mark) if character == mark => {
                    next.extend([Within::Nothing(Behind::Operand)]);
                }
                Within::Marks(mark) => next.extend([Within::Marks(mark)]),
                Within::Nothing(behind) => {
                    let Some(ways) = outside(text, at, character, behind) else { return true };
                    next.extend(ways);
                }
            }
        }
        readings = next;
        if readings.len() > READINGS_MAX {
            return true;
        }
    }
    false
}

/// How a reading goes on outside of everything; nothing where the statement may end.
fn outside(text: &str, at: usize, character: char, behind: Behind) -> Option<Vec<Within>> {
    let after = &text[at + character.len_utf8()..];
    let behind = match character {
        ';' => return None,
        '-' if after.starts_with('-') => return None,
        '/' if after.starts_with('*') => return None,
        '/' => return Some(slash(text, at, behind)),
        '"' | '\'' => return Some(vec![Within::Marks(character)]),
        _ if character.is_alphanumeric() || character == '_' => match behind {
            Behind::Word(start, true) => Behind::Word(start, true),
            _ => Behind::Word(at, true),
        },
        _ if character.is_whitespace() => match behind {
            Behind::Word(start, _) => Behind::Word(start, false),
            other => other,
        },
        ')' => Behind::Operand,
        ',' | '(' | '~' => Behind::Operator,
        // A point behind digits may end a number.
        '.' if !text[..at].ends_with(|before: char| before.is_ascii_digit()) => Behind::Operator,
        _ => Behind::Unclear,
    };
    Some(vec![Within::Nothing(behind)])
}

fn slash(text: &str, at: usize, behind: Behind) -> Vec<Within> {
    let (expression, division) = (Within::Marks('/'), Within::Nothing(Behind::Unclear));
    let is_keyword = |start: usize| {
        let word = text[start..at].trim_end().to_ascii_uppercase();
        ["SELECT", "FROM", "BY"].contains(&word.as_str())
    };
    match behind {
        Behind::Operator => vec![expression],
        Behind::Word(start, _) if is_keyword(start) => vec![expression],
        Behind::Operand => vec![division],
        Behind::Word(..) | Behind::Unclear => vec![expression, division],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_inside_of_something_are_none() {
        for text in [
            "SELECT \"a;b\" FROM 'c\\';'",
            "SELECT a / b FROM \"x;\"",
            "SELECT /a;\"b/ FROM d.e./x;'y/ WHERE a =~ /;\\/;\"/ GROUP BY time(5m), /;/",
            "SELECT (a) / 2 FROM \";\"",
            "SELECT \"a\" / \"b;\" FROM c",
        ] {
            assert!(!may_be_several(text), "{text}");
        }
    }

    #[test]
    fn whatever_may_end_a_statement_is_found() {
        for text in [
            "a; b",
            "SELECT /\"/ FROM a END; DROP DATABASE b; \"",
            "SELECT a FROM b -- \"\n END; DROP DATABASE b; \"",
            "SELECT a /* \" */ END; DROP DATABASE b; \"",
            "SELECT * / \"a\" END; DROP DATABASE b; SHOW /\"",
            "SELECT 1. / 2 END; DROP DATABASE b",
            "SELECT a / 2 END; DROP DATABASE b; /",
            "SELECT \"a\\\\\" ; DROP DATABASE b",
        ] {
            assert!(may_be_several(text), "{text}");
        }
    }
}
