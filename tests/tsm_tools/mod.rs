//! What the tests, fuzz targets and benches of the TSM decoders share.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "each test compiles this and uses a part of it; it is test code"
)]

pub mod encode;
pub mod naive;
