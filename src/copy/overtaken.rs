//! Cells that a client overwrote on both sides while they were copied: the newer value came to the
//! destination just before the older one that had been read, and has to be sent again.

use super::{Copy, Filled, Judged};
use crate::compare::{Cells, Digest, Note, Unit};
use crate::digest::cell::{KeyHash, ValueHash};
use crate::digest::grid::Place;
use crate::digest::leaf::Leaf;
use crate::digest::set::{self, DigestSet};
use crate::error::Result;
use crate::pipeline::Stage;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// A client that writes to the destination first has reached the source, too, after this time.
const SETTLED: Duration = Duration::from_millis(100);
/// Pauses between looks at cells that differ although they were sent: on which the client is writing
/// now, that changes.
const LOOKS: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(200)];

impl Copy<'_> {
    /// Reads a source that takes writes again after something was sent, and looks for cells in whose
    /// place a client wrote a newer value to both sides before the older one arrived: the destination
    /// keeps that older one, while what a client is writing at this moment changes from look to look.
    pub(super) fn look_again(
        &self,
        ours: &mut Digest,
        theirs: &mut Digest,
        unit: &Unit,
        sent: &mut Filled,
    ) -> Result<Judged> {
        let before = ours.set.total();
        *ours = self.digest(Stage::Verify, self.source, &unit.source, unit)?;
        sent.moving = before != ours.set.total();
        if sent.moving && self.options.server {
            self.sleep(SETTLED)?;
            *theirs = self.digest_destination(unit)?;
            *ours = self.digest(Stage::Verify, self.source, &unit.source, unit)?;
        }
        let mut judged = self.judge(ours, theirs, unit, sent)?;
        let mut overtaken: HashSet<KeyHash> = HashSet::new();
        if !self.options.server {
            // Nobody else writes there.
            overtaken = judged.changed.keys().copied().collect();
        }
        let mut looks = LOOKS.iter();
        while !judged.changed.is_empty()
            && overtaken.is_empty()
            && let Some(pause) = looks.next()
        {
            self.sleep(*pause)?;
            let earlier = std::mem::take(&mut judged.changed);
            judged = self.judge(ours, theirs, unit, sent)?;
            let stays = |(cell, held): &(&KeyHash, &ValueHash)| earlier.get(cell) == Some(held);
            overtaken = judged.changed.iter().filter(stays).map(|(cell, _)| *cell).collect();
        }
        judged.wants |= !overtaken.is_empty();
        sent.overtaken = Arc::new(Cells { cells: overtaken, ..Cells::default() });
        Ok(judged)
    }

    /// Notes all places of the source as filled by this copy. Only where the source takes writes
    /// meanwhile can a value change there.
    pub(super) fn note_places(&self, ours: &Digest, sent: &mut Filled) -> Result<()> {
        if !self.options.live {
            return Ok(());
        }
        let memory = self.options.compare.memory_max;
        for range in set::ranges(&ours.set, &DigestSet::default(), memory) {
            self.keep_places(sent, ours.set.leaves(range)?.iter().map(Leaf::place));
        }
        Ok(())
    }

    pub(super) fn keep_places(&self, sent: &mut Filled, places: impl Iterator<Item = Place>) {
        if self.options.live {
            let room = self.room(sent);
            Arc::make_mut(&mut sent.own).places.extend(places.take(room));
        }
    }

    pub(super) fn keep_cells(&self, sent: &mut Filled, cells: impl Iterator<Item = KeyHash>) {
        if self.options.live {
            let room = self.room(sent);
            Arc::make_mut(&mut sent.own).cells.extend(cells.take(room));
        }
    }

    fn room(&self, sent: &Filled) -> usize {
        self.kept_max().saturating_sub(sent.own.places.len() + sent.own.cells.len())
    }

    /// What is noted of cells that the destination holds with another value.
    pub(super) fn note(&self, some: &Arc<Cells>) -> Note {
        match (self.options.overwrite, self.options.live) {
            (true, _) => Note::Everything,
            (false, true) => Note::Only(Arc::clone(some)),
            (false, false) => Note::Nothing,
        }
    }
}
