//! The part of a report that only `repair` has: what is done about each cell that differs, or would be.

use super::text::figure;
use super::{Report, Verdict, cells, next, print_value};
use crate::compare::{Class, Counts, OwnedValue};
use crate::copy::Sent;
use crate::digest::grid::{Bucket, Level};
use crate::repair::leaves::Changed;
use crate::repair::{Action, Difference};
use crate::series::Printable;
use crate::window::{Window, format_time};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

/// Cells that are listed in JSON.
const ITEMS_MAX: usize = 10_000;
/// Cells that are listed for people.
const ITEMS_SHOWN: usize = 30;
/// Deletions that are listed on standard error; more need a file.
pub const DELETES_SHOWN: usize = 100;
/// Points that vanished which are listed.
const VANISHED_MAX: usize = 100;

/// What a repair does, or would do.
#[derive(Debug, Serialize)]
pub struct Repair {
    /// It was done; else nothing was written.
    pub applied: bool,
    /// Cells by what is done about them.
    pub actions: BTreeMap<Action, u64>,
    /// What is sent.
    pub send: ToSend,
    /// Points that are deleted.
    pub points_to_delete: usize,
    /// Cells that nothing is done about since queries cannot show them, or since they keep changing.
    pub out_of_reach: u64,
    /// Every cell that differs, up to a limit.
    pub items: Vec<Item>,
    /// The undo file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo_file: Option<String>,
    /// The list of what is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_list: Option<String>,
    /// Points that vanished although nobody deleted them here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vanished: Vec<String>,
}

/// What is sent, or would be.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ToSend {
    /// Cells.
    pub cells: u64,
    /// Series.
    pub series: u64,
    /// Windows of an hour each, over all series.
    pub windows: u64,
    /// First nanosecond.
    pub start: Option<i64>,
    /// First nanosecond after the last.
    pub end: Option<i64>,
    /// Bytes of line protocol.
    pub bytes: u64,
}

/// A cell that differs.
#[derive(Debug, Serialize)]
pub struct Item {
    /// The namespace, as the destination names it.
    pub namespace: String,
    /// Raw series key, printable.
    pub series: String,
    /// Field key, printable.
    pub field: String,
    /// Nanoseconds.
    pub time: i64,
    /// How it differs.
    pub class: Class,
    /// What is done.
    pub action: Action,
    /// Why, where that has to be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// It was judged by its first reading, although a side takes writes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_once: bool,
    /// The source's value.
    pub source: Option<String>,
    /// The destination's value.
    pub destination: Option<String>,
    /// The base's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Who changed its series and hour since the base, where that is a digest file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<Changed>,
}

impl Repair {
    /// What was decided; `bytes` are those to be sent, `counts` those of the comparison.
    #[must_use]
    pub fn of(differences: &[Difference], bytes: u64, points: usize, counts: Counts) -> Self {
        Self {
            applied: false,
            actions: actions(differences),
            send: to_send(differences, bytes),
            points_to_delete: points,
            out_of_reach: counts.unprovable + counts.unstable,
            items: differences.iter().take(ITEMS_MAX).map(item).collect(),
            undo_file: None,
            delete_list: None,
            vanished: Vec::new(),
        }
    }

    /// Takes over what was decided once more, right before it was done.
    pub fn now(&mut self, differences: &[Difference], bytes: u64, points: usize) {
        self.send = to_send(differences, bytes);
        self.actions = actions(differences);
        self.items = differences.iter().take(ITEMS_MAX).map(item).collect();
        self.points_to_delete = points;
    }

    /// True where something is done, or would be.
    #[must_use]
    pub fn acts(&self) -> bool {
        self.actions.keys().any(|action| action.acts())
    }
}

fn actions(differences: &[Difference]) -> BTreeMap<Action, u64> {
    let mut actions = BTreeMap::new();
    for difference in differences {
        *actions.entry(difference.action).or_default() += 1;
    }
    actions
}

fn to_send(differences: &[Difference], bytes: u64) -> ToSend {
    let sent = |one: &&Difference| matches!(one.action, Action::Send | Action::Overwrite);
    let (mut series, mut windows) = (BTreeSet::new(), BTreeSet::new());
    let mut to_send = ToSend { bytes, ..ToSend::default() };
    for one in differences.iter().filter(sent) {
        let (key, time) = ((&one.destination, one.cell.series.key()), one.cell.time);
        to_send.cells += 1;
        series.insert(key);
        windows.insert((key, Bucket::holding(Level::Hour, time)));
        to_send.start = Some(to_send.start.map_or(time, |start| start.min(time)));
        to_send.end = to_send.end.max(Some(time.saturating_add(1)));
    }
    to_send.series = series.len() as u64;
    to_send.windows = windows.len() as u64;
    to_send
}

fn item(one: &Difference) -> Item {
    let value = |value: &Option<OwnedValue>| value.as_ref().map(|value| print_value(value.value()));
    Item {
        namespace: Printable(one.destination.to_string().as_bytes()).to_string(),
        series: one.cell.series.to_string(),
        field: Printable(&one.cell.field).to_string(),
        time: one.cell.time,
        class: one.cell.class,
        action: one.action,
        reason: one.reason.clone(),
        read_once: one.read_once,
        source: value(&one.cell.source),
        destination: value(&one.cell.destination),
        base: value(&one.base),
        changed: one.changed,
    }
}

/// Makes a comparison's report that of a repair. What was done is in `sent`, if it was.
#[must_use]
pub fn of_repair(report: Report, repair: Repair, sent: Option<Sent>, command: &[String]) -> Report {
    let mut report = Report { command: "repair", sent, ..report };
    let refused = repair.actions.get(&Action::Refused).copied().unwrap_or_default();
    if repair.applied && refused > 0 && report.verdict == Verdict::Different {
        let refused = cells(refused);
        report.reasons.insert(0, format!("{refused} cannot be repaired: each has its reason"));
        report.verdict = Verdict::Incomplete;
    }
    if let Some(sent) = sent.filter(|sent| sent.lost > 0) {
        let lost = cells(sent.lost);
        report
            .reasons
            .insert(0, format!("{lost} were acknowledged by the destination and are not there"));
        report.verdict = Verdict::Lost;
    }
    if !repair.vanished.is_empty() {
        let points = repair.vanished.len();
        report.reasons.insert(
            0,
            format!(
                "{points} points vanished that were not to be deleted: see vanished in the report"
            ),
        );
        report.verdict = Verdict::Lost;
    }
    report.exit_status = report.verdict.exit_status();
    let plan = !repair.applied && repair.acts();
    report.next = plan.then(|| applying(command, &repair)).flatten();
    report.repair = Some(Repair {
        vanished: repair.vanished.into_iter().take(VANISHED_MAX).collect(),
        ..repair
    });
    report
}

/// The command that carries a plan out, with the files that deletions need.
fn applying(command: &[String], repair: &Repair) -> Option<String> {
    let mut command = command.to_vec();
    let points = repair.points_to_delete;
    let files = [
        ("--undo-file", "gapless-undo.lp", points > 0),
        ("--delete-list", "gapless-deleted.txt", points > DELETES_SHOWN),
    ];
    for (option, file, is_needed) in files {
        let is_option = |word: &String| word.split('=').next() == Some(option);
        if is_needed && !command.iter().any(is_option) {
            command.push(format!("{option}={file}"));
        }
    }
    next::rerun(&command, "repair", Some("--apply"))
}

impl Display for Repair {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let would = if self.applied { "" } else { "would be " };
        let send = &self.send;
        if let (Some(start), Some(end)) = (send.start, send.end) {
            writeln!(
                f,
                "  {would}sent: {} cells of {} series in {} windows of an hour, {} bytes, {}",
                figure(send.cells),
                figure(send.series),
                figure(send.windows),
                figure(send.bytes),
                Window { start, end }
            )?;
        }
        for (action, cells) in &self.actions {
            writeln!(f, "  {}: {} cells", words(*action, self.applied), figure(*cells))?;
        }
        if self.points_to_delete > 0 {
            writeln!(f, "  {would}deleted: {} points", figure(self.points_to_delete as u64))?;
        }
        for item in self.items.iter().filter(|item| item.action != Action::Send).take(ITEMS_SHOWN) {
            writeln!(f, "    {item}")?;
        }
        if self.out_of_reach > 0 {
            let cells = figure(self.out_of_reach);
            writeln!(
                f,
                "  out of reach: {cells} cells that queries cannot show or that keep changing"
            )?;
        }
        for (what, file) in [("undo", &self.undo_file), ("list of deletions", &self.delete_list)] {
            if let Some(file) = file {
                writeln!(f, "  {what}: {file}")?;
            }
        }
        for point in &self.vanished {
            writeln!(f, "  vanished: {}", Printable(point.as_bytes()))?;
        }
        if !self.applied {
            writeln!(f, "  nothing was written: this is a plan")?;
        }
        Ok(())
    }
}

impl Display for Item {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
        let action = self.action.word();
        write!(
            f,
            "{action}: {} {} {} {}: source {}, destination {}",
            self.namespace,
            self.series,
            self.field,
            format_time(self.time),
            value(&self.source),
            value(&self.destination)
        )?;
        if self.base.is_some() {
            write!(f, ", base {}", value(&self.base))?;
        }
        match &self.reason {
            Some(reason) => write!(f, " ({})", Printable(reason.as_bytes())),
            None => Ok(()),
        }
    }
}

/// An action in words.
pub(super) fn words(action: Action, applied: bool) -> &'static str {
    match (action, applied) {
        (Action::Send, false) => "would send what is missing",
        (Action::Send, true) => "sent what was missing",
        (Action::Overwrite, false) => "would overwrite",
        (Action::Overwrite, true) => "overwritten",
        (Action::Delete, false) => "would delete",
        (Action::Delete, true) => "deleted",
        (Action::KeepChanged, _) => "kept, changed only at the destination",
        (Action::KeepAdded, _) => "kept, added only at the destination",
        (Action::Conflict, _) => "conflicts, left (--base, --overwrite)",
        (Action::DeletedAndChanged, _) => {
            "conflicts, left: deleted at the source and changed at the destination since the base"
        }
        (Action::ChangedMeanwhile, _) => "left, changed after they were compared",
        (Action::TypeDiffers, _) => "left, the destination's shard group has another type",
        (Action::MayBeDeleted, _) => {
            "left, the base holds them as the source: deleted at the destination? (--send-deleted)"
        }
        (Action::Shifted, _) => {
            "left, at both sides with times less than a second apart (--send-shifted)"
        }
        (Action::Extra, _) => "extra, left (--delete-extra)",
        (Action::Refused, _) => "left, cannot be done",
    }
}
