//! The leaves of a digest file as JSON lines, with the names of their series.

use crate::digest::cell::SeriesHash;
use crate::digest::leaf::Leaf;
use crate::digest::node::Node;
use crate::digest_file::DigestFile;
use crate::error::{Error, Result};
use crate::plan::Namespace;
use crate::series::Printable;
use crate::window::Window;
use serde::Serialize;
use std::io::Write;

/// Leaves whose series are looked up together.
const TOGETHER: usize = 16_384;

/// One series and bucket of time.
#[derive(Serialize)]
struct Line<'a> {
    database: &'a str,
    retention_policy: &'a str,
    /// Raw series key, printable; null where the dictionary has none.
    series: Option<String>,
    /// Hash of the series, 32 hexadecimal digits.
    hash: String,
    /// First nanosecond of the bucket.
    start: i64,
    /// First nanosecond after it.
    end: i64,
    #[serde(flatten)]
    node: Node,
}

/// Writes a line for each series and bucket of the namespaces in the window; returns their number.
///
/// # Errors
/// Where the file cannot be read or `out` not be written.
pub fn export(
    file: &DigestFile,
    namespaces: &[Namespace],
    window: Window,
    out: &mut dyn Write,
) -> Result<u64> {
    let mut count = 0;
    for namespace in namespaces {
        let mut leaves = Vec::with_capacity(TOGETHER);
        file.leaves(namespace, window, &mut |leaf, _| {
            leaves.push(*leaf);
            count += 1;
            if leaves.len() == TOGETHER {
                lines(file, namespace, &leaves, out)?;
                leaves.clear();
            }
            Ok(())
        })?;
        lines(file, namespace, &leaves, out)?;
    }
    out.flush().map_err(unwritten)?;
    Ok(count)
}

fn lines(
    file: &DigestFile,
    namespace: &Namespace,
    leaves: &[Leaf],
    out: &mut dyn Write,
) -> Result<()> {
    let mut wanted: Vec<SeriesHash> = leaves.iter().map(|leaf| leaf.series).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let keys = file.keys(&wanted)?;
    for leaf in leaves {
        let found = keys.binary_search_by_key(&leaf.series, |(hash, _)| *hash).ok();
        let series = found.map(|at| Printable(&keys[at].1).to_string());
        let Window { start, end } = leaf.bucket().window();
        let line = Line {
            database: &namespace.database,
            retention_policy: &namespace.retention_policy,
            series,
            hash: format!("{:032x}", leaf.series.0),
            start,
            end,
            node: leaf.node,
        };
        serde_json::to_writer(&mut *out, &line).map_err(|error| unwritten(error.into()))?;
        out.write_all(b"\n").map_err(unwritten)?;
    }
    Ok(())
}

fn unwritten(error: std::io::Error) -> Error {
    Error::io("standard output", "write", error)
}
