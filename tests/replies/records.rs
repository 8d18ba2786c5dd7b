//! What a sample takes in a queue: collections of recorded machines as records, and the table of `docs/delivery.md`.
//!
//! What a newcomer would get wrong: machines differ, as those of a fleet do. The same machine twice in a record would be
//! compressed to nothing.

use crate::machine::Form;
use crate::{collect, machines};
use exposition::Families;
use exposition::remote_write::{Encoder, Scrape};
use redvigil::config::collect::Collect;
use std::sync::Arc;

const PAGE: &str = include_str!("../../docs/delivery.md");

/// What stands before a record in its file.
const HEADER: usize = 48;

/// Compression as records have it.
const LEVEL: i32 = 1;

/// Bytes a sample, where each record has so many collections.
fn bytes_a_sample(fleet: &[(String, Vec<Arc<Families>>)], collections: usize) -> f64 {
    let (mut bytes, mut samples) = (0, 0);
    for (record, members) in fleet.chunks_exact(collections).enumerate() {
        let mut encoder = Encoder::new();
        for (member, (service, parts)) in members.iter().enumerate() {
            let instance = format!("10.0.{record}.{member}:6379");
            let labels =
                [("cluster", "eu1"), ("instance", &instance), ("job", "redvigil"), ("service", service)];
            let labels = labels.map(|(name, text)| (name.into(), text.into()));
            let timestamp = 1_795_400_000_000 + (record * 250 + member * 35) as i64;
            let since = Some(1_795_300_000_000);
            encoder.push(&Scrape { parts, labels: &labels, timestamp, since }, &[]);
        }
        samples += encoder.samples();
        let body = encoder.finish().body;
        bytes += HEADER + zstd::bulk::compress(&body, LEVEL).unwrap().len();
    }
    bytes as f64 / f64::from(samples)
}

#[test]
fn a_sample_takes_what_the_table_says() {
    let fleet: Vec<_> = machines()
        .into_iter()
        .filter(|name| !name.contains("sentinel"))
        .map(|name| {
            let parts = collect(&name, Form::Resp2, None, &Collect::default()).snapshot.parts;
            (name, parts)
        })
        .collect();
    // Neighbours of the list are of one version; members of a record need not be.
    let fleet: Vec<_> = (0..fleet.len()).map(|at| fleet[at * 7 % fleet.len()].clone()).collect();
    assert!(fleet.len() % 7 != 0, "each machine once");
    let table = PAGE.split_once("| collections in a record | ").expect("a table").1;
    let mut rows = 0;
    for row in table.lines().skip(2).take_while(|line| line.starts_with("| ")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let (collections, said) = (cells[0].parse().unwrap(), cells[1].parse::<f64>().unwrap());
        let found = bytes_a_sample(&fleet, collections);
        assert!(
            (found / said - 1.0).abs() < 0.05,
            "{collections} collections: {found:.2}, the page says {said}"
        );
        rows += 1;
    }
    assert!(rows >= 4, "{rows}");
    assert!(bytes_a_sample(&fleet, 10) <= 10.0);
}
