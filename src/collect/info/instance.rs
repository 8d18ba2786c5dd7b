//! Who the server is and since when it runs.

use super::super::Context;
use super::Info;
use super::number::number;
use exposition::{Builder, Desc};

/// The labels in the order in which the server has the fields. The last three are absent where the server
/// does not have them.
static INSTANCE: Desc = Desc::gauge("redis_instance_info", "Who the server is; always 1.").labels(&[
    "role",
    "redis_version",
    "redis_build_id",
    "redis_mode",
    "os",
    "maxmemory_policy",
    "tcp_port",
    "run_id",
    "process_id",
    "master_replid",
    "valkey_version",
    "valkey_release_stage",
    "availability_zone",
]);

/// How many of them are always there, if only empty.
const ALWAYS: usize = 10;

static START_TIME: Desc =
    Desc::gauge("redis_start_time_seconds", "Unix time at which the server started, in seconds.");

/// Every family of this file.
pub fn descs() -> [&'static Desc; 2] {
    [&INSTANCE, &START_TIME]
}

/// Records both.
pub fn read(info: &Info<'_>, context: &Context<'_>, out: &mut Builder) {
    let mut labels = Vec::with_capacity(INSTANCE.labels.len());
    for (index, name) in INSTANCE.labels.iter().copied().enumerate() {
        let value = match name {
            // Valkey 8 calls it so.
            "redis_mode" => info.get("redis_mode").or_else(|| info.get("server_mode")),
            // Valkey says it of every server, and says nothing where none was configured.
            "availability_zone" => info.get(name).filter(|zone| !zone.is_empty()),
            name => info.get(name),
        };
        match value {
            Some(value) => labels.push((name, value)),
            None if index < ALWAYS => labels.push((name, "")),
            None => {}
        }
    }
    let family = out.family(&INSTANCE);
    out.sample_with(family, &labels, 1.0);

    if let Some(uptime) = info.get("uptime_in_seconds").and_then(number) {
        out.push(&START_TIME, context.now.floor() - uptime);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::info::testing::lines;

    fn check(info: &str, expected: &[&str]) {
        assert_eq!(lines(info, read), expected, "{info}");
    }

    const REDIS: &str = "redis_version:7.0.15\nredis_build_id:b\nredis_mode:standalone\nos:Linux\n\
        maxmemory_policy:noeviction\ntcp_port:1\nrun_id:r\nprocess_id:2\nrole:master\nmaster_replid:m\n";

    #[test]
    fn the_instance_has_the_fields_as_labels() {
        check(
            REDIS,
            &["redis_instance_info{master_replid=m,maxmemory_policy=noeviction,os=Linux,process_id=2,\
               redis_build_id=b,redis_mode=standalone,redis_version=7.0.15,role=master,run_id=r,tcp_port=1} 1"],
        );
    }

    #[test]
    fn missing_fields_are_empty_and_labels_of_forks_absent() {
        check(
            "availability_zone:",
            &["redis_instance_info{master_replid=,maxmemory_policy=,os=,process_id=,redis_build_id=,\
               redis_mode=,redis_version=,role=,run_id=,tcp_port=} 1"],
        );
    }

    #[test]
    fn valkey_adds_labels_and_tells_its_mode_under_another_name() {
        let valkey =
            "server_mode:cluster\nvalkey_version:9.1.2\nvalkey_release_stage:ga\navailability_zone:a1";
        let line = &lines(valkey, read)[0];
        assert!(line.starts_with("redis_instance_info{availability_zone=a1,"), "{line}");
        assert!(line.contains("redis_mode=cluster,"), "{line}");
        assert!(line.ends_with(",valkey_release_stage=ga,valkey_version=9.1.2} 1"), "{line}");
    }

    #[test]
    fn the_start_is_whole_seconds_of_our_clock_minus_the_uptime() {
        assert_eq!(lines("uptime_in_seconds:100", read)[1], "redis_start_time_seconds 900");
        assert_eq!(lines("uptime_in_seconds:long", read).len(), 1);
    }
}
