//! gapless
pub mod block;
pub mod error;
pub mod http;
pub mod influxql;
pub mod line;
pub mod msgpack;
pub mod plan;
pub mod series;
pub mod sink;
pub mod source;
pub mod value;
pub mod window;
