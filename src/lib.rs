//! gapless
pub mod block;
pub mod compare;
pub mod digest;
pub mod error;
pub mod location;
pub mod pipeline;
pub mod plan;
pub mod series;
pub mod sink;
pub mod source;
pub mod types;
pub mod value;
pub mod window;
