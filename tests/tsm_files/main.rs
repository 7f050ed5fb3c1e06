//! InfluxDB's own files, decoded: those in `testdata`, and those of servers started here.

#![allow(clippy::unwrap_used, reason = "test code")]

#[path = "../common/mod.rs"]
mod common;
mod files;
mod golden;
#[path = "../line_tools/mod.rs"]
mod line_tools;
mod live;
