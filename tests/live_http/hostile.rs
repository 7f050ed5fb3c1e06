//! Servers that lead elsewhere or send without end: credentials stay here, and memory is bounded.

use crate::common::parrot::{Parrot, reply};
use crate::setup::*;
use gapless::error::{Error, ErrorKind};
use gapless::http::{Call, Client, Role, Secret, Server};
use gapless::source::influx_http::InfluxHttp;
use std::sync::Arc;

fn client(port: u16) -> Arc<Client> {
    let (user, password) = (Some("ops".into()), Some(Secret::new("geheim".into())));
    client_of(Server { user, password, ..server_at(port) }, Role::Source)
}

fn open(port: u16) -> Error {
    InfluxHttp::new(client(port), Some("d".into()), None).expect_err("no such server")
}

#[test]
fn a_redirect_is_not_followed_and_takes_no_credentials_along() {
    for status in ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let elsewhere = Parrot::start(reply("204 No Content", "", ""));
        let to = format!("Location: http://ops:geheim@localhost:{}/ping\r\n", elsewhere.port);
        let server = Parrot::start(reply(status, &to, ""));
        let client = client(server.port);
        let reply = client.call(&Call { path: "/query", ..Call::default() }).unwrap();
        let error = client.refused("a query", &reply);
        assert!(!format!("{error:?} {error}").contains("geheim"), "{error:?}");
        assert!(error.next_step().unwrap().contains("redirects are not followed"), "{error:?}");
        assert_eq!(server.asked().len(), 1);
        let asked = server.asked()[0].to_lowercase();
        assert!(asked.contains("authorization: basic "), "{asked}");
        assert!(!asked.contains("accept-encoding"), "a reply is never decompressed: {asked}");
        assert_eq!(elsewhere.asked(), [""; 0], "{status}");
    }
}

#[test]
fn the_head_of_a_reply_is_bounded() {
    let line = format!("X-Filler: {}\r\n", "x".repeat(1000));
    let many = "X: y\r\n".repeat(1000);
    for headers in [line.repeat(10_000), many, format!("X: {}", "x".repeat(10 << 20))] {
        let server = Parrot::start(reply("204 No Content", &headers, ""));
        let error = open(server.port);
        assert!(matches!(error.kind(), ErrorKind::Connection { attempts: 1, .. }), "{error}");
        assert!(error.to_string().contains("does not speak HTTP"), "{error}");
    }
}

#[test]
fn the_body_of_a_refusal_is_bounded_and_repeats_no_credentials() {
    let body =
        format!("password geheim, Authorization: Basic b3BzOmdlaGVpbQ== {}", "x".repeat(8 << 20));
    let error = open(Parrot::start(reply("403 Forbidden", "", &body)).port);
    assert!(matches!(error.kind(), ErrorKind::Refused { status: 403, .. }), "{error}");
    let text = format!("{error:?} {error}");
    assert!(text.len() < 2000 && !text.contains("geheim") && !text.contains("b3Bz"), "{text}");
}
