//! What the fuzz targets share with the tests: second decoders, an encoder and comparable items.

#[path = "../../tests/line_tools/naive.rs"]
pub mod naive;
#[path = "../../tests/line_tools/outcome.rs"]
pub mod outcome;
#[path = "../../tests/tsm_tools/mod.rs"]
pub mod tsm;

use gapless::line::decode::Options;

/// Stands for the server's clock.
pub const NOW: i64 = 1_700_000_000_123_456_789;

/// Options under which lines without a time are read too.
pub fn options() -> Options {
    Options { default_time: Some(NOW), ..Options::default() }
}
