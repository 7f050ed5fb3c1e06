//! Processes of the tests: the built command, and the stock tools, each with a deadline.
//!
//! Owns starting, feeding, waiting and ending by process id. Invariant: no process outlives its
//! handle, and none runs past its deadline.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a process has left: its status and its output.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The command line, for messages.
    pub command: String,
    /// The exit status; none when a signal ended the process.
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub elapsed: Duration,
}

impl Ran {
    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The last line that is not empty of standard error: where the verdict stands.
    pub fn last_line(&self) -> String {
        self.err().lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").to_owned()
    }

    #[track_caller]
    pub fn expect_status(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "exit status\n{}", self.describe());
        self
    }

    /// Asserts that standard output holds `text`.
    #[track_caller]
    pub fn expect_out(self, text: &str) -> Self {
        assert!(self.out().contains(text), "no {text:?} on standard output\n{}", self.describe());
        self
    }

    /// Asserts that standard error holds `text`.
    #[track_caller]
    pub fn expect_err(self, text: &str) -> Self {
        assert!(self.err().contains(text), "no {text:?} on standard error\n{}", self.describe());
        self
    }

    /// Asserts that `text`, a secret for one, is in neither output.
    #[track_caller]
    pub fn expect_nowhere(self, text: &str) -> Self {
        let found = self.out().contains(text) || self.err().contains(text);
        assert!(!found, "{text:?} must not be in the output\n{}", self.describe());
        self
    }

    /// Everything known of the run, for a failing assertion.
    pub fn describe(&self) -> String {
        let Self { command, status, elapsed, .. } = self;
        let status = status.map_or("a signal".to_owned(), |status| status.to_string());
        let (out, err) = (head_and_tail(&self.out()), head_and_tail(&self.err()));
        format!(
            "$ {command}\nended with {status} after {elapsed:.2?}\n\
             --- standard output\n{out}\n--- standard error\n{err}\n---"
        )
    }
}

fn head_and_tail(text: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= 2 * LINES {
        return text.to_owned();
    }
    let left_out = lines.len() - 2 * LINES;
    let (head, tail) = (&lines[..LINES], &lines[lines.len() - LINES..]);
    format!("{}\n[{left_out} lines left out]\n{}", head.join("\n"), tail.join("\n"))
}

/// A run of the built command in the making.
///
/// ```text
/// Gapless::new(["copy", "in.lp"]).arg(server.location("db")).run().expect_status(0);
/// ```
#[derive(Debug)]
pub struct Gapless {
    command: Command,
    stdin: Vec<u8>,
    timeout: Duration,
}

impl Gapless {
    /// The built command with `args`, no standard input, and no `GAPLESS_` variable of ours.
    pub fn new<I>(args: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        Self::program(env!("CARGO_BIN_EXE_gapless"), args)
    }

    /// Another program, run in the same way.
    pub fn program<I>(program: impl AsRef<OsStr>, args: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let mut command = Command::new(program);
        command.args(args);
        for (name, _) in std::env::vars_os() {
            let shown = name.to_string_lossy().to_ascii_lowercase();
            if shown.starts_with("gapless_") || shown.ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        // Journals of failed copies must not stay in the home of whoever runs the tests.
        command.env("XDG_STATE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("state"));
        Self { command, stdin: Vec::new(), timeout: Duration::from_secs(120) }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// How long the process may take, 120 s unless set; then it is killed and the test fails.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Differences on servers that rest need no long pauses before they are believed.
    fn hurry(&mut self) {
        let words: Vec<_> = self.command.get_args().map(OsStr::to_os_string).collect();
        let is_verify = words.first().is_some_and(|word| word == "verify" || word == "repair");
        let is_told = words.iter().any(|word| word.to_string_lossy().starts_with("--recheck"));
        if is_verify && !is_told {
            // Less than a second is refused where points are to be deleted.
            let deletes = words.iter().any(|word| word == "--delete-extra");
            self.command.arg(if deletes { "--recheck=1s,100ms" } else { "--recheck=50ms,100ms" });
        }
    }

    /// Runs to the end.
    #[track_caller]
    pub fn run(self) -> Ran {
        self.spawn().wait()
    }

    /// Starts the process and goes on, to interrupt or kill it.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        self.hurry();
        let shown = shown(&self.command);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            self.command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        let mut stdin = child.stdin.take().expect("a pipe");
        let bytes = self.stdin;
        // A process may end without reading its input; that is its right.
        std::thread::spawn(move || stdin.write_all(&bytes).ok());
        Running {
            command: shown,
            stdout: Some(collect(child.stdout.take().expect("a pipe"))),
            stderr: Some(collect(child.stderr.take().expect("a pipe"))),
            child,
            started: Instant::now(),
            timeout: self.timeout,
        }
    }
}

/// A process that runs; killed when dropped.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    started: Instant,
    timeout: Duration,
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the state of a child").is_none()
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait(mut self) -> Ran {
        let status = wait_until(&mut self.child, self.started + self.timeout);
        let ran = self.collected(status);
        let timeout = self.timeout;
        assert!(status.is_some(), "still running after {timeout:?}, killed\n{}", ran.describe());
        ran
    }

    /// Kills with SIGKILL, as a power cut would, and returns what was output until then.
    pub fn kill9(mut self) -> Ran {
        self.child.kill().expect("to kill a child");
        let status = self.child.wait().expect("the status of a child");
        self.collected(Some(status))
    }

    /// Sends SIGINT, as Ctrl-C does. Wait for the end thereafter.
    pub fn interrupt(&self) {
        signal("INT", self.child.id());
    }

    fn collected(&mut self, status: Option<ExitStatus>) -> Ran {
        let output = |reader: Option<JoinHandle<Vec<u8>>>| {
            reader.map_or_else(Vec::new, |reader| reader.join().expect("a reader of output"))
        };
        Ran {
            command: self.command.clone(),
            status: status.and_then(|status| status.code()),
            stdout: output(self.stdout.take()),
            stderr: output(self.stderr.take()),
            elapsed: self.started.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Waits until `deadline`; past it the child is killed, and there is no status.
pub fn wait_until(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().expect("the state of a child") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            end(child);
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills a child and reaps it. A child that has ended already is left as it is.
pub fn end(child: &mut Child) {
    child.kill().ok();
    child.wait().ok();
}

/// Sends a signal to a process of ours, which must not have been reaped yet.
pub fn signal(name: &str, id: u32) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status();
    assert!(status.is_ok_and(|status| status.success()), "cannot send SIG{name} to {id}");
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).ok();
        bytes
    })
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| OsString::from(word).display().to_string()).collect();
    words.join(" ")
}
