//! The harness of the integration tests: real servers of their own and the built command.
//!
//! [`Influxd`] is an InfluxDB 1.6.7 on free loopback ports with its data in a temporary directory,
//! [`http`] a client for it that shares no code with what is tested, and [`Gapless`] the command.
//! A missing server fails the test that asks for it: nothing here skips. Only processes started
//! here are ended, each through its own handle.
//!
//! An `Influxd` ends when it is dropped, so one must not be kept in a `static`, which never drops.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test file compiles this module and uses a part of it"
)]

pub mod canary;
pub mod certificates;
pub mod disk_fault;
pub mod forward;
pub mod http;
pub mod influxd;
pub mod parrot;
pub mod ports;
pub mod random;
pub mod run;

pub use forward::Forward;
pub use http::Response;
pub use influxd::{Builder, Influxd};
pub use random::Random;
pub use run::{Gapless, Ran, Running};
