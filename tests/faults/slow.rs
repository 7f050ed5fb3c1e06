//! Waits that a server asks for, and replies that never end: through the library, whose limits can
//! be set.

use crate::common::Influxd;
use crate::proxy::{Fault, Proxy, Rule, reply};
use gapless::http::{Client, Retry, Role, Server};
use gapless::plan::{Filter, Namespace, Scope};
use gapless::sink::influx::{Influx, Options};
use gapless::sink::{Batch, Sink};
use gapless::source::influx_http::InfluxHttp;
use gapless::source::{Source, for_each_block};
use gapless::window::Window;
use std::sync::Arc;
use std::time::Duration;

/// Ends where one of a second or less would do: no wish of a minute is granted by it.
const SHORT: Retry = Retry {
    attempts: 6,
    total: Duration::from_secs(3),
    first: Duration::from_millis(10),
    longest: Duration::from_millis(50),
    wish: Duration::from_millis(50),
};

fn client(port: u16, role: Role, retry: Retry) -> Arc<Client> {
    let server = Server::at("127.0.0.1", port);
    Arc::new(Client::with_limits(server, role, retry, Duration::from_secs(20)).unwrap())
}

fn namespace() -> Namespace {
    Namespace { database: "db".into(), retention_policy: "autogen".into() }
}

fn batch(rows: std::ops::Range<u64>) -> Batch {
    let count = rows.end - rows.start;
    let body = rows.map(|at| format!("m v={at}i {at}\n")).collect::<String>().into_bytes();
    Batch { namespace: namespace(), window: Window::ALL, body, rows: count, cells: count }
}

#[test]
fn an_absurd_wait_is_cut_to_the_longest_that_is_granted() {
    let server = Influxd::start();
    server.create_database("db");
    let proxy = Proxy::start(server.port(), Vec::new());
    let sink = Influx::new(client(proxy.port(), Role::Destination, SHORT), Options::default());
    let sink = sink.unwrap();
    for (at, wish) in
        ["100000000000000000000", "18446744073709551615", "Fri, 31 Dec 2100 23:59:59 GMT", "86400"]
            .into_iter()
            .enumerate()
    {
        let busy = reply("503 Service Unavailable", &format!("Retry-After: {wish}\r\n"), "");
        proxy.set(vec![Rule { times: 2, ..Rule::once("/write?", Fault::Instead(busy)) }]);
        let first = at as u64 * 10;
        let ack = sink.write(batch(first..first + 10)).unwrap();
        assert_eq!((ack.requests, ack.retries, ack.refused.len()), (3, 2, 0), "{wish}");
        assert_eq!(server.count("db", ""), first + 10);
    }
}

#[test]
fn a_write_whose_reply_never_ends_is_given_up_and_repeated() {
    let server = Influxd::start();
    server.create_database("db");
    let proxy = Proxy::start(server.port(), vec![Rule::once("/write?", Fault::Endless)]);
    let sink = Influx::new(client(proxy.port(), Role::Destination, SHORT), Options::default());
    let ack = sink.unwrap().write(batch(0..10)).unwrap();
    assert_eq!((ack.requests, ack.retries, ack.refused.len()), (2, 1, 0));
    assert_eq!(server.count("db", ""), 10);
}

#[test]
fn a_query_whose_reply_never_ends_is_given_up_and_repeated() {
    let server = Influxd::start();
    server.create_database("db");
    server.write("db", batch(0..10).body);
    let proxy = Proxy::start(server.port(), vec![Rule::once("SELECT%20%2A", Fault::Endless)]);
    let client = client(proxy.port(), Role::Source, SHORT);
    let source = InfluxHttp::new(client, Some("db".into()), None);
    let source = source.unwrap();
    let scope = Scope::new(&namespace(), Window::ALL, &Filter::default());
    let mut cells = 0;
    let counted = |block: &gapless::block::Block| {
        cells += block.cells();
        Ok(())
    };
    for_each_block(&source, &source.plan(&scope).unwrap(), counted).unwrap();
    assert_eq!((cells, proxy.left()), (10, 0));
}
