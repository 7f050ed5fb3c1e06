//! The shape of the tree: which layer may use which, file sizes, headers and leftovers.
//!
//! Reads the sources as text, so that it is fast and needs no compiler. Every rule is a function
//! from a file to its problems, and is itself tested on a planted offence.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first. A file uses modules of its own layer or of those above it in this
/// table. A new top-level module is entered here, in the lowest place where it compiles.
const LAYERS: [&[&str]; 7] = [
    &["error", "files", "stop", "window", "value", "series", "block"],
    &[
        "line", "msgpack", "tsm", "meta", "spill", "digest", "compress", "pace", "rate", "mapped",
        "tarball",
    ],
    &[
        "location",
        "plan",
        "types",
        "http",
        "influxql",
        "archive",
        "digest_file",
        "reject",
        "snapshot",
        "undo",
    ],
    &["source", "sink"],
    &["pipeline"],
    &[
        "units",
        "compare",
        "conflicts",
        "journal",
        "copy",
        "verify",
        "repair",
        "backup",
        "cat",
        "digests",
        "gaps",
        "inspect",
        "causes",
        "schema",
        "runbook",
    ],
    &["side", "report", "progress", "logs", "panics", "cli", "run", "main", "lib"],
];

const LINES_MAX: usize = 700;

/// Directories of what is built, fetched or found, none of it part of the tree.
const NOT_OURS: [&str; 5] = ["target", ".git", "corpus", "artifacts", "coverage"];

#[test]
fn modules_use_only_their_own_layer_and_those_below() {
    assert_tidy(|path, text| if path.starts_with("src") { layers(path, text) } else { vec![] });
}

#[test]
fn every_source_file_says_first_what_it_owns() {
    assert_tidy(header);
}

#[test]
fn no_source_file_is_too_long() {
    assert_tidy(length);
}

#[test]
fn nothing_is_left_undone_or_ignored() {
    assert_tidy(leftovers);
}

#[test]
fn no_path_of_one_machine_is_in_the_tree() {
    assert_tidy(machine_paths);
}

#[test]
fn the_tree_is_really_read() {
    let files = tree();
    for expected in ["src/lib.rs", "src/block/mod.rs", "tests/tidy.rs", "Cargo.toml", ".ci/run"] {
        assert!(files.iter().any(|(path, _)| path == Path::new(expected)), "{expected} not found");
    }
    assert!(!files.iter().any(|(path, _)| path.starts_with("target")));
}

#[test]
fn an_import_from_a_higher_layer_is_found() {
    for (path, text) in [
        ("src/error.rs", "use crate::line::decode;"),
        ("src/tsm/index.rs", "    let x = crate::source::open();"),
        ("src/tsm/index.rs", "use crate::{error::Error, sink::{influx, null}};"),
        ("src/plan.rs", "use crate::{\n    error,\n    // where it goes\n    pipeline as p,\n};"),
        ("src/copy.rs", "pub(crate) use crate::report;"),
        ("src/line/mod.rs", "use super::http;"),
        ("src/line/encode.rs", "use super::super::http;"),
    ] {
        assert_eq!(layers(Path::new(path), text).len(), 1, "{path}: {text}");
    }
}

#[test]
fn imports_from_the_same_or_a_lower_layer_are_fine() {
    for (path, text) in [
        ("src/copy.rs", "use crate::{verify, error::{Error, Result}};"),
        ("src/line/encode.rs", "use super::escape;\nuse crate::value::Value;"),
        ("src/error.rs", "//! See [`crate::copy`].\nmod tests {\n    use super::*;\n}"),
        ("src/lib.rs", "pub use crate::copy::run;"),
        ("src/main.rs", "use gapless::cli;"),
    ] {
        assert_eq!(layers(Path::new(path), text), [""; 0], "{path}: {text}");
    }
}

#[test]
fn a_module_outside_the_table_is_found() {
    for (path, text) in [
        ("src/helpers.rs", ""),
        ("src/helpers/mod.rs", ""),
        ("src/copy.rs", "use crate::helpers::help;"),
        ("src/copy.rs", "use crate::Error;"),
    ] {
        let problems = layers(Path::new(path), text);
        assert!(problems.iter().any(|problem| problem.contains("LAYERS")), "{path}: {problems:?}");
    }
}

#[test]
fn planted_offences_are_found() {
    let (source, notes) = (Path::new("src/copy.rs"), Path::new("NOTES.md"));
    assert_eq!(header(source, "use std::fs;\n//! late").len(), 1);
    assert_eq!(header(notes, "# Notes"), [""; 0]);
    assert_eq!(length(source, &"//!\n".repeat(LINES_MAX)), [""; 0]);
    assert_eq!(length(source, &"//!\n".repeat(LINES_MAX + 1)).len(), 1);
    for name in ["todo", "unimplemented"] {
        assert_eq!(leftovers(source, &format!("//!\n{name}!()")), [format!("line 2: {name}!")]);
    }
    assert_eq!(leftovers(source, &["#[", "ignore = \"slow\"]"].concat()).len(), 1);
    for name in ["work", "root"] {
        assert_eq!(machine_paths(notes, &format!("see /{name}/x and `/{name}/y`")).len(), 1);
        assert_eq!(machine_paths(notes, &format!("see docs/{name}/x")), [""; 0]);
    }
}

/// Uses of a module above the file's own.
fn layers(path: &Path, text: &str) -> Vec<String> {
    let (own, depth) = module(path);
    let Some(own_layer) = layer(&own) else { return vec![not_in_table(&own)] };
    let code: String = text.split_inclusive('\n').map(without_comment).collect();
    let mut problems = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        for used in first_names(&code[at + "crate::".len()..]) {
            match layer(&used) {
                None => problems.push(format!("line {line}: {}", not_in_table(&used))),
                Some(above) if above > own_layer => problems.push(format!(
                    "line {line}: {own} of layer {own_layer} uses {used} of layer {above}"
                )),
                Some(_) => {}
            }
        }
    }
    for (at, line) in code.lines().enumerate() {
        if line.starts_with(['u', 'p']) && line.matches("super::").count() >= depth {
            problems.push(format!("line {}: a path from the root begins with crate::", at + 1));
        }
    }
    problems
}

/// The top-level module that a file of `src` belongs to, and how deep below the root it stands.
fn module(path: &Path) -> (String, usize) {
    let inside = path.strip_prefix("src").expect("a file of src").with_extension("");
    let mut names: Vec<_> = inside.iter().map(|name| name.display().to_string()).collect();
    names.pop_if(|last| last == "mod");
    (names[0].clone(), names.len())
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn not_in_table(module: &str) -> String {
    format!("{module} is no module of the table LAYERS in tests/tidy.rs: add it to its layer")
}

/// The line, or only its end where it is a comment.
fn without_comment(line: &str) -> &str {
    let comment = line.trim_start().starts_with("//");
    if comment && line.ends_with('\n') {
        "\n"
    } else if comment {
        ""
    } else {
        line
    }
}

/// The first names of what follows `crate::`: one, or several in braces.
fn first_names(text: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = text.strip_prefix('{') else { return vec![name(text)] };
    let (mut names, mut depth, mut start) = (vec![name(group)], 1, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => start = at + 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if c == ',' && depth == 1 {
            names.push(name(&group[start..]));
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn header(path: &Path, text: &str) -> Vec<String> {
    let ours = ["src", "tests", "benches"].iter().any(|dir| path.starts_with(dir));
    if ours && is_rust(path) && !text.starts_with("//!") {
        return vec!["does not begin with a `//!` header".to_owned()];
    }
    vec![]
}

fn length(path: &Path, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if is_rust(path) && lines > LINES_MAX {
        return vec![format!("{lines} lines, more than {LINES_MAX}: split it by what it owns")];
    }
    vec![]
}

fn leftovers(path: &Path, text: &str) -> Vec<String> {
    // Put together here, so that this file does not hold them.
    let marks = ["todo", "unimplemented"].map(|name| format!("{name}!"));
    let marks = marks.into_iter().chain([["#[", "ignore"].concat()]);
    marks.filter(|_| is_rust(path)).flat_map(|mark| lines_with(text, &mark)).collect()
}

fn machine_paths(_: &Path, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for path in ["work", "root"].map(|name| format!("/{name}/")) {
        for (at, line) in text.lines().enumerate() {
            let starts = line.match_indices(&path).any(|(at, _)| {
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_-./}{*$".contains(c))
            });
            if starts {
                problems.push(format!("line {}: {path}", at + 1));
            }
        }
    }
    problems
}

fn lines_with(text: &str, mark: &str) -> Vec<String> {
    let found = text.lines().enumerate().filter(|(_, line)| line.contains(mark));
    found.map(|(at, _)| format!("line {}: {mark}", at + 1)).collect()
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

#[track_caller]
fn assert_tidy(rule: impl Fn(&Path, &str) -> Vec<String>) {
    let mut problems = Vec::new();
    for (path, text) in tree() {
        for problem in rule(&path, &text) {
            problems.push(format!("{}: {problem}", path.display()));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// Every text file of the tree with its path from the root, in order.
fn tree() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut files, mut dirs) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory of the tree") {
            let entry = entry.expect("an entry of the tree");
            let kind = entry.file_type().expect("the type of an entry");
            if NOT_OURS.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(entry.path())
            {
                let path = entry.path();
                files.push((path.strip_prefix(root).expect("inside").to_owned(), text));
            }
        }
    }
    files.sort();
    files
}
