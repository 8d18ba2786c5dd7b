//! What the kernel says of this process: the `process_*` families that every Prometheus client has.
//!
//! Linux only: <https://man7.org/linux/man-pages/man5/proc.5.html>. What cannot be read is absent.

use exposition::{Builder, Desc};
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::io::Read as _;

static CPU: Desc =
    Desc::counter("process_cpu_seconds_total", "User and system time of this process, in seconds.");
static MAX_FDS: Desc = Desc::gauge("process_max_fds", "How many files this process may have open.");
static OPEN_FDS: Desc = Desc::gauge("process_open_fds", "How many files this process has open.");
static RESIDENT: Desc =
    Desc::gauge("process_resident_memory_bytes", "Memory of this process that is in RAM, in bytes.");
static VIRTUAL: Desc = Desc::gauge("process_virtual_memory_bytes", "Address space in use, in bytes.");
static VIRTUAL_MAX: Desc = Desc::gauge(
    "process_virtual_memory_max_bytes",
    "Address space that may be used, in bytes; the largest number of 64 bits where there is no limit.",
);
static START: Desc =
    Desc::gauge("process_start_time_seconds", "When this process started, as Unix time in seconds.");
static RECEIVED: Desc = Desc::counter(
    "process_network_receive_bytes_total",
    "Bytes received by all interfaces of the network namespace of this process.",
);
static SENT: Desc = Desc::counter(
    "process_network_transmit_bytes_total",
    "Bytes sent by all interfaces of the network namespace of this process.",
);

/// Every family of this file.
pub fn descs() -> [&'static Desc; 9] {
    [&CPU, &MAX_FDS, &OPEN_FDS, &RESIDENT, &VIRTUAL, &VIRTUAL_MAX, &START, &RECEIVED, &SENT]
}

/// Records all of it. Costs some ten small reads.
pub fn record(out: &mut Builder) {
    // Fields of stat, counted after the name, which may itself hold spaces and brackets.
    if let Some(stat) = read("/proc/self/stat") {
        let fields: Vec<&str> = stat.rsplit_once(')').map_or(vec![], |(_, rest)| rest.split(' ').collect());
        let number = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok());
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let page = rustix::param::page_size() as f64;
        if let (Some(user), Some(system)) = (number(12), number(13)) {
            out.push(&CPU, (user + system) / ticks);
        }
        if let (Some(start), Some(boot)) = (number(20), boot_time()) {
            out.push(&START, boot + start / ticks);
        }
        if let Some(bytes) = number(21) {
            out.push(&VIRTUAL, bytes);
        }
        if let Some(pages) = number(22) {
            out.push(&RESIDENT, pages * page);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is being read.
        out.push(&OPEN_FDS, open.count().saturating_sub(1) as f64);
    }
    if let Some(max) = getrlimit(Resource::Nofile).current {
        out.push(&MAX_FDS, max as f64);
    }
    // The peer says the largest unsigned number where there is no limit.
    out.push(&VIRTUAL_MAX, getrlimit(Resource::As).current.unwrap_or(u64::MAX) as f64);
    if let Some((received, sent)) = read("/proc/self/net/dev").as_deref().map(traffic) {
        out.push(&RECEIVED, received);
        out.push(&SENT, sent);
    }
}

/// The whole of a small file of the kernel: with a buffer that is large enough from the start, two reads.
fn read(path: &str) -> Option<String> {
    let mut text = Vec::with_capacity(4096);
    fs::File::open(path).ok()?.read_to_end(&mut text).ok()?;
    String::from_utf8(text).ok()
}

fn boot_time() -> Option<f64> {
    static BOOT: std::sync::OnceLock<Option<f64>> = std::sync::OnceLock::new();
    *BOOT.get_or_init(|| {
        let stat = read("/proc/stat")?;
        stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
    })
}

/// Bytes received and sent over all interfaces, from the text of `/proc/net/dev`.
fn traffic(text: &str) -> (f64, f64) {
    let rows = text.lines().filter_map(|line| line.split_once(':'));
    rows.fold((0.0, 0.0), |(received, sent), (_, numbers)| {
        let mut columns = numbers.split_ascii_whitespace().map(|n| n.parse::<f64>().unwrap_or(0.0));
        (received + columns.next().unwrap_or(0.0), sent + columns.nth(7).unwrap_or(0.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_interfaces_are_summed() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
                    \x20   lo: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n  eth0:5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n";
        assert_eq!(traffic(text), (15.0, 27.0));
    }

    #[test]
    fn this_process_has_all_families() {
        let mut out = Builder::new();
        record(&mut out);
        assert_eq!(out.finish().len(), 9);
    }
}
