//! Servers, and what stands before them, that answer something else than what was stored.

use crate::proxy::{Fault, Proxy, Rule, reply};
use crate::work::{Case, judge_all, server};

fn error(words: &str) -> String {
    format!("{{\"error\":\"{words}\"}}\n")
}

#[test]
fn servers_that_are_busy_are_asked_again() {
    let busy = "503 Service Unavailable";
    let failed = "500 Internal Server Error";
    let answers = [
        ("429", reply("429 Too Many Requests", "", "")),
        ("503", reply(busy, "", &error("timeout"))),
        ("408", reply("408 Request Timeout", "", "")),
        ("502", reply("502 Bad Gateway", "", "<html>")),
        ("504", reply("504 Gateway Timeout", "", "<html>")),
        ("500 timeout", reply(failed, "", &error("timeout"))),
        ("500 cache", reply(failed, "", &error("engine: cache-max-memory-size exceeded: (1/2)"))),
        ("500 partial", reply(failed, "", &error("partial write"))),
        ("a second", reply(busy, "Retry-After: 1\r\n", "")),
        ("no second", reply(busy, "Retry-After: 0\r\n", "")),
        ("minus five", reply(busy, "Retry-After: -5\r\n", "")),
        ("soon", reply(busy, "Retry-After: soon\r\n", "")),
        ("empty", reply(busy, "Retry-After:\r\n", "")),
        ("a past date", reply(busy, "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", "")),
    ];
    let each = answers.into_iter().flat_map(|(name, answer)| {
        // Thrown away, or carried out and denied.
        [Fault::Instead(answer.clone()), Fault::Carried(answer)].map(|fault| {
            let kind = if matches!(fault, Fault::Instead(_)) { "instead" } else { "carried out" };
            let rule = Rule { skip: 1, ..Rule::once("/write?", fault) };
            (format!("{name}, {kind}"), vec![rule])
        })
    });
    judge_all(each.collect());
}

#[test]
fn refusals_are_not_believed_but_looked_into() {
    let bad = "400 Bad Request";
    let answers = [
        ("413", reply("413 Request Entity Too Large", "", &error("Request Entity Too Large"))),
        (
            "partial, dropped=0",
            reply(bad, "", &error("partial write: unable to parse 'x': missing fields dropped=0")),
        ),
        (
            "partial, dropped=7",
            reply(bad, "", &error("partial write: points beyond retention policy dropped=7")),
        ),
        ("422", reply("422 Unprocessable Entity", "", &error("partial write: x dropped=1"))),
        ("a page", reply(bad, "", "<html>what is this?</html>")),
        ("a failure", reply("500 Internal Server Error", "", "Internal Server Error\n")),
    ];
    let each = answers.into_iter().flat_map(|(name, answer)| {
        [Fault::Instead(answer.clone()), Fault::Carried(answer)]
            .map(|fault| (name.to_owned(), vec![Rule::once("/write?", fault)]))
    });
    judge_all(each.collect());
}

/// A reply to a query that reports an error although its status is 200, in MessagePack.
fn failed_query(words: &str) -> Vec<u8> {
    let mut body = b"\x81\xa7results\x91\x82\xacstatement_id\x00\xa5error\xd9".to_vec();
    body.push(u8::try_from(words.len()).unwrap());
    body.extend(words.bytes());
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), &body].concat()
}

#[test]
fn readings_that_are_cut_short_or_fail_inside_a_reply_are_repeated() {
    let busy = reply("503 Service Unavailable", "Retry-After: 0\r\n", "");
    let faults = [
        Fault::Before,
        Fault::Reply(0),
        Fault::Reply(40),
        Fault::ReplyBody(0),
        Fault::ReplyBody(30),
        Fault::ReplyBody(150),
        Fault::Instead(busy),
        Fault::Instead(failed_query("query-timeout limit exceeded")),
        Fault::Instead(failed_query("max-concurrent-queries limit exceeded(1, 1)")),
        Fault::Dripped(std::time::Duration::ZERO),
    ];
    let mut each = Vec::new();
    for fault in faults {
        for skip in [1, 2, 3] {
            // A server that breaks the first connection that is made to it is taken for none.
            let part = if matches!(fault, Fault::Before) { "/query" } else { "SELECT" };
            let rule = Rule { skip, ..Rule::once(part, fault.clone()) };
            each.push((format!("{fault:?} at reading {skip}"), vec![rule]));
        }
    }
    judge_all(each);
}

#[test]
fn a_password_that_is_refused_midway_ends_the_copy_and_nothing_is_lost() {
    let server = server();
    let proxy = Proxy::start(server.port(), Vec::new());
    let case = Case::new(&server, "db".into());
    let denied = reply("401 Unauthorized", "", &error("authorization failed"));
    proxy.set(vec![Rule { skip: 5, ..Rule::once("/write?", Fault::Instead(denied)) }]);
    let ran = case.copy(&proxy).expect_status(4).expect_err("HTTP 401");
    ran.expect_err("set GAPLESS_DESTINATION_PASSWORD");
    // The refused rows that were found until then stand in a file of their own.
    std::fs::remove_file(case.dir.path().join("gapless-rejected.lp")).ok();
    case.copy(&proxy).expect_status(1);
    case.judge_server("after it");
}

#[test]
fn a_redirect_is_not_followed_and_credentials_go_nowhere_else() {
    let server = server();
    let proxy = Proxy::start(server.port(), Vec::new());
    let elsewhere = Proxy::start(server.port(), Vec::new());
    for (at, status) in
        ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"].into_iter().enumerate()
    {
        let case = Case::new(&server, format!("db{at}"));
        for part in ["/write?", "/query", "/ping"] {
            let place =
                format!("Location: http://127.0.0.1:{}/write?db=db{at}\r\n", elsewhere.port());
            let moved = reply(status, &place, "");
            proxy.set(vec![Rule::once(part, Fault::Instead(moved))]);
            let location = format!("influxdb://ann@127.0.0.1:{}/{}", proxy.port(), case.database);
            let copy = crate::common::Gapless::new(["copy", "in.lp", &location]);
            let copy = copy.env("GAPLESS_DESTINATION_PASSWORD", "canary");
            let ran = copy.dir(case.dir.path()).run().expect_status(4);
            let ran = ran.expect_nowhere("canary");
            // A ping shows no InfluxDB there.
            ran.expect_err(if part == "/ping" { "no InfluxDB" } else { "redirects are not" });
        }
    }
    assert!(elsewhere.asked().is_empty(), "{:?}", elsewhere.asked());
}
