//! What a copy sent, in figures.

use std::ops::AddAssign;

/// What a copy sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sent {
    /// Cells that the destination held before, with the same value.
    pub already_there: u64,
    /// Cells acknowledged by the destination.
    pub cells: u64,
    /// Rows acknowledged by the destination.
    pub rows: u64,
    /// Bytes of line protocol sent.
    pub bytes: u64,
    /// Write requests, repeated ones among them.
    pub requests: u64,
    /// Write requests that were repeated.
    pub retries: u64,
    /// Cells that the destination refused or that cannot be sent, suspects among them.
    pub rejected: u64,
    /// Rows that were rejected because the destination died while it was sent them.
    pub suspects: u64,
    /// Cells that were acknowledged and are not there.
    pub lost: u64,
    /// Cells that the destination lost by a restart, and that were sent once more.
    pub repeated: u64,
}

impl AddAssign for Sent {
    fn add_assign(&mut self, other: Self) {
        self.already_there += other.already_there;
        self.cells += other.cells;
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.requests += other.requests;
        self.retries += other.retries;
        self.rejected += other.rejected;
        self.suspects += other.suspects;
        self.lost += other.lost;
        self.repeated += other.repeated;
    }
}

impl Sent {
    /// Puts what was sent for a unit before in front of what was sent when it was done again.
    pub(super) fn add_earlier(&mut self, earlier: Self) {
        *self = Self {
            already_there: earlier.already_there,
            cells: earlier.cells,
            rows: earlier.rows + self.rows,
            bytes: earlier.bytes + self.bytes,
            requests: earlier.requests + self.requests,
            retries: earlier.retries + self.retries,
            repeated: earlier.repeated + self.repeated + self.cells,
            ..*self
        };
    }
}
