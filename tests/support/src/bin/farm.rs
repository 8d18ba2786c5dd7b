//! Servers by the thousand as a process of its own, for benchmarks: `farm COUNT`.
//!
//! The first line on stdout is the list of all servers in Prometheus' `file_sd` format. Then each line on stdin
//! changes what some of them do (`hang 0..500`, `refuse 500..1000`, `answer 0..1000`) and is answered by `ok`;
//! `count` is answered by the numbers of connections accepted, connections open and commands answered so far. The
//! end of stdin, or SIGTERM, is the end of the farm.

use std::env;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use testbed::{Behaviour, Farm};

fn main() -> io::Result<ExitCode> {
    let count = env::args().nth(1).and_then(|word| word.parse().ok());
    let Some(count) = count else {
        writeln!(io::stderr(), "usage: farm COUNT")?;
        return Ok(ExitCode::from(2));
    };
    let farm = Farm::start(count);
    let mut out = io::stdout();
    writeln!(out, "{}", farm.file_sd())?;
    out.flush()?;
    for line in io::stdin().lock().lines() {
        let answer = obey(&farm, count, &line?).unwrap_or_else(|| "error: not understood".to_owned());
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Does what a line says; nothing where it makes no sense.
fn obey(farm: &Farm, count: usize, line: &str) -> Option<String> {
    if line == "count" {
        return Some(format!("{} {} {}", farm.accepted(), farm.open(), farm.commands()));
    }
    let (word, range) = line.split_once(' ')?;
    let behaviour = match word {
        "answer" => Behaviour::Answer,
        "hang" => Behaviour::Hang,
        "refuse" => Behaviour::Refuse,
        _ => return None,
    };
    let (first, end) = range.split_once("..")?;
    let range = first.parse().ok()?..end.parse().ok()?;
    if range.start > range.end || range.end > count {
        return None;
    }
    farm.set(range, behaviour);
    Some("ok".to_owned())
}
