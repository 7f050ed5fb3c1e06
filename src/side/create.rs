//! What is missing at a server that data are copied to, and the statements that make it.
//!
//! Planning is a pure function of what is wanted and what is there, so that everything that is
//! missing is known, and told, before anything is made. An RP gets the settings that the source
//! knows. What it does not know is chosen here and nowhere else, and said: data are kept for ever,
//! once. A server that exists is not turned about: the default RP of a database that is there
//! changes only where the source says so.

use crate::error::{Error, ErrorKind, Result};
use crate::http::Client;
use crate::influxql::{self, create};
use crate::plan::{Held, Namespace, RpSettings};
use crate::units::{self, Pair};
use std::collections::BTreeMap;

/// What a server holds: RPs by database.
type There = BTreeMap<String, Vec<String>>;

/// The RP that a server makes in a database.
const AUTOGEN: &str = "autogen";

/// Something to make.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// What is missing.
    what: String,
    statement: String,
    /// What was chosen, since the source does not say it.
    chosen: Vec<String>,
}

/// What is done about namespaces that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing: it is an error.
    Refuse,
    /// They are created.
    Create,
    /// It is said how they would be created.
    Say,
}

/// Makes sure that the namespaces exist. Gives what was created, or would be, a line each.
///
/// # Errors
/// Where something is missing and not to be created, or cannot be.
pub(super) fn ensure(client: &Client, pairs: &[Pair], missing: Missing) -> Result<Vec<String>> {
    if pairs.iter().any(|pair| pair.destination.database.is_empty()) {
        return Err(Error::usage(format!(
            "the source names no database: name one at the destination, as in influxdb://{}/DB",
            client.name()
        )));
    }
    let steps = plan(pairs, &there(client, pairs)?)?;
    match missing {
        Missing::Refuse if !steps.is_empty() => return Err(refused(client, &steps)),
        Missing::Say => return Ok(steps.iter().map(Step::line).collect()),
        Missing::Refuse | Missing::Create => {}
    }
    let mut created = Vec::new();
    for step in &steps {
        create::execute(client, &step.statement).map_err(|error| failed(error, &created))?;
        created.push(step.line());
    }
    Ok(created)
}

/// What the server holds of the databases that are wanted.
fn there(client: &Client, pairs: &[Pair]) -> Result<There> {
    let mut there = There::new();
    for database in influxql::databases(client)? {
        if pairs.iter().any(|pair| pair.destination.database == database) {
            let policies = influxql::retention_policies(client, &database)?;
            there.insert(database, policies.into_iter().map(|(name, _)| name).collect());
        }
    }
    Ok(there)
}

fn refused(client: &Client, steps: &[Step]) -> Error {
    let what: Vec<&str> = steps.iter().map(|step| step.what.as_str()).collect();
    let place = format!("on {}", client.name());
    let lines: Vec<String> = steps.iter().map(|step| format!("\n    {}", step.line())).collect();
    Error::from(ErrorKind::NotFound { what: what.join(", "), place }).with_next(format!(
        "nothing was sent: check the names, or let gapless copy --create make what is missing:{}",
        lines.concat()
    ))
}

fn failed(error: Error, created: &[String]) -> Error {
    let lines: Vec<String> = created.iter().map(|line| format!("\n    {line}")).collect();
    let done = match lines.is_empty() {
        true => "nothing was sent or created".to_owned(),
        false => format!("nothing was sent, but this was created:{}", lines.concat()),
    };
    let next = error.next_step().map_or(done.clone(), |next| format!("{next}; {done}"));
    error.with_next(next)
}

impl Step {
    fn line(&self) -> String {
        match self.chosen.as_slice() {
            [] => self.statement.clone(),
            chosen => {
                format!("{}; -- not said by the source: {}", self.statement, chosen.join(", "))
            }
        }
    }
}

/// The statements that make what is missing, in the order in which they are to run.
fn plan(pairs: &[Pair], there: &There) -> Result<Vec<Step>> {
    let mut wanted: BTreeMap<&str, Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        wanted.entry(&pair.destination.database).or_default().push(pair);
    }
    let mut steps = Vec::new();
    for (database, pairs) in wanted {
        match there.get(database) {
            Some(policies) => {
                let is_there = |pair: &&&Pair| {
                    let name = &pair.destination.retention_policy;
                    !name.is_empty() && !policies.contains(name)
                };
                for pair in pairs.iter().filter(is_there) {
                    steps.push(policy_step(pair)?);
                }
            }
            None => new_database(database, &pairs, &mut steps)?,
        }
    }
    Ok(steps)
}

/// A database that is missing, with everything in it.
fn new_database(database: &str, pairs: &[&Pair], steps: &mut Vec<Step>) -> Result<()> {
    let default = default_of(pairs);
    let what = format!("database {database:?}");
    let made = default.map_or(AUTOGEN, |(pair, _)| &pair.destination.retention_policy);
    let unnamed = pairs.iter().find(|pair| pair.destination.retention_policy.is_empty());
    let named = pairs.iter().find(|pair| pair.destination.retention_policy == made);
    if let (Some(one), Some(other)) = (unnamed, named) {
        return Err(Error::usage(format!(
            "{} and {} of the source would both become {}: name one of them with --db and --rp",
            one.source.namespace, other.source.namespace, other.destination
        )));
    }
    steps.push(match default {
        None => Step { what, statement: create::database(database, None)?, chosen: Vec::new() },
        Some((pair, is_chosen)) => {
            let name = &pair.destination.retention_policy;
            let (settings, mut chosen) = complete(pair.source.settings.as_ref());
            if is_chosen {
                chosen.push(format!("that {name:?} is the default retention policy"));
            }
            Step { what, statement: create::database(database, Some((name, &settings)))?, chosen }
        }
    });
    for pair in pairs {
        let name = &pair.destination.retention_policy;
        if !name.is_empty() && name != made {
            steps.push(policy_step(pair)?);
        }
    }
    Ok(())
}

/// The RP with which a database is made, as its default one, and whether the source leaves that
/// open. None where the source has another one, which is not copied, or names none at all: the
/// server makes its own then.
fn default_of<'a>(pairs: &[&'a Pair]) -> Option<(&'a Pair, bool)> {
    let default = |pair: &Pair| pair.source.settings.as_ref().and_then(|known| known.default);
    let named = || pairs.iter().filter(|pair| !pair.destination.retention_policy.is_empty());
    if let Some(pair) = named().find(|pair| default(pair) == Some(true)) {
        return Some((pair, false));
    }
    let is_autogen = |pair: &&&Pair| pair.destination.retention_policy == AUTOGEN;
    let open = || named().filter(|pair| default(pair).is_none());
    // A server would make its own under the name `autogen`, with other settings perhaps.
    let found =
        open().find(is_autogen).or_else(|| open().next()).or_else(|| named().find(is_autogen));
    let is_chosen = |pair: &Pair| named().count() > 1 || default(pair).is_some();
    found.map(|pair| (*pair, is_chosen(pair)))
}

fn policy_step(pair: &Pair) -> Result<Step> {
    let Namespace { database, retention_policy: name } = &pair.destination;
    let (settings, chosen) = complete(pair.source.settings.as_ref());
    let statement = create::retention_policy(database, name, &settings)?;
    let what = format!("retention policy {name:?} of database {database:?}");
    Ok(Step { what, statement, chosen })
}

/// The settings of an RP that is made, and what of them the source does not say. A server chooses
/// the duration of shard groups itself, by that of the RP.
fn complete(known: Option<&RpSettings>) -> (RpSettings, Vec<String>) {
    let mut settings = known.cloned().unwrap_or_default();
    let mut chosen = Vec::new();
    if settings.duration.is_none() {
        settings.duration = Some(0);
        chosen.push("DURATION INF".into());
    }
    if settings.replication.is_none() {
        settings.replication = Some(1);
        chosen.push("REPLICATION 1".into());
    }
    if settings.shard_duration.is_none() {
        chosen.push("the server's own SHARD DURATION".into());
    }
    (settings, chosen)
}

/// Settings that are known on both sides of a pair and differ, a line for each pair.
#[must_use]
pub fn settings_that_differ(pairs: &[Pair], held: &[Held]) -> Vec<String> {
    let mut lines = Vec::new();
    for pair in pairs.iter().filter(|pair| !pair.source_lacks) {
        let theirs = units::settings_of(held, &pair.destination);
        let (Some(ours), Some(theirs)) = (&pair.source.settings, theirs) else { continue };
        let mut parts = Vec::new();
        let mut say = |name: &str, ours: Option<String>, theirs: Option<String>| {
            if let (Some(ours), Some(theirs)) = (ours, theirs)
                && ours != theirs
            {
                parts.push(format!("{name} {ours} at the source, {theirs} at the destination"));
            }
        };
        let duration = |duration: Option<i64>| duration.map(create::format_duration);
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        let default = |is: Option<bool>| is.map(|is| if is { "yes" } else { "no" }.to_owned());
        say("DURATION", duration(ours.duration), duration(theirs.duration));
        say("SHARD DURATION", duration(ours.shard_duration), duration(theirs.shard_duration));
        say("REPLICATION", number(ours.replication), number(theirs.replication));
        say("DEFAULT", default(ours.default), default(theirs.default));
        if !parts.is_empty() {
            lines.push(format!("{}: {}", pair.destination, parts.join("; ")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::{DAY, Window};

    fn pair(database: &str, name: &str, settings: Option<RpSettings>) -> Pair {
        let namespace = Namespace { database: database.into(), retention_policy: name.into() };
        let destination = namespace.clone();
        let source = Held { namespace, settings };
        Pair { source, destination, window: Window::ALL, source_lacks: false }
    }

    fn known(duration: i64, default: bool) -> Option<RpSettings> {
        Some(RpSettings {
            duration: Some(duration),
            shard_duration: Some(DAY),
            replication: Some(2),
            default: Some(default),
        })
    }

    fn lines(pairs: &[Pair], there: &[(&str, &[&str])]) -> Vec<String> {
        let policies = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let there = there.iter().map(|(name, names)| ((*name).to_owned(), policies(names)));
        plan(pairs, &there.collect()).unwrap().iter().map(Step::line).collect()
    }

    const CHOSEN: &str = "; -- not said by the source: DURATION INF, REPLICATION 1, the server's own \
                          SHARD DURATION";

    #[test]
    fn what_is_there_is_left_alone() {
        let pairs = [pair("d", "", None), pair("d", "x", known(DAY, true))];
        assert_eq!(lines(&pairs, &[("d", &["autogen", "x"])]), [""; 0]);
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let pairs = [
            pair("a", "x", known(DAY, false)),
            pair("a", "y", known(0, true)),
            pair("b", "z", known(0, false)),
            pair("c", "", None),
        ];
        let expected = [
            r#"CREATE DATABASE "a" WITH DURATION INF REPLICATION 2 SHARD DURATION 1d NAME "y""#,
            r#"CREATE RETENTION POLICY "x" ON "a" DURATION 1d REPLICATION 2 SHARD DURATION 1d"#,
            r#"CREATE RETENTION POLICY "z" ON "b" DURATION INF REPLICATION 2 SHARD DURATION 1d"#,
            r#"CREATE DATABASE "c""#,
        ];
        assert_eq!(lines(&pairs, &[("b", &["autogen"])]), expected);
    }

    #[test]
    fn what_is_not_known_is_chosen_and_said() {
        let one = lines(&[pair("d", "x", None)], &[]);
        let made = r#"CREATE DATABASE "d" WITH DURATION INF REPLICATION 1 NAME "x""#;
        assert_eq!(one, [format!("{made}{CHOSEN}")]);

        let two = lines(&[pair("d", "autogen", None), pair("d", "a", None)], &[]);
        assert_eq!(two.len(), 2);
        assert!(two[0].ends_with("that \"autogen\" is the default retention policy"), "{two:?}");
        assert!(!two[1].contains("DEFAULT") && two[1].ends_with(CHOSEN));

        let there = lines(&[pair("d", "x", None)], &[("d", &["autogen"])]);
        let made = r#"CREATE RETENTION POLICY "x" ON "d" DURATION INF REPLICATION 1"#;
        assert_eq!(there, [format!("{made}{CHOSEN}")], "the default one stays what it is");
    }

    #[test]
    fn an_rp_that_is_no_default_becomes_none() {
        let other = lines(&[pair("d", "x", known(DAY, false))], &[]);
        assert_eq!(other[0], r#"CREATE DATABASE "d""#);
        assert!(other[1].starts_with(r#"CREATE RETENTION POLICY "x" ON "d" DURATION 1d"#));
        assert!(!other[1].contains("DEFAULT"));
        // The server would make one of that name, which keeps everything.
        let autogen = lines(&[pair("d", "autogen", known(DAY, false))], &[]);
        let made = r#"CREATE DATABASE "d" WITH DURATION 1d REPLICATION 2 SHARD DURATION 1d NAME "#;
        let chosen =
            "; -- not said by the source: that \"autogen\" is the default retention policy";
        assert_eq!(autogen, [format!("{made}\"autogen\"{chosen}")]);
    }

    #[test]
    fn lines_without_a_name_do_not_become_those_of_another_rp() {
        for name in ["autogen", "x"] {
            let pairs = [pair("d", "", None), pair("d", name, None)];
            assert!(matches!(plan(&pairs, &There::new()).unwrap_err().kind(), ErrorKind::Usage(_)));
        }
        let pairs = [pair("d", "", None), pair("d", "x", known(0, false))];
        assert_eq!(plan(&pairs, &There::new()).unwrap().len(), 2);
    }

    #[test]
    fn only_settings_that_both_sides_know_can_differ() {
        let held = |settings| [pair("d", "x", settings).source];
        let differ = |ours, theirs| settings_that_differ(&[pair("d", "x", ours)], &held(theirs));
        assert_eq!(differ(known(0, true), known(0, true)), [""; 0]);
        assert_eq!(differ(None, known(0, true)), [""; 0]);
        assert_eq!(differ(Some(RpSettings::default()), known(0, true)), [""; 0]);
        assert_eq!(
            differ(known(0, true), known(DAY, false)),
            ["d.x: DURATION INF at the source, 1d at the destination; DEFAULT yes at the source, \
              no at the destination"]
        );
    }
}
