//! `SERVER EXT`: what a Tile38 says of itself beyond INFO.
//!
//! Asked with `--is-tile38`; other servers refuse it, which costs only these families.
//! <https://tile38.com/commands/server/>
//!
//! The fields partly start with `tile38_` already; the others are read as if they did.

use super::info::fields::{Field, Reading, Table, gauge};
use super::{Answers, Asks, Collector, Context, Failure, How, When};
use crate::connect::Reply;
use exposition::{Builder, Desc};
use std::sync::LazyLock;

/// See the head of this file.
pub static COLLECTOR: Collector = Collector { name: "tile38", descs, when, how: How::Read { ask, read } };

/// In the order of the metric names.
#[rustfmt::skip]
static FIELDS: &[Field] = &[
    gauge("tile38_aof_size", "redis_tile38_aof_size_bytes", "Size of the append-only file, in bytes."),
    gauge("tile38_avg_point_size", "redis_tile38_avg_item_size_bytes", "Mean size of a point, in bytes."),
    gauge("tile38_sys_cpus", "redis_tile38_cpus_total", "Processors of the machine."),
    gauge("tile38_go_goroutines", "redis_tile38_go_goroutines_total", "Goroutines of the server."),
    gauge("tile38_heap_released_bytes", "redis_tile38_heap_released_bytes", "Heap memory given back to the kernel, in bytes."),
    gauge("tile38_heap_alloc_bytes", "redis_tile38_heap_size_bytes", "Heap memory in use, in bytes."),
    gauge("tile38_http_transport", "redis_tile38_http_transport", "Whether the server also speaks HTTP."),
    gauge("tile38_in_memory_size", "redis_tile38_in_memory_size_bytes", "Size of the data in memory, in bytes."),
    gauge("tile38_last_gc_time_seconds", "redis_tile38_last_gc_time_seconds", "Unix time of the last garbage collection, in seconds."),
    gauge("tile38_max_heap_size", "redis_tile38_max_heap_size_bytes", "Heap memory from which on writes are refused, in bytes; 0 means no limit."),
    gauge("tile38_alloc_bytes", "redis_tile38_mem_alloc_bytes", "Memory allocated and still in use, in bytes."),
    gauge("tile38_next_gc_bytes", "redis_tile38_next_gc_bytes", "Heap size at which the next garbage collection starts, in bytes."),
    gauge("tile38_num_collections", "redis_tile38_num_collections_total", "Collections."),
    gauge("tile38_num_hooks", "redis_tile38_num_hooks_total", "Web hooks and channels."),
    gauge("tile38_num_objects", "redis_tile38_num_objects_total", "Objects in all collections."),
    gauge("tile38_num_points", "redis_tile38_num_points_total", "Points in all collections."),
    gauge("tile38_pointer_size", "redis_tile38_pointer_size_bytes", "Size of a pointer, in bytes."),
    gauge("tile38_read_only", "redis_tile38_read_only", "Whether the server refuses writes."),
    gauge("tile38_go_threads", "redis_tile38_threads_total", "Threads of the server."),
];

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(FIELDS));

fn descs() -> Vec<&'static Desc> {
    TABLE.descs().collect()
}

fn when(context: &Context<'_>) -> When {
    if context.config.tile38 { When::Now } else { When::Never }
}

fn ask(_: &Context<'_>, asks: &mut Asks<'_>) {
    asks.push("SERVER EXT", &["SERVER", "EXT"]);
}

fn read(context: &Context<'_>, answers: &Answers<'_>, out: &mut Builder) -> Result<(), Failure> {
    let pairs = answers.get(0)?.pairs().ok_or(Failure::shape("SERVER EXT"))?;
    let texts = pairs.filter_map(|(name, value)| Some((Reply::text(name)?, Reply::text(value)?)));
    write(texts, context, out);
    Ok(())
}

fn write<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>, context: &Context<'_>, out: &mut Builder) {
    let mut reading = TABLE.reading();
    for (name, value) in pairs {
        take(&mut reading, name, value);
    }
    reading.write(context.config, out);
}

fn take(reading: &mut Reading<'_>, name: &str, value: &str) {
    if name.starts_with("tile38_") {
        reading.take(name, value);
    } else {
        reading.take(&format!("tile38_{name}"), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::info::testing::lines;

    fn check(pairs: &[(&str, &str)], expected: &[&str]) {
        let made = lines("", |_, context, out| write(pairs.iter().copied(), context, out));
        assert_eq!(made, expected, "{pairs:?}");
    }

    #[test]
    fn fields_count_with_and_without_the_prefix() {
        check(
            &[("tile38_num_hooks", "2"), ("alloc_bytes", "5"), ("read_only", "false"), ("tile38_id", "x")],
            &["redis_tile38_mem_alloc_bytes 5", "redis_tile38_num_hooks_total 2", "redis_tile38_read_only 0"],
        );
    }

    #[test]
    fn rows_stand_in_the_order_of_their_names() {
        assert!(TABLE.descs().is_sorted_by(|a, b| a.name < b.name));
    }
}
