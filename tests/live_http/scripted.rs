//! Faults that a real server cannot be made to show, from a scripted one.

use crate::setup::*;
use gapless::error::{Error, ErrorKind};
use gapless::http::Role;
use gapless::plan::{Namespace, Partition};
use gapless::sink::Sink;
use gapless::sink::influx::{Influx, Options};
use gapless::source::influx_http::InfluxHttp;
use gapless::window::Window;
use std::time::Duration;

/// A server that plays back replies, one a connection, and keeps what it was asked.
struct Script {
    port: u16,
    asked: std::thread::JoinHandle<Vec<String>>,
}

/// Plays `replies` back. The first answers the ping with which clients begin.
fn script(replies: Vec<Vec<u8>>) -> Script {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let asked = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for reply in replies {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
            let mut request = Vec::new();
            let mut buffer = [0; 65_536];
            while !is_whole(&request) {
                let length = stream.read(&mut buffer).expect("a request");
                assert!(length > 0, "a request that ends early");
                request.extend_from_slice(&buffer[..length]);
            }
            asked.push(String::from_utf8_lossy(&request).into_owned());
            stream.write_all(&reply).expect("to reply");
        }
        asked
    });
    Script { port, asked }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
    });
    body.len() >= length.unwrap_or(0)
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nX-Influxdb-Version: 1.8.10\r\nConnection: close\r\n\
         Content-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn pong() -> Vec<u8> {
    reply("204 No Content", "", b"")
}

fn scripted_sink(script: &Script) -> Influx {
    let client = client_of(server_at(script.port), Role::Destination);
    Influx::new(client, Options::default()).expect("a server")
}

#[test]
fn a_busy_server_is_asked_again_when_it_says_so() {
    let script = script(vec![
        pong(),
        reply("503 Service Unavailable", "Retry-After: 1\r\n", b""),
        reply("500 Internal Server Error", "", br#"{"error":"timeout"}"#),
        pong(),
    ]);
    let begun = std::time::Instant::now();
    let ack = scripted_sink(&script).write(batch("d", &lines(3))).unwrap();
    assert_eq!((ack.requests, ack.retries, ack.refused.len()), (3, 2, 0));
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let asked = script.asked.join().unwrap();
    assert!(asked[1].contains("POST /write?db=d&precision=ns&rp=autogen"), "{}", asked[1]);
    assert!(asked[1..].iter().all(|request| request.contains("m,h=a v=2i 2\n")));
}

#[test]
fn a_batch_that_takes_too_long_twice_is_halved() {
    let slow = || reply("500 Internal Server Error", "", br#"{"error":"timeout"}"#);
    let script = script(vec![pong(), slow(), slow(), pong(), pong()]);
    let ack = scripted_sink(&script).write(batch("d", &lines(4))).unwrap();
    assert_eq!((ack.requests, ack.refused.len()), (4, 0));
    let asked = script.asked.join().unwrap();
    let rows = |at: usize| asked[at].matches("m,h=a").count();
    assert_eq!([rows(1), rows(2), rows(3), rows(4)], [4, 4, 2, 2]);
}

#[test]
fn a_server_that_stays_busy_is_given_up() {
    let busy = || reply("503 Service Unavailable", "", b"");
    let script = script(vec![pong(), busy(), busy(), busy(), busy()]);
    let error = scripted_sink(&script).write(batch("d", &lines(3))).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Refused { status: 503, .. }), "{error}");
    assert_eq!(script.asked.join().unwrap().len(), 5);
}

#[test]
fn a_connection_that_breaks_is_no_acknowledgement() {
    // Behind the break it is asked whether it lives, and how long, which it tells nobody.
    let denied = reply("403 Forbidden", "", br#"{"error":"error authorizing query"}"#);
    let absent = reply("404 Not Found", "", b"");
    let script = script(vec![pong(), b"HTTP/1.1 2".to_vec(), pong(), denied, absent, pong()]);
    let ack = scripted_sink(&script).write(batch("d", &lines(3))).unwrap();
    assert_eq!((ack.requests, ack.retries, ack.suspects.len()), (2, 1, 0));
}

#[test]
fn only_a_204_acknowledges() {
    let script = script(vec![pong(), reply("200 OK", "", b"<html>welcome</html>")]);
    let error = scripted_sink(&script).write(batch("d", &lines(3))).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Refused { status: 200, .. }), "{error}");
}

#[test]
fn a_refusal_that_fills_the_reply_is_understood() {
    let line = "x".repeat(600_000);
    let words = format!("{{\"error\":\"unable to parse '{line}': invalid\"}}");
    let header = format!("X-Influxdb-Error: {line}\r\n");
    let bad = || reply("400 Bad Request", &header, words.as_bytes());
    let script = script(vec![pong(), bad(), bad(), pong()]);
    let ack = scripted_sink(&script).write(batch("d", &lines(2))).unwrap();
    assert_eq!(refused(&ack), [("m,h=a v=0i 0".into(), "a refusal that is too long to be read")]);
}

#[test]
fn what_is_no_influxdb_is_said_to_be_none() {
    let answer = |reply: &[u8]| {
        let script = script(vec![reply.to_vec()]);
        let client = client_of(server_at(script.port), Role::Source);
        InfluxHttp::new(client, None, None).unwrap_err()
    };
    let error = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert!(error.to_string().contains("no InfluxDB"), "{error}");
    let error = answer(b"HTTP/1.1 204 No\r\nX-Influxdb-Version: v2.7.1\r\n\r\n");
    assert!(error.to_string().contains("InfluxDB v2.7.1"), "{error}");
    let error = answer(b"SSH-2.0-OpenSSH_9.6\r\n");
    assert!(error.to_string().contains("does not speak HTTP"), "{error}");
}

/// A query's reply in MessagePack, in chunks of which the last may be missing.
fn chunked(parts: &[&[u8]], ended: bool) -> Vec<u8> {
    let mut out =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".to_vec();
    for part in parts {
        out.extend(format!("{:x}\r\n", part.len()).bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    if ended {
        out.extend_from_slice(b"0\r\n\r\n");
    }
    out
}

const FIELD_KEYS: &[u8] = b"\x81\xa7results\x91\x81\xa6series\x91\x83\xa4name\xa1m\xa7columns\x92\
    \xa8fieldKey\xa9fieldType\xa6values\x91\x92\xa1v\xa7integer";
const FIRST: &[u8] = b"\x81\xa7results\x91\x82\xa6series\x91\x83\xa4name\xa1m\xa7columns\x92\
    \xa4time\xa1v\xa6values\x91\x92\x01\x05\xa7partial\xc3";
const LAST: &[u8] = b"\x81\xa7results\x91\x81\xa6series\x91\x83\xa4name\xa1m\xa7columns\x92\
    \xa4time\xa1v\xa6values\x91\x92\x02\x06";
const FLOAT: &[u8] = b"\x81\xa7results\x91\x81\xa6series\x91\x83\xa4name\xa1m\xa7columns\x92\
    \xa4time\xa1v\xa6values\x91\x92\x02\xcb\x40\x14\0\0\0\0\0\0";

/// What became of reading, and what was asked for it.
struct Scripted {
    read: Result<Vec<String>, Error>,
    asked: Vec<String>,
}

/// Reads a partition whose queries are answered by each of `answers` in turn.
fn play(end: i64, answers: Vec<Vec<u8>>) -> Scripted {
    let mut replies = vec![pong(), chunked(&[FIELD_KEYS], true)];
    replies.extend(answers);
    let script = script(replies);
    let client = client_of(server_at(script.port), Role::Source);
    let source = InfluxHttp::new(client, None, None).expect("a server");
    let namespace = Namespace { database: "d".into(), retention_policy: "r".into() };
    let window = Window { start: 0, end };
    let partition = Partition::new(&namespace, window, Some(b"m".to_vec()));
    let read = read_partition(&source, &partition);
    let asked = script.asked.join().expect("as many requests as replies");
    Scripted { read, asked: asked[2..].to_vec() }
}

fn read_scripted(answers: Vec<Vec<u8>>) -> Result<Vec<String>, Error> {
    play(10, answers).read
}

/// A document with rows of a series, whose values are their times.
fn document(host: u8, times: std::ops::Range<i32>, partial: bool) -> Vec<u8> {
    values(host, times.map(|time| (time, time)), partial)
}

fn values(host: u8, rows: impl Iterator<Item = (i32, i32)>, partial: bool) -> Vec<u8> {
    let mut body = Vec::new();
    let mut count = 0_u32;
    for (time, value) in rows {
        count += 1;
        body.extend([0x92, 0xd2]);
        body.extend(time.to_be_bytes());
        body.push(0xd2);
        body.extend(value.to_be_bytes());
    }
    let mut out = b"\x81\xa7results\x91".to_vec();
    out.push(if partial { 0x82 } else { 0x81 });
    out.extend(b"\xa6series\x91\x84\xa4name\xa1m\xa4tags\x81\xa1h\xa1");
    out.push(host);
    out.extend(b"\xa7columns\x92\xa4time\xa1v\xa6values\xdd");
    out.extend(count.to_be_bytes());
    out.extend(body);
    if partial {
        out.extend(b"\xa7partial\xc3");
    }
    out
}

/// The cells of [`document`].
fn cells_of(host: char, times: std::ops::Range<i32>) -> Vec<String> {
    times.map(|time| format!("m,h={host} v=Integer({time}) {time}")).collect()
}

fn error_document(words: &str) -> Vec<u8> {
    let mut out = b"\x81\xa7results\x91\x82\xacstatement_id\x00\xa5error\xd9".to_vec();
    out.push(u8::try_from(words.len()).expect("few words"));
    out.extend(words.bytes());
    out
}

#[test]
fn a_reply_that_is_cut_short_is_asked_for_again() {
    let whole = || chunked(&[FIRST, LAST], true);
    let expected = ["m v=Integer(5) 1", "m v=Integer(6) 2"];
    assert_eq!(read_scripted(vec![whole()]).unwrap(), expected);
    let cut = [
        chunked(&[FIRST], true),
        chunked(&[FIRST, LAST], false),
        chunked(&[FIRST, &LAST[..20]], true),
        chunked(&[], true),
    ];
    for cut in cut {
        assert_eq!(read_scripted(vec![cut, whole()]).unwrap(), expected);
    }
}

#[test]
fn a_reply_that_stays_cut_short_is_an_error() {
    let cut = || chunked(&[FIRST], true);
    // Two attempts at the whole, four at its first row, two at a half.
    let error = read_scripted((0..8).map(|_| cut()).collect()).unwrap_err();
    assert!(error.to_string().contains("cut short"), "{error}");
}

#[test]
fn an_error_inside_a_reply_is_an_error() {
    let failed = b"\x81\xa7results\x91\x82\xacstatement_id\x00\xa5error\xa6killed";
    let error = read_scripted(vec![chunked(&[FIRST, failed], true)]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Query { .. }), "{error}");
    assert!(error.to_string().contains("killed"), "{error}");
}

#[test]
fn a_value_of_an_unlisted_type_is_an_error() {
    let float = || chunked(&[FLOAT], true);
    let error = read_scripted(vec![float(), chunked(&[FIELD_KEYS], true), float()]).unwrap_err();
    assert!(error.to_string().contains("Float(5.0)"), "{error}");
}

/// Rows in the first series; a block goes out before the 65,537th.
const MANY: i32 = 100_000;

#[test]
fn a_reply_that_breaks_after_a_block_went_out_goes_on_behind_it() {
    let (first, second) = (document(b'a', 0..MANY, true), document(b'b', 0..MANY, false));
    let expected = [cells_of('a', 0..MANY), cells_of('b', 0..MANY)].concat();
    let whole = || chunked(&[&first, &second], true);
    let early = document(b'a', 0..70_000, true);
    let late = document(b'b', 0..70_000, true);
    for cut in
        [chunked(&[&early], false), chunked(&[&early], true), chunked(&[&first, &late], false)]
    {
        let played = play(i64::from(MANY), vec![cut, whole()]);
        assert!(played.read.unwrap() == expected, "every row once, in order");
        assert_eq!(played.asked[0], played.asked[1]);
    }
}

#[test]
fn rows_that_changed_since_they_were_handed_out_are_an_error() {
    let early = document(b'a', 0..70_000, true);
    let changed = values(b'a', (0..MANY).map(|at| (at, if at == 17 { 18 } else { at })), false);
    let fewer = document(b'a', 1..MANY, false);
    for again in [changed, fewer] {
        let played =
            play(i64::from(MANY), vec![chunked(&[&early], false), chunked(&[&again], true)]);
        let error = played.read.unwrap_err();
        assert!(error.to_string().contains("not the same"), "{error}");
        assert!(error.next_step().unwrap().contains("run again"), "{error:?}");
    }
}

#[test]
fn what_breaks_twice_or_takes_too_long_is_read_in_halves() {
    let early = document(b'a', 0..70_000, true);
    let timeout = error_document("query-timeout limit exceeded");
    let broken = || chunked(&[&early], false);
    for cuts in [vec![broken(), broken()], vec![chunked(&[&early, &timeout], true)]] {
        let times = cuts.len();
        let mut answers = cuts;
        answers.push(chunked(&[&document(b'a', 0..1, false)], true));
        answers.push(chunked(&[&document(b'b', MANY - 1..MANY, false)], true));
        let half = MANY / 2;
        for times in [0..half, half..MANY] {
            let (a, b) = (document(b'a', times.clone(), true), document(b'b', times, false));
            answers.push(chunked(&[&a, &b], true));
        }
        let played = play(i64::from(MANY), answers);
        let mut read = played.read.unwrap();
        read.sort();
        let mut expected = [cells_of('a', 0..MANY), cells_of('b', 0..MANY)].concat();
        expected.sort();
        assert!(read == expected, "every row once");
        let asked = &played.asked[times..];
        for (asked, part) in asked.iter().zip(["ASC%20LIMIT%201", "DESC%20LIMIT%201"]) {
            assert!(asked.contains(part), "{asked}");
        }
        assert!(asked[2].contains("time%20%3C%2050000%20"), "{}", asked[2]);
        assert!(asked[3].contains("time%20%3E%3D%2050000%20"), "{}", asked[3]);
    }
}

#[test]
fn a_refusal_that_names_a_limit_is_answered_with_halves_and_one_that_does_not_is_an_error() {
    let limit = error_document("max-select-point limit exceeed: (6/5)");
    let row = |time: i32| chunked(&[&document(b'a', time..time + 1, false)], true);
    let played = play(10, vec![chunked(&[&limit], true), row(2), row(7), row(2), row(7)]);
    assert_eq!(played.read.unwrap(), [cells_of('a', 2..3), cells_of('a', 7..8)].concat());
    assert!(
        played.asked[3].contains("time%20%3E%3D%202%20AND%20time%20%3C%205%20"),
        "{}",
        played.asked[3]
    );
    let series = error_document("max-select-series limit exceeded: (4/3)");
    let error = play(10, vec![chunked(&[&series], true)]).read.unwrap_err();
    assert!(error.next_step().unwrap().contains("max-select-series"), "{error:?}");
    // A limit that no part stays below is an error in the end.
    let mut answers = vec![chunked(&[&limit], true), row(2), row(3)];
    answers.extend((0..1).map(|_| chunked(&[&limit], true)));
    let error = play(10, answers).read.unwrap_err();
    assert!(error.to_string().contains("max-select-point"), "{error}");
}
