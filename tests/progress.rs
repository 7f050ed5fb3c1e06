//! Progress as it is seen from outside: by a log, by a terminal, by SIGUSR1, and by nobody.
//!
//! Inputs are pipes that the test feeds piece by piece, so that the command is at work for as long
//! as the test wants. Nothing here waits for half a minute: the interval is tested with the clock
//! handed in, beside the code.

#![allow(clippy::unwrap_used, reason = "test code")]

mod common;

use common::Gapless;
use common::run::{end, signal, wait_until};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(120);
const ESC: char = '\u{1b}';

/// The command at work, with an input that the test holds.
struct AtWork {
    child: Child,
    stdin: Option<ChildStdin>,
    messages: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    rows: u64,
}

impl AtWork {
    /// Standard error is read by the test.
    fn start(arguments: &[&str]) -> Self {
        let mut command = command(arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        Self::of(child, stderr)
    }

    /// Standard error is a terminal of 100 columns.
    fn on_terminal(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let (ours, theirs) = terminal();
        let mut command = command(arguments);
        command.env_remove("NO_COLOR").env("TERM", "xterm");
        command.envs(environment.iter().copied());
        let child = command.stderr(theirs).spawn().unwrap();
        Self::of(child, ours)
    }

    fn of(mut child: Child, messages: impl Read + Send + 'static) -> Self {
        let (stdin, kept) = (child.stdin.take(), Arc::new(Mutex::new(String::new())));
        let theirs = Arc::clone(&kept);
        let reader = std::thread::spawn(move || {
            let mut messages = BufReader::new(messages);
            let mut line = Vec::new();
            // A terminal whose other end is closed gives an error and no end.
            while messages.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                theirs.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { child, stdin, messages: kept, reader: Some(reader), rows: 0 }
    }

    /// Feeds rows of one cell.
    fn feed(&mut self, rows: u64) {
        let mut text = String::new();
        for row in self.rows..self.rows + rows {
            text.push_str(&format!("m,host=a v={row} {row}\n"));
        }
        self.rows += rows;
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn messages(&self) -> String {
        self.messages.lock().unwrap().clone()
    }

    fn lines(&self) -> usize {
        self.messages().lines().count()
    }

    /// Waits until the messages are such.
    #[track_caller]
    fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        while !wanted(&self.messages()) {
            let (status, messages) = (self.child.try_wait().unwrap(), self.messages());
            assert!(status.is_none(), "ended with {status:?}:\n{messages}");
            assert!(begun.elapsed() < DEADLINE, "nothing of the kind:\n{messages}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends SIGUSR1 and waits for the line that it asks for.
    #[track_caller]
    fn ask(&mut self) {
        let before = self.lines();
        signal("USR1", self.child.id());
        self.wait_for(|messages| messages.lines().count() > before);
    }

    /// Ends the input; returns the exit status, none after a signal, standard output, and all
    /// messages.
    fn finish(mut self) -> (Option<i32>, String, String) {
        drop(self.stdin.take());
        let mut out = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut out).unwrap();
        }
        let status = wait_until(&mut self.child, Instant::now() + DEADLINE);
        self.reader.take().unwrap().join().unwrap();
        (status.and_then(|status| status.code()), out, self.messages())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gapless"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A pseudo-terminal: our end and theirs.
fn terminal() -> (File, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let theirs = rustix::fs::open(&name, flags, rustix::fs::Mode::empty()).unwrap();
    let size = rustix::termios::Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&theirs, size).unwrap();
    (File::from(ours), theirs)
}

fn fifo(path: &Path) {
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

#[test]
fn sigusr1_prints_one_line_each_time_and_numbers_never_go_backwards() {
    let mut at_work = AtWork::start(&["copy", "-", "null:"]);
    at_work.wait_for(|messages| messages.contains("state=open"));
    for asked in 1..=5 {
        at_work.feed(20_000);
        at_work.ask();
        assert_eq!(at_work.lines(), 2 + asked, "{}", at_work.messages());
    }
    let (status, _, messages) = at_work.finish();
    assert_eq!(status, Some(0), "{messages}");
    let mut newest = [("done", 0), ("bytes", 0), ("units_done", 0), ("retry", 0), ("rejected", 0)];
    let mut phase = None;
    for line in messages.lines().skip(1) {
        if value(line, "phase") != phase {
            phase = value(line, "phase");
            newest[0].1 = 0;
            newest[1].1 = 0;
        }
        for (key, newest) in &mut newest {
            let Some(number) = value(line, key) else { continue };
            let number: u64 = number.parse().unwrap();
            assert!(number >= *newest, "{key} in\n{messages}");
            *newest = number;
        }
    }
    assert!(messages.lines().all(|line| line.starts_with("ts=2")), "{messages}");
    assert!(messages.contains("state=done"), "{messages}");
    assert!(!messages.contains(['%', ESC]), "{messages}");
}

#[test]
fn the_first_line_names_version_and_locations() {
    let at_work = AtWork::start(&["copy", "-", "null:"]);
    let (_, _, messages) = at_work.finish();
    let first = messages.lines().next().unwrap();
    assert_eq!(value(first, "gapless"), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(value(first, "command"), Some("copy"));
    assert_eq!((value(first, "source"), value(first, "destination")), (Some("-"), Some("null:")));
}

#[test]
fn sigusr1_before_any_work_began_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.lp");
    fifo(&path);
    let mut at_work = AtWork::start(&["copy", path.to_str().unwrap(), "null:"]);
    at_work.wait_for(|messages| messages.contains("state=open"));
    // The command waits for somebody to open the other end.
    at_work.ask();
    at_work.ask();
    std::fs::write(&path, "m v=1 1\n").unwrap();
    let (status, out, messages) = at_work.finish();
    assert_eq!(status, Some(0), "{messages}");
    assert!(out.contains("1 cells"), "{out}");
}

#[test]
fn sigusr1_is_survived_by_every_command_in_every_mode() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.lp");
    std::fs::write(&file, "m,host=a v=0 0\n").unwrap();
    let file = file.to_str().unwrap();
    for command in [&["copy", "-", "null:"][..], &["verify", "-", file], &["cat", "-"]] {
        for (mode, printed) in [(&["--progress", "none"][..], 1), (&["--quiet"], 0)] {
            let arguments = [command, mode].concat();
            let mut at_work = AtWork::start(&arguments);
            // Without a line to wait for, the input shows that the command is past its beginning:
            // it takes more than a pipe holds.
            at_work.feed(50_000);
            if printed > 0 {
                at_work.ask();
            } else {
                signal("USR1", at_work.child.id());
                at_work.feed(50_000);
            }
            drop(at_work.child.stdout.take());
            let (status, _, messages) = at_work.finish();
            assert!(status.is_some_and(|status| status < 2), "{arguments:?} {status:?} {messages}");
            assert_eq!(messages.lines().count(), printed, "{arguments:?}: {messages}");
        }
    }
}

#[test]
fn a_standard_error_that_nobody_reads_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = command(&["copy", "-", "null:"]);
    // The rejected line goes to a file in the working directory.
    let mut child = command.current_dir(dir.path()).stderr(writer).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"m v=1 1\nm v= 2\n").unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    let status = wait_until(&mut child, Instant::now() + DEADLINE);
    // One line was rejected, which is a warning nobody sees, and a status that everybody does.
    assert_eq!(status.and_then(|status| status.code()), Some(3), "{out}");
    assert!(out.contains("rejected 1"), "{out}");
}

#[test]
fn closed_outputs_are_no_crash() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.lp"), "m v=1 1\n").unwrap();
    let gapless = env!("CARGO_BIN_EXE_gapless");
    for command in ["copy in.lp null:", "cat in.lp", "verify in.lp in.lp", "--help", "nonsense"] {
        let status = |closed: &str| {
            let script = format!("'{gapless}' {command} {closed}");
            Gapless::program("sh", ["-c", &script]).dir(dir.path()).run().status
        };
        let open = status("");
        assert!(open.is_some_and(|status| status <= 2), "{command}: {open:?}");
        for closed in ["2>&-", ">&-", ">&- 2>&- <&-"] {
            assert_eq!(status(closed), open, "{command} {closed}");
        }
    }
}

#[test]
fn a_reader_that_has_enough_of_the_output_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let rows: String = (0..200_000).map(|row| format!("m,host=a v={row} {row}\n")).collect();
    std::fs::write(dir.path().join("in.lp"), rows).unwrap();
    let gapless = env!("CARGO_BIN_EXE_gapless");
    let script = format!("{{ '{gapless}' cat in.lp; echo $? >status; }} | head -n 1");
    let ran = Gapless::program("sh", ["-c", &script]).dir(dir.path()).run();
    assert_eq!(std::fs::read_to_string(dir.path().join("status")).unwrap(), "0\n");
    assert!(!ran.err().contains("error") && !ran.err().contains("panic"), "{}", ran.describe());
    for arguments in [&["copy", "in.lp", "null:"][..], &["copy", "in.lp", "null:", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(gapless);
        command.args(arguments).current_dir(dir.path()).stdout(writer).stderr(Stdio::piped());
        let output = command.output().unwrap();
        let messages = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{messages}");
        assert!(!messages.contains("panic"), "{messages}");
    }
}

#[test]
fn json_stands_alone_on_standard_output_whatever_progress_is_shown() {
    for style in ["auto", "bar", "plain", "none"] {
        let run = Gapless::new(["copy", "-", "null:", "--json", "--progress", style]);
        let ran = run.stdin("m v=1 1\n").run().expect_status(0);
        let report: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!(report["verdict"], "counted", "{}", ran.describe());
        assert_eq!(ran.err().contains("state=open"), style != "none", "{}", ran.describe());
        assert!(!ran.err().contains(ESC), "{}", ran.describe());
    }
}

#[test]
fn names_with_control_characters_do_not_reach_the_terminal_as_such() {
    let name = "a\u{1b}[2Jb\r.lp";
    let ran = Gapless::new(["copy", name, "null:"]).run().expect_status(4);
    assert!(!ran.err().contains([ESC, '\r']), "{:?}", ran.err());
    ran.expect_err("a\\u{1b}[2Jb\\r.lp");
}

#[test]
fn an_input_without_a_known_end_has_bars_without_a_percentage() {
    let mut at_work = AtWork::on_terminal(&["copy", "-", "null:"], &[]);
    at_work.wait_for(|messages| messages.contains("gapless"));
    at_work.feed(50_000);
    at_work.wait_for(|messages| {
        messages.contains("read     counting   1.") && messages.contains("B/s")
    });
    at_work.ask();
    let (status, out, messages) = at_work.finish();
    assert_eq!(status, Some(0), "{messages}");
    assert!(messages.contains(ESC) && messages.contains("phase=read"), "{messages}");
    // Once everything is read the count is known, and there may be a percentage.
    let reading = &messages[..messages.rfind("state: open").unwrap()];
    assert!(messages.contains("state: done") && !reading.contains('%'), "{messages}");
    assert!(!out.contains(ESC), "{out}");
}

#[test]
fn the_bytes_of_a_file_have_a_bar_with_a_percentage() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("in.lp");
    let rows: String = (0..200_000).map(|row| format!("m,host=a v={row} {row}\n")).collect();
    std::fs::write(&file, rows).unwrap();
    // Nobody takes the output until the bars have been seen.
    let mut at_work = AtWork::on_terminal(&["cat", file.to_str().unwrap()], &[]);
    at_work.wait_for(|messages| messages.contains("state: write"));
    let messages = at_work.messages();
    let full = format!("read     {} 100%", "█".repeat(26));
    assert!(messages.contains(&full), "{messages}");
    let (status, out, _) = at_work.finish();
    assert_eq!((status, out.lines().count()), (Some(0), 200_000));
}

#[test]
fn no_control_character_is_printed_where_none_is_wanted() {
    for (arguments, environment) in [
        (&["--progress", "auto"][..], ("NO_COLOR", "1")),
        (&["--progress", "bar"], ("NO_COLOR", "1")),
        (&["--progress", "auto"], ("TERM", "dumb")),
        (&["--progress", "plain"], ("TERM", "xterm")),
    ] {
        let arguments = [&["copy", "-", "null:"], arguments].concat();
        let mut at_work = AtWork::on_terminal(&arguments, &[environment]);
        at_work.wait_for(|messages| messages.contains("state=open"));
        at_work.feed(50_000);
        at_work.ask();
        let (status, _, messages) = at_work.finish();
        assert_eq!(status, Some(0), "{messages}");
        // The terminal's own line discipline adds the carriage returns.
        let control = |c: char| c.is_control() && c != '\n' && c != '\r';
        assert!(!messages.contains(control), "{arguments:?}: {messages:?}");
    }
}

#[test]
fn a_terminal_that_closes_ends_no_command() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("out.arc");
    let (ours, theirs) = terminal();
    let mut command = command(&["copy", "-", archive.to_str().unwrap()]);
    let mut child = command.env("TERM", "xterm").stderr(theirs).spawn().unwrap();
    drop(command);
    drop(ours);
    let rows: String = (0..100_000).map(|row| format!("m,host=a v={row} {row}\n")).collect();
    child.stdin.take().unwrap().write_all(rows.as_bytes()).unwrap();
    let status = wait_until(&mut child, Instant::now() + DEADLINE);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}
