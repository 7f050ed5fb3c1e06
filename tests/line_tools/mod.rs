//! What the tests and fuzz targets of the line codec share.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test compiles this and uses a part of it; it is test code"
)]

pub mod corpus;
pub mod hostile;
pub mod naive;
pub mod outcome;
pub mod wal;
