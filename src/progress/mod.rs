//! Progress for people and for logs, on standard error.
//!
//! Workers state facts ([`crate::pipeline::Progress`]); a thread of the display's own prints them:
//! bars on a terminal, else one `key=value` line at each change of state and every half minute, and
//! at any time one more on SIGUSR1. A command that stalls goes on printing, and a standard error
//! that is closed, or that nobody reads, stops no command.
//!
//! Invariants: numbers never go backwards; there is no percentage before a total is known; away
//! from a terminal, and under `NO_COLOR`, no control character is printed.

mod bars;
mod facts;
pub mod history;
mod plain;
mod printer;
mod rate;
pub mod signal;

use self::bars::Bars;
use self::facts::Facts;
use self::history::{History, Sample};
use self::printer::{Event, Moment, Printer, Show};
use self::signal::Asked;
use crate::pipeline::{Progress, Stage};
use crate::window::format_time;
use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::io::{IsTerminal, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time between two lines.
const INTERVAL: Duration = Duration::from_secs(30);
/// Time between two looks at the counters and at the signal.
const TICK: Duration = Duration::from_millis(200);
/// Events that wait to be printed. Standard error may stand still; the data must not wait for it.
const EVENTS_MAX: usize = 1_000;

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Style {
    /// Bars on a terminal, else lines
    #[default]
    Auto,
    /// Bars on any terminal, dumb ones too; lines elsewhere and under NO_COLOR
    Bar,
    /// Lines of key=value
    Plain,
    /// Nothing but what SIGUSR1 asks for
    None,
}

/// What a display is made for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How progress is shown.
    pub style: Style,
    /// Print warnings and nothing else.
    pub quiet: bool,
    /// Data go to standard output.
    pub writes_data: bool,
    /// Asks for a line.
    pub asked: Asked,
}

/// Counts what is done and shows it until it is dropped.
pub struct Meter {
    begun: Instant,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    facts: Facts,
    history: Mutex<History>,
    inbox: Mutex<Inbox>,
    arrived: Condvar,
}

/// What is told beside the work, by whoever has no [`Meter`] at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aside {
    /// The command goes on for now as this says ("backoff:503").
    State(String),
    /// It goes on as it did before.
    Back,
    /// Something that the operator should know at once.
    Warning(String),
}

/// What the display has to be told in order.
#[derive(Default)]
struct Inbox {
    /// What the command does, by its own words.
    stage: String,
    events: VecDeque<Event>,
    /// Events that found no room.
    lost: u64,
    ended: bool,
}

impl Meter {
    /// Starts the clock and the display.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let show = match (options.quiet, options.style) {
            (true, _) => Show::Warnings,
            (false, Style::None) => Show::OnRequest,
            (false, style) if bars_fit(style, options.writes_data) => Show::Bars(Bars::new()),
            (false, _) => Show::Lines,
        };
        let out = Box::new(std::io::stderr());
        Self::with_printer(Printer::new(show, out, options.asked.clone(), INTERVAL))
    }

    fn with_printer(mut printer: Printer) -> Self {
        let (begun, shared) = (Instant::now(), Arc::new(Shared::default()));
        let theirs = Arc::clone(&shared);
        let show = move || theirs.show(begun, &mut printer);
        // Without a thread there is no display; warnings are printed when it ends.
        let thread = Builder::new().name("progress".into()).spawn(show).ok();
        Self { begun, shared, thread }
    }

    /// Time since the command began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How the counters went so far.
    #[must_use]
    pub fn history(&self) -> Vec<Sample> {
        let history = self.shared.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.until(self.elapsed(), &self.shared.facts.read())
    }

    /// Says first what runs, in which version, on which locations, each by its role.
    pub fn begin(&self, command: &str, sides: &[(&'static str, &dyn Display)]) {
        let sides = sides.iter().map(|(role, side)| (*role, side.to_string())).collect();
        self.shared.tell(Event::Begin { command: command.to_owned(), sides });
    }

    /// Takes what is told beside the work, for as long as anybody tells it.
    pub fn aside(&self) -> impl Fn(Aside) + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move |aside| {
            shared.tell(match aside {
                Aside::State(state) => Event::State(state),
                Aside::Back => Event::State(shared.lock().stage.clone()),
                Aside::Warning(text) => Event::Warning(text),
            });
        }
    }

    /// Counts the stored bytes of an input as they are read.
    pub fn count_bytes<R: Read + Send>(&self, inner: R) -> impl Read + Send + use<R> {
        self.done(Stage::Read, 0, 0);
        Counted { inner, shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.arrived.notify_all();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
        // Nothing is left unless the display could not be started or panicked.
        for event in self.shared.lock().events.drain(..) {
            if let Event::Warning(text) = event {
                print(&format!("warning: {text}"));
            }
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("facts", &self.shared.facts).finish_non_exhaustive()
    }
}

impl Progress for Meter {
    fn stage(&self, stage: &str) {
        stage.clone_into(&mut self.shared.lock().stage);
        self.shared.tell(Event::State(stage.to_owned()));
    }

    fn expect(&self, stage: Stage, cells: u64) {
        self.shared.facts.expect(stage, cells);
    }

    fn expect_bytes(&self, stage: Stage, bytes: u64) {
        self.shared.facts.expect_bytes(stage, bytes);
    }

    fn done(&self, stage: Stage, cells: u64, bytes: u64) {
        self.shared.facts.done(stage, cells, bytes);
    }

    fn units(&self, total: usize) {
        tracing::debug!(units = total);
        self.shared.facts.units(total as u64);
    }

    fn unit_done(&self) {
        tracing::debug!("unit done");
        self.shared.facts.unit_done();
    }

    fn retried(&self, times: u64) {
        tracing::debug!(retried = times);
        self.shared.facts.retried(times);
    }

    fn rejected(&self, rows: u64) {
        tracing::debug!(rejected = rows);
        self.shared.facts.rejected(rows);
    }

    fn warn(&self, text: &str) {
        self.shared.tell(Event::Warning(text.to_owned()));
    }
}

impl Shared {
    fn tell(&self, event: Event) {
        log(&event);
        let mut inbox = self.lock();
        if inbox.events.len() < EVENTS_MAX {
            inbox.events.push_back(event);
        } else {
            inbox.lost += 1;
        }
        drop(inbox);
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The display's thread.
    fn show(&self, begun: Instant, printer: &mut Printer) {
        loop {
            let (events, ended) = self.wait();
            let moment = Moment { elapsed: begun.elapsed(), ts: now() };
            let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            history.sample(moment.elapsed, &self.facts.read());
            drop(history);
            printer.turn(&moment, &self.facts, events);
            if ended {
                return;
            }
        }
    }

    /// Waits for something to print, or for the next look.
    fn wait(&self) -> (Vec<Event>, bool) {
        let idle = |inbox: &mut Inbox| inbox.events.is_empty() && !inbox.ended;
        let waited = self.arrived.wait_timeout_while(self.lock(), TICK, idle);
        let mut inbox = waited.unwrap_or_else(PoisonError::into_inner).0;
        let mut events: Vec<Event> = inbox.events.drain(..).collect();
        let lost = std::mem::take(&mut inbox.lost);
        if lost > 0 {
            let text = format!("{lost} messages were not printed: standard error took no more");
            events.push(Event::Warning(text));
        }
        (events, inbox.ended)
    }
}

/// States the event for the log, too, which has all of them whatever is displayed.
fn log(event: &Event) {
    match event {
        Event::Begin { command, sides } => {
            let side = |role| sides.iter().find(|(one, _)| *one == role).map(|(_, side)| &**side);
            let (source, destination) = (side("source"), side("destination"));
            let version = env!("CARGO_PKG_VERSION");
            tracing::info!(gapless = version, command = command.as_str(), source, destination);
        }
        Event::State(state) => tracing::info!(state = state.as_str()),
        Event::Warning(text) => tracing::warn!(warning = text.as_str()),
    }
}

/// An input whose bytes are counted.
struct Counted<R> {
    inner: R,
    shared: Arc<Shared>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.shared.facts.done(Stage::Read, 0, read as u64);
        Ok(read)
    }
}

/// True where bars may be drawn: the operator may see them, and they do not run into the data.
fn bars_fit(style: Style, writes_data: bool) -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = || std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let wanted = match style {
        Style::Auto => !(dumb() || writes_data && std::io::stdout().is_terminal()),
        Style::Bar => true,
        Style::Plain | Style::None => false,
    };
    // https://no-color.org speaks of colour; a log made of a terminal's output is better off
    // without any control character.
    wanted && std::io::stderr().is_terminal() && !is_set("NO_COLOR")
}

fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    format_time(seconds.saturating_mul(1_000_000_000))
}

/// Messages go to standard error. That it is closed is no reason to stop moving data.
pub fn print(text: &str) {
    let text = plain::printable(text) + "\n";
    let _closed = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::printer::Output;
    use super::printer::tests::Kept;
    use super::*;

    fn meter(show: Show, out: Output, interval: Duration) -> Meter {
        Meter::with_printer(Printer::new(show, out, Asked::default(), interval))
    }

    #[test]
    fn a_command_that_does_nothing_for_a_while_still_prints() {
        let kept = Kept::default();
        let meter = meter(Show::Lines, Box::new(kept.clone()), Duration::from_millis(1));
        meter.stage("open");
        // Nobody calls anything here, as where a server does not answer.
        while kept.lines().len() < 4 {
            std::thread::yield_now();
        }
        drop(meter);
        assert!(kept.lines().iter().all(|line| line.contains("state=open")), "{:?}", kept.lines());
    }

    #[test]
    fn everything_told_before_the_end_is_printed_and_in_order() {
        let kept = Kept::default();
        let meter = meter(Show::Lines, Box::new(kept.clone()), INTERVAL);
        meter.begin("copy", &[("source", &"a b"), ("destination", &"null:")]);
        meter.stage("open");
        meter.warn("careful");
        meter.stage("done");
        drop(meter);
        let lines = kept.lines();
        assert!(lines[0].ends_with("command=copy source=\"a b\" destination=null:"), "{lines:?}");
        assert!(lines[1].ends_with("state=open"), "{lines:?}");
        assert_eq!(lines[2], "warning: careful");
        assert!(lines[3].ends_with("state=done"), "{lines:?}");
    }

    #[test]
    fn the_state_before_comes_back_after_an_aside() {
        let kept = Kept::default();
        let meter = meter(Show::Lines, Box::new(kept.clone()), INTERVAL);
        let tell = meter.aside();
        meter.stage("copy");
        tell(Aside::State("backoff:503".into()));
        tell(Aside::Warning("b is left out".into()));
        tell(Aside::Back);
        drop(meter);
        let (lines, ends) = (kept.lines(), ["copy", "backoff:503", "", "copy"]);
        assert_eq!(lines[2], "warning: b is left out");
        let stated = lines.iter().zip(ends).filter(|(_, end)| !end.is_empty());
        assert!(stated.clone().count() == 3, "{lines:?}");
        stated
            .for_each(|(line, end)| assert!(line.ends_with(&format!("state={end}")), "{lines:?}"));
        tell(Aside::Back);
    }

    /// An output that takes nothing, as a terminal that was stopped; it goes on when `go` is dropped.
    struct Stuck(std::sync::mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _go = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn work_goes_on_while_nobody_reads_the_messages() {
        let (go, stuck) = std::sync::mpsc::channel();
        let meter = meter(Show::Lines, Box::new(Stuck(stuck)), INTERVAL);
        for at in 0..10 * EVENTS_MAX {
            meter.stage("send");
            meter.warn(&at.to_string());
            meter.done(Stage::Send, 1, 1);
        }
        assert_eq!(meter.shared.lock().events.len(), EVENTS_MAX);
        drop(go);
    }

    #[test]
    fn messages_that_found_no_room_are_counted() {
        let shared = Shared::default();
        for _ in 0..EVENTS_MAX + 7 {
            shared.tell(Event::State("send".into()));
        }
        let (events, _) = shared.wait();
        assert_eq!(events.len(), EVENTS_MAX + 1);
        let Some(Event::Warning(text)) = events.last() else { panic!("{events:?}") };
        assert!(text.starts_with("7 messages were not printed"), "{text}");
    }

    #[test]
    fn the_bytes_of_an_input_are_counted() {
        let meter = meter(Show::Warnings, Box::new(std::io::sink()), INTERVAL);
        let mut text = String::new();
        meter.count_bytes(&b"12345"[..]).read_to_string(&mut text).unwrap();
        let read = meter.shared.facts.read().stages[Stage::Read as usize];
        assert_eq!((read.bytes, read.bytes_total), (5, None));
    }
}
