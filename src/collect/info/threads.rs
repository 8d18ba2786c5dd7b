//! I/O threads: `used_active_time_io_thread_1:3.5` (Valkey 9.1) and
//! `io_thread_1:clients=7,reads=923,writes=905` (Redis 8).

use super::number::number;
use super::{Info, parts};
use exposition::{Builder, Desc};

static ACTIVE: Desc = Desc::counter(
    "redis_active_time_io_thread_seconds_total",
    "Time that the I/O thread was busy, in seconds.",
)
.labels(&["thread"]);
static CLIENTS: Desc =
    Desc::gauge("redis_io_thread_clients", "Clients that the I/O thread serves.").labels(&["thread"]);
static READS: Desc =
    Desc::counter("redis_io_thread_reads_total", "Reads from clients by the I/O thread.").labels(&["thread"]);
static WRITES: Desc =
    Desc::counter("redis_io_thread_writes_total", "Writes to clients by the I/O thread.").labels(&["thread"]);

/// Every family of this file.
pub fn descs() -> [&'static Desc; 4] {
    [&ACTIVE, &CLIENTS, &READS, &WRITES]
}

/// Records what each thread did.
pub fn read(info: &Info<'_>, out: &mut Builder) {
    for (thread, value) in info.numbered("used_active_time_io_thread_") {
        if let Some(seconds) = number(value) {
            let family = out.family(&ACTIVE);
            out.sample(family, &[thread], seconds);
        }
    }
    for (thread, value) in info.numbered("io_thread_") {
        for (name, value) in parts(value).flatten() {
            let desc = match name {
                "clients" => &CLIENTS,
                "reads" => &READS,
                "writes" => &WRITES,
                _ => continue,
            };
            if let Some(value) = number(value) {
                let family = out.family(desc);
                out.sample(family, &[thread], value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::info::testing::lines;

    fn check(info: &str, expected: &[&str]) {
        assert_eq!(lines(info, |info, _, out| read(info, out)), expected, "{info}");
    }

    #[test]
    fn each_thread_of_valkey_has_its_time() {
        check(
            "used_active_time_io_thread_1:7636.398680\nused_active_time_io_thread_12:22.5",
            &[
                "redis_active_time_io_thread_seconds_total{thread=1} 7636.39868",
                "redis_active_time_io_thread_seconds_total{thread=12} 22.5",
            ],
        );
        check("used_active_time_io_thread_x:1\nused_active_time_io_thread_:1", &[]);
        check("used_active_time_io_thread_1:x", &[]);
    }

    #[test]
    fn each_thread_of_redis_has_its_clients_reads_and_writes() {
        check(
            "io_thread_0:clients=7,reads=923,writes=x,new=1",
            &["redis_io_thread_clients{thread=0} 7", "redis_io_thread_reads_total{thread=0} 923"],
        );
        check("io_threaded_reads_processed:1\nio_threads_active:1", &[]);
    }
}
