//! Clients, scopes and readings that these tests share.

use crate::common::Influxd;
use gapless::block::Block;
use gapless::error::Error;
use gapless::http::{Client, Retry, Role, Secret, Server};
use gapless::plan::{Filter, Namespace, Partition, Scope};
use gapless::series::Printable;
use gapless::sink::influx::{Influx, Options};
use gapless::sink::{Ack, Batch};
use gapless::source::Source;
use gapless::source::influx_http::InfluxHttp;
use gapless::value::Value;
use gapless::window::Window;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn server_at(port: u16) -> Server {
    Server::at("127.0.0.1", port)
}

/// Gives up soon, so that failures are seen.
pub(crate) const IMPATIENT: Retry = Retry {
    attempts: 4,
    total: Duration::from_secs(20),
    first: Duration::from_millis(20),
    longest: Duration::from_millis(200),
    wish: Duration::from_secs(60),
};

pub(crate) fn client_of(server: Server, role: Role) -> Arc<Client> {
    Arc::new(
        Client::with_limits(server, role, IMPATIENT, Duration::from_secs(20)).expect("a client"),
    )
}

pub(crate) fn client(influxd: &Influxd) -> Arc<Client> {
    client_of(server_at(influxd.port()), Role::Source)
}

pub(crate) fn with_user(influxd: &Influxd, user: &str, password: &str) -> Server {
    Server {
        user: Some(user.into()),
        password: Some(Secret::new(password.into())),
        ..server_at(influxd.port())
    }
}

pub(crate) fn source(influxd: &Influxd, database: &str) -> InfluxHttp {
    InfluxHttp::new(client(influxd), Some(database.into()), None).expect("the database")
}

pub(crate) fn scope(database: &str, retention_policy: &str) -> Scope {
    Scope {
        namespace: Namespace {
            database: database.into(),
            retention_policy: retention_policy.into(),
        },
        window: Window::ALL,
        filter: Filter::default(),
    }
}

/// Cells of a block as text.
pub(crate) fn cells(block: &Block, out: &mut Vec<String>) {
    for (series, rows) in block.runs() {
        for row in rows {
            for column in block.columns() {
                if let Some(value) = column.get(row) {
                    let value = match value {
                        Value::String(bytes) => format!("{:?}", Printable(bytes).to_string()),
                        other => format!("{other:?}"),
                    };
                    let (field, time) = (Printable(&column.field), block.times()[row]);
                    out.push(format!("{series} {field}={value} {time}"));
                }
            }
        }
    }
}

pub(crate) fn read_partition(
    source: &InfluxHttp,
    partition: &Partition,
) -> Result<Vec<String>, Error> {
    let mut out = Vec::new();
    let mut reader = source.open(partition)?;
    while let Some(block) = reader.next_block()? {
        cells(&block, &mut out);
    }
    Ok(out)
}

/// Every cell of a scope, sorted; no cell twice.
pub(crate) fn read(source: &InfluxHttp, scope: &Scope) -> Vec<String> {
    let mut all = Vec::new();
    for partition in source.plan(scope).expect("a plan") {
        all.extend(read_partition(source, &partition).expect("the rows"));
    }
    all.sort();
    let distinct: BTreeSet<&String> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "a cell was read twice: {all:?}");
    all
}

pub(crate) fn sink(influxd: &Influxd, options: Options) -> Influx {
    let client = client_of(server_at(influxd.port()), Role::Destination);
    Influx::new(client, options).expect("a server")
}

pub(crate) fn batch(database: &str, rows: &[String]) -> Batch {
    Batch {
        namespace: Namespace { database: database.into(), retention_policy: "autogen".into() },
        window: Window::ALL,
        body: rows.iter().flat_map(|row| [row.as_bytes(), b"\n"].concat()).collect(),
        rows: rows.len() as u64,
        cells: rows.len() as u64,
    }
}

pub(crate) fn lines(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("m,h=a v={at}i {at}")).collect()
}

pub(crate) fn refused(ack: &Ack) -> Vec<(String, &str)> {
    let line = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
    ack.refused.iter().map(|one| (line(&one.line), one.reason.as_str())).collect()
}
