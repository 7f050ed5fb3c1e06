//! What a copy leaves out because the destination would drop it at once.

use super::cells;
use crate::window::format_time;
use serde::Serialize;

/// Cells that were not moved because the destination would drop them at once.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Expired {
    /// Cells of the source below the floor.
    pub cells: u64,
    /// The latest floor of any retention policy, nanoseconds.
    pub floor: Option<i64>,
    /// True where the operator named the start of the window.
    #[serde(skip)]
    pub asked_for: bool,
}

impl Expired {
    /// What there is to say, if anything is expired.
    pub(super) fn remark(self) -> Option<String> {
        let floor = self.floor.filter(|_| self.cells > 0)?;
        Some(format!(
            "{} older than {}: a retention policy drops them",
            cells(self.cells),
            format_time(floor)
        ))
    }
}
