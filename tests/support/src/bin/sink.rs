//! A receiver of remote write 2.0 that keeps nothing, for benchmarks: `sink`.
//!
//! The first line on stdout is the port of 127.0.0.1 on which it listens. Then each line on stdin is answered:
//! `count` by the numbers of requests, samples and bytes that it has taken; `away` and `back` by `ok`: in between
//! it answers 503. The end of stdin, or SIGTERM, is its end.
//!
//! What a newcomer would get wrong: it is no receiver to test against. It counts samples by walking over the messages,
//! believes what it is sent, and says that all of it was written.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

#[derive(Default)]
struct Taken {
    away: AtomicBool,
    requests: AtomicU64,
    samples: AtomicU64,
    bytes: AtomicU64,
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut out = io::stdout();
    writeln!(out, "{}", listener.local_addr()?.port())?;
    out.flush()?;
    let taken = Arc::<Taken>::default();
    let shared = taken.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let taken = shared.clone();
            // A client that goes away is no fault of ours.
            thread::spawn(move || drop(serve(&stream, &taken)));
        }
    });
    for line in io::stdin().lock().lines() {
        match line?.as_str() {
            "count" => {
                let [requests, samples, bytes] =
                    [&taken.requests, &taken.samples, &taken.bytes].map(|n| n.load(Relaxed));
                writeln!(out, "{requests} {samples} {bytes}")?;
            }
            word @ ("away" | "back") => {
                taken.away.store(word == "away", Relaxed);
                writeln!(out, "ok")?;
            }
            _ => writeln!(out, "error: not understood")?,
        }
        out.flush()?;
    }
    Ok(())
}

/// Answers one request after the other.
fn serve(stream: &TcpStream, taken: &Taken) -> io::Result<()> {
    let mut input = BufReader::new(stream);
    let mut output = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        if taken.away.load(Relaxed) {
            output.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        }
        let raw = snap::raw::Decoder::new().decompress_vec(&body).map_err(io::Error::other)?;
        let samples = samples(&raw).ok_or_else(|| io::Error::other("no remote write 2.0"))?;
        taken.requests.fetch_add(1, Relaxed);
        taken.samples.fetch_add(samples, Relaxed);
        taken.bytes.fetch_add(length as u64, Relaxed);
        let written = format!("x-prometheus-remote-write-samples-written: {samples}");
        // One write: the rest of several would wait 40 ms for an ACK.
        output.write_all(format!("HTTP/1.1 204 No Content\r\n{written}\r\n\r\n").as_bytes())?;
    }
}

/// The samples of an `io.prometheus.write.v2.Request`: fields 2 of its fields 5.
fn samples(request: &[u8]) -> Option<u64> {
    let mut count = 0;
    fields(request, 5, &mut |series| {
        fields(series, 2, &mut |_| {
            count += 1;
            Some(())
        })
    })?;
    Some(count)
}

/// Hands the fields of that number and of wire type 2 to `each`.
fn fields(mut message: &[u8], wanted: u64, each: &mut dyn FnMut(&[u8]) -> Option<()>) -> Option<()> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match key & 7 {
            0 => drop(varint(&mut message)?),
            1 => message = message.get(8..)?,
            5 => message = message.get(4..)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (field, rest) = message.split_at_checked(length)?;
                if key >> 3 == wanted {
                    each(field)?;
                }
                message = rest;
            }
            _ => return None,
        }
    }
    Some(())
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
