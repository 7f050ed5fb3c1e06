//! What a server counts about itself (`SHOW STATS`), since it was started.

use super::{column, fold};
use crate::error::Result;
use crate::http::Client;
use crate::msgpack::Cell;

/// How the inputs of a server count what they take: module, and its count. InfluxDB 1.6.7 shows them under
/// these names, those of inputs that are turned off not at all.
const INPUTS: [(&str, &str); 6] = [
    ("httpd", "writeReq"),
    ("udp", "pointsRx"),
    ("graphite", "pointsRx"),
    ("collectd", "pointsParsed"),
    ("opentsdb", "tlPointsRx"),
    ("opentsdb", "httpReqs"),
];

/// Write requests and points that all inputs of a server have taken; what it writes about itself is in none of
/// them.
///
/// # Errors
/// Where the server cannot be asked; where users are checked, an administrator alone may.
pub fn taken(client: &Client) -> Result<u64> {
    let mut taken = 0_u64;
    for (module, count) in INPUTS {
        let statement = format!("SHOW STATS FOR '{module}'");
        let counted: u64 = fold(client, &statement, |sum: &mut u64, fragment, row| {
            if fragment.columns.iter().any(|name| *name == count.as_bytes()) {
                *sum = sum.saturating_add(number(column(fragment, row, count)?));
            }
            Ok(())
        })?;
        taken = taken.saturating_add(counted);
    }
    Ok(taken)
}

fn number(cell: Cell<'_>) -> u64 {
    match cell {
        Cell::Small(value) => u64::from(value),
        Cell::Integer(value) => u64::try_from(value).unwrap_or(0),
        Cell::Unsigned(value) => value,
        _ => 0,
    }
}
