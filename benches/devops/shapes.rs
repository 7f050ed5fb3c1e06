//! What the lines hold: hosts with their measurements, or one of the shapes that strain a program.
//!
//! Every row is valid line protocol that a 1.x server stores as it is and shows again: hostile names
//! and strings are hard to split, never wrong. What a server is known to mangle (a tag value ending
//! in a backslash, a tag that holds `#!~#`) is not generated.

#![allow(clippy::cast_possible_truncation, reason = "hashes are cut to the bits that are needed")]

use super::noise::{hash, unit};
use super::row::Row;
use std::io::Write;

/// What is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shape {
    /// Hosts that report cpu, mem, net, status and disk: see --measurements
    Devops,
    /// One float field; --hosts is the number of series, --steps of points in each
    Series,
    /// One measurement with --fields float fields
    Wide,
    /// Rows with a string of --line-bytes
    Long,
}

/// Measurements of a host, the first so many of them.
const MEASUREMENTS: [(&str, usize); 5] =
    [("cpu", 10), ("mem", 5), ("net", 6), ("status", 4), ("disk", 6)];
/// How many there are.
pub(super) const MEASUREMENTS_MAX: u64 = MEASUREMENTS.len() as u64;
/// Most fields of a row of the wide shape.
pub(super) const FIELDS_MAX: u64 = 100_000;

/// Datacenter and region.
const REGIONS: [(&str, &str); 4] = [
    ("eu-west-1a", "eu-west-1"),
    ("us-east-1c", "us-east-1"),
    ("ap-south-1b", "ap-south-1"),
    ("eu-north-1a", "eu-north-1"),
];
const LEVELS: [&str; 4] = ["ok", "ok, degraded", "warning", "critical"];

/// Tags of hostile hosts, as they stand in a line; the host's number follows.
const HOSTILE_TAGS: [&str; 10] = [
    "host\\ with\\ spaces\\ ",
    "a\\,b\\=c\\,",
    "say\"quoted\"",
    "\"",
    "日本語-ü-✓-",
    "C:\\hosts\\web\\n",
    "\\=leads",
    "#hash",
    "tab\there\r",
    "it's-{}-[]-*-",
];

/// Strings of hostile rows, before they are escaped.
const HOSTILE_STRINGS: [&str; 14] = [
    "two\nlines",
    "first\n# the second begins like a comment\nthird",
    "#\n\n\n#\n",
    "say \"quoted\", twice: \"\"",
    "C:\\Program Files\\x\\n",
    "",
    "ends with \\",
    "v=1,w=2 3",
    "\ttabs\tand\rreturns\r\n",
    "日本語 ✓ naïve \u{1F980}",
    "\"",
    "\\\"\\",
    "\n# CONTEXT-DATABASE:other\n# CONTEXT-RETENTION-POLICY:other\n",
    "\ncpu,host=forged usage_user=1 1\ncpu,host=forged usage_user=\"",
];

/// Everything that the content of a line depends on, besides its place.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) shape: Shape,
    pub(super) seed: u64,
    /// Measurements of a host.
    pub(super) measurements: u64,
    /// Share of the hosts with hostile tags.
    pub(super) hostile_tags: f64,
    /// Share of the status rows with a hostile string.
    pub(super) hostile_strings: f64,
    /// Fields of the wide shape.
    pub(super) fields: u64,
    /// Fields of the wide shape that a row holds.
    pub(super) row_fields: u64,
    /// Bytes of the string of the long shape.
    pub(super) line_bytes: usize,
    /// Nanoseconds of step 0.
    pub(super) start: i64,
    /// Nanoseconds between two steps.
    pub(super) interval: i64,
    /// Nanoseconds by which a row may be late.
    pub(super) jitter: u64,
    /// One field a line, as `influx_inspect export` writes them.
    pub(super) single_fields: bool,
}

/// Which line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the host, or of the series.
    pub(super) host: u64,
    /// Which of the host's lines at each step.
    pub(super) line: u64,
    pub(super) step: u64,
}

impl Content {
    /// How many lines a host writes at each step; a line may turn out to hold no field and is then
    /// not written.
    pub(super) fn lines_per_host(&self) -> u64 {
        let fields = match self.shape {
            Shape::Devops => self.measured().map(|(_, fields)| *fields as u64).sum(),
            Shape::Series => 1,
            Shape::Wide => self.row_fields,
            Shape::Long => 2,
        };
        match self.shape {
            _ if self.single_fields => fields,
            Shape::Devops => self.measurements,
            _ => 1,
        }
    }

    fn measured(&self) -> impl Iterator<Item = &'static (&'static str, usize)> {
        MEASUREMENTS.iter().take(usize::try_from(self.measurements).unwrap_or(usize::MAX))
    }

    /// Measurement and the only field of a line of the devops shape.
    fn divide(&self, line: u64) -> (usize, Option<usize>) {
        let mut line = usize::try_from(line).unwrap_or(usize::MAX);
        if !self.single_fields {
            return (line, None);
        }
        for (at, (_, fields)) in MEASUREMENTS.iter().enumerate() {
            if line < *fields {
                return (at, Some(line));
            }
            line -= fields;
        }
        unreachable!("a line is less than lines_per_host")
    }

    /// Appends a line; returns its cells. Nothing is appended where there are none.
    pub(super) fn line(&self, place: Place, version: u64, out: &mut Vec<u8>) -> u64 {
        let before = out.len();
        let cells = match self.shape {
            Shape::Devops => self.devops(place, version, out),
            Shape::Series => self.series(place, version, out),
            Shape::Wide => self.wide(place, version, out),
            Shape::Long => self.long(place, version, out),
        };
        if cells == 0 {
            out.truncate(before);
            return 0;
        }
        let late = hash([self.seed, 4, place.host, place.step]) % (self.jitter + 1);
        let time = self
            .start
            .wrapping_add(self.interval.wrapping_mul(place.step.cast_signed()))
            .wrapping_add(late.cast_signed());
        out.push(b' ');
        out.extend_from_slice(itoa::Buffer::new().format(time).as_bytes());
        out.push(b'\n');
        cells
    }

    fn row<'a>(
        &self,
        out: &'a mut Vec<u8>,
        measurement: usize,
        place: Place,
        version: u64,
        only: Option<usize>,
    ) -> Row<'a> {
        let stream = hash([self.seed, 1, place.host, measurement as u64]);
        Row::new(out, (stream, place.step, version), only)
    }

    /// The only field of a line of a shape with one row a step.
    fn only(&self, place: Place) -> Option<usize> {
        self.single_fields.then(|| usize::try_from(place.line).unwrap_or(usize::MAX))
    }

    /// In the order of their keys, as a server stores them.
    fn tags(&self, host: u64, has_device: bool, out: &mut Vec<u8>) {
        let random = hash([self.seed, 2, host]);
        let (datacenter, region) = REGIONS[(random % REGIONS.len() as u64) as usize];
        let hostile = unit(hash([self.seed, 3, host])) < self.hostile_tags;
        let rack = (random >> 8) % 100;
        let (device, path) =
            if has_device { (",device=nvme0n1p2,fstype=ext4", ",path=/var/lib") } else { ("", "") };
        let (tag, odd, long) = if hostile {
            let tag = HOSTILE_TAGS[(random >> 16) as usize % HOSTILE_TAGS.len()];
            (tag, ",odd\\ key\\=\\,=x", "-long".repeat((random >> 24) as usize % 100))
        } else {
            ("web-host-", "", String::new())
        };
        write!(
            out,
            ",datacenter={datacenter}{device},host={tag}{host:04}{odd}{long}{path},rack={rack},\
             region={region}"
        )
        .expect("a vector takes all");
    }

    fn devops(&self, place: Place, version: u64, out: &mut Vec<u8>) -> u64 {
        let (measurement, only) = self.divide(place.line);
        let name = MEASUREMENTS[measurement].0;
        out.extend_from_slice(name.as_bytes());
        self.tags(place.host, name == "disk", out);
        let mut row = self.row(out, measurement, place, version, only);
        match name {
            "cpu" => cpu(&mut row),
            "mem" => mem(&mut row),
            "net" => net(&mut row),
            "status" => self.status(&mut row, place.step),
            _ => disk(&mut row),
        }
        row.cells()
    }

    fn status(&self, row: &mut Row<'_>, step: u64) {
        let seconds = self.interval / 1_000_000_000;
        row.flag("up", 0.999);
        row.word("level", &LEVELS);
        row.uptime("uptime", step * seconds.max(1).cast_unsigned());
        if row.chance(self.hostile_strings) {
            row.word("message", &HOSTILE_STRINGS);
        } else if row.chance(0.63) {
            row.sentence("message", ("request took ", " ms, queue length "));
        } else {
            row.skip();
        }
    }

    fn series(&self, place: Place, version: u64, out: &mut Vec<u8>) -> u64 {
        write!(out, "point,id={:08}", place.host).expect("a vector takes all");
        let mut row = self.row(out, 0, place, version, self.only(place));
        row.float("value", 1_000.0, 3);
        row.cells()
    }

    /// Each row begins at another field, so that short rows reach all of them.
    fn wide(&self, place: Place, version: u64, out: &mut Vec<u8>) -> u64 {
        out.extend_from_slice(b"wide");
        self.tags(place.host, false, out);
        let first = hash([self.seed, 5, place.host, place.step]) % self.fields;
        let mut row = self.row(out, 0, place, version, self.only(place));
        let mut name = String::new();
        for at in 0..self.row_fields {
            name.clear();
            name.push_str("field_");
            name.push_str(itoa::Buffer::new().format((first + at) % self.fields));
            row.float(&name, 100.0, 2);
        }
        row.cells()
    }

    fn long(&self, place: Place, version: u64, out: &mut Vec<u8>) -> u64 {
        out.extend_from_slice(b"log");
        self.tags(place.host, false, out);
        let mut row = self.row(out, 0, place, version, self.only(place));
        row.word("level", &LEVELS);
        row.long_string("text", self.line_bytes);
        row.cells()
    }
}

fn cpu(row: &mut Row<'_>) {
    for name in [
        "usage_user",
        "usage_system",
        "usage_idle",
        "usage_nice",
        "usage_iowait",
        "usage_irq",
        "usage_softirq",
        "usage_steal",
        "usage_guest",
    ] {
        row.float(name, 100.0, 2);
    }
    row.float("load", 32.0, 3);
}

fn mem(row: &mut Row<'_>) {
    row.constant("total", &[16 << 30, 32 << 30, 64 << 30]);
    row.gauge("available", 32 << 30, 4_096);
    row.gauge("used", 32 << 30, 4_096);
    row.gauge("cached", 16 << 30, 4_096);
    row.long_float("used_percent", 100.0);
}

fn net(row: &mut Row<'_>) {
    row.counter("bytes_recv", 1_250_000);
    row.counter("bytes_sent", 430_000);
    row.counter("packets_recv", 1_900);
    row.counter("packets_sent", 1_100);
    row.counter("err_in", 2);
    row.counter("drop_in", 3);
}

fn disk(row: &mut Row<'_>) {
    row.constant("total", &[512 << 30, 1 << 40]);
    row.gauge("free", 256 << 30, 4_096);
    row.gauge("used", 512 << 30, 4_096);
    row.long_float("used_percent", 100.0);
    row.constant("inodes_total", &[33_554_432, 67_108_864]);
    row.gauge("inodes_used", 4_000_000, 1);
}
