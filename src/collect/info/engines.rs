//! `engine_0:name=LUA,module=lua,abi_version=4,used_memory=71680,memory_overhead=64`: the script engines of
//! Valkey 8.1 and later.

use super::number::number;
use super::{Info, parts};
use exposition::{Builder, Desc};

const LABELS: &[&str] = &["engine", "module", "abi_version"];

static INFO: Desc =
    Desc::gauge("redis_scripting_engine_info", "Script engines that are registered; always 1.")
        .labels(LABELS);
static OVERHEAD: Desc = Desc::gauge(
    "redis_scripting_engine_memory_overhead_bytes",
    "Memory that the server needs for the script engine, in bytes.",
)
.labels(LABELS);
static USED: Desc =
    Desc::gauge("redis_scripting_engine_memory_used_bytes", "Memory of the script engine, in bytes.")
        .labels(LABELS);

/// Every family of this file.
pub fn descs() -> [&'static Desc; 3] {
    [&INFO, &OVERHEAD, &USED]
}

/// Records each engine.
pub fn read(info: &Info<'_>, out: &mut Builder) {
    for (_, value) in info.numbered("engine_") {
        let of = |name| parts(value).flatten().find(|(n, _)| *n == name).map(|(_, value)| value);
        let (Some(engine), Some(module), Some(abi)) = (of("name"), of("module"), of("abi_version")) else {
            continue;
        };
        let numbers = [(&INFO, Some("1")), (&OVERHEAD, of("memory_overhead")), (&USED, of("used_memory"))];
        for (desc, value) in numbers {
            if let Some(value) = value.and_then(number) {
                let family = out.family(desc);
                out.sample(family, &[engine, module, abi], value);
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
    fn each_engine_has_its_memory() {
        let labels = "{abi_version=4,engine=LUA,module=lua}";
        check(
            "engine_0:memory_overhead=64,name=LUA,module=lua,abi_version=4,used_memory=71680",
            &[
                &format!("redis_scripting_engine_info{labels} 1"),
                &format!("redis_scripting_engine_memory_overhead_bytes{labels} 64"),
                &format!("redis_scripting_engine_memory_used_bytes{labels} 71680"),
            ],
        );
    }

    #[test]
    fn a_line_that_cannot_be_read_costs_itself() {
        check("engine_0:name=LUA,used_memory=1\nengine_x:name=a,module=b,abi_version=1\nengine_1:", &[]);
    }
}
