//! Posts ready-made batches of line protocol over plain keep-alive connections, as fast as the
//! server takes them: what a program that does nothing else would reach.
//!
//! `cargo bench --bench post -- --address 127.0.0.1:8086 --db DB FILE`. The file is read, and cut
//! into batches at the ends of rows, before the clock starts; every reply must be a 204. Without any
//! option it prints its help and does nothing.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is a command")]

mod command;

use clap::Parser;
use gapless::line::decode::{Decoder, Item, Options as LineOptions};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// Longest head of a reply that is read.
const HEAD_MAX: u64 = 64 << 10;
/// Bytes that are read from the file at once.
const CHUNK: usize = 1 << 20;

/// Posts ready-made batches of line protocol to an InfluxDB 1.x server.
#[derive(Debug, Parser)]
#[command(name = "post")]
struct Cli {
    /// Line protocol with timestamps in nanoseconds
    file: PathBuf,
    /// Host and port
    #[arg(long)]
    address: String,
    /// The database; it must exist
    #[arg(long)]
    db: String,
    /// Connections
    #[arg(long, default_value_t = 2)]
    connections: usize,
    /// Most rows of a batch
    #[arg(long, default_value_t = 20_000)]
    rows: usize,
    /// Bytes at which a batch is closed
    #[arg(long, default_value_t = 4 << 20)]
    bytes: usize,
    /// Cargo adds it.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    command::main(run)
}

fn run(cli: &Cli) -> Result<(), String> {
    let (batches, rows) = batches(cli)?;
    let bytes: usize = batches.iter().map(Vec::len).sum();
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    thread::scope(|scope| {
        let work = || connection(cli, &batches, &next);
        let workers: Vec<_> = (0..cli.connections.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_panic| Err("a connection's thread panicked".into()))
        })
    })?;
    println!(
        "seconds={:.3} rows={rows} bytes={bytes} requests={}",
        begun.elapsed().as_secs_f64(),
        batches.len()
    );
    Ok(())
}

/// The file as bodies of requests, and how many rows they hold in all.
fn batches(cli: &Cli) -> Result<(Vec<Vec<u8>>, u64), String> {
    let unreadable = |error| format!("cannot read {}: {error}", cli.file.display());
    let mut file = File::open(&cli.file).map_err(unreadable)?;
    let mut decoder = Decoder::new(LineOptions::default());
    let mut chunk = vec![0; CHUNK];
    let (mut batches, mut body, mut in_body, mut rows) = (Vec::new(), Vec::new(), 0, 0);
    loop {
        let length = file.read(&mut chunk).map_err(unreadable)?;
        decoder.feed(&chunk[..length]);
        if length == 0 {
            decoder.finish();
        }
        while let Some(item) = decoder.next_item().map_err(|error| error.to_string())? {
            let row = match item {
                Item::Row(row) => row,
                Item::Comment(_) => continue,
                Item::Bad(bad) => return Err(format!("line {}: {}", bad.line, bad.reason)),
            };
            body.extend_from_slice(row.text);
            body.push(b'\n');
            in_body += 1;
            rows += 1;
            if in_body >= cli.rows || body.len() >= cli.bytes {
                batches.push(std::mem::take(&mut body));
                in_body = 0;
            }
        }
        if length == 0 {
            batches.extend((!body.is_empty()).then_some(body));
            return Ok((batches, rows));
        }
    }
}

/// Posts batches until there are none left.
fn connection(cli: &Cli, batches: &[Vec<u8>], next: &AtomicUsize) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", cli.address);
    let mut stream = TcpStream::connect(&cli.address).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let mut replies = BufReader::new(stream.try_clone().map_err(failed)?);
    while let Some(body) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
        let head = format!(
            "POST /write?db={}&precision=ns HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            cli.db,
            cli.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).map_err(failed)?;
        stream.write_all(body).map_err(failed)?;
        acknowledged(&mut replies)?;
    }
    Ok(())
}

/// Reads a reply, which must be a 204: that has no body, so that the connection can go on.
fn acknowledged(replies: &mut BufReader<TcpStream>) -> Result<(), String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let length = replies
            .by_ref()
            .take(HEAD_MAX - head.len() as u64)
            .read_line(&mut head)
            .map_err(|error| format!("cannot read a reply: {error}"))?;
        if length == 0 {
            return Err(format!("a reply ends too early: {head:?}"));
        }
    }
    if head.starts_with("HTTP/1.1 204 ") { Ok(()) } else { Err(format!("refused: {head}")) }
}
