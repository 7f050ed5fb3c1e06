//! InfluxDB 1.6.7 over HTTP, as a source and as a destination: what a real server does, and, from
//! a scripted one, what a real server cannot be made to do.

#[path = "../common/mod.rs"]
mod common;
mod hostile;
mod limits;
mod scripted;
mod setup;
mod sink;
mod source;
mod types;
