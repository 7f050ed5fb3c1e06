//! The report of `schema`: what the destination lacks, what was done about it, and what is left.
//!
//! What it prints are names and statements; passwords in them are taken out where they are made.

use super::{Printed, Verdict, json, next};
use crate::error::Result;
use crate::journal;
use crate::schema::Scope;
use crate::schema::plan::{Left, Plan, Planned};
use crate::series::Printable;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::time::Duration;

/// Where new passwords are suggested to be written.
const PASSWORDS: &str = "gapless-passwords.jsonl";

/// What was found, and done.
#[derive(Debug, Default)]
pub struct Found {
    /// The plan.
    pub first: Plan,
    /// Why each of its changes failed, if it did, and what remained when the destination was read again;
    /// nothing where nothing was done.
    pub after: Option<(Vec<Option<String>>, Plan)>,
    /// Where new passwords were written.
    pub passwords_file: Option<String>,
}

/// What the command knows about itself.
#[derive(Debug)]
pub struct Context {
    /// Source, without secrets.
    pub source: String,
    /// Destination, without secrets.
    pub destination: String,
    /// What was typed behind the program's name.
    pub command: Vec<String>,
    /// The one database that was compared.
    pub scope: Option<Scope>,
    /// Users were compared by a cluster's meta nodes.
    pub meta_api: bool,
    /// Sides whose certificates were not verified.
    pub insecure: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// What `schema` found and did.
#[derive(Debug, Serialize)]
pub struct SchemaReport {
    /// Version of this structure.
    pub version: u32,
    /// `schema`.
    pub command: &'static str,
    /// The verdict.
    pub verdict: Verdict,
    /// Exit status of the command.
    pub exit_status: u8,
    /// Why the verdict is no better, one reason a line.
    pub reasons: Vec<String>,
    /// Source, without secrets.
    pub source: String,
    /// Destination, without secrets.
    pub destination: String,
    /// Sides whose certificates were not verified.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub insecure: Vec<String>,
    /// The plan was carried out; else nothing was written.
    pub applied: bool,
    /// What differs, in the order in which it is dealt with.
    pub changes: Vec<Item>,
    /// Users that have to get a new password and have none.
    pub users_without_password: Vec<String>,
    /// What the destination has beyond the source, which is never dropped.
    pub extra: Vec<String>,
    /// What of the source is meant not to be at the destination.
    pub kept_apart: Vec<String>,
    /// What was not compared, one remark a line.
    pub not_covered: Vec<String>,
    /// The file of new passwords.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passwords_file: Option<String>,
    /// The next command.
    pub next: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// When the report was made, nanoseconds since 1970.
    pub made: i64,
    /// Version of gapless.
    pub gapless: &'static str,
    /// What was typed behind the program's name.
    pub arguments: Vec<String>,
}

/// Something that differs.
#[derive(Debug, Serialize)]
pub struct Item {
    /// What kind of thing it is.
    pub kind: &'static str,
    /// What differs.
    pub what: String,
    /// What became of it.
    pub state: State,
    /// The statement, without passwords; nothing where InfluxQL cannot express it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// Why it is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<Left>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// What becomes of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It would be done with `--apply`.
    Planned,
    /// It was done, and seen.
    Done,
    /// It is left.
    Left,
    /// It was tried and is not there.
    Failed,
}

impl SchemaReport {
    /// The report of what was found.
    #[must_use]
    pub fn of(context: Context, found: Found) -> Self {
        let Found { first, after, passwords_file } = found;
        let applied = after.is_some();
        let (changes, last) = match after {
            None => {
                (first.changes.iter().map(|one| Item::of(one, State::Planned)).collect(), first)
            }
            Some((failures, last)) => (dealt_with(&first, failures, &last), last),
        };
        let verdict = verdict(applied, &last);
        let missing = last.changes.iter().filter(|one| one.left == Some(Left::Password));
        let users: Vec<String> =
            missing.filter_map(|one| one.change.new_user()).map(str::to_owned).collect();
        let next = next(&context.command, applied, &last, !users.is_empty());
        Self {
            version: 1,
            command: "schema",
            verdict,
            exit_status: verdict.exit_status(),
            reasons: reasons(applied, &last),
            source: context.source,
            destination: context.destination,
            insecure: context.insecure,
            applied,
            changes,
            users_without_password: users,
            extra: last.extra,
            kept_apart: last.apart,
            not_covered: not_covered(context.scope.as_ref(), context.meta_api),
            passwords_file,
            next,
            seconds: context.elapsed.as_secs_f64(),
            made: journal::now(),
            gapless: env!("CARGO_PKG_VERSION"),
            arguments: context.command,
        }
    }

    /// The report as it is given out.
    ///
    /// # Errors
    /// Where it cannot be expressed, which would be a defect.
    pub fn printed(&self) -> Result<Printed> {
        Ok(Printed::kept(self.to_string(), json(self)?, self.exit_status))
    }
}

impl Item {
    fn of(planned: &Planned, made: State) -> Self {
        Self {
            kind: planned.change.kind(),
            what: planned.change.what(),
            state: if planned.left.is_some() { State::Left } else { made },
            statement: planned.change.shown().ok(),
            left: planned.left.clone(),
            failure: None,
        }
    }
}

/// What became of each change: what is seen at the destination counts, not what it answered.
fn dealt_with(first: &Plan, failures: Vec<Option<String>>, last: &Plan) -> Vec<Item> {
    let is_in = |plan: &Plan, one: &Planned| {
        plan.changes.iter().any(|other| other.change.is_about_the_same(&one.change))
    };
    let mut items = Vec::new();
    for (planned, failure) in first.changes.iter().zip(failures) {
        let mut item = Item::of(planned, State::Done);
        if planned.left.is_none() && is_in(last, planned) {
            let other = || "the server took it, and does not show it as it should be".to_owned();
            item.state = State::Failed;
            item.failure = Some(failure.unwrap_or_else(other));
        }
        items.push(item);
    }
    for planned in last.changes.iter().filter(|one| !is_in(first, one)) {
        let failure = Some("it became so meanwhile".to_owned());
        items.push(Item { failure, ..Item::of(planned, State::Failed) });
    }
    items
}

fn verdict(applied: bool, last: &Plan) -> Verdict {
    let later = |one: &Planned| one.left == Some(Left::Later);
    match (last.changes.is_empty(), last.extra.is_empty()) {
        (true, true) => Verdict::Identical,
        (true, false) => Verdict::Complete,
        _ if applied && !last.changes.iter().all(later) => Verdict::Incomplete,
        _ => Verdict::Different,
    }
}

fn reasons(applied: bool, last: &Plan) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut say = |found: usize, what: &str| match found {
        0 => {}
        1 => reasons.push(format!("1 difference {what}")),
        found => reasons.push(format!("{found} differences {what}")),
    };
    let left = |wanted: &dyn Fn(&Left) -> bool| {
        last.changes.iter().filter(|one| one.left.as_ref().is_some_and(wanted)).count()
    };
    say(
        last.made().count(),
        if applied { "could not be settled" } else { "can be settled (--apply)" },
    );
    say(left(&|one| *one == Left::Deletes), "are left, since data would be deleted");
    say(left(&|one| *one == Left::Password), "need a new password for a user (--passwords FILE)");
    say(left(&|one| matches!(one, Left::Impossible(_))), "cannot be settled from here");
    let later = |kind: &str| {
        last.changes
            .iter()
            .filter(|one| one.left == Some(Left::Later) && one.change.kind() == kind)
            .count()
    };
    say(
        later("continuous_query"),
        "in continuous queries are left for later: --with-cqs, once all data are there",
    );
    say(later("subscription"), "in subscriptions are left for later: --with-subscriptions");
    reasons
}

fn not_covered(scope: Option<&Scope>, meta_api: bool) -> Vec<String> {
    let mut remarks = vec![
        "passwords of users that both sides have: they can be neither read nor compared".to_owned(),
    ];
    if let Some(scope) = scope {
        remarks.push(format!(
            "other databases than {:?}, users that may do nothing with it, and who is an administrator",
            scope.source
        ));
    }
    if meta_api {
        remarks.push("roles: they are not made; what they allow counts for their users".to_owned());
    }
    remarks
}

/// The command that does what can be done now, if there is anything.
fn next(arguments: &[String], applied: bool, last: &Plan, needs_password: bool) -> Option<String> {
    let useful = if applied { needs_password } else { needs_password || last.made().count() > 0 };
    if !useful {
        return None;
    }
    let mut rest = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        // A file of passwords is written once.
        if word == "--passwords" {
            words.next();
        } else if !word.starts_with("--passwords=") {
            rest.push(word.clone());
        }
    }
    if needs_password {
        rest.push(format!("--passwords={}", free_name()));
    }
    next::rerun(&rest, "schema", Some("--apply"))
}

/// A name that nothing has.
fn free_name() -> String {
    let numbered = (2..).map(|number| format!("{PASSWORDS}.{number}"));
    let mut names = std::iter::once(PASSWORDS.to_owned()).chain(numbered);
    let is_free = |name: &String| Path::new(name).symlink_metadata().is_err();
    names.find(is_free).unwrap_or_else(|| PASSWORDS.to_owned())
}

impl Display for SchemaReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| Printable(text.as_bytes()).to_string();
        let (source, destination) = (shown(&self.source), shown(&self.destination));
        writeln!(f, "{}   {source} -> {destination}", self.verdict.word())?;
        for reason in &self.reasons {
            writeln!(f, "  {}", shown(reason))?;
        }
        for item in &self.changes {
            write!(f, "{item}")?;
        }
        for (what, lines) in [
            ("extra, left", &self.extra),
            ("kept apart", &self.kept_apart),
            ("not covered", &self.not_covered),
        ] {
            for line in lines {
                writeln!(f, "  {what}: {}", shown(line))?;
            }
        }
        if let Some(file) = &self.passwords_file {
            writeln!(f, "  new passwords: {}", shown(file))?;
        }
        if !self.applied {
            writeln!(f, "  nothing was written: this is a plan")?;
        }
        match &self.next {
            Some(next) => writeln!(f, "  next: {}", shown(next)),
            None => Ok(()),
        }
    }
}

impl Display for Item {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| Printable(text.as_bytes()).to_string();
        let state = match (self.state, &self.left) {
            (State::Planned, _) => "to do",
            (State::Done, _) => "done",
            (State::Failed, _) => "failed",
            (State::Left, Some(Left::Later)) => "left for later",
            (State::Left, Some(Left::Password)) => "left, needs a new password",
            (State::Left, Some(Left::Deletes)) => "left, would delete data",
            (State::Left, _) => "left",
        };
        writeln!(f, "  {state}: {}", shown(&self.what))?;
        if let Some(statement) = &self.statement {
            writeln!(f, "    {}", shown(statement))?;
        }
        let why = match &self.left {
            Some(Left::Impossible(why)) => Some(why),
            _ => self.failure.as_ref(),
        };
        match why {
            Some(why) => writeln!(f, "    since {}", shown(why)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::plan::Change;

    fn plan(lefts: &[Option<Left>]) -> Plan {
        let planned = |(at, left): (usize, &Option<Left>)| Planned {
            change: Change::CreateUser { user: format!("u{at}"), admin: false },
            left: left.clone(),
        };
        Plan { changes: lefts.iter().enumerate().map(planned).collect(), ..Plan::default() }
    }

    fn report(first: Plan, after: Option<(Vec<Option<String>>, Plan)>) -> SchemaReport {
        let command = "schema a influxdb://h --passwords old --json".split(' ').map(str::to_owned);
        let context = Context {
            source: "a".into(),
            destination: "influxdb://h:8086".into(),
            command: command.collect(),
            scope: None,
            meta_api: false,
            insecure: Vec::new(),
            elapsed: Duration::ZERO,
        };
        SchemaReport::of(context, Found { first, after, passwords_file: None })
    }

    #[test]
    fn what_is_left_decides_the_exit_status() {
        let exit = |lefts: &[Option<Left>]| {
            let done = plan(lefts);
            let nothing = vec![None; lefts.len()];
            (
                report(done.clone(), None).exit_status,
                report(done.clone(), Some((nothing, done))).exit_status,
            )
        };
        assert_eq!(exit(&[]), (0, 0));
        assert_eq!(exit(&[Some(Left::Later)]), (1, 1));
        assert_eq!(exit(&[Some(Left::Later), Some(Left::Deletes)]), (1, 3));
        assert_eq!(exit(&[Some(Left::Password)]), (1, 3));
        assert_eq!(exit(&[None]), (1, 3), "it was done and is not there");
        let extra = Plan { extra: vec!["x".into()], ..Plan::default() };
        assert_eq!(report(extra, None).verdict, Verdict::Complete);
    }

    #[test]
    fn what_is_seen_counts_and_not_what_a_server_answered() {
        let failures = vec![Some("already exists".to_owned()), Some("no".to_owned()), None];
        let mut last = plan(&[None, None, None]);
        last.changes.remove(0);
        let report = report(plan(&[None, None, None]), Some((failures, last)));
        let states: Vec<_> = report.changes.iter().map(|item| item.state).collect();
        assert_eq!(states, [State::Done, State::Failed, State::Failed]);
        assert_eq!(report.changes[1].failure.as_deref(), Some("no"));
    }

    #[test]
    fn the_next_command_names_a_new_file_of_passwords() {
        let next = report(plan(&[Some(Left::Password)]), None).next.unwrap();
        let expected = "gapless schema --apply a influxdb://h --passwords=gapless-passwords.jsonl";
        assert_eq!(next, expected);
        assert_eq!(report(plan(&[Some(Left::Later)]), None).next, None);
    }
}
