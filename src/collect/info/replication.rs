//! The links to masters and replicas.
//!
//! A replica tells host and port of its master first, and then the state of the link. KeyDB's replicas have
//! several masters: `master_host`, `master_1_host` and so on, and a `slave_repl_offset` after each.

use super::number::number;
use super::{Info, is_digits, parts};
use exposition::{Builder, Desc};

const REPLICA: &[&str] = &["slave_ip", "slave_port", "slave_state"];
const MASTER: &[&str] = &["master_host", "master_port"];

static LAG: Desc = Desc::gauge(
    "redis_connected_slave_lag_seconds",
    "Time since the replica last acknowledged, in seconds; says nothing of how much data it lacks.",
)
.labels(REPLICA);
static OFFSET: Desc = Desc::gauge(
    "redis_connected_slave_offset_bytes",
    "Replication offset that the replica has acknowledged, in bytes.",
)
.labels(REPLICA);
static LAST_IO: Desc = Desc::gauge(
    "redis_master_last_io_seconds_ago",
    "Time since something last came from the master, in seconds; -1 while the link is down.",
)
.labels(MASTER);
static LINK_UP: Desc =
    Desc::gauge("redis_master_link_up", "Whether the link to the master is up.").labels(MASTER);
static SYNCING: Desc = Desc::gauge(
    "redis_master_sync_in_progress",
    "Whether the replica is receiving the whole data set from its master.",
)
.labels(MASTER);
static SLAVE_INFO: Desc =
    Desc::gauge("redis_slave_info", "Which master the replica has, and whether it refuses writes; always 1.")
        .labels(&["master_host", "master_port", "read_only"]);
static SLAVE_OFFSET: Desc = Desc::gauge(
    "redis_slave_repl_offset",
    "Replication offset up to which the replica has applied its master's stream, in bytes.",
)
.labels(MASTER);

/// Every family of this file.
pub fn descs() -> [&'static Desc; 7] {
    [&LAG, &OFFSET, &LAST_IO, &LINK_UP, &SYNCING, &SLAVE_INFO, &SLAVE_OFFSET]
}

/// Records both ends.
pub fn read(info: &Info<'_>, out: &mut Builder) {
    replicas(info, out);
    masters(info, out);
    if info.get("role") == Some("slave") {
        let [host, port, read_only] = ["master_host", "master_port", "slave_read_only"]
            .map(|field| info.get(field).unwrap_or_default());
        let family = out.family(&SLAVE_INFO);
        out.sample(family, &[host, port, read_only], 1.0);
    }
}

/// `slave0:ip=10.0.0.1,port=6379,state=online,offset=1751844676,lag=0`
fn replicas(info: &Info<'_>, out: &mut Builder) {
    for (_, value) in info.numbered("slave") {
        let Some(replica) = replica(value) else { continue };
        let labels = [replica.ip, replica.port, replica.state];
        let family = out.family(&OFFSET);
        out.sample(family, &labels, replica.offset);
        // Missing before 3.0, and -1 while it is not known.
        if let Some(lag) = replica.lag.filter(|lag| *lag > -1.0) {
            let family = out.family(&LAG);
            out.sample(family, &labels, lag);
        }
    }
}

#[derive(Default)]
struct Replica<'a> {
    ip: &'a str,
    port: &'a str,
    state: &'a str,
    offset: f64,
    lag: Option<f64>,
}

fn replica(value: &str) -> Option<Replica<'_>> {
    let (mut replica, mut offset) = (Replica::default(), None);
    for part in parts(value) {
        match part? {
            ("ip", ip) => replica.ip = ip,
            ("port", port) => replica.port = port,
            ("state", state) => replica.state = state,
            ("offset", value) => offset = Some(number(value)?),
            ("lag", value) => replica.lag = Some(number(value)?),
            _ => {}
        }
    }
    Some(Replica { offset: offset?, ..replica })
}

fn masters(info: &Info<'_>, out: &mut Builder) {
    let (mut host, mut port) = ("", "");
    for line in info.lines() {
        let integer = || line.value.parse::<i64>().unwrap_or_default() as f64;
        let (desc, value) = match of_master(line.field) {
            Some("host") => {
                host = line.value;
                continue;
            }
            Some("port") => {
                port = line.value;
                continue;
            }
            Some("link_status") => (&LINK_UP, f64::from(line.value == "up")),
            Some("last_io_seconds_ago") => (&LAST_IO, integer()),
            Some("sync_in_progress") => (&SYNCING, integer()),
            None if line.field == "slave_repl_offset" => (&SLAVE_OFFSET, integer()),
            _ => continue,
        };
        let family = out.family(desc);
        out.sample(family, &[host, port], value);
    }
}

/// `host` of `master_host` and of `master_1_host`.
fn of_master(field: &str) -> Option<&str> {
    let rest = field.strip_prefix("master_")?;
    match rest.split_once('_') {
        Some((number, rest)) if is_digits(number) => Some(rest),
        _ => Some(rest),
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
    fn replicas_have_offset_and_lag() {
        let labels = "{slave_ip=10.0.0.1,slave_port=6379,slave_state=online}";
        check(
            "slave0:ip=10.0.0.1,port=6379,state=online,offset=1751844676,lag=2,type=replica",
            &[
                &format!("redis_connected_slave_lag_seconds{labels} 2"),
                &format!("redis_connected_slave_offset_bytes{labels} 1751844676"),
            ],
        );
        let offset =
            "redis_connected_slave_offset_bytes{slave_ip=fd00::1,slave_port=1,slave_state=wait_bgsave} 0";
        check("slave12:ip=fd00::1,port=1,state=wait_bgsave,offset=0", &[offset]);
        check("slave12:ip=fd00::1,port=1,state=wait_bgsave,offset=0,lag=-1", &[offset]);
    }

    #[test]
    fn a_replica_without_address_has_empty_labels() {
        check(
            "slave0:state=online,offset=5",
            &["redis_connected_slave_offset_bytes{slave_ip=,slave_port=,slave_state=online} 5"],
        );
    }

    #[test]
    fn a_line_that_cannot_be_read_costs_itself() {
        check("slave:ip=1.2.3.4,port=1,state=online,offset=1,lag=0", &[]);
        check("slaveA:ip=1.2.3.4,port=1,state=online,offset=1,lag=0", &[]);
        check("slave0:ip=1.2.3.4,port=1,state=online,offset=x,lag=0", &[]);
        check("slave0:ip=1.2.3.4,port=1,state=online,offset=1,lag=x", &[]);
        check("slave0:ip=1.2.3.4,port=1,state=online,lag=1", &[]);
        check("slave0:ip=1.2.3.4,6379,online,1", &[]);
        check("slave0:", &[]);
    }

    #[test]
    fn a_replica_names_its_master_in_five_samples() {
        let at = "{master_host=h,master_port=1}";
        check(
            "role:slave\nmaster_host:h\nmaster_port:1\nmaster_link_status:up\nmaster_last_io_seconds_ago:3\n\
             master_sync_in_progress:0\nslave_repl_offset:9\nslave_read_only:1",
            &[
                &format!("redis_master_last_io_seconds_ago{at} 3"),
                &format!("redis_master_link_up{at} 1"),
                &format!("redis_master_sync_in_progress{at} 0"),
                "redis_slave_info{master_host=h,master_port=1,read_only=1} 1",
                &format!("redis_slave_repl_offset{at} 9"),
            ],
        );
    }

    #[test]
    fn several_masters_are_told_apart() {
        check(
            "master_host:a\nmaster_port:1\nmaster_link_status:up\nslave_repl_offset:1\n\
             master_1_host:b\nmaster_1_port:2\nmaster_1_link_status:down\nslave_repl_offset:x",
            &[
                "redis_master_link_up{master_host=a,master_port=1} 1",
                "redis_master_link_up{master_host=b,master_port=2} 0",
                "redis_slave_repl_offset{master_host=a,master_port=1} 1",
                "redis_slave_repl_offset{master_host=b,master_port=2} 0",
            ],
        );
    }

    #[test]
    fn a_master_has_no_link() {
        check("role:master\nmaster_repl_offset:5\nmaster_replid:x", &[]);
    }
}
