//! `null:`: a destination that counts what it is given and stores nothing.

use super::{Ack, Batch, Sink};
use crate::error::Result;
use crate::plan::Namespace;
use crate::window::Window;

/// Acknowledges every batch and drops it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Null;

impl Sink for Null {
    fn write(&self, _batch: Batch) -> Result<Ack> {
        Ok(Ack { requests: 1, ..Ack::default() })
    }

    fn close_unit(&self, _namespace: &Namespace, _window: Window) -> Result<()> {
        Ok(())
    }
}
