//! The older state by which `repair` settles: opened, and refused where it is not of what is repaired.

use super::super::job::Job;
use super::Work;
use crate::error::{Error, Result};
use crate::location::Location;
use crate::pipeline::Progress;
use crate::plan::Namespace;
use crate::reject::Rejects;
use crate::repair::{self, Difference, leaves};
use crate::side::SourceSide;

impl Work<'_> {
    /// Notes what the older state says of everything that differs.
    pub(super) fn note_base(&self, base: &str, differences: &mut [Difference]) -> Result<()> {
        self.progress.stage("base");
        let location = self.arguments.sides.common.source(base)?;
        let rejects = Rejects::new(None);
        let side =
            self.job.open_base(&self.arguments.sides.common, &location, &rejects, self.progress)?;
        let rejected = rejects.finish()?.rows;
        if rejected > 0 {
            let reason = format!("{rejected} lines of it cannot be read: it is no whole state");
            return Err(Error::location(&location, reason).with_next("name another base"));
        }
        check(self.job, &location, &side)?;
        let held: Vec<Namespace> =
            side.source.namespaces()?.into_iter().map(|held| held.namespace).collect();
        let name = |one: &Difference| {
            let same = |wanted: &Namespace| held.iter().find(|held| *held == wanted);
            let found = same(&one.cell.namespace).or_else(|| same(&one.destination));
            let is_only = held.len() == 1 && self.pairs_compared == 1;
            found.or_else(|| held.first().filter(|_| is_only)).cloned()
        };
        if let Some(lacking) = differences.iter().find(|one| name(one).is_none()) {
            let reason = format!("no base for {}: it holds none", lacking.cell.namespace);
            return Err(Error::location(&location, reason)
                .with_next("name another base, or repair what it holds alone (--db, --rp)"));
        }
        match side.source.digest_file() {
            Some(file) => {
                let sides = (&*self.job.side.source, &*self.there.source);
                leaves::note(differences, file, sides, name)
            }
            None => repair::note_base(differences, &*side.source, name),
        }
    }
}

/// Refuses a base that does not hold all of the series that are repaired.
fn check(job: &Job, location: &Location, side: &SourceSide) -> Result<()> {
    if let [unread, ..] = &side.source.unread()[..] {
        let reason = format!("it is no whole state: {unread}");
        return Err(Error::location(location, reason).with_next("name another base"));
    }
    let digested = || Some(side.source.digest_file()?.contents().filter.clone());
    let Some(made) = side.source.made_of().or_else(digested) else { return Ok(()) };
    if made.filter().and(&job.settings.filter).as_ref() == Some(&job.settings.filter) {
        return Ok(());
    }
    let reason = format!("it holds only the series of {}", made.options());
    Err(Error::location(location, reason)
        .with_next("name another base, or repair these series alone, by the same options"))
}
