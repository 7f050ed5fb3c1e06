//! Faults between a copy and a real server, one at a time: whatever goes wrong on the way, the
//! outcome is right, the final state is right on the server, and the accounts add up series by
//! series.

#![allow(clippy::unwrap_used, reason = "test code")]

#[path = "../common/mod.rs"]
mod common;
mod deaths;
mod limits;
mod proxy;
mod rejects;
mod replies;
mod requests;
mod slow;
mod work;
