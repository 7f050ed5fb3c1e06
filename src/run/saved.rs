//! What a command has to heed where a digest file stands for one of its sides: the filter, the times
//! and the namespaces that the digests were made of, and the hours
//! and days that they know as a whole only. And of an archive
//! that was made of some series: that it says nothing of others.

use super::job::Job;
use crate::digest_file::is_digest_file;
use crate::error::{Error, Result};
use crate::http::Role;
use crate::location::Location;
use crate::plan::FilterEntry;
use crate::source::Source;
use crate::units::{self, Pair, last_whole, next_whole};
use crate::window::{DAY, HOUR, Window, format_time};

/// Refuses a digest file where rows are needed.
pub(super) fn refuse(location: &Location) -> Result<()> {
    match location {
        Location::Path(path) if is_digest_file(path)? => Err(Error::usage(format!(
            "{location} is a digest file: it holds digests and no rows, and nothing can be copied \
             from it, into it, or written out of it"
        ))
        .with_next("compare it by gapless verify, or name the source that it was made of")),
        _ => Ok(()),
    }
}

impl Job {
    /// Heeds what the source was digested of, if it is a digest file.
    pub(super) fn adopt_source(&mut self) -> Result<()> {
        if let Some(made) = self.side.source.made_of() {
            return self.narrow_filter(&made, &self.side.source.name());
        }
        let Some(file) = self.side.source.digest_file() else { return Ok(()) };
        let (contents, path) = (file.contents().clone(), file.path().to_owned());
        self.adopt_filter(&contents.filter, &path.display().to_string())?;
        self.whole_hours = true;
        self.note(Role::Source, &contents);
        Ok(())
    }

    /// Heeds what the other side was digested of, if it is a digest file.
    pub(super) fn adopt(&mut self, side: &dyn Source, role: Role) -> Result<()> {
        if let Some(made) = side.made_of() {
            return self.narrow_filter(&made, &side.name());
        }
        let Some(file) = side.digest_file() else { return Ok(()) };
        let asked = FilterEntry::from(&self.settings.filter);
        if self.side.source.digest_file().is_some() && asked != file.contents().filter {
            let name = file.path().display().to_string();
            return Err(other_filter(&name, &file.contents().filter, &asked));
        }
        self.adopt_filter(&file.contents().filter, &file.path().display().to_string())?;
        self.whole_hours = true;
        self.note(role, file.contents());
        Ok(())
    }

    /// Leaves out the series that an archive was not made of; of a digest, none can be left out.
    fn narrow_filter(&mut self, made: &FilterEntry, name: &str) -> Result<()> {
        let asked = FilterEntry::from(&self.settings.filter);
        let both = self
            .settings
            .filter
            .and(&made.filter())
            .filter(|both| !self.whole_hours || FilterEntry::from(both) == asked);
        let Some(both) = both else { return Err(other_filter(name, made, &asked)) };
        if FilterEntry::from(&both) != asked {
            self.settings.filter = both;
            let series = made.options();
            self.not_covered.push(format!("series other than those of {series}: {name}"));
        }
        Ok(())
    }

    /// Takes the filter of a digest file, or refuses another.
    fn adopt_filter(&mut self, filter: &FilterEntry, name: &str) -> Result<()> {
        let asked = FilterEntry::from(&self.settings.filter);
        if asked == *filter {
            return Ok(());
        }
        if asked != FilterEntry::default() {
            return Err(other_filter(name, filter, &asked));
        }
        self.settings.filter = filter.filter();
        self.not_covered.push(format!("series other than those of {}: {name}", filter.options()));
        Ok(())
    }

    /// Says what the digests were made of, and what was left out then.
    fn note(&mut self, role: Role, contents: &crate::digest_file::Contents) {
        for origin in &contents.origins {
            let made = format_time(origin.made);
            let what = format!("what was written to {} after {made}", origin.source);
            self.not_covered.push(format!("{what}: the {role}'s digest was made then"));
        }
        let remarks = contents.not_covered.iter();
        self.not_covered.extend(remarks.map(|remark| format!("{remark} (the {role}'s digest)")));
    }

    /// Leaves out the hours and days that the window cuts, or refuses where they were asked for.
    pub(super) fn by_whole_hours(&mut self, destination: Option<&dyn Source>) -> Result<()> {
        if !self.whole_hours || self.window.is_empty() {
            return Ok(());
        }
        let sides = || [Some(&*self.side.source), destination].into_iter().flatten();
        let grain = |time: i64| grain(sides(), time);
        let cuts = |time: i64| {
            let ends = |window: Window| [window.start, window.end].contains(&time);
            let free = sides().all(|side| side.digest_file().is_none() || ends(side.coverage()));
            time.rem_euclid(grain(time)) != 0 && !free && !ends(Window::ALL)
        };
        let Window { start, end } = self.window;
        let (cuts_start, cuts_end) = (cuts(start), cuts(end));
        for (given, cut, time) in [
            (self.settings.start_given && start == self.settings.window.start, cuts_start, start),
            (self.settings.end_given && end == self.settings.window.end, cuts_end, end),
        ] {
            if given && cut {
                let (an, of, full) = match grain(time) {
                    DAY => ("a day", " for series with few cells", "day"),
                    _ => ("an hour", "", "hour"),
                };
                let whole = format_time(last_whole(time, grain(time)));
                let time = format_time(time);
                return Err(Error::usage(format!(
                    "{time} cuts {an}, which a digest file knows only as a whole{of}: name a full \
                     {full}, such as {whole}"
                )));
            }
        }
        let first = if cuts_start { next_whole(start, grain(start)) } else { start };
        let last = if cuts_end { last_whole(end, grain(end)) } else { end };
        let whole = Window { start: first, end: last.max(first) };
        self.narrow(whole, "what lies outside of whole hours and days");
        Ok(())
    }

    /// A time before which nothing is compared: a full hour or day, where these are not to be cut.
    pub(super) fn floor(&self, time: i64, destination: Option<&dyn Source>) -> i64 {
        let sides = [Some(&*self.side.source), destination].into_iter().flatten();
        if self.whole_hours { next_whole(time, grain(sides, time)) } else { time }
    }

    /// Cuts the pairs to the times that digest files can speak of, and says what that leaves out.
    pub(super) fn cover(&mut self, pairs: Vec<Pair>, destination: &dyn Source) -> Vec<Pair> {
        let files = [self.side.source.digest_file(), destination.digest_file()];
        let (pairs, left_out) = units::covered(pairs, files);
        self.not_covered.extend(left_out);
        pairs
    }

    /// True where a namespace of the destination that the source has not is a difference: everything
    /// was asked for, and a digest file was made of everything.
    pub(super) fn compares_every_namespace(&self, destination: &dyn Source) -> bool {
        let every = |side: &dyn Source| {
            side.digest_file().is_none_or(|file| !file.contents().every_namespace.is_empty())
        };
        self.settings.namespace.is_empty() && every(&*self.side.source) && every(destination)
    }
}

/// The length of the buckets that are not to be cut at a time.
fn grain<'a>(sides: impl Iterator<Item = &'a dyn Source>, time: i64) -> i64 {
    sides.filter_map(|side| side.digest_file()).map(|file| file.grain(time)).max().unwrap_or(HOUR)
}

fn other_filter(name: &str, made: &FilterEntry, asked: &FilterEntry) -> Error {
    let series = |filter: &FilterEntry| match filter.options() {
        every if every.is_empty() => "every series".into(),
        some => format!("the series of {some}"),
    };
    let (made, asked) = (series(made), series(asked));
    Error::usage(format!("{name} was made of {made}; asked for: {asked}"))
        .with_next("name the same --measurement, --tag and --exclude as when it was made, or none")
}
