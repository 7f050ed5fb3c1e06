//! Generated line protocol: the same bytes for the same options, in constant memory, at any size.
//!
//! Owns the order of the lines, the rows that are written again, and where it stops; what the lines
//! hold is `shapes`. Refuses options that contradict each other. Invariant: a line is a function of
//! the options and its place alone, and every place is written once, besides duplicates.

mod noise;
mod row;
mod shapes;

use self::noise::{Permutation, hash, unit};
pub(crate) use self::shapes::Shape;
use self::shapes::{Content, FIELDS_MAX, MEASUREMENTS_MAX, Place};
use std::collections::VecDeque;
use std::io::{self, Write};

/// Bytes that are written at once.
const BUFFER: usize = 1 << 18;
/// Bytes of lines that are made to learn how long they are.
const SAMPLE: usize = 4 << 20;
/// Steps where neither they nor bytes are given.
const STEPS: u64 = 360;
/// Steps of the reference data set.
const REFERENCE_STEPS: u64 = 1_710;

/// What is generated, how much, and in which order.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Take another data set's numbers where none are given
    #[arg(long, value_enum)]
    pub(crate) preset: Option<Preset>,
    /// What the lines hold
    #[arg(long, value_enum, default_value = "devops")]
    pub(crate) shape: Shape,
    /// Every number follows from it
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Hosts, or series [default: 200]
    #[arg(long)]
    pub(crate) hosts: Option<u64>,
    /// Points of each series [default: 360, or what --bytes needs]
    #[arg(long)]
    pub(crate) steps: Option<u64>,
    /// Measurements of a host: the first of cpu, mem, net, status, disk [default: 5]
    #[arg(long)]
    pub(crate) measurements: Option<u64>,
    /// Stop behind the line with which so many bytes are written (K, M, G: powers of 1,000)
    #[arg(long, value_parser = parse_bytes)]
    pub(crate) bytes: Option<u64>,
    /// Time of the first step, nanoseconds since 1970
    #[arg(long, default_value_t = 1_700_438_400_000_000_000)]
    pub(crate) start: i64,
    /// Seconds between two steps
    #[arg(long, default_value_t = 10)]
    pub(crate) interval: u32,
    /// Nanoseconds by which a row may be late [default: 1000000]
    #[arg(long)]
    pub(crate) jitter: Option<u64>,
    /// In which order lines follow each other
    #[arg(long, value_enum, default_value = "time")]
    pub(crate) order: Order,
    /// One field a line, as influx_inspect export writes them
    #[arg(long)]
    pub(crate) single_fields: bool,
    /// Share of the hosts with hostile tags
    #[arg(long, default_value_t = 0.0)]
    pub(crate) hostile_tags: f64,
    /// Share of the status rows with a hostile string
    #[arg(long, default_value_t = 0.0)]
    pub(crate) hostile_strings: f64,
    /// Share of the lines that are written again, with other values
    #[arg(long, default_value_t = 0.0)]
    pub(crate) duplicates: f64,
    /// Bytes between such a line and its successor; less only at the end, where --steps ends it
    #[arg(long, value_parser = parse_bytes, default_value = "1G")]
    pub(crate) distance: u64,
    /// Fields of the wide shape
    #[arg(long, default_value_t = 5_000)]
    pub(crate) fields: u64,
    /// Fields of the wide shape that a row holds [default: all]
    #[arg(long)]
    pub(crate) row_fields: Option<u64>,
    /// Bytes of the string of the long shape
    #[arg(long, value_parser = parse_bytes, default_value = "4M")]
    pub(crate) line_bytes: u64,
}

/// Numbers of another data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Preset {
    /// 200 hosts and 4 measurements: 1.368 million rows, 8.42 million cells, without jitter
    Reference,
}

/// In which order lines follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    /// By time, as hosts write them
    Time,
    /// By series, as an export writes them
    Series,
    /// By chance
    Shuffled,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Lines, those that overwrite others among them. Strings may hold line feeds besides.
    pub(crate) rows: u64,
    /// Cells, those that are overwritten among them.
    pub(crate) cells: u64,
    pub(crate) bytes: u64,
    /// Lines that overwrite others.
    pub(crate) duplicates: u64,
    /// Fewest bytes between the beginnings of a line and the one that overwrites it.
    pub(crate) nearest: Option<u64>,
}

/// Reads a number of bytes: `2G`, `500M`, `64K`, `1000`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1_000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    let parsed = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    parsed.ok_or_else(|| format!("{text:?} is no number of bytes: write 2G, 500M, 64K or 1000"))
}

/// Writes what the options say.
#[derive(Debug)]
pub(crate) struct Generator {
    content: Content,
    order: Order,
    permutation: Permutation,
    /// Lines of one step.
    per_step: u64,
    steps: u64,
    bytes: Option<u64>,
    duplicates: f64,
    distance: u64,
}

impl Generator {
    /// Checks the options.
    ///
    /// # Errors
    /// Where one is out of its range.
    pub(crate) fn new(options: &Options) -> Result<Self, String> {
        let content = content(options)?;
        let hosts = options.hosts.unwrap_or(200);
        let per_step = hosts.checked_mul(content.lines_per_host()).ok_or("too many lines")?;
        let steps = match (options.steps, options.bytes, options.preset) {
            (Some(steps), _, _) => steps,
            (None, Some(bytes), _) => steps_for(&content, per_step, bytes),
            (None, None, Some(Preset::Reference)) => REFERENCE_STEPS,
            (None, None, None) => STEPS,
        };
        let lines = per_step.checked_mul(steps).filter(|lines| *lines < 1 << 62);
        let lines = lines.ok_or("too many lines")?;
        Ok(Self {
            permutation: Permutation::new(lines, hash([content.seed, 6])),
            content,
            order: options.order,
            per_step,
            steps,
            bytes: options.bytes,
            duplicates: share("--duplicates", options.duplicates)?,
            distance: options.distance,
        })
    }

    /// Writes all lines.
    ///
    /// # Errors
    /// Where `out` cannot be written.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<Summary> {
        let mut writer = Writer { out, buffer: Vec::new(), summary: Summary::default() };
        // Lines to be written again: at most those of `distance` bytes.
        let mut again: VecDeque<(u64, u64)> = VecDeque::new();
        let enough = |written: u64| self.bytes.is_some_and(|bytes| written >= bytes);
        for number in 0..self.per_step * self.steps {
            let at = writer.summary.bytes;
            if enough(at) {
                break;
            }
            let place = self.place(number);
            let cells = writer.line(&self.content, place, 0)?;
            let twice = unit(hash([self.content.seed, 7, number])) < self.duplicates;
            if twice && cells > 0 {
                again.push_back((number, at));
            }
            while let Some(&(number, first)) = again.front()
                && writer.summary.bytes - first >= self.distance
                && !enough(writer.summary.bytes)
            {
                again.pop_front();
                writer.again(&self.content, self.place(number), first)?;
            }
        }
        while let Some((number, first)) = again.pop_front().filter(|_| self.bytes.is_none()) {
            writer.again(&self.content, self.place(number), first)?;
        }
        writer.flush()?;
        Ok(writer.summary)
    }

    fn place(&self, number: u64) -> Place {
        let (column, step) = match self.order {
            Order::Time => (number % self.per_step, number / self.per_step),
            Order::Series => (number / self.steps, number % self.steps),
            Order::Shuffled => {
                let number = self.permutation.at(number);
                (number % self.per_step, number / self.per_step)
            }
        };
        let lines = self.content.lines_per_host();
        Place { host: column / lines, line: column % lines, step }
    }
}

fn content(options: &Options) -> Result<Content, String> {
    let reference = options.preset == Some(Preset::Reference);
    let measurements = options.measurements.unwrap_or(if reference { 4 } else { MEASUREMENTS_MAX });
    if !(1..=MEASUREMENTS_MAX).contains(&measurements) {
        return Err(format!("--measurements is 1 to {MEASUREMENTS_MAX}"));
    }
    let row_fields = options.row_fields.unwrap_or(options.fields);
    if !(1..=FIELDS_MAX).contains(&options.fields) || !(1..=options.fields).contains(&row_fields) {
        return Err(format!("--fields is 1 to {FIELDS_MAX}, and --row-fields at most that"));
    }
    let interval = i64::from(options.interval) * 1_000_000_000;
    let jitter = options.jitter.unwrap_or(if reference { 0 } else { 1_000_000 });
    if jitter >= interval.cast_unsigned().max(1) {
        return Err("--jitter is less than --interval, or rows would overwrite others".into());
    }
    Ok(Content {
        shape: options.shape,
        seed: options.seed,
        measurements,
        hostile_tags: share("--hostile-tags", options.hostile_tags)?,
        hostile_strings: share("--hostile-strings", options.hostile_strings)?,
        fields: options.fields,
        row_fields,
        line_bytes: usize::try_from(options.line_bytes).map_err(|error| error.to_string())?,
        start: options.start,
        interval,
        jitter,
        single_fields: options.single_fields,
    })
}

fn share(name: &str, value: f64) -> Result<f64, String> {
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(format!("{name} is 0 to 1")) }
}

/// Steps that hold a little more than so many bytes.
fn steps_for(content: &Content, per_step: u64, bytes: u64) -> u64 {
    let (mut sample, mut lines) = (Vec::new(), 0_u64);
    let per_host = content.lines_per_host();
    while sample.len() < SAMPLE && lines < 10_000 {
        let place = Place {
            host: lines * 7_919 % (per_step / per_host).max(1),
            line: lines % per_host,
            step: lines % 64,
        };
        content.line(place, 0, &mut sample);
        lines += 1;
    }
    let step_bytes = sample.len() as u64 * per_step / lines.max(1);
    bytes / step_bytes.max(1) + bytes / step_bytes.max(1) / 20 + 1
}

/// Lines on their way out, counted.
struct Writer<'a> {
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
    summary: Summary,
}

impl Writer<'_> {
    fn line(&mut self, content: &Content, place: Place, version: u64) -> io::Result<u64> {
        let before = self.buffer.len();
        let cells = content.line(place, version, &mut self.buffer);
        self.summary.rows += u64::from(cells > 0);
        self.summary.cells += cells;
        self.summary.bytes += (self.buffer.len() - before) as u64;
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(cells)
    }

    fn again(&mut self, content: &Content, place: Place, first: u64) -> io::Result<()> {
        let apart = self.summary.bytes - first;
        self.summary.nearest = Some(self.summary.nearest.map_or(apart, |least| least.min(apart)));
        self.summary.duplicates += 1;
        self.line(content, place, 1).map(|_cells| ())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}
