//! The report of `digest`: one figure for each measurement, each namespace, and the whole.
//!
//! The figure of the whole is the one that `copy` and `verify` print for the same data.

use super::Digest;
use super::text::{figure, left_out};
use crate::digest::node::Node;
use crate::digests::Digests;
use crate::error::Result;
use crate::plan;
use crate::series::Printable;
use crate::window::{Window, format_time};
use serde::Serialize;
use std::fmt::{self, Display, Formatter};

/// Digests of a source.
#[derive(Debug, Serialize)]
pub struct Digested {
    /// Version of this structure.
    pub version: u32,
    /// `digest`.
    pub command: &'static str,
    /// Source, without secrets.
    pub source: String,
    /// First nanosecond of the window.
    pub start: i64,
    /// First nanosecond after the window.
    pub end: i64,
    /// What was left out, one remark a line.
    pub not_covered: Vec<String>,
    /// Rows that were rejected while the source was read: they are in no digest.
    pub rejected: u64,
    /// Digest of everything.
    pub digest: Digest,
    /// The namespaces, sorted by name.
    pub namespaces: Vec<Namespace>,
    /// The digest file in which they were saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved: Option<String>,
}

/// One namespace.
#[derive(Debug, Serialize)]
pub struct Namespace {
    /// Database; empty where the source names none.
    pub database: String,
    /// Retention policy; empty where the source names none.
    pub retention_policy: String,
    /// Digest of the namespace.
    pub digest: Digest,
    /// The measurements, sorted by name.
    pub measurements: Vec<Measurement>,
}

/// One measurement.
#[derive(Debug, Serialize)]
pub struct Measurement {
    /// Name, unescaped, printable.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
}

/// The report of digests. `not_covered` and `rejected` say what is in none.
#[must_use]
pub fn of_digests(
    source: String,
    window: Window,
    not_covered: Vec<String>,
    rejected: u64,
    digests: Digests,
) -> Digested {
    let mut total = Node::default();
    let mut namespaces: Vec<(plan::Namespace, Node, Vec<Measurement>)> = Vec::new();
    for ((namespace, name), node) in digests {
        total += node;
        if namespaces.last().is_none_or(|(last, ..)| *last != namespace) {
            namespaces.push((namespace, Node::default(), Vec::new()));
        }
        if let Some((_, sum, measurements)) = namespaces.last_mut() {
            *sum += node;
            let name = Printable(&name).to_string();
            measurements.push(Measurement { name, digest: Digest::of(node) });
        }
    }
    let namespaces = namespaces.into_iter().map(|(namespace, node, measurements)| Namespace {
        database: namespace.database,
        retention_policy: namespace.retention_policy,
        digest: Digest::of(node),
        measurements,
    });
    Digested {
        version: 1,
        command: "digest",
        source,
        start: window.start,
        end: window.end,
        not_covered,
        rejected,
        digest: Digest::of(total),
        namespaces: namespaces.collect(),
        saved: None,
    }
}

impl Digested {
    /// The report as JSON, ended by a line feed.
    ///
    /// # Errors
    /// Where it cannot be expressed, which would be a defect.
    pub fn json(&self) -> Result<String> {
        super::json(self)
    }

    /// True where there is no cell in the scope.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.digest.node.cells == 0
    }
}

impl Display for Digested {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = |digest: &Digest, name: &str| {
            writeln!(f, "{}   {:>17} cells   {name}", digest.digest, figure(digest.node.cells))
        };
        for namespace in &self.namespaces {
            let names = super::names(&namespace.database, &namespace.retention_policy);
            for one in &namespace.measurements {
                line(&one.digest, &format!("{names} {}", one.name))?;
            }
            line(&namespace.digest, &names)?;
        }
        line(&self.digest, &self.source)?;
        left_out(f, self.rejected, "digest", &self.not_covered)?;
        let window = Window { start: self.start, end: self.end };
        if window != Window::ALL {
            writeln!(f, "window {} to {}", format_time(self.start), format_time(self.end))?;
        }
        if let Some(file) = &self.saved {
            writeln!(f, "saved in {file}")?;
        }
        Ok(())
    }
}
