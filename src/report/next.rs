//! The next command: what was typed, changed in one point, quoted for a shell.

/// Options of a run that do not carry over to the next.
const LEFT_OUT: [&str; 2] = ["--json", "--quiet"];

/// The command line with another command and perhaps one more option. Nothing where the source was
/// standard input, which is gone.
pub(super) fn rerun(arguments: &[String], command: &str, option: Option<&str>) -> Option<String> {
    if arguments.iter().any(|argument| argument == "-") {
        return None;
    }
    let rest = arguments.iter().skip(1).map(String::as_str);
    let rest = rest.filter(|argument| !LEFT_OUT.contains(argument) && Some(*argument) != option);
    let words = ["gapless", command].into_iter().chain(option).chain(rest);
    Some(words.map(quote).collect::<Vec<_>>().join(" "))
}

/// A word as a POSIX shell reads it back.
fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_kept_and_quoted() {
        let typed = ["verify", "a file.lp", "influxdb://h:8086/db", "--start", "0", "--json"];
        let typed = typed.map(str::to_owned);
        assert_eq!(
            rerun(&typed, "copy", Some("--overwrite")).unwrap(),
            "gapless copy --overwrite 'a file.lp' influxdb://h:8086/db --start 0"
        );
        assert_eq!(quote("it's"), "'it'\\''s'");
    }

    #[test]
    fn standard_input_cannot_be_read_again() {
        assert_eq!(rerun(&["copy".into(), "-".into(), "x".into()], "copy", None), None);
    }
}
