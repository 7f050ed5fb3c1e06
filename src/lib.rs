//! gapless
pub mod archive;
pub mod block;
pub mod compress;
pub mod error;
pub mod line;
pub mod plan;
pub mod series;
pub mod sink;
pub mod source;
pub mod value;
pub mod window;
