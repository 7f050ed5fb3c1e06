//! `runbook`: the steps of a migration, each with what was seen of it, and which comes next.
//!
//! A step is finished where looking at both servers says so, and not because it was once run: a pure function
//! of what was seen. What was not looked at, because a step before it is not finished, is said to be so.

/// What was seen of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is finished, and what says so.
    Done(String),
    /// It is not, and why.
    Open(String),
    /// The operator goes without it.
    Accepted(String),
    /// Nobody looked: an earlier step comes first.
    Unseen,
}

/// A step of the migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A backup of the source is on disk, whole.
    Backup,
    /// What was in it is at the destination.
    Restore,
    /// Databases, retention policies, users and grants are there.
    Schema,
    /// Every writer writes to both.
    DualWrite,
    /// The destination lacks nothing, and holds nothing else.
    Gap,
    /// Continuous queries and subscriptions are there.
    Queries,
    /// Nobody writes to the source any more.
    SwitchOver,
    /// Both were compared once more after that, and nothing is missing.
    Identical,
    /// Each node holds everything by itself.
    Replicas,
}

impl Step {
    /// All steps, in their order.
    pub const ALL: [Self; 9] = [
        Self::Backup,
        Self::Restore,
        Self::Schema,
        Self::DualWrite,
        Self::Gap,
        Self::Queries,
        Self::SwitchOver,
        Self::Identical,
        Self::Replicas,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Schema => "schema",
            Self::DualWrite => "dual write",
            Self::Gap => "gap",
            Self::Queries => "continuous queries",
            Self::SwitchOver => "switch over",
            Self::Identical => "identical again",
            Self::Replicas => "every replica",
        }
    }
}

/// A step, what was seen of it, and the commands that finish it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The step.
    pub step: Step,
    /// What was seen.
    pub seen: Seen,
    /// Commands, with real names; or what has to be done elsewhere, in words that begin with `#`.
    pub commands: Vec<String>,
}

impl Entry {
    /// True where the step holds up those behind it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.seen, Seen::Open(_) | Seen::Unseen)
    }
}

/// The steps, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runbook {
    /// One for each step.
    pub entries: Vec<Entry>,
}

impl Runbook {
    /// Adds the next step.
    pub fn add(&mut self, step: Step, seen: Seen, commands: Vec<String>) {
        self.entries.push(Entry { step, seen, commands });
    }

    /// The first step that is not finished: what is to be done now.
    #[must_use]
    pub fn next(&self) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.is_open())
    }

    /// True where every step was looked at and is finished: the source may be stopped.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        Step::ALL.iter().all(|step| {
            let entry = self.entries.iter().find(|entry| entry.step == *step);
            entry.is_some_and(|entry| !entry.is_open())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(open: Option<Step>) -> Runbook {
        let mut book = Runbook::default();
        for step in Step::ALL {
            let seen = match open {
                Some(open) if open == step => Seen::Open("not yet".into()),
                _ => Seen::Done("seen".into()),
            };
            book.add(step, seen, Vec::new());
        }
        book
    }

    #[test]
    fn it_is_safe_only_where_every_step_is_finished() {
        assert!(book(None).is_safe());
        for step in Step::ALL {
            let open = book(Some(step));
            assert!(!open.is_safe(), "{}", step.name());
            assert_eq!(open.next().unwrap().step, step);
            let mut lacks = book(None);
            lacks.entries.retain(|entry| entry.step != step);
            assert!(!lacks.is_safe(), "without {}", step.name());
        }
        assert!(!Runbook::default().is_safe());
    }

    #[test]
    fn what_the_operator_goes_without_holds_nothing_up() {
        let mut book = book(Some(Step::Backup));
        book.entries[0].seen = Seen::Accepted("by --accept".into());
        assert!(book.is_safe());
        book.entries[1].seen = Seen::Unseen;
        assert!(!book.is_safe());
    }
}
