//! `master0:name=mymaster,status=ok,address=127.0.0.1:6379,slaves=2,sentinels=3`: the masters that a
//! Sentinel watches.

use super::number::number;
use super::{Info, parts};
use exposition::{Builder, Desc};

static SENTINELS: Desc =
    Desc::gauge("redis_sentinel_master_sentinels", "Sentinels that watch the master, this one included.")
        .labels(&["master_name", "master_address"]);
static SLAVES: Desc =
    Desc::gauge("redis_sentinel_master_slaves", "Replicas of the master that the Sentinel knows.")
        .labels(&["master_name", "master_address"]);
static STATUS: Desc = Desc::gauge(
    "redis_sentinel_master_status",
    "Whether the Sentinel holds the master for well: 1 if its status is ok.",
)
.labels(&["master_name", "master_address", "master_status"]);

/// Every family of this file.
pub fn descs() -> [&'static Desc; 3] {
    [&SENTINELS, &SLAVES, &STATUS]
}

/// Records each master.
pub fn read(info: &Info<'_>, out: &mut Builder) {
    for (_, value) in info.numbered("master") {
        let Some(master) = master(value) else { continue };
        let labels = [master.name, master.address, master.status];
        let family = out.family(&SENTINELS);
        out.sample(family, &labels[..2], master.sentinels);
        let family = out.family(&SLAVES);
        out.sample(family, &labels[..2], master.slaves);
        let family = out.family(&STATUS);
        out.sample(family, &labels, f64::from(master.status == "ok"));
    }
}

#[derive(Default)]
struct Master<'a> {
    name: &'a str,
    status: &'a str,
    address: &'a str,
    slaves: f64,
    sentinels: f64,
}

fn master(value: &str) -> Option<Master<'_>> {
    let (mut master, mut slaves, mut sentinels) = (Master::default(), None, None);
    for part in parts(value) {
        match part? {
            ("name", name) => master.name = name,
            ("status", status) => master.status = status,
            ("address", address) => master.address = address,
            ("slaves", value) => slaves = Some(number(value)?),
            ("sentinels", value) => sentinels = Some(number(value)?),
            _ => {}
        }
    }
    Some(Master { slaves: slaves?, sentinels: sentinels?, ..master })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::info::testing::lines;

    fn check(info: &str, expected: &[&str]) {
        assert_eq!(lines(info, |info, _, out| read(info, out)), expected, "{info}");
    }

    #[test]
    fn each_master_has_its_state() {
        check(
            "master0:name=user03,status=sdown,address=192.169.2.52:6381,slaves=1,sentinels=5\n\
             master1:name=user01,status=ok,address=[fd00::1]:6380,slaves=2,sentinels=3",
            &[
                "redis_sentinel_master_sentinels{master_address=192.169.2.52:6381,master_name=user03} 5",
                "redis_sentinel_master_sentinels{master_address=[fd00::1]:6380,master_name=user01} 3",
                "redis_sentinel_master_slaves{master_address=192.169.2.52:6381,master_name=user03} 1",
                "redis_sentinel_master_slaves{master_address=[fd00::1]:6380,master_name=user01} 2",
                "redis_sentinel_master_status{master_address=192.169.2.52:6381,master_name=user03,master_status=sdown} 0",
                "redis_sentinel_master_status{master_address=[fd00::1]:6380,master_name=user01,master_status=ok} 1",
            ],
        );
    }

    #[test]
    fn a_line_that_cannot_be_read_costs_itself() {
        check("master0:name=a,status=ok,address=b:1,slaves=,sentinels=5", &[]);
        check("master0:name=a,status=ok,address=b:1,slaves=1", &[]);
        check("master0:name=a,status=ok,address=b:1,slaves=1,sentinels=x", &[]);
        check("master:name=a,status=ok,address=b:1,slaves=1,sentinels=5", &[]);
        check("masterA:name=a,status=ok,address=b:1,slaves=1,sentinels=5", &[]);
        check("master0:", &[]);
    }
}
