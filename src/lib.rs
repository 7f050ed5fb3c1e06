//! gapless moves a window of time-series data from one database to another and proves that nothing
//! was lost. This page is its architecture.
//!
//! # The flow
//!
//! Data flow one way:
//!
//! ```text
//! location ─> Source ─plan─> partitions ─read─> Blocks ─┬─> digest ─┐
//!                                                       │           ├─> compare ─> report
//! location ─> the same Source code on the destination ──┴─> digest ─┘       │
//!                                                                           v
//!                            Sink <─ batches <─ encode <─ what the destination lacks
//! ```
//!
//! - A [`source::Source`] plans partitions (namespace, window, perhaps a measurement) and opens a
//!   reader for each. A destination is read back through the same code.
//! - InfluxDB's own files ([`mod@tsm`], [`meta`]) are read from a data directory, a backup or a server's
//!   snapshot port ([`snapshot`]); [`source::tsm`] is what these have in common.
//! - Readers yield [`block::Block`]s: rows of one measurement sorted by (series, time), by column.
//!   Last-write-wins is resolved in one place, [`block::log`].
//! - [`digest`] turns blocks into sums of cell hashes by series and hour; by day where there are many and
//!   they are sparse, by minute where they are dense ([`digest::leaf`]). Two sides are compared by the
//!   longer of both. Sums know neither order
//!   nor grouping, so that the same cells have the same digest however they are stored.
//! - What does not fit in memory goes to disk ([`spill`]): rows of a line file as runs of blocks
//!   that are merged into one before anything is handed on, digests as sorted runs of leaves.
//! - [`conflicts`] finds the fields that a shard group of the destination cannot hold with the types
//!   that they have, before anything is sent; [`source::typed`] then reads the source as decided.
//! - [`compare`] merge-joins the digests of one unit (namespace and shard group), one range of series
//!   after the other, and reads again only the places that differ, to tell the cells apart.
//! - [`copy`] compares, sends what is missing through a [`sink::Sink`], and compares again; it
//!   succeeds when every cell of the source is found at the destination or accounted for.
//!   What it has proven of each unit goes to the [`journal`], from which another process goes on.
//! - [`repair`] decides for every cell that differs what is done about it: it hands what is to be sent to
//!   [`copy`] and deletes only what it was told to, where a statement hits nothing else.
//! - [`schema`] moves what is beside the data: one model, read from a live server or from a meta store, and
//!   a plan, a pure function of two of them, that is carried out and compared again. It has no place for a
//!   password or its hash; new passwords are made, written down, and only then set.
//! - [`verify`] compares and changes nothing; [`gaps`] makes windows of what a comparison shows;
//!   [`causes`] guesses at what the pattern of differences says; [`cat`] writes line protocol;
//!   [`inspect`] counts;
//!   [`digests`] sums, and saves sums.
//! - [`backup`] keeps the tars of a snapshot port: what has its name in the directory is whole, so that the
//!   directory itself says where to go on, and the manifest comes when the digest of all of it is made.
//! - [`runbook`] is a pure function of what was seen: `run` asks by the commands that an operator would run.
//! - A digest file ([`mod@digest_file`]) holds the leaves of a source, to be compared when the source
//!   is gone. It is a source that plans units and opens none: [`source::Source::digest_file`] hands its
//!   leaves to the comparison. Where leaves differ then, no cells can be read, and the comparison says
//!   what the sums prove; [`run`] sees to it that filter and coverage are the file's and that no hour
//!   is cut.
//!
//! # Layers
//!
//! Modules use only their own layer and those above them in this list; a test holds them to it.
//!
//! | layer | modules |
//! | --- | --- |
//! | 0 | [`error`], [`files`], [`stop`], [`window`], [`value`], [`series`], [`block`] |
//! | 1 | [`mod@line`], [`msgpack`], [`tsm`], [`meta`], [`spill`], [`digest`], [`compress`], [`pace`], [`rate`], [`mapped`], [`tarball`] |
//! | 2 | [`location`], [`plan`], [`types`], [`http`], [`influxql`], [`archive`], [`mod@digest_file`], [`reject`], [`snapshot`], [`undo`] |
//! | 3 | [`source`], [`sink`] |
//! | 4 | [`pipeline`] |
//! | 5 | [`units`], [`compare`], [`conflicts`], [`journal`], [`copy`], [`verify`], [`repair`], [`backup`], [`cat`], [`digests`], [`gaps`], [`inspect`], [`causes`], [`schema`], [`runbook`] |
//! | 6 | [`side`], [`report`], [`progress`], [`logs`], [`panics`], [`cli`], [`run`], `main` |
//!
//! # Threads
//!
//! Sockets live on the HTTP client's tokio threads and nothing else does. Bytes are worked on by
//! plain threads ([`pipeline`]): two units at once, and within a unit one reader and several
//! writers. Bounded channels stand between them all. Before that, a line file is read and
//! decompressed by a thread of its own while its lines are decoded by another, and its measurements
//! are sorted several at once, as far as memory allows.
//!
//! # Pace
//!
//! What is asked of a server at once is decided in one place, [`pace`]: as much as `--jobs` allows,
//! halved where the server is busy, slow or full, and more again bit by bit. The HTTP client holds
//! each request to it, by node, and spreads writes over nodes. Reads stay with one node while it
//! lives, so that nodes which are not one cluster cannot pass for one that holds everything. A thread
//! has one query under way at a time: a second could wait for the first for ever. [`rate`] bounds
//! what is sent besides, over all destinations.
//!
//! # Memory
//!
//! `--memory` is divided: half is for the rows of a line file, a quarter for digests (both sides of
//! each unit under way), an eighth for batches under way ([`pipeline::Gate`]). Blocks are at most
//! 2 MiB; those of spilled runs are smaller, since a merge holds one of each run. A single row may be
//! larger than any of these: a line may take a quarter of the rows' part. Of a server's own files, the
//! rows' part is divided by the units under way: a share is for the log and the unpacked files of one
//! shard on each side, and what does not fit goes to disk, a log as TSM files. While digests are saved, an
//! eighth is for the series that are told apart; the dictionary of a digest file is merged from runs on
//! disk.
//!
//! # What a verdict proves
//!
//! *Identical* says that both sides, as they were read, hold the same cells in the window: series
//! (unescaped measurement and tags), field, time, type, and value bit for bit. Two different sets of
//! cells have the same digest by accident with a probability of about 2^-128 a comparison. It does
//! not protect against somebody who chooses data to make digests collide. What a side cannot show
//! (two spellings of one series key behind a server's queries) is counted as unprovable and never
//! passes for identical. *Different* always rests on a difference that was proven; where a digest file
//! stands for a side, the cells of a place that differs may stay unresolved.
//!
//! # Sides that take writes
//!
//! No two servers are read at one moment. Nothing newer than the horizon is judged: the earlier of both
//! clocks less a lag. What differs is read again after growing pauses, on both sides, and only these
//! hours ([`compare::recheck`]): what agrees then was on its way; what both sides still hold as before is
//! a difference, and is told apart; what never comes to rest is counted as unstable and blocks the
//! verdict. What retention policies reached meanwhile is counted as expired.
//!
//! # Reports
//!
//! [`report`] decides verdict and exit status, and gives text, JSON and a page from one structure. What
//! its charts need is bounded where it is collected: cells by time while leaves are joined
//! ([`compare::timeline`]), counters over the run by the display's thread ([`progress::history`]).
//!
//! # Errors
//!
//! A difference is a finding in a report. An [`error::Error`] says that something could not be done,
//! where, and what to do next.

pub mod archive;
pub mod backup;
pub mod block;
pub mod cat;
pub mod causes;
pub mod cli;
pub mod compare;
pub mod compress;
pub mod conflicts;
pub mod copy;
pub mod digest;
pub mod digest_file;
pub mod digests;
pub mod error;
pub mod files;
pub mod gaps;
pub mod http;
pub mod influxql;
pub mod inspect;
pub mod journal;
pub mod line;
pub mod location;
pub mod logs;
pub mod mapped;
pub mod meta;
pub mod msgpack;
pub mod pace;
pub mod panics;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod rate;
pub mod reject;
pub mod repair;
pub mod report;
pub mod run;
pub mod runbook;
pub mod schema;
pub mod series;
pub mod side;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod spill;
pub mod stop;
pub mod tarball;
pub mod tsm;
pub mod types;
pub mod undo;
pub mod units;
pub mod value;
pub mod verify;
pub mod window;
