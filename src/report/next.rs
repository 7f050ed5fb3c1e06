//! The next command: what was typed, changed in one point, quoted for a shell.

use std::path::Path;

/// Options of a run that do not carry over to the next.
const LEFT_OUT: [&str; 2] = ["--json", "--quiet"];

/// Options that only `copy` has.
const COPY_FLAGS: [&str; 7] =
    ["--create", "--overwrite", "--gzip", "--no-read-back", "--retry-suspects", "--dry-run", "-n"];
/// Options that only `copy` has, with a value.
const COPY_VALUES: [&str; 6] =
    ["--consistency", "--journal", "--on-type-conflict", "--rate", "--read-back", "--undo-file"];
/// Options of `verify` and `gaps` that `copy` does not have, with a value.
const VERIFY_VALUES: [&str; 4] = ["--recheck", "--slice", "--by", "--bucket"];
/// The same without a value.
const GAPS_FLAGS: [&str; 2] = ["--copy", "--send-shifted"];

/// The command line with another command and perhaps one more option. Nothing where the source was
/// standard input, which is gone.
pub(super) fn rerun(arguments: &[String], command: &str, option: Option<&str>) -> Option<String> {
    // `--log -` is no source.
    let is_source = |at: usize| at == 0 || arguments[at - 1] != "--log";
    if arguments.iter().enumerate().any(|(at, argument)| argument == "-" && is_source(at)) {
        return None;
    }
    let mut rest = Vec::new();
    let mut words = arguments.iter().skip(1).map(String::as_str);
    while let Some(word) = words.next() {
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        let (values, flags) = match command {
            "verify" => (&COPY_VALUES[..], &COPY_FLAGS[..]),
            "copy" => (&VERIFY_VALUES[..], &GAPS_FLAGS[..]),
            _ => (&[][..], &[][..]),
        };
        if values.contains(&name) {
            if name == word {
                words.next();
            }
        } else if !(LEFT_OUT.contains(&word) || Some(word) == option || flags.contains(&word)) {
            rest.push(word);
        }
    }
    let words = ["gapless", command].into_iter().chain(option).chain(rest);
    Some(words.map(quote).collect::<Vec<_>>().join(" "))
}

/// The command line without some words, and perhaps with one more option.
pub(super) fn without(
    arguments: &[String],
    left_out: &[&str],
    option: Option<&str>,
) -> Option<String> {
    let command = arguments.first()?.clone();
    let rest = arguments.iter().filter(|word| !left_out.contains(&word.as_str()));
    rerun(&rest.cloned().collect::<Vec<_>>(), &command, option)
}

/// The arguments without the file that a run wrote, and the next must not write over.
pub(super) fn without_undo_file(arguments: &[String]) -> Vec<String> {
    let mut rest = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--undo-file" => drop(words.next()),
            word if word.starts_with("--undo-file=") => {}
            _ => rest.push(word.clone()),
        }
    }
    rest
}

/// The command line that goes on with a journal.
#[must_use]
pub fn resume(arguments: &[String], journal: &Path) -> Option<String> {
    let named = |word: &String| word == "--journal" || word.starts_with("--journal=");
    let option = format!("--journal={}", journal.display());
    let option = (!arguments.iter().any(named)).then_some(option.as_str());
    rerun(arguments, "copy", option)
}

/// A word as a POSIX shell reads it back.
pub(crate) fn quote(word: &str) -> String {
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
    fn what_only_a_copy_has_is_left_out_of_a_verify() {
        let typed = "copy a influxdb://h/db --create --consistency all --on-type-conflict=cast \
                     --no-read-back --start 0";
        let typed: Vec<String> =
            typed.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        assert_eq!(
            rerun(&typed, "verify", None).unwrap(),
            "gapless verify a influxdb://h/db --start 0"
        );
    }

    #[test]
    fn what_an_interrupted_fill_goes_on_with_is_a_copy() {
        let typed = "gaps --copy a b --by host --bucket=1m --send-shifted --create --start 0";
        let typed: Vec<String> = typed.split(' ').map(str::to_owned).collect();
        assert_eq!(rerun(&typed, "copy", None).unwrap(), "gapless copy a b --create --start 0");
    }

    #[test]
    fn a_slice_is_left_out_of_a_copy() {
        let typed = ["verify", "--slice", "1/7", "a", "b", "--recheck=none"].map(str::to_owned);
        assert_eq!(rerun(&typed, "copy", None).unwrap(), "gapless copy a b");
    }

    #[test]
    fn standard_input_cannot_be_read_again() {
        assert_eq!(rerun(&["copy".into(), "-".into(), "x".into()], "copy", None), None);
    }
}
