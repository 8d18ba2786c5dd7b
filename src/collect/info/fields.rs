//! Everything in INFO that is one number under one name.
//!
//! A row is the field, its family and how the number is turned; a new field is one row. `ok` and `true`
//! count as 1, `err`, `fail` and `false` as 0; a value that is none of this drops its sample alone.

use super::super::Context;
use super::Info;
use exposition::{Builder, Desc};
use std::collections::HashMap;
use std::sync::LazyLock;

/// One row: the field of INFO, its family, and the factor from the field's unit to the family's.
struct Field {
    key: &'static str,
    desc: Desc,
    factor: f64,
}

const fn gauge(key: &'static str, name: &'static str, help: &'static str) -> Field {
    Field { key, desc: Desc::gauge(name, help), factor: 1.0 }
}

const fn counter(key: &'static str, name: &'static str, help: &'static str) -> Field {
    Field { key, desc: Desc::counter(name, help), factor: 1.0 }
}

#[rustfmt::skip]
static FIELDS: &[Field] = &[
    gauge("connected_clients", "redis_connected_clients", "Client connections, without those of replicas."),
    counter("total_commands_processed", "redis_commands_processed_total", "Commands that the server has run."),
    gauge("used_memory", "redis_memory_used_bytes", "Memory that the allocator has given out, in bytes."),
    gauge("uptime_in_seconds", "redis_uptime_in_seconds", "Time since the server started, in seconds."),
];

static BY_KEY: LazyLock<HashMap<&'static str, &'static Field>> =
    LazyLock::new(|| FIELDS.iter().map(|field| (field.key, field)).collect());

/// Every family of the table.
pub fn descs() -> impl Iterator<Item = &'static Desc> {
    FIELDS.iter().map(|field| &field.desc)
}

/// Records a sample for each line that has a row.
pub fn read(info: &Info<'_>, _: &Context<'_>, out: &mut Builder) {
    for line in info.lines() {
        let Some(field) = BY_KEY.get(line.field) else { continue };
        if let Some(value) = number(line.value) {
            out.push(&field.desc, value * field.factor);
        }
    }
}

/// A number, or a word that stands for 1 or 0.
pub fn number(value: &str) -> Option<f64> {
    match value {
        "ok" | "true" => Some(1.0),
        "err" | "fail" | "false" => Some(0.0),
        other => other.parse().ok(),
    }
}
