//! Whether a server died while it worked on a request.
//!
//! Some lines make an InfluxDB 1.x panic, and a panic outside of a request's own thread ends the
//! process: a client that resends the batch kills it again. So a connection that broke is looked
//! into before anything is sent again:
//!
//! - nobody listens any more: it died;
//! - it answers, and its process is younger than the request ([`influxql::uptime`]): it died and is
//!   back;
//! - it answers, and its process is older, or does not tell: it lives, and a proxy or the network
//!   broke the connection.
//!
//! The age is compared, not the process id: behind a load balancer another node may answer. Whether
//! it crashed or was stopped cannot be told from here; either way few requests are concerned, those
//! that were under way.

use crate::error::{ErrorKind, Result};
use crate::http::{Attempts, Call, Client, FaultKind};
use crate::influxql;
use std::time::{Duration, Instant};

/// For how long the process has been running that was sent something. Queries go to any of several
/// nodes, so that one of them is asked for what it tells everybody.
fn uptime(client: &Client, node: Option<usize>) -> Result<Option<Duration>> {
    match node.filter(|_| client.nodes() > 1) {
        Some(node) => Ok(influxql::uptime_of_node(client, node)),
        None => influxql::uptime(client),
    }
}

/// What a look at the server shows.
enum Sight {
    Died,
    Lives,
    /// It does not answer, or what answers stands before it.
    Unclear,
}

/// True where the server died since `begun`, when a request was sent whose connection then broke.
/// Waits until that can be told.
///
/// # Errors
/// Where the server does not answer within the attempts.
pub(super) fn died(
    client: &Client,
    node: Option<usize>,
    begun: Instant,
    attempts: &mut Attempts,
) -> Result<bool> {
    loop {
        let ping = Call { what: "a ping", path: "/ping", ..Call::default() };
        let answer = node.map_or_else(|| client.once(&ping), |node| client.once_at(node, &ping));
        let (sight, fault) = match answer {
            Err(fault) if fault.kind == FaultKind::Refused => (Sight::Died, None),
            Err(fault) => (Sight::Unclear, Some(fault)),
            Ok(reply) if reply.status >= 500 => (Sight::Unclear, None),
            Ok(_) => match uptime(client, node) {
                // Both clocks go on meanwhile: only a process that started just before the request is taken
                // for one that started after it.
                Ok(Some(uptime)) if uptime < begun.elapsed() => (Sight::Died, None),
                Err(error) if matches!(error.kind(), ErrorKind::Connection { .. }) => {
                    (Sight::Unclear, None)
                }
                Ok(_) | Err(_) => (Sight::Lives, None),
            },
        };
        match sight {
            Sight::Died => return Ok(true),
            Sight::Lives => return Ok(false),
            Sight::Unclear if attempts.wait(None) => {}
            Sight::Unclear => {
                let words = || "what stands before the server answers in its place".into();
                let (server, attempts) = (client.name(), attempts.made());
                return Err(match fault {
                    Some(fault) => client.failed(fault, attempts),
                    None => ErrorKind::Connection { server, reason: words(), attempts }.into(),
                });
            }
        }
    }
}
